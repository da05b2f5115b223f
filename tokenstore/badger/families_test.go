package badger_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/tokengateway/caddy-token-gateway/tokenstore"
)

func TestFamilies(t *testing.T) {
	tests := []struct {
		name string
		do   func(t *testing.T, store tokenstore.Store)
	}{
		{"a family that was created is read", func(t *testing.T, store tokenstore.Store) {
			family, other := create(t, store), create(t, store)
			wantFamily(t, store, family)
			wantFamily(t, store, other)
		}},
		{"a family that never was is not found", func(t *testing.T, store tokenstore.Store) {
			family := newFamily()
			_, err := store.Family(t.Context(), family.ID)
			wantError(t, err, tokenstore.ErrNotFound)
			wantError(t, store.RotateFamily(t.Context(), family, rotated(family, 0)), tokenstore.ErrNotFound)
			_, err = store.Family(t.Context(), family.ID)
			wantError(t, err, tokenstore.ErrNotFound)
		}},
		{"a family whose ID is taken is refused", func(t *testing.T, store tokenstore.Store) {
			family := create(t, store)
			wantError(t, store.CreateFamily(t.Context(), rotated(family, 0)), tokenstore.ErrConflict)
			wantFamily(t, store, family)
		}},
		{"a family that has expired is read", func(t *testing.T, store tokenstore.Store) {
			family := newFamily()
			family.AccessExpiry, family.IdleExpiry, family.AbsoluteExpiry = family.CreatedAt, family.CreatedAt, family.CreatedAt
			wantError(t, store.CreateFamily(t.Context(), family), nil)
			wantFamily(t, store, family)
		}},
		{"a family that lives for millennia is read", func(t *testing.T, store tokenstore.Store) {
			family := newFamily()
			family.IdleExpiry = time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)
			wantError(t, store.CreateFamily(t.Context(), family), nil)
			wantFamily(t, store, family)
		}},
		{"what was read may be changed", func(t *testing.T, store tokenstore.Store) {
			family := create(t, store)
			got, err := store.Family(t.Context(), family.ID)
			wantError(t, err, nil)
			got.Generation, got.Scopes[0] = 99, "admin"
			wantFamily(t, store, family)
		}},
		{"what was created may be changed", func(t *testing.T, store tokenstore.Store) {
			family := newFamily()
			changed := *family
			wantError(t, store.CreateFamily(t.Context(), &changed), nil)
			changed.Generation, changed.Subject = 99, "mallory"
			wantFamily(t, store, family)
		}},
		{"a rotation replaces the whole record", func(t *testing.T, store tokenstore.Store) {
			family := create(t, store)
			for racer := range 5 {
				next := rotated(family, racer)
				next.SealedSuccessor, next.Subject = []byte{byte(racer)}, fmt.Sprint("renamed ", racer)
				wantError(t, store.RotateFamily(t.Context(), family, next), nil)
				wantFamily(t, store, next)
				family = next
			}
		}},
		{"a rotation from an earlier generation is refused", func(t *testing.T, store tokenstore.Store) {
			first := create(t, store)
			second := rotated(first, 0)
			wantError(t, store.RotateFamily(t.Context(), first, second), nil)
			wantError(t, store.RotateFamily(t.Context(), first, rotated(first, 1)), tokenstore.ErrConflict)
			wantFamily(t, store, second)
		}},
		{"a rotation from a later generation is refused", func(t *testing.T, store tokenstore.Store) {
			family := create(t, store)
			ahead := *family
			ahead.Generation++
			wantError(t, store.RotateFamily(t.Context(), &ahead, rotated(&ahead, 0)), tokenstore.ErrConflict)
			wantFamily(t, store, family)
		}},
		{"a rotation from another secret of the same generation is refused", func(t *testing.T, store tokenstore.Store) {
			family := create(t, store)
			fork := *family
			fork.SecretHash[31] ^= 1
			wantError(t, store.RotateFamily(t.Context(), &fork, rotated(&fork, 0)), tokenstore.ErrConflict)
			wantFamily(t, store, family)
		}},
		{"a rotation compares nothing but generation and secret", func(t *testing.T, store tokenstore.Store) {
			family := create(t, store)
			bare := &tokenstore.Family{ID: family.ID, Generation: family.Generation, SecretHash: family.SecretHash}
			next := rotated(family, 0)
			wantError(t, store.RotateFamily(t.Context(), bare, next), nil)
			wantFamily(t, store, next)
		}},
		{"a rotation may skip generations", func(t *testing.T, store tokenstore.Store) {
			family := create(t, store)
			next := rotated(family, 0)
			next.Generation = 1<<32 - 1
			wantError(t, store.RotateFamily(t.Context(), family, next), nil)
			wantFamily(t, store, next)
		}},
		{"a revoked family is not found, and a rotation does not bring it back", func(t *testing.T, store tokenstore.Store) {
			family := create(t, store)
			wantError(t, store.Revoke(t.Context(), revokedFamily(family.ID)), nil)
			_, err := store.Family(t.Context(), family.ID)
			wantError(t, err, tokenstore.ErrNotFound)
			wantError(t, store.RotateFamily(t.Context(), family, rotated(family, 0)), tokenstore.ErrNotFound)
			_, err = store.Family(t.Context(), family.ID)
			wantError(t, err, tokenstore.ErrNotFound)
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { test.do(t, open(t, t.TempDir())) })
	}
}

func TestOfManyRacersForOneRotationOneWins(t *testing.T) {
	store := open(t, t.TempDir())
	family := create(t, store)
	candidates := make([]*tokenstore.Family, 100)
	for racer := range candidates {
		candidates[racer] = rotated(family, racer)
	}
	results := race(len(candidates), func(racer int) error {
		return store.RotateFamily(t.Context(), family, candidates[racer], revokedToken(candidates[racer].AccessTokenID))
	})
	winner := wantOneWinner(t, results, tokenstore.ErrConflict)
	wantFamily(t, store, candidates[winner])
	for racer, candidate := range candidates {
		if got, want := isRevoked(store, candidate.AccessTokenID), racer == winner; got != want {
			t.Errorf("racer %d's revocation is in the set: %t, want %t", racer, got, want)
		}
	}
}

func TestOfManyRacersForOneFamilyIDOneWins(t *testing.T) {
	store := open(t, t.TempDir())
	family := newFamily()
	candidates := make([]*tokenstore.Family, 100)
	for racer := range candidates {
		candidates[racer] = rotated(family, racer)
	}
	results := race(len(candidates), func(racer int) error { return store.CreateFamily(t.Context(), candidates[racer]) })
	wantFamily(t, store, candidates[wantOneWinner(t, results, tokenstore.ErrConflict)])
}

// Whoever loses reads again and retries, as the gateway's callers in effect do: no rotation that was acknowledged may be
// missing at the end.
func TestRotationsOfManyFamiliesLoseNoUpdate(t *testing.T) {
	const families, racers, times = 100, 4, 5
	directory := t.TempDir()
	store := open(t, directory)
	var ids []uuid.UUID
	for range families {
		ids = append(ids, create(t, store).ID)
	}
	results := race(families*racers, func(racer int) error {
		for range times {
			if err := rotateUntilWon(t.Context(), store, ids[racer/racers], racer); err != nil {
				return err
			}
		}
		return nil
	})
	for racer, err := range results {
		if err != nil {
			t.Errorf("racer %d: %v", racer, err)
		}
	}
	check := func(store tokenstore.Store) {
		for _, id := range ids {
			family, err := store.Family(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			if family.Generation != racers*times {
				t.Errorf("family %s is at generation %d, want %d", id, family.Generation, racers*times)
			}
		}
	}
	check(store)
	check(reopen(t, store, directory))
}

func rotateUntilWon(ctx context.Context, store tokenstore.Store, id uuid.UUID, racer int) error {
	for {
		family, err := store.Family(ctx, id)
		if err != nil {
			return err
		}
		if err = store.RotateFamily(ctx, family, rotated(family, racer)); !errors.Is(err, tokenstore.ErrConflict) {
			return err
		}
	}
}

// While the first change is synced to disk the others gather into a group of several megabytes, which is more than one
// transaction of Badger takes.
func TestAGroupThatIsTooBigForATransactionIsCommittedWhole(t *testing.T) {
	directory := t.TempDir()
	store := open(t, directory)
	families := make([]*tokenstore.Family, 1200)
	for n := range families {
		families[n] = newFamily()
		families[n].Scopes = []string{strings.Repeat("s", 16<<10), fmt.Sprint(n)}
	}
	results := race(len(families), func(racer int) error { return store.CreateFamily(t.Context(), families[racer]) })
	for racer, err := range results {
		if err != nil {
			t.Fatalf("racer %d: %v", racer, err)
		}
	}
	store = reopen(t, store, directory)
	for _, family := range families {
		wantFamily(t, store, family)
	}
}

func wantError(t *testing.T, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
