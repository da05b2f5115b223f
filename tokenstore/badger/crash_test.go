package badger_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/google/uuid"

	"github.com/tokengateway/caddy-token-gateway/tokenstore"
	"github.com/tokengateway/caddy-token-gateway/tokenstore/badger"
)

// crashDirectory is the environment variable which says that the process is the one to be killed, and its directory.
const crashDirectory = "TOKENSTORE_CRASH_DIRECTORY"

// What the process says on its standard output, a line for each call that returned nil.
const (
	saidRotated       = "rotated"        // family, generation
	saidTokenRevoked  = "token-revoked"  // jti, 0
	saidFamilyRevoked = "family-revoked" // family, 0
)

// A process that writes is killed at a random moment, several times over one database. Whatever it was told to be durable
// has to be there.
func TestNothingAcknowledgedIsLostInACrash(t *testing.T) {
	directory := t.TempDir()
	said := newSayings()
	for round, lines := range []int{1, 50, 700, 2000} {
		killAfter(t, directory, lines, said)
		store := open(t, directory)
		said.check(t, round, store)
		closeStore(t, store)
	}
	if len(said.generations) == 0 || len(said.revokedTokens) == 0 || len(said.revokedFamilies) == 0 {
		t.Errorf("the process said too little: %d families, %d revoked tokens, %d revoked families",
			len(said.generations), len(said.revokedTokens), len(said.revokedFamilies))
	}
}

// killAfter starts the process, kills it after it has said so many lines and takes down all that it has said.
func killAfter(t *testing.T, directory string, lines int, said *sayings) {
	t.Helper()
	process := exec.CommandContext(t.Context(), os.Args[0])
	process.Env = append(os.Environ(), crashDirectory+"="+directory)
	process.Stderr = os.Stderr
	output, err := process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(output)
	for n := 0; ; n++ {
		line, err := reader.ReadString('\n')
		if err != nil {
			break // what was being said when the process was killed counts for nothing
		}
		if err := said.add(line); err != nil {
			t.Errorf("line %q: %v", line, err)
		}
		if n == lines-1 {
			if err := process.Process.Kill(); err != nil {
				t.Error(err)
			}
		}
	}
	err = process.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.Exited() {
		t.Fatalf("the process wasn't killed but ended: %v", err)
	}
}

// sayings are what the process was told to be durable.
type sayings struct {
	generations     map[uuid.UUID]uint32
	revokedTokens   map[uuid.UUID]bool
	revokedFamilies map[uuid.UUID]bool
}

func newSayings() *sayings {
	return &sayings{make(map[uuid.UUID]uint32), make(map[uuid.UUID]bool), make(map[uuid.UUID]bool)}
}

func (s *sayings) add(line string) error {
	var what, text string
	var generation uint32
	if _, err := fmt.Sscanf(line, "%s %s %d\n", &what, &text, &generation); err != nil {
		return err
	}
	id, err := uuid.Parse(text)
	if err != nil {
		return err
	}
	switch what {
	case saidRotated:
		s.generations[id] = max(s.generations[id], generation)
	case saidTokenRevoked:
		s.revokedTokens[id] = true
	case saidFamilyRevoked:
		s.revokedFamilies[id] = true
	default:
		return fmt.Errorf("it says %q", what)
	}
	return nil
}

func (s *sayings) check(t *testing.T, round int, store tokenstore.Store) {
	t.Helper()
	for id, generation := range s.generations {
		family, err := store.Family(t.Context(), id)
		switch {
		case errors.Is(err, tokenstore.ErrNotFound):
			// The process may have been killed before it could say that it has revoked the family.
			if !isFamilyRevoked(store, id) {
				t.Errorf("round %d: family %s is gone and not revoked", round, id)
			}
		case err != nil:
			t.Errorf("round %d: %v", round, err)
		case family.Generation < generation:
			t.Errorf("round %d: family %s is at generation %d, but %d was acknowledged", round, id, family.Generation, generation)
		}
	}
	for id := range s.revokedTokens {
		if !isRevoked(store, id) {
			t.Errorf("round %d: the revocation of token %s is lost", round, id)
		}
	}
	for id := range s.revokedFamilies {
		if _, err := store.Family(t.Context(), id); !errors.Is(err, tokenstore.ErrNotFound) || !isFamilyRevoked(store, id) {
			t.Errorf("round %d: the revocation of family %s is lost: %v", round, id, err)
		}
	}
}

// writeUntilKilled is the process: many goroutines rotate and revoke families and say what was acknowledged.
func writeUntilKilled(directory string) {
	store, err := badger.Open(badger.Options{Directory: directory})
	if err == nil {
		results := make(chan error)
		for range 32 {
			go func() { results <- rotateAndRevoke(context.Background(), store) }()
		}
		err = <-results
	}
	fmt.Fprintln(os.Stderr, "the process to be killed ended by itself:", err)
	os.Exit(1)
}

// rotateAndRevoke begins a family, rotates it some times and revokes it, again and again, until a call fails.
func rotateAndRevoke(ctx context.Context, store tokenstore.Store) error {
	for {
		family := newFamily()
		if err := store.CreateFamily(ctx, family); err != nil {
			return err
		}
		for range 10 {
			next := rotated(family, 0)
			if err := store.RotateFamily(ctx, family, next, revokedToken(family.AccessTokenID)); err != nil {
				return err
			}
			err := errors.Join(say(saidRotated, next.ID, next.Generation), say(saidTokenRevoked, family.AccessTokenID, 0))
			if err != nil {
				return err
			}
			family = next
		}
		if err := store.Revoke(ctx, revokedFamily(family.ID)); err != nil {
			return err
		}
		if err := say(saidFamilyRevoked, family.ID, 0); err != nil {
			return err
		}
	}
}

// say writes a line in one call, shorter than what a pipe takes whole, so that the lines of goroutines don't mix.
func say(what string, id uuid.UUID, generation uint32) error {
	_, err := fmt.Printf("%s %s %d\n", what, id, generation)
	return err
}
