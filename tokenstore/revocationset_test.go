package tokenstore_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/tokengateway/caddy-token-gateway/tokenstore"
)

// issuedAt returns an identifier of that moment (RFC 9562 §5.7); n tells those of one moment apart.
func issuedAt(moment time.Time, n uint64) uuid.UUID {
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[:8], uint64(moment.UnixMilli())<<16|0x7000)
	binary.BigEndian.PutUint64(id[8:], n|1<<63)
	return id
}

func TestMomentIsTheOneOfTheIdentifier(t *testing.T) {
	for _, moment := range []time.Time{time.UnixMilli(0), noon, time.UnixMilli(1<<48 - 1)} {
		if got := tokenstore.Moment(issuedAt(moment, 1)); got != moment.UnixMilli() {
			t.Errorf("got %d, want %d", got, moment.UnixMilli())
		}
	}
}

func TestRevoked(t *testing.T) {
	token := tokenstore.Issued{TokenID: issuedAt(noon, 1), FamilyID: issuedAt(noon.Add(-time.Hour), 2), Subject: "alice", ClientID: "shop"}
	alone := token
	alone.FamilyID = uuid.Nil
	type revocation = tokenstore.Revocation
	tests := []struct {
		name        string
		revocations []revocation
		token       tokenstore.Issued
		want        bool
	}{
		{"nothing is revoked", nil, token, false},
		{"the token", []revocation{{Kind: tokenstore.RevokedToken, ID: token.TokenID}}, token, true},
		{"another token", []revocation{{Kind: tokenstore.RevokedToken, ID: issuedAt(noon, 3)}}, token, false},
		{"its family", []revocation{{Kind: tokenstore.RevokedFamily, ID: token.FamilyID}}, token, true},
		{"another family", []revocation{{Kind: tokenstore.RevokedFamily, ID: issuedAt(noon, 3)}}, token, false},
		{"the nil family, and the token has none", []revocation{{Kind: tokenstore.RevokedFamily}}, alone, false},
		{"its subject", []revocation{{Kind: tokenstore.RevokedSubject, Name: "alice"}}, token, true},
		{"another subject", []revocation{{Kind: tokenstore.RevokedSubject, Name: "Alice"}}, token, false},
		{"its client", []revocation{{Kind: tokenstore.RevokedClient, Name: "shop"}}, token, true},
		{"another client", []revocation{{Kind: tokenstore.RevokedClient, Name: "shop2"}}, token, false},
		{"a client with its subject's name", []revocation{{Kind: tokenstore.RevokedClient, Name: "alice"}}, token, false},
		{"a subject with its client's name", []revocation{{Kind: tokenstore.RevokedSubject, Name: "shop"}}, token, false},
		{
			"everything around it",
			[]revocation{
				{Kind: tokenstore.RevokedToken, ID: issuedAt(noon, 3)},
				{Kind: tokenstore.RevokedFamily, ID: issuedAt(noon, 4)},
				{Kind: tokenstore.RevokedSubject, Name: "bob"},
				{Kind: tokenstore.RevokedClient, Name: "blog"},
			},
			token, false,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			set := setOf(test.revocations...)
			if got := set.Revoked(test.token); got != test.want {
				t.Errorf("got %t, want %t", got, test.want)
			}
			if got := set.Len(); got != len(test.revocations) {
				t.Errorf("the set has %d entries, want %d", got, len(test.revocations))
			}
		})
	}
}

// kinds are the revocations of all four kinds that concern the token which concerned returns.
var kinds = []struct {
	name       string
	revocation tokenstore.Revocation
}{
	{"a token", tokenstore.Revocation{Kind: tokenstore.RevokedToken, ID: concerned().TokenID}},
	{"a family", tokenstore.Revocation{Kind: tokenstore.RevokedFamily, ID: concerned().FamilyID}},
	{"a subject", tokenstore.Revocation{Kind: tokenstore.RevokedSubject, Name: concerned().Subject}},
	{"a client", tokenstore.Revocation{Kind: tokenstore.RevokedClient, Name: concerned().ClientID}},
}

func concerned() tokenstore.Issued {
	return tokenstore.Issued{TokenID: issuedAt(noon, 1), FamilyID: issuedAt(noon, 2), Subject: "alice", ClientID: "shop"}
}

func TestIssuedUpTo(t *testing.T) {
	tests := []struct {
		name       string
		issuedUpTo time.Time
		want       bool
	}{
		{"issued a millisecond after it", noon.Add(-time.Millisecond), false},
		{"issued at it", noon, true},
		{"issued in the same millisecond", noon.Add(999 * time.Microsecond), true},
		{"issued a millisecond before it", noon.Add(time.Millisecond), true},
		{"no moment given", time.Time{}, true},
	}
	for _, kind := range kinds {
		for _, test := range tests {
			t.Run(kind.name+", "+test.name, func(t *testing.T) {
				revocation := kind.revocation
				revocation.IssuedUpTo = test.issuedUpTo
				if got := setOf(revocation).Revoked(concerned()); got != test.want {
					t.Errorf("got %t, want %t", got, test.want)
				}
			})
		}
	}
}

func TestAddingAgainKeepsTheLongerReach(t *testing.T) {
	type reach struct{ issuedUpTo, expiresAt time.Time }
	hour := noon.Add(time.Hour)
	tests := []struct {
		name          string
		one, other    reach
		upTo          time.Time // a token issued then is revoked, one a millisecond later isn't; zero for all are
		heldUntilHour bool
	}{
		{"the same twice", reach{noon, hour}, reach{noon, hour}, noon, true},
		{"one concerns later tokens", reach{noon, hour}, reach{noon.Add(time.Second), hour}, noon.Add(time.Second), true},
		{"one concerns all tokens", reach{noon, hour}, reach{time.Time{}, hour}, time.Time{}, true},
		{"one expires later", reach{noon, noon}, reach{noon, hour}, noon, true},
		{"one concerns later tokens and the other expires later", reach{hour, noon}, reach{noon, hour}, hour, true},
		{"both expire before the hour", reach{noon, noon}, reach{noon, hour.Add(-time.Millisecond)}, noon, false},
	}
	for _, kind := range kinds[1:] { // not one token: its moment of issue is a part of its identifier
		for _, test := range tests {
			for _, order := range []struct {
				name   string
				inTurn []reach
			}{
				{"in order", []reach{test.one, test.other}},
				{"in reverse", []reach{test.other, test.one}},
			} {
				t.Run(kind.name+", "+test.name+", "+order.name, func(t *testing.T) {
					var inTurn []tokenstore.Revocation
					for _, reach := range order.inTurn {
						revocation := kind.revocation
						revocation.IssuedUpTo, revocation.ExpiresAt = reach.issuedUpTo, reach.expiresAt
						inTurn = append(inTurn, revocation)
					}
					added, merged := setOf(inTurn...), setOf(inTurn[0].Merge(inTurn[1]))
					for name, set := range map[string]*tokenstore.RevocationSet{"added": added, "merged": merged} {
						if got := revokedWhenIssuedAt(set, kind.revocation, test.upTo); !got {
							t.Errorf("%s: what was issued at %s isn't revoked", name, test.upTo)
						}
						later := test.upTo.Add(time.Millisecond)
						if test.upTo.IsZero() {
							later = noon.AddDate(1000, 0, 0)
						}
						if got := revokedWhenIssuedAt(set, kind.revocation, later); got != test.upTo.IsZero() {
							t.Errorf("%s: whether what was issued at %s is revoked: got %t", name, later, got)
						}
						if set.Sweep(hour); (set.Len() == 1) != test.heldUntilHour {
							t.Errorf("%s: %d entries after the sweep at %s", name, set.Len(), hour)
						}
					}
				})
			}
		}
	}
}

// revokedWhenIssuedAt asks about a token of that moment that the revocation concerns; zero for noon.
func revokedWhenIssuedAt(set *tokenstore.RevocationSet, r tokenstore.Revocation, moment time.Time) bool {
	if moment.IsZero() {
		moment = noon
	}
	return set.Revoked(tokenstore.Issued{TokenID: issuedAt(moment, 99), FamilyID: r.ID, Subject: r.Name, ClientID: r.Name})
}

func TestRevokedSince(t *testing.T) {
	set := setOf(
		tokenstore.Revocation{Kind: tokenstore.RevokedSubject, Name: "alice", IssuedUpTo: noon},
		tokenstore.Revocation{Kind: tokenstore.RevokedClient, Name: "shop", IssuedUpTo: noon.Add(time.Second)},
		tokenstore.Revocation{Kind: tokenstore.RevokedSubject, Name: "mallory"},
		tokenstore.Revocation{Kind: tokenstore.RevokedFamily, ID: issuedAt(noon, 1), Name: "bob"},
	)
	tests := []struct {
		name            string
		subject, client string
		moment          time.Time
		want            bool
	}{
		{"up to the subject's moment", "alice", "blog", noon, true},
		{"after the subject's moment", "alice", "blog", noon.Add(time.Millisecond), false},
		{"after the subject's moment, up to the client's", "alice", "shop", noon.Add(time.Second), true},
		{"after both moments", "alice", "shop", noon.Add(1001 * time.Millisecond), false},
		{"a subject that is revoked for ever", "mallory", "blog", noon.AddDate(1000, 0, 0), true},
		{"a revocation of another kind with that name", "bob", "bob", noon, false},
		{"nobody", "", "", noon, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := set.RevokedSince(test.subject, test.client, test.moment.UnixMilli()); got != test.want {
				t.Errorf("got %t, want %t", got, test.want)
			}
		})
	}
}

func TestSweepForgetsOnlyWhatExpiredBefore(t *testing.T) {
	tests := []struct {
		name      string
		expiresAt time.Time
		kept      bool
	}{
		{"expired a millisecond ago", noon.Add(-time.Millisecond), false},
		{"expires now", noon, true},
		{"expires in a millisecond", noon.Add(time.Millisecond), true},
		{"never had an expiry", time.Time{}, false},
	}
	for _, kind := range kinds {
		for _, test := range tests {
			t.Run(kind.name+", "+test.name, func(t *testing.T) {
				revocation := kind.revocation
				revocation.ExpiresAt = test.expiresAt
				set := setOf(revocation)
				set.Sweep(noon)
				if got := set.Revoked(concerned()); got != test.kept {
					t.Errorf("revoked after the sweep: got %t, want %t", got, test.kept)
				}
				if got := set.Len() == 1; got != test.kept {
					t.Errorf("%d entries after the sweep", set.Len())
				}
			})
		}
	}
}

func TestSweepForgetsAmongMany(t *testing.T) {
	const each = 1000
	set := tokenstore.NewRevocationSet()
	for n := range uint64(each) {
		set.Add(tokenstore.Revocation{Kind: tokenstore.RevokedToken, ID: issuedAt(noon, n), ExpiresAt: noon.Add(-time.Second)})
		set.Add(tokenstore.Revocation{Kind: tokenstore.RevokedToken, ID: issuedAt(noon, each+n), ExpiresAt: noon.Add(time.Second)})
	}
	if set.Len() != 2*each {
		t.Fatalf("%d entries, want %d", set.Len(), 2*each)
	}
	set.Sweep(noon)
	if set.Len() != each {
		t.Errorf("%d entries after the sweep, want %d", set.Len(), each)
	}
	for n := range uint64(each) {
		if set.Revoked(tokenstore.Issued{TokenID: issuedAt(noon, n)}) {
			t.Errorf("expired revocation %d is still there", n)
		}
		if !set.Revoked(tokenstore.Issued{TokenID: issuedAt(noon, each+n)}) {
			t.Errorf("live revocation %d is gone", n)
		}
	}
}

// Whoever learns that Add has returned sees what was added, while others add, ask and sweep.
func TestAddIsSeenByEverybodyWhenItReturns(t *testing.T) {
	const adders, askers, each = 8, 8, 500
	set := tokenstore.NewRevocationSet()
	added := make(chan tokenstore.Issued, 64)
	var adding, asking sync.WaitGroup
	for a := range adders {
		adding.Go(func() {
			for n := range each {
				token := concerned()
				token.TokenID = issuedAt(noon, uint64(a*each+n))
				token.FamilyID = issuedAt(noon, uint64(adders*each+a*each+n))
				token.Subject, token.ClientID = fmt.Sprintf("subject %d %d", a, n), fmt.Sprintf("client %d %d", a, n)
				r := tokenstore.Revocation{IssuedUpTo: noon, ExpiresAt: noon}
				switch n % 4 {
				case 0:
					r.Kind, r.ID = tokenstore.RevokedToken, token.TokenID
				case 1:
					r.Kind, r.ID = tokenstore.RevokedFamily, token.FamilyID
				case 2:
					r.Kind, r.Name = tokenstore.RevokedSubject, token.Subject
				case 3:
					r.Kind, r.Name = tokenstore.RevokedClient, token.ClientID
				}
				set.Add(r)
				if !set.Revoked(token) {
					t.Errorf("adder %d doesn't see its own revocation %d", a, n)
				}
				added <- token
			}
		})
	}
	for range askers {
		asking.Go(func() {
			for token := range added {
				if !set.Revoked(token) {
					t.Errorf("token %s isn't revoked though Add has returned", token.TokenID)
				}
				set.Sweep(noon)
			}
		})
	}
	adding.Wait()
	close(added)
	asking.Wait()
	if set.Len() != adders*each {
		t.Errorf("%d entries, want %d", set.Len(), adders*each)
	}
}

func TestAskingAllocatesNothing(t *testing.T) {
	var all []tokenstore.Revocation
	for _, kind := range kinds {
		all = append(all, kind.revocation)
	}
	tests := []struct {
		name string
		set  *tokenstore.RevocationSet
		want bool
	}{
		{"an empty set", setOf(), false},
		{"a revoked token", setOf(all...), true},
		{"a token issued later", setOf(tokenstore.Revocation{Kind: tokenstore.RevokedClient, Name: "shop", IssuedUpTo: noon.Add(-1)}), false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			token := concerned()
			allocations := testing.AllocsPerRun(100, func() {
				if got := test.set.Revoked(token); got != test.want {
					t.Errorf("got %t, want %t", got, test.want)
				}
			})
			if allocations != 0 {
				t.Errorf("%v allocations a question, want none", allocations)
			}
		})
	}
}

// BenchmarkRevoked asks a set of a million revocations about tokens, half of them revoked.
func BenchmarkRevoked(b *testing.B) {
	const entries = 1_000_000
	set := tokenstore.NewRevocationSet()
	tokens := make([]tokenstore.Issued, 1<<16)
	random := rand.New(rand.NewPCG(1, 2))
	for n := range uint64(entries) {
		token := concerned()
		token.TokenID = issuedAt(noon, random.Uint64()>>1)
		token.FamilyID = issuedAt(noon, random.Uint64()>>1)
		tokens[n%uint64(len(tokens))] = token
		switch n % 4 {
		case 0:
			set.Add(tokenstore.Revocation{Kind: tokenstore.RevokedToken, ID: token.TokenID})
		case 1:
			set.Add(tokenstore.Revocation{Kind: tokenstore.RevokedFamily, ID: token.FamilyID})
		default:
			set.Add(tokenstore.Revocation{Kind: tokenstore.RevokedToken, ID: issuedAt(noon, random.Uint64()>>1)})
		}
	}
	if set.Len() != entries {
		b.Fatalf("%d entries, want %d", set.Len(), entries)
	}
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		n := rand.IntN(len(tokens))
		for pb.Next() {
			if got, want := set.Revoked(tokens[n%len(tokens)]), n%4 < 2; got != want {
				b.Errorf("token %d: got %t, want %t", n, got, want)
			}
			n++
		}
	})
}

func setOf(revocations ...tokenstore.Revocation) *tokenstore.RevocationSet {
	set := tokenstore.NewRevocationSet()
	for _, r := range revocations {
		set.Add(r)
	}
	return set
}
