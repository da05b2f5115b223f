package badger_test

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"os"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/tokengateway/caddy-token-gateway/tokenstore"
	"github.com/tokengateway/caddy-token-gateway/tokenstore/badger"
)

// TestMain runs the tests, or what the crash tests run in a process of their own.
func TestMain(m *testing.M) {
	if directory := os.Getenv(crashDirectory); directory != "" {
		writeUntilKilled(directory)
	}
	os.Exit(m.Run())
}

// open opens a store that is closed at the end of the test at the latest.
func open(t *testing.T, directory string) *badger.Store {
	t.Helper()
	store, err := badger.Open(badger.Options{Directory: directory})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeStore(t, store) })
	return store
}

func closeStore(t *testing.T, store tokenstore.Store) {
	t.Helper()
	if err := store.Close(); err != nil {
		t.Errorf("closing the store: %v", err)
	}
}

// reopen closes the store and opens it anew, so that what it knows is what it has written.
func reopen(t *testing.T, store tokenstore.Store, directory string) *badger.Store {
	t.Helper()
	closeStore(t, store)
	return open(t, directory)
}

// soon is a moment of whole milliseconds, as the records keep it, at which nothing of a test has expired.
func soon() time.Time { return time.Now().Add(time.Hour).UTC().Truncate(time.Millisecond) }

func newFamily() *tokenstore.Family {
	now := time.Now().UTC().Truncate(time.Millisecond)
	return &tokenstore.Family{
		ID: uuid.Must(uuid.NewV7()), ClientID: "client", Subject: "alice", GrantType: "password",
		Scopes: []string{"default", "read"}, Audience: []string{"client"}, SecretHash: sha256.Sum256([]byte("first")),
		AccessTokenID: uuid.Must(uuid.NewV7()), AccessExpiry: soon(), CreatedAt: now, RotatedAt: now,
		IdleExpiry: soon().Add(time.Hour), AbsoluteExpiry: soon().Add(24 * time.Hour),
	}
}

// rotated returns the family after a rotation by one of several racers.
func rotated(from *tokenstore.Family, racer int) *tokenstore.Family {
	to := *from
	to.Generation++
	to.SecretHash = sha256.Sum256(binary.BigEndian.AppendUint64(from.SecretHash[:], uint64(racer)))
	to.AccessTokenID = uuid.Must(uuid.NewV7())
	to.IdleExpiry = from.IdleExpiry.Add(time.Minute)
	return &to
}

func create(t *testing.T, store tokenstore.Store) *tokenstore.Family {
	t.Helper()
	family := newFamily()
	if err := store.CreateFamily(t.Context(), family); err != nil {
		t.Fatalf("creating a family: %v", err)
	}
	return family
}

// wantFamily checks that the store has exactly this family.
func wantFamily(t *testing.T, store tokenstore.Store, want *tokenstore.Family) {
	t.Helper()
	got, err := store.Family(t.Context(), want.ID)
	if err != nil {
		t.Errorf("reading family %s: %v", want.ID, err)
	} else if !reflect.DeepEqual(got, want) {
		t.Errorf("got family %+v, want %+v", got, want)
	}
}

func revokedToken(id uuid.UUID) tokenstore.Revocation {
	return tokenstore.Revocation{Kind: tokenstore.RevokedToken, ID: id, ExpiresAt: soon()}
}

func revokedFamily(id uuid.UUID) tokenstore.Revocation {
	return tokenstore.Revocation{Kind: tokenstore.RevokedFamily, ID: id, ExpiresAt: soon()}
}

func isRevoked(store tokenstore.Store, token uuid.UUID) bool {
	return store.Revocations().Revoked(tokenstore.Issued{TokenID: token})
}

func isFamilyRevoked(store tokenstore.Store, family uuid.UUID) bool {
	return store.Revocations().Revoked(tokenstore.Issued{TokenID: uuid.Must(uuid.NewV7()), FamilyID: family})
}

// race starts n goroutines at once and returns what each of them did.
func race(n int, do func(racer int) error) []error {
	gate := make(chan struct{})
	results := make([]error, n)
	var racing sync.WaitGroup
	for racer := range n {
		racing.Go(func() {
			<-gate
			results[racer] = do(racer)
		})
	}
	close(gate)
	racing.Wait()
	return results
}

// wantOneWinner checks that one racer got nil and all others the error, and returns the one.
func wantOneWinner(t *testing.T, results []error, others error) int {
	t.Helper()
	winner := -1
	for racer, err := range results {
		switch {
		case err == nil && winner < 0:
			winner = racer
		case err == nil:
			t.Errorf("racers %d and %d both won", winner, racer)
		case !errors.Is(err, others):
			t.Errorf("racer %d: got %v, want %v", racer, err, others)
		}
	}
	if winner < 0 {
		t.Fatal("no racer won")
	}
	return winner
}
