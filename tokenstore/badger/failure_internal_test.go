package badger

import (
	"errors"
	"testing"
	"time"

	badgerdb "github.com/dgraph-io/badger/v4"
	"github.com/google/uuid"

	"github.com/tokengateway/caddy-token-gateway/tokenstore"
)

// What Badger does when a sync fails: the writes are there to be read, and nobody knows whether they are on disk.
func TestAfterAFailedSyncTheStoreAnswersNothingMore(t *testing.T) {
	directory := t.TempDir()
	store, err := Open(Options{Directory: directory})
	if err != nil {
		t.Fatal(err)
	}
	family := &tokenstore.Family{ID: uuid.Must(uuid.NewV7()), ClientID: "c", IdleExpiry: time.Now().Add(time.Hour)}
	if err := store.CreateFamily(t.Context(), family); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("input/output error")
	store.commitTxn = func(txn *badgerdb.Txn) error { return errors.Join(txn.Commit(), broken) }
	revocation := tokenstore.Revocation{Kind: tokenstore.RevokedFamily, ID: family.ID, ExpiresAt: time.Now().Add(time.Hour)}
	for _, when := range []string{"at once", "when it is tried again"} {
		if err := store.Revoke(t.Context(), revocation); !errors.Is(err, broken) {
			t.Errorf("%s: got %v, want the failure", when, err)
		}
	}
	if _, err := store.Family(t.Context(), family.ID); !errors.Is(err, broken) {
		t.Errorf("reading: got %v, want the failure", err)
	}
	if n := store.Revocations().Len(); n != 0 {
		t.Errorf("%d revocations are in the set", n)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	if store, err = Open(Options{Directory: directory}); err != nil {
		t.Fatalf("after a restart: %v", err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
}
