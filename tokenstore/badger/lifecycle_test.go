package badger_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	badgerdb "github.com/dgraph-io/badger/v4"
	"github.com/google/uuid"

	"github.com/tokengateway/caddy-token-gateway/tokenstore"
	"github.com/tokengateway/caddy-token-gateway/tokenstore/badger"
)

// calls are all methods of a store that read or write.
var calls = []struct {
	name string
	call func(ctx context.Context, store tokenstore.Store, family *tokenstore.Family) error
}{
	{"CreateFamily", func(ctx context.Context, store tokenstore.Store, _ *tokenstore.Family) error {
		return store.CreateFamily(ctx, newFamily())
	}},
	{"Family", func(ctx context.Context, store tokenstore.Store, family *tokenstore.Family) error {
		_, err := store.Family(ctx, family.ID)
		return err
	}},
	{"RotateFamily", func(ctx context.Context, store tokenstore.Store, family *tokenstore.Family) error {
		return store.RotateFamily(ctx, family, rotated(family, 0), revokedToken(family.AccessTokenID))
	}},
	{"Revoke", func(ctx context.Context, store tokenstore.Store, family *tokenstore.Family) error {
		return store.Revoke(ctx, revokedFamily(family.ID))
	}},
	{"UseOnce", func(ctx context.Context, store tokenstore.Store, _ *tokenstore.Family) error {
		return store.UseOnce(ctx, [32]byte{1}, soon())
	}},
	{"Keys", func(ctx context.Context, store tokenstore.Store, _ *tokenstore.Family) error {
		_, err := store.Keys(ctx, tokenstore.MACKey)
		return err
	}},
	{"AddKey", func(ctx context.Context, store tokenstore.Store, _ *tokenstore.Family) error {
		return store.AddKey(ctx, newKey(tokenstore.MACKey, 2))
	}},
	{"DeleteKey", func(ctx context.Context, store tokenstore.Store, _ *tokenstore.Family) error {
		return store.DeleteKey(ctx, tokenstore.MACKey, 1)
	}},
}

func TestACallThatIsCancelledBeforehandChangesNothing(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, test := range calls {
		t.Run(test.name, func(t *testing.T) {
			directory := t.TempDir()
			store := open(t, directory)
			family := create(t, store)
			wantError(t, store.AddKey(t.Context(), newKey(tokenstore.MACKey, 1)), nil)
			before := records(t, store, directory)
			store = open(t, directory)
			for range 20 { // the call may notice sooner or later
				wantError(t, test.call(cancelled, store, family), context.Canceled)
			}
			wantFamily(t, store, family)
			if n := store.Revocations().Len(); n != 0 {
				t.Errorf("%d revocations in the set, want none", n)
			}
			after := records(t, store, directory)
			if len(after) != len(before) {
				t.Errorf("got %d records, want %d", len(after), len(before))
			}
			for key, value := range before {
				if after[key] != value {
					t.Errorf("record %x is %x, want %x", key, after[key], value)
				}
			}
		})
	}
}

func TestACallAfterCloseIsRefused(t *testing.T) {
	for _, test := range calls {
		t.Run(test.name, func(t *testing.T) {
			store := open(t, t.TempDir())
			family := create(t, store)
			closeStore(t, store)
			wantError(t, test.call(t.Context(), store, family), tokenstore.ErrClosed)
			if n := store.Revocations().Len(); n != 0 {
				t.Errorf("%d revocations in the set, want none", n)
			}
		})
	}
}

func TestCloseMayBeCalledAgain(t *testing.T) {
	directory := t.TempDir()
	store := open(t, directory)
	family := create(t, store)
	for range 3 {
		wantError(t, store.Close(), nil)
	}
	for _, err := range race(10, func(int) error { return store.Close() }) {
		wantError(t, err, nil)
	}
	wantFamily(t, open(t, directory), family)
}

func TestEverythingSurvivesCloseAndOpen(t *testing.T) {
	directory := t.TempDir()
	store := open(t, directory)
	kept, gone := create(t, store), create(t, store)
	next := rotated(kept, 0)
	wantError(t, store.RotateFamily(t.Context(), kept, next, revokedToken(kept.AccessTokenID)), nil)
	wantError(t, store.Revoke(t.Context(), revokedFamily(gone.ID)), nil)
	key := newKey(tokenstore.SigningKey, 1)
	wantError(t, store.AddKey(t.Context(), key), nil)
	wantError(t, store.UseOnce(t.Context(), [32]byte{1}, soon()), nil)
	for range 3 {
		store = reopen(t, store, directory)
		wantFamily(t, store, next)
		_, err := store.Family(t.Context(), gone.ID)
		wantError(t, err, tokenstore.ErrNotFound)
		if !isRevoked(store, kept.AccessTokenID) || !isFamilyRevoked(store, gone.ID) || store.Revocations().Len() != 2 {
			t.Errorf("the set has not the two revocations; it has %d", store.Revocations().Len())
		}
		wantKeys(t, store, tokenstore.SigningKey, key)
		wantError(t, store.UseOnce(t.Context(), [32]byte{1}, soon()), tokenstore.ErrConflict)
	}
}

// acknowledged is what one goroutine was told that it is durable.
type acknowledged struct {
	family  *tokenstore.Family // the newest generation
	revoked []uuid.UUID        // access tokens
	err     error              // what ended it
}

func TestCloseWhileManyCallLosesNothing(t *testing.T) {
	directory := t.TempDir()
	store := open(t, directory)
	var calls atomic.Int64
	enough := make(chan struct{})
	var stopAt sync.Once
	all := make([]acknowledged, 50)
	var calling sync.WaitGroup
	for n := range all {
		calling.Go(func() {
			a := &all[n]
			for a.err == nil {
				a.err = createOrRotate(t.Context(), store, a)
				if calls.Add(1) == 500 {
					stopAt.Do(func() { close(enough) })
				}
			}
		})
	}
	<-enough
	closeStore(t, store)
	calling.Wait()
	store = open(t, directory)
	for n, a := range all {
		wantError(t, a.err, tokenstore.ErrClosed)
		if a.family != nil {
			wantFamily(t, store, a.family)
		}
		for _, token := range a.revoked {
			if !isRevoked(store, token) {
				t.Errorf("goroutine %d: token %s isn't revoked", n, token)
			}
		}
	}
}

// createOrRotate rotates the family, or creates it if there is none yet, and reads it.
func createOrRotate(ctx context.Context, store tokenstore.Store, a *acknowledged) error {
	if a.family == nil {
		family := newFamily()
		if err := store.CreateFamily(ctx, family); err != nil {
			return err
		}
		a.family = family
	} else {
		next, old := rotated(a.family, 0), a.family.AccessTokenID
		if err := store.RotateFamily(ctx, a.family, next, revokedToken(old)); err != nil {
			return err
		}
		a.family, a.revoked = next, append(a.revoked, old)
	}
	_, err := store.Family(ctx, a.family.ID)
	return err
}

func TestNoGoroutineIsLeftAfterClose(t *testing.T) {
	run := func() {
		store := open(t, t.TempDir())
		for _, err := range race(20, func(int) error { return store.CreateFamily(t.Context(), newFamily()) }) {
			wantError(t, err, nil)
		}
		closeStore(t, store)
	}
	run() // what starts once in a process, starts here
	before := runtime.NumGoroutine()
	for range 5 {
		run()
	}
	// A goroutine that has done its work may still be about to end.
	for tries := 0; runtime.NumGoroutine() > before && tries < 1_000_000; tries++ {
		runtime.Gosched()
	}
	if after := runtime.NumGoroutine(); after > before {
		stacks := make([]byte, 1<<20)
		t.Errorf("%d goroutines, %d before:\n%s", after, before, stacks[:runtime.Stack(stacks, true)])
	}
}

func TestOpenIsRefused(t *testing.T) {
	tests := []struct {
		name    string
		prepare func(t *testing.T, directory string) (path, named string) // what to open, and what the error has to name
	}{
		{
			name: "while the directory is open already",
			prepare: func(t *testing.T, directory string) (path, named string) {
				open(t, directory)
				return directory, directory
			},
		},
		{
			name: "where a file is",
			prepare: func(t *testing.T, directory string) (path, named string) {
				path = filepath.Join(directory, "file")
				wantError(t, os.WriteFile(path, nil, 0o600), nil)
				return path, path
			},
		},
		{
			name: "below a file",
			prepare: func(t *testing.T, directory string) (path, named string) {
				path = filepath.Join(directory, "file")
				wantError(t, os.WriteFile(path, nil, 0o600), nil)
				return filepath.Join(path, "store"), path
			},
		},
		{
			name: "of a newer format",
			prepare: func(t *testing.T, directory string) (path, named string) {
				closeStore(t, open(t, directory))
				overwrite(t, directory, []byte("format"), []byte{2})
				return directory, "format"
			},
		},
		{
			name: "of a format that is no number of this version's",
			prepare: func(t *testing.T, directory string) (path, named string) {
				closeStore(t, open(t, directory))
				overwrite(t, directory, []byte("format"), []byte{1, 0})
				return directory, "format"
			},
		},
		{
			name: "of a database with a damaged revocation",
			prepare: func(t *testing.T, directory string) (path, named string) {
				store := open(t, directory)
				wantError(t, store.Revoke(t.Context(), tokenstore.Revocation{Kind: tokenstore.RevokedSubject, Name: "alice", ExpiresAt: soon()}), nil)
				closeStore(t, store)
				overwrite(t, directory, []byte("r\x03alice"), []byte("garbage"))
				return directory, "damaged revocation"
			},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			directory := t.TempDir()
			path, named := test.prepare(t, directory)
			for range 2 { // a refusal leaves nothing behind that changes the next answer
				store, err := badger.Open(badger.Options{Directory: path})
				if err == nil {
					closeStore(t, store)
					t.Fatal("opened")
				}
				for _, mention := range []string{directory, named} {
					if !strings.Contains(err.Error(), mention) {
						t.Errorf("the error doesn't name %q: %v", mention, err)
					}
				}
			}
		})
	}
}

func TestAStoreThatIsRefusedASecondTimeGoesOnWorking(t *testing.T) {
	directory := t.TempDir()
	store := open(t, directory)
	family := create(t, store)
	if second, err := badger.Open(badger.Options{Directory: directory}); err == nil {
		closeStore(t, second)
		t.Fatal("opened twice")
	}
	next := rotated(family, 0)
	wantError(t, store.RotateFamily(t.Context(), family, next), nil)
	wantFamily(t, reopen(t, store, directory), next)
}

func TestOpenMakesAPrivateDirectory(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "not", "there", "yet")
	open(t, directory)
	found, err := os.Stat(directory)
	if err != nil {
		t.Fatal(err)
	}
	if mode := found.Mode().Perm(); mode != 0o700 {
		t.Errorf("the directory has mode %o, want 700", mode)
	}
}

func TestADamagedRecordIsAnErrorThatNamesIt(t *testing.T) {
	contents := []struct{ name, value string }{
		{"garbage", "garbage"},
		{"nothing", ""},
		{"half a map", "\x82\xa1g\x01"},
	}
	for _, content := range contents {
		t.Run(content.name, func(t *testing.T) {
			directory := t.TempDir()
			store := open(t, directory)
			family, intact := create(t, store), create(t, store)
			wantError(t, store.AddKey(t.Context(), newKey(tokenstore.MACKey, 1)), nil)
			closeStore(t, store)
			overwrite(t, directory, append([]byte("f"), family.ID[:]...), []byte(content.value))
			overwrite(t, directory, []byte("k\x02\x00\x00\x00\x01"), []byte(content.value))
			store = open(t, directory)

			_, err := store.Family(t.Context(), family.ID)
			wantDamaged(t, err, family.ID.String())
			wantDamaged(t, store.RotateFamily(t.Context(), family, rotated(family, 0)), family.ID.String())
			_, err = store.Keys(t.Context(), tokenstore.MACKey)
			wantDamaged(t, err, "6b0200000001")
			wantFamily(t, store, intact)

			wantError(t, store.Revoke(t.Context(), revokedFamily(family.ID)), nil)
			_, err = store.Family(t.Context(), family.ID)
			wantError(t, err, tokenstore.ErrNotFound)
		})
	}
}

func wantDamaged(t *testing.T, err error, record string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), "damaged") || !strings.Contains(err.Error(), record) {
		t.Errorf("got %v, want an error that calls %s damaged", err, record)
	}
	if errors.Is(err, tokenstore.ErrNotFound) || errors.Is(err, tokenstore.ErrConflict) {
		t.Errorf("got %v, which looks like a usual answer", err)
	}
}

// openDirectly opens a database without the store. It has to be closed in the test.
func openDirectly(t *testing.T, directory string) *badgerdb.DB {
	t.Helper()
	db, err := badgerdb.Open(badgerdb.DefaultOptions(directory).WithLogger(nil))
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// overwrite changes a record of a database that no store has open.
func overwrite(t *testing.T, directory string, key, value []byte) {
	t.Helper()
	db := openDirectly(t, directory)
	err := db.Update(func(txn *badgerdb.Txn) error {
		if _, err := txn.Get(key); err != nil {
			return err // it isn't the record that the test thinks it is
		}
		return txn.Set(key, value)
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatalf("overwriting record %x: %v", key, err)
	}
}

// records closes the store and returns all that its database holds.
func records(t *testing.T, store tokenstore.Store, directory string) map[string]string {
	t.Helper()
	closeStore(t, store)
	found := make(map[string]string)
	db := openDirectly(t, directory)
	err := db.View(func(txn *badgerdb.Txn) error {
		all := txn.NewIterator(badgerdb.DefaultIteratorOptions)
		defer all.Close()
		for all.Rewind(); all.Valid(); all.Next() {
			value, err := all.Item().ValueCopy(nil)
			if err != nil {
				return err
			}
			found[string(all.Item().Key())] = string(value)
		}
		return nil
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatalf("reading all records: %v", err)
	}
	return found
}

func TestADirectoryThatHoldsSomethingElseIsLeftAlone(t *testing.T) {
	directory := t.TempDir()
	if err := os.Chmod(directory, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(directory, "a.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := badger.Open(badger.Options{Directory: directory})
	if err == nil || !strings.Contains(err.Error(), directory) || !strings.Contains(err.Error(), "a directory of its own") {
		t.Fatalf("got %v, want an error that names the directory", err)
	}
	found, err := os.Stat(directory)
	if err != nil {
		t.Fatal(err)
	}
	if found.Mode().Perm() != 0o755 {
		t.Errorf("the directory's mode is %o now", found.Mode().Perm())
	}
}

func TestAFirstStartThatWasCutOffIsNoObstacle(t *testing.T) {
	directory := t.TempDir()
	if err := os.WriteFile(filepath.Join(directory, "LOCK"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	store := open(t, directory)
	create(t, store)
	closeStore(t, store)
}
