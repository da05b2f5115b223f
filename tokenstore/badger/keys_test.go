package badger_test

import (
	"bytes"
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/tokengateway/caddy-token-gateway/tokenstore"
)

func newKey(use tokenstore.KeyUse, number uint32) tokenstore.Key {
	return tokenstore.Key{
		Use: use, Number: number, Material: bytes.Repeat([]byte{byte(number)}, 32),
		CreatedAt: soon().Add(-time.Hour), ActiveFrom: soon(),
	}
}

func wantKeys(t *testing.T, store tokenstore.Store, use tokenstore.KeyUse, want ...tokenstore.Key) {
	t.Helper()
	got, err := store.Keys(t.Context(), use)
	if err != nil {
		t.Errorf("reading the keys of use %d: %v", use, err)
	} else if !reflect.DeepEqual(got, want) {
		t.Errorf("got keys %+v, want %+v", got, want)
	}
}

func TestKeysAreOrderedByNumberAndKeptApartByUse(t *testing.T) {
	directory := t.TempDir()
	store := open(t, directory)
	wantKeys(t, store, tokenstore.SigningKey)
	// 256 comes before 3 if numbers are compared by their last byte, and before 9 if as text.
	numbers := []uint32{3, math.MaxUint32, 256, 1, 9}
	signing := make(map[uint32]tokenstore.Key)
	for _, number := range numbers {
		key := newKey(tokenstore.SigningKey, number)
		key.Algorithm = "ES256"
		signing[number] = key
		wantError(t, store.AddKey(t.Context(), key), nil)
	}
	mac := newKey(tokenstore.MACKey, 3)
	wantError(t, store.AddKey(t.Context(), mac), nil)
	check := func(store tokenstore.Store) {
		t.Helper()
		wantKeys(t, store, tokenstore.SigningKey, signing[1], signing[3], signing[9], signing[256], signing[math.MaxUint32])
		wantKeys(t, store, tokenstore.MACKey, mac)
		wantKeys(t, store, tokenstore.MACKey+1)
	}
	check(store)
	check(reopen(t, store, directory))
}

func TestAKeyIsNotReplaced(t *testing.T) {
	store := open(t, t.TempDir())
	key := newKey(tokenstore.MACKey, 1)
	wantError(t, store.AddKey(t.Context(), key), nil)
	another := key
	another.Material = bytes.Repeat([]byte{0xee}, 32)
	wantError(t, store.AddKey(t.Context(), another), tokenstore.ErrConflict)
	wantKeys(t, store, tokenstore.MACKey, key)
}

func TestOfManyRacersForOneKeyNumberOneWins(t *testing.T) {
	store := open(t, t.TempDir())
	candidates := make([]tokenstore.Key, 100)
	for racer := range candidates {
		candidates[racer] = newKey(tokenstore.SigningKey, 1)
		candidates[racer].Material = []byte{byte(racer)}
	}
	results := race(len(candidates), func(racer int) error { return store.AddKey(t.Context(), candidates[racer]) })
	wantKeys(t, store, tokenstore.SigningKey, candidates[wantOneWinner(t, results, tokenstore.ErrConflict)])
}

func TestADeletedKeyIsGoneAndItsNumberFree(t *testing.T) {
	directory := t.TempDir()
	store := open(t, directory)
	one, two := newKey(tokenstore.MACKey, 1), newKey(tokenstore.MACKey, 2)
	wantError(t, store.AddKey(t.Context(), one), nil)
	wantError(t, store.AddKey(t.Context(), two), nil)
	wantError(t, store.DeleteKey(t.Context(), tokenstore.SigningKey, 1), nil) // there is none
	wantKeys(t, store, tokenstore.MACKey, one, two)
	for range 2 { // the second time there is none
		wantError(t, store.DeleteKey(t.Context(), tokenstore.MACKey, 1), nil)
		wantKeys(t, store, tokenstore.MACKey, two)
	}
	store = reopen(t, store, directory)
	wantKeys(t, store, tokenstore.MACKey, two)
	wantError(t, store.AddKey(t.Context(), one), nil)
	wantKeys(t, store, tokenstore.MACKey, one, two)
}

func TestAnIdentifierIsUsedOnce(t *testing.T) {
	directory := t.TempDir()
	store := open(t, directory)
	id, other := [32]byte{1}, [32]byte{31: 1}
	wantError(t, store.UseOnce(t.Context(), id, soon()), nil)
	wantError(t, store.UseOnce(t.Context(), id, soon()), tokenstore.ErrConflict)
	wantError(t, store.UseOnce(t.Context(), id, soon().Add(time.Hour)), tokenstore.ErrConflict)
	wantError(t, store.UseOnce(t.Context(), other, soon()), nil)
	store = reopen(t, store, directory)
	wantError(t, store.UseOnce(t.Context(), id, soon()), tokenstore.ErrConflict)
	wantError(t, store.UseOnce(t.Context(), other, soon()), tokenstore.ErrConflict)
}

func TestOfManyRacersForOneIdentifierOneWins(t *testing.T) {
	store := open(t, t.TempDir())
	results := race(100, func(int) error { return store.UseOnce(t.Context(), [32]byte{7}, soon()) })
	wantOneWinner(t, results, tokenstore.ErrConflict)
}
