package badger_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/tokengateway/caddy-token-gateway/tokenstore"
	"github.com/tokengateway/caddy-token-gateway/tokenstore/badger"
)

func TestAFullDiskChangesNothingUntilThereIsRoom(t *testing.T) {
	var free atomic.Uint64
	free.Store(1 << 30)
	store, err := badger.Open(badger.Options{
		Directory: t.TempDir(),
		FreeSpace: func(string) (uint64, error) { return free.Load(), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeStore(t, store) })
	family := create(t, store)

	free.Store(1 << 20)
	for name, call := range map[string]func() error{
		"a rotation":     func() error { return store.RotateFamily(t.Context(), family, rotated(family, 1)) },
		"a revocation":   func() error { return store.Revoke(t.Context(), revokedFamily(family.ID)) },
		"a new family":   func() error { return store.CreateFamily(t.Context(), newFamily()) },
		"a new key":      func() error { return store.AddKey(t.Context(), newKey(tokenstore.SigningKey, 1)) },
		"an identifier":  func() error { return store.UseOnce(t.Context(), [32]byte{1}, soon()) },
		"a key's ending": func() error { return store.DeleteKey(t.Context(), tokenstore.SigningKey, 1) },
	} {
		if err := call(); err == nil || !strings.Contains(err.Error(), "make room") {
			t.Errorf("%s: got %v, want an error that says to make room", name, err)
		}
	}
	wantFamily(t, store, family)
	if n := store.Revocations().Len(); n != 0 {
		t.Errorf("%d revocations are in the set", n)
	}

	free.Store(1 << 30)
	next := rotated(family, 1)
	if err := store.RotateFamily(t.Context(), family, next); err != nil {
		t.Fatalf("with room again: %v", err)
	}
	wantFamily(t, store, next)
}

func TestOpenIsRefusedWithoutRoom(t *testing.T) {
	unknown := errors.New("no such file system")
	for name, test := range map[string]struct {
		free uint64
		err  error
		want string
	}{
		"too little room":         {1 << 20, nil, "1 MiB left"},
		"nobody knows how much":   {0, unknown, unknown.Error()},
		"nothing left whatsoever": {0, nil, "0 MiB left"},
	} {
		t.Run(name, func(t *testing.T) {
			directory := t.TempDir()
			_, err := badger.Open(badger.Options{
				Directory: directory,
				FreeSpace: func(string) (uint64, error) { return test.free, test.err },
			})
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), directory) {
				t.Errorf("got %v, want an error that names the directory and says %q", err, test.want)
			}
		})
	}
}
