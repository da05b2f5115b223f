package badger_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/tokengateway/caddy-token-gateway/tokenstore"
)

func TestRevocationsAreInTheSetWhenTheCallReturns(t *testing.T) {
	token := tokenstore.Issued{
		TokenID: uuid.Must(uuid.NewV7()), FamilyID: uuid.Must(uuid.NewV7()), Subject: "alice", ClientID: "shop",
	}
	tests := []struct {
		name       string
		revocation tokenstore.Revocation
		want       bool
	}{
		{"of the token", tokenstore.Revocation{Kind: tokenstore.RevokedToken, ID: token.TokenID}, true},
		{"of the family", tokenstore.Revocation{Kind: tokenstore.RevokedFamily, ID: token.FamilyID}, true},
		{"of the subject", tokenstore.Revocation{Kind: tokenstore.RevokedSubject, Name: "alice"}, true},
		{"of the client", tokenstore.Revocation{Kind: tokenstore.RevokedClient, Name: "shop"}, true},
		{"of another subject", tokenstore.Revocation{Kind: tokenstore.RevokedSubject, Name: "bob"}, false},
		{"of what was issued to the subject long ago", tokenstore.Revocation{
			Kind: tokenstore.RevokedSubject, Name: "alice", IssuedUpTo: time.Now().Add(-time.Hour),
		}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			directory := t.TempDir()
			store := open(t, directory)
			set := store.Revocations()
			test.revocation.ExpiresAt = soon()
			wantError(t, store.Revoke(t.Context(), test.revocation), nil)
			if got := set.Revoked(token); got != test.want {
				t.Errorf("in the set: %t, want %t", got, test.want)
			}
			if got := reopen(t, store, directory).Revocations().Revoked(token); got != test.want {
				t.Errorf("in the set after reopening: %t, want %t", got, test.want)
			}
		})
	}
}

func TestOnlyTheRevokedFamilyIsDeleted(t *testing.T) {
	store := open(t, t.TempDir())
	revoked, kept := create(t, store), create(t, store)
	wantError(t, store.Revoke(t.Context(), revokedFamily(revoked.ID)), nil)
	_, err := store.Family(t.Context(), revoked.ID)
	wantError(t, err, tokenstore.ErrNotFound)
	for _, revocation := range []tokenstore.Revocation{
		revokedToken(kept.ID), // an identifier is only of a family if the kind says so
		{Kind: tokenstore.RevokedSubject, Name: kept.Subject, ExpiresAt: soon()},
		{Kind: tokenstore.RevokedClient, Name: kept.ClientID, ExpiresAt: soon()},
	} {
		wantError(t, store.Revoke(t.Context(), revocation), nil)
	}
	wantFamily(t, store, kept)
}

func TestAFamilyThatIsGoneCanBeRevoked(t *testing.T) {
	store := open(t, t.TempDir())
	id := uuid.Must(uuid.NewV7())
	for range 2 {
		wantError(t, store.Revoke(t.Context(), revokedFamily(id)), nil)
		if !isFamilyRevoked(store, id) {
			t.Error("the revocation isn't in the set")
		}
	}
}

func TestRevokingAgainKeepsTheLongerReach(t *testing.T) {
	early, late := soon().Add(-2*time.Hour), soon().Add(-time.Hour)
	type reach struct{ issuedUpTo, expiresAt time.Time }
	tests := []struct {
		name       string
		one, other reach
		upTo       time.Time // what was issued then is revoked, what was issued a millisecond later isn't; zero for all
		expiresAt  time.Time
	}{
		{"later tokens", reach{early, soon()}, reach{late, soon()}, late, soon()},
		{"all tokens", reach{early, soon()}, reach{time.Time{}, soon()}, time.Time{}, soon()},
		{"a later expiry", reach{early, soon()}, reach{early, soon().Add(time.Hour)}, early, soon().Add(time.Hour)},
		{"one of either", reach{late, soon()}, reach{early, soon().Add(time.Hour)}, late, soon().Add(time.Hour)},
	}
	for _, test := range tests {
		for order, inTurn := range map[string][]reach{
			"first the shorter": {test.one, test.other}, "first the longer": {test.other, test.one},
		} {
			t.Run(test.name+", "+order, func(t *testing.T) {
				directory := t.TempDir()
				store := open(t, directory)
				for _, r := range inTurn {
					wantError(t, store.Revoke(t.Context(), tokenstore.Revocation{
						Kind: tokenstore.RevokedSubject, Name: "alice", IssuedUpTo: r.issuedUpTo, ExpiresAt: r.expiresAt,
					}), nil)
				}
				wantReach(t, "before reopening", store, test.upTo, test.expiresAt)
				wantReach(t, "after reopening", reopen(t, store, directory), test.upTo, test.expiresAt)
			})
		}
	}
}

// wantReach checks how far the only revocation reaches, which is one of the subject alice. It sweeps the set.
func wantReach(t *testing.T, when string, store tokenstore.Store, upTo, expiresAt time.Time) {
	t.Helper()
	set := store.Revocations()
	last, next := upTo.UnixMilli(), upTo.UnixMilli()+1
	if upTo.IsZero() {
		last, next = soon().UnixMilli(), soon().AddDate(1000, 0, 0).UnixMilli()
	}
	if !set.RevokedSince("alice", "", last) {
		t.Errorf("%s: the last token concerned isn't revoked", when)
	}
	if got := set.RevokedSince("alice", "", next); got != upTo.IsZero() {
		t.Errorf("%s: whether the token after it is revoked: %t, want %t", when, got, upTo.IsZero())
	}
	if set.Sweep(expiresAt.Add(-time.Second)); set.Len() != 1 {
		t.Errorf("%s: the revocation is forgotten before it expires", when)
	}
	if set.Sweep(expiresAt.Add(time.Minute)); set.Len() != 0 {
		t.Errorf("%s: the revocation is kept after it has expired", when)
	}
}

func TestARotationRecordsItsRevocations(t *testing.T) {
	directory := t.TempDir()
	store := open(t, directory)
	family := create(t, store)
	next := rotated(family, 0)
	another := uuid.Must(uuid.NewV7())
	wantError(t, store.RotateFamily(t.Context(), family, next, revokedToken(family.AccessTokenID), revokedToken(another)), nil)
	check := func(when string, store tokenstore.Store) {
		t.Helper()
		wantFamily(t, store, next)
		for _, id := range []uuid.UUID{family.AccessTokenID, another} {
			if !isRevoked(store, id) {
				t.Errorf("%s: token %s isn't revoked", when, id)
			}
		}
		if isRevoked(store, next.AccessTokenID) {
			t.Errorf("%s: the new access token is revoked", when)
		}
	}
	check("before reopening", store)
	check("after reopening", reopen(t, store, directory))
}

func TestARotationThatFailsRevokesNothing(t *testing.T) {
	tests := []struct {
		name    string
		prepare func(t *testing.T, store tokenstore.Store, family *tokenstore.Family)
		want    error
	}{
		{
			name: "the race was lost",
			prepare: func(t *testing.T, store tokenstore.Store, family *tokenstore.Family) {
				wantError(t, store.RotateFamily(t.Context(), family, rotated(family, 0)), nil)
			},
			want: tokenstore.ErrConflict,
		},
		{
			name: "the family is revoked",
			prepare: func(t *testing.T, store tokenstore.Store, family *tokenstore.Family) {
				wantError(t, store.Revoke(t.Context(), revokedFamily(family.ID)), nil)
			},
			want: tokenstore.ErrNotFound,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			directory := t.TempDir()
			store := open(t, directory)
			family := create(t, store)
			test.prepare(t, store, family)
			token := uuid.Must(uuid.NewV7())
			wantError(t, store.RotateFamily(t.Context(), family, rotated(family, 1), revokedToken(token)), test.want)
			if isRevoked(store, token) {
				t.Error("a rotation that failed has revoked")
			}
			if isRevoked(reopen(t, store, directory), token) {
				t.Error("a rotation that failed has revoked, after reopening")
			}
		})
	}
}

// A family may be rotated and revoked at once; whatever comes first, it ends revoked.
func TestARevocationBeatsEveryRacingRotation(t *testing.T) {
	directory := t.TempDir()
	store := open(t, directory)
	families := make([]*tokenstore.Family, 50)
	for n := range families {
		families[n] = create(t, store)
	}
	results := race(2*len(families), func(racer int) error {
		family := families[racer/2]
		if racer%2 == 0 {
			return store.Revoke(t.Context(), revokedFamily(family.ID))
		}
		err := store.RotateFamily(t.Context(), family, rotated(family, racer))
		if err == nil || errors.Is(err, tokenstore.ErrNotFound) {
			return nil
		}
		return fmt.Errorf("rotating: %w", err)
	})
	for racer, err := range results {
		wantError(t, err, nil)
		if family := families[racer/2]; !isFamilyRevoked(store, family.ID) {
			t.Errorf("family %s isn't revoked", family.ID)
		}
	}
	store = reopen(t, store, directory)
	for _, family := range families {
		_, err := store.Family(t.Context(), family.ID)
		wantError(t, err, tokenstore.ErrNotFound)
		if !isFamilyRevoked(store, family.ID) {
			t.Errorf("family %s isn't revoked after reopening", family.ID)
		}
	}
}

func TestARotationThatFailsHalfWayChangesNothing(t *testing.T) {
	store := open(t, t.TempDir())
	family, bystander := create(t, store), create(t, store)
	tooLong := tokenstore.Revocation{Kind: tokenstore.RevokedSubject, Name: strings.Repeat("x", 70_000), ExpiresAt: soon()}
	next := rotated(bystander, 1)
	bystanders := make(chan error)
	go func() { bystanders <- store.RotateFamily(t.Context(), bystander, next) }()
	if err := store.RotateFamily(t.Context(), family, rotated(family, 1), tooLong); err == nil {
		t.Fatal("a revocation whose name is longer than a key can be was recorded")
	}
	if err := <-bystanders; err != nil {
		t.Errorf("a rotation beside it failed, too: %v", err)
	}
	wantFamily(t, store, family)
	wantFamily(t, store, next)
	if n := store.Revocations().Len(); n != 0 {
		t.Errorf("%d revocations are in the set", n)
	}
}

func TestOfTwoRevocationsInOneRotationTheLongerReachStays(t *testing.T) {
	directory := t.TempDir()
	store := open(t, directory)
	family := create(t, store)
	upTo := time.Now().Truncate(time.Millisecond)
	longer := tokenstore.Revocation{Kind: tokenstore.RevokedSubject, Name: "a", IssuedUpTo: upTo, ExpiresAt: soon()}
	shorter := longer
	shorter.IssuedUpTo = upTo.Add(-time.Minute)
	if err := store.RotateFamily(t.Context(), family, rotated(family, 1), longer, shorter); err != nil {
		t.Fatal(err)
	}
	for _, when := range []string{"at once", "after reopening"} {
		if !store.Revocations().RevokedSince("a", "", upTo.UnixMilli()) {
			t.Errorf("%s: not revoked up to the later moment", when)
		}
		store = reopen(t, store, directory)
	}
}
