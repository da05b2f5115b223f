package grants

import (
	"context"
	"crypto/sha256"
	"errors"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/tokengateway/caddy-token-gateway/tokenstore"
)

func TestARefreshRotatesTheRefreshToken(t *testing.T) {
	f := newFixture(t)
	first := f.signIn(t)
	f.clock.advance(time.Minute)
	second := f.mustRefresh(t, first.RefreshToken)

	if second.RefreshToken == "" || second.RefreshToken == first.RefreshToken {
		t.Errorf("refresh token %q after %q, want a new one", second.RefreshToken, first.RefreshToken)
	}
	if second.AccessToken == first.AccessToken {
		t.Error("the access token is the same as before")
	}
	wantEqual(t, "lifetime", second.ExpiresIn, time.Hour)
	wantEqual(t, "scopes", second.Scopes, []string{"default", "read", "write"})
	f.wantGood(t, first.AccessToken, second.AccessToken)

	before, after := f.parse(t, first.RefreshToken), f.parse(t, second.RefreshToken)
	wantEqual(t, "family", after.family, before.family)
	wantEqual(t, "generation", after.generation, before.generation+1)
	claims, family := f.claims(t, second.AccessToken), f.family(t, second.RefreshToken)
	wantEqual(t, "sid", claims.FamilyID, family.ID.String())
	wantEqual(t, "recorded jti", family.AccessTokenID.String(), claims.TokenID)
	wantEqual(t, "recorded hash", family.SecretHash, sha256.Sum256(after.secret[:]))
	wantEqual(t, "rotated at", family.RotatedAt, f.clock.now())
	wantEqual(t, "created at", family.CreatedAt, testStart)
	f.wantEvents(t)
}

func TestARefreshWithoutARefreshTokenIsAnInvalidRequest(t *testing.T) {
	f := newFixture(t)
	_, refused := f.token(t, refreshing(""))
	wantCode(t, refused, InvalidRequest)
}

func TestAReusedRefreshTokenEndsItsFamily(t *testing.T) {
	tests := []struct {
		name      string
		grace     time.Duration
		rotations int
		presented int // generation
		wait      time.Duration
	}{
		{"right after its use, when tokens are for single use", 0, 1, 0, 0},
		{"the one before the current, of several", 0, 4, 3, 0},
		{"the very first of several", 0, 4, 0, 0},
		{"when the grace window has just closed", 30 * time.Second, 1, 0, 30 * time.Second},
		{"long after the grace window", 30 * time.Second, 1, 0, time.Hour},
		{"within the window, but its successor was used", 30 * time.Second, 2, 0, 0},
		{"within the window, but many generations behind", 30 * time.Second, 4, 1, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t, withGrace(test.grace))
			issued := []*TokenResponse{f.signIn(t)}
			var access []string
			for range test.rotations {
				issued = append(issued, f.mustRefresh(t, issued[len(issued)-1].RefreshToken))
			}
			f.clock.advance(test.wait)
			bystander := f.signIn(t)

			f.wantRefused(t, issued[test.presented].RefreshToken)

			events := f.wantEvents(t, RefreshTokenReused)
			wantEqual(t, "event", events[0], Event{
				Kind: RefreshTokenReused, ClientID: "portal", Subject: "admin",
				FamilyID: f.parse(t, issued[0].RefreshToken).family,
			})
			for _, response := range issued {
				access = append(access, response.AccessToken)
			}
			if test.wait < time.Hour { // an expired one is refused as expired
				f.wantRevoked(t, access...)
			}
			if family := f.family(t, issued[0].RefreshToken); family != nil {
				t.Errorf("the family is still there: %+v", family)
			}
			for _, response := range issued {
				f.wantRefused(t, response.RefreshToken)
			}
			f.wantEvents(t) // a family ends once
			f.wantGood(t, bystander.AccessToken)
			f.mustRefresh(t, bystander.RefreshToken)
		})
	}
}

func TestAReplayInTheGraceWindowGetsTheSameSuccessor(t *testing.T) {
	f := newFixture(t, withGrace(30*time.Second))
	first := f.signIn(t)
	second := f.mustRefresh(t, first.RefreshToken)
	record := f.family(t, second.RefreshToken)
	access := []string{first.AccessToken, second.AccessToken}
	for _, wait := range []time.Duration{0, time.Millisecond, 20 * time.Second, 9*time.Second + 998*time.Millisecond} {
		f.clock.advance(wait)
		replayed := f.mustRefresh(t, first.RefreshToken)
		if replayed.RefreshToken != second.RefreshToken {
			t.Fatalf("after %s more: successor %q, want %q again", wait, replayed.RefreshToken, second.RefreshToken)
		}
		if slices.Contains(access, replayed.AccessToken) {
			t.Errorf("after %s more: no new access token", wait)
		}
		access = append(access, replayed.AccessToken)
		wantEqual(t, "events", len(f.wantEvents(t, RefreshTokenReplayed)), 1)
	}
	f.wantGood(t, access...)
	wantEqual(t, "the family's record", f.family(t, second.RefreshToken), record)

	f.clock.advance(time.Millisecond) // 30 s after the rotation, however often it was replayed
	f.wantRefused(t, first.RefreshToken)
	f.wantEvents(t, RefreshTokenReused)
	f.wantRevoked(t, access...)
}

func TestAReplayKeepsToWhatWasGranted(t *testing.T) {
	f := newFixture(t, withGrace(30*time.Second))
	first := f.signIn(t)
	second := f.mustRefresh(t, first.RefreshToken)

	narrow := refreshing(first.RefreshToken)
	narrow.Scope = "read"
	replayed := f.mustToken(t, narrow)
	wantEqual(t, "scopes", replayed.Scopes, []string{"read"})
	wantEqual(t, "successor", replayed.RefreshToken, second.RefreshToken)

}

// TestAReplaysAccessTokenIsCoveredByTheRecord: a replay records nothing, and the record says how long a revocation has to
// last and when the family may be forgotten.
func TestAReplaysAccessTokenIsCoveredByTheRecord(t *testing.T) {
	for _, test := range []struct {
		name     string
		lifetime time.Duration // of access tokens, in a configuration that is loaded before the replay
		want     time.Duration
	}{
		{"with its full lifetime", time.Hour, time.Hour},
		{"with a shorter one", time.Minute, time.Minute},
		{"but not with one that was made longer meanwhile", 2 * time.Hour, time.Hour + time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t, withGrace(30*time.Second))
			first := f.signIn(t)
			f.mustRefresh(t, first.RefreshToken)
			f.clock.advance(29 * time.Second)
			f.start(t, withGrace(30*time.Second), withClient("portal", func(c *Client) { c.AccessTokenLifetime = test.lifetime }))
			replayed := f.mustRefresh(t, first.RefreshToken)
			wantEqual(t, "lifetime", replayed.ExpiresIn, test.want)
			f.wantGood(t, replayed.AccessToken)
		})
	}
}

func TestTheSuccessorOfAReplayRotatesOn(t *testing.T) {
	f := newFixture(t, withGrace(30*time.Second))
	first := f.signIn(t)
	f.mustRefresh(t, first.RefreshToken)
	second := f.mustRefresh(t, first.RefreshToken)
	third := f.mustRefresh(t, second.RefreshToken)
	again := f.mustRefresh(t, second.RefreshToken)
	wantEqual(t, "successor's successor", again.RefreshToken, third.RefreshToken)
	f.mustRefresh(t, third.RefreshToken)
	f.wantEvents(t, RefreshTokenReplayed, RefreshTokenReplayed)
}

func TestSwitchingTheGraceWindowOffMakesAReplayAReuse(t *testing.T) {
	f := newFixture(t, withGrace(30*time.Second))
	first := f.signIn(t)
	f.mustRefresh(t, first.RefreshToken)
	f.start(t)
	f.wantRefused(t, first.RefreshToken)
	f.wantEvents(t, RefreshTokenReused)
}

// race lets many goroutines refresh with one token at once.
func race(t *testing.T, f *fixture, token string, racers int) (won []*TokenResponse, refused []*Error) {
	t.Helper()
	var mu sync.Mutex
	var all sync.WaitGroup
	gate := make(chan struct{})
	for range racers {
		all.Go(func() {
			<-gate
			response, err := f.token(t, refreshing(token))
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				refused = append(refused, err)
			} else {
				won = append(won, response)
			}
		})
	}
	close(gate)
	all.Wait()
	return won, refused
}

func TestOfManyWhoRaceWithASingleUseTokenOneWinsAndTheFamilyEnds(t *testing.T) {
	f := newFixture(t)
	first := f.signIn(t)
	won, refused := race(t, f, first.RefreshToken, 100)
	if len(won) != 1 || len(refused) != 99 {
		t.Fatalf("%d won and %d were refused, want 1 and 99", len(won), len(refused))
	}
	for _, err := range refused {
		wantCode(t, err, InvalidGrant)
	}
	f.wantRefused(t, won[0].RefreshToken)
	f.wantRevoked(t, first.AccessToken, won[0].AccessToken)
	if events := f.events.take(); len(events) == 0 || events[0].Kind != RefreshTokenReused {
		t.Errorf("events %v, want a reuse", events)
	}
}

func TestOfManyWhoRaceInTheGraceWindowAllGetTheSameSuccessor(t *testing.T) {
	f := newFixture(t, withGrace(30*time.Second))
	first := f.signIn(t)
	won, refused := race(t, f, first.RefreshToken, 100)
	if len(won) != 100 {
		t.Fatalf("%d won, %d were refused, the first with %v", len(won), len(refused), refused[0])
	}
	access := map[string]bool{}
	for _, response := range won {
		wantEqual(t, "successor", response.RefreshToken, won[0].RefreshToken)
		f.wantGood(t, response.AccessToken)
		access[response.AccessToken] = true
	}
	wantEqual(t, "different access tokens", len(access), 100)
	wantEqual(t, "generation", f.family(t, first.RefreshToken).Generation, uint32(1))
	f.mustRefresh(t, won[0].RefreshToken)
}

// TestARefusedRefreshHasNoEffect: whatever is wrong with who asks or how, nobody may end somebody else's session with it.
func TestARefusedRefreshHasNoEffect(t *testing.T) {
	const current, previous = "current", "previous"
	type attempt struct {
		name    string
		present string
		wait    time.Duration
		with    []func(*Config) // the configuration is reloaded with these
		ask     func(*TokenRequest)
		want    Code
		ended   bool // the session is over by then, though nobody ended it
	}
	nothing := func(*TokenRequest) {}
	otherPassword := func(c *Config) {
		c.Users[0].Password = HashCredential(bcryptHash("another password"), c.Users[0].Password.comparer)
	}
	attempts := []attempt{
		{name: "by another client", present: current, want: InvalidGrant,
			ask: func(r *TokenRequest) { r.Client = confidential("rival") }},
		{name: "by a public client", present: current, want: InvalidGrant,
			ask: func(r *TokenRequest) { r.Client = ClientAuthentication{ClientID: "spa"} }},
		{name: "by another client, with a used token", present: previous, want: InvalidGrant,
			ask: func(r *TokenRequest) { r.Client = confidential("rival") }},
		{name: "by another client, with a used token in the grace window", present: previous, want: InvalidGrant,
			with: []func(*Config){withGrace(time.Minute)}, ask: func(r *TokenRequest) { r.Client = confidential("rival") }},
		{name: "with a wrong client secret", present: current, want: InvalidClient,
			ask: func(r *TokenRequest) { r.Client.Secret = "wrong" }},
		{name: "with a wrong client secret and a used token", present: previous, want: InvalidClient,
			ask: func(r *TokenRequest) { r.Client.Secret = "wrong" }},
		{name: "without a client secret", present: current, want: InvalidClient,
			ask: func(r *TokenRequest) { r.Client.Secret = "" }},
		{name: "by an unknown client", present: current, want: InvalidClient,
			ask: func(r *TokenRequest) { r.Client = confidential("nobody") }},
		{name: "with an unknown scope", present: current, want: InvalidScope,
			ask: func(r *TokenRequest) { r.Scope = "unknown" }},
		{name: "with an unknown scope and a used token", present: previous, want: InvalidScope,
			ask: func(r *TokenRequest) { r.Scope = "unknown" }},
		{name: "with more scope than was granted", present: current, want: InvalidScope,
			ask: func(r *TokenRequest) { r.Scope = "default read write" }},
		{name: "with a malformed scope", present: current, want: InvalidScope,
			ask: func(r *TokenRequest) { r.Scope = "default  read" }},
		{name: "for a resource that was not granted", present: current, want: InvalidTarget,
			ask: func(r *TokenRequest) { r.Resources = []string{apiAudience, "https://other.example.com"} }},
		{name: "for a resource that was not granted, with a used token", present: previous, want: InvalidTarget,
			ask: func(r *TokenRequest) { r.Resources = []string{"https://other.example.com"} }},
		{name: "when the user is gone", present: current, want: InvalidGrant,
			with: []func(*Config){withoutUser("admin")}, ask: nothing},
		{name: "when the user is gone, with a used token", present: previous, want: InvalidGrant,
			with: []func(*Config){withoutUser("admin")}, ask: nothing},
		{name: "when the user has another password", present: current, want: InvalidGrant,
			with: []func(*Config){otherPassword}, ask: nothing},
		{name: "when the client may no longer refresh", present: current, want: UnauthorizedClient,
			with: []func(*Config){withClient("portal", func(c *Client) { c.GrantTypes = []string{Password} })}, ask: nothing},
		{name: "when refreshing is switched off", present: current, want: UnsupportedGrantType,
			with: []func(*Config){func(c *Config) { c.DisabledGrantTypes = []string{RefreshToken} }}, ask: nothing},
		{name: "after the idle expiry", present: current, want: InvalidGrant, wait: day, ask: nothing, ended: true},
		{name: "after the idle expiry, with a used token", present: previous, want: InvalidGrant, wait: day, ask: nothing, ended: true},
	}
	for _, test := range attempts {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t)
			tokens := map[string]*TokenResponse{previous: f.mustToken(t, signIn(confidential("portal"), "default read"))}
			tokens[current] = f.mustRefresh(t, tokens[previous].RefreshToken)
			record := f.family(t, tokens[current].RefreshToken)
			f.clock.advance(test.wait)
			f.start(t, test.with...)

			r := refreshing(tokens[test.present].RefreshToken)
			test.ask(&r)
			_, refused := f.token(t, r)

			wantCode(t, refused, test.want)
			f.wantEvents(t)
			wantEqual(t, "the family's record", f.family(t, tokens[current].RefreshToken), record)
			wantEqual(t, "revocations", f.store.Revocations().Len(), 0)
			if test.ended {
				return
			}
			f.start(t)
			f.wantGood(t, tokens[previous].AccessToken, tokens[current].AccessToken)
			f.mustRefresh(t, tokens[current].RefreshToken)
		})
	}
}

func TestAfterTheAbsoluteExpiryARefreshIsRefusedWithoutEffect(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.MaxLifetime = time.Hour })
	first := f.signIn(t)
	second := f.mustRefresh(t, first.RefreshToken)
	record := f.family(t, second.RefreshToken)
	f.clock.advance(time.Hour)
	for _, token := range []string{second.RefreshToken, first.RefreshToken} {
		f.wantRefused(t, token)
	}
	wantEqual(t, "the family's record", f.family(t, second.RefreshToken), record)
	wantEqual(t, "revocations", f.store.Revocations().Len(), 0)
	f.wantEvents(t)
}

func TestARevokedSubjectOrClientCannotRefreshWhatItHadBefore(t *testing.T) {
	tests := []struct {
		name       string
		revocation tokenstore.Revocation
		dead       bool
	}{
		{"its subject", tokenstore.Revocation{Kind: tokenstore.RevokedSubject, Name: "admin", IssuedUpTo: testStart}, true},
		{"its client", tokenstore.Revocation{Kind: tokenstore.RevokedClient, Name: "portal", IssuedUpTo: testStart}, true},
		{"its subject for good", tokenstore.Revocation{Kind: tokenstore.RevokedSubject, Name: "admin"}, true},
		{"its subject, before the session began", tokenstore.Revocation{
			Kind: tokenstore.RevokedSubject, Name: "admin", IssuedUpTo: testStart.Add(-time.Millisecond)}, false},
		{"another subject", tokenstore.Revocation{Kind: tokenstore.RevokedSubject, Name: "guest"}, false},
		{"a client of the subject's name", tokenstore.Revocation{Kind: tokenstore.RevokedClient, Name: "admin"}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t)
			session := f.signIn(t)
			test.revocation.ExpiresAt = testStart.Add(40 * day)
			if err := f.store.Revoke(t.Context(), test.revocation); err != nil {
				t.Fatal(err)
			}
			f.clock.advance(time.Minute)
			if !test.dead {
				f.mustRefresh(t, session.RefreshToken)
				return
			}
			f.wantRefused(t, session.RefreshToken)
			f.wantRevoked(t, session.AccessToken)
			f.wantEvents(t)
			if f.family(t, session.RefreshToken) == nil {
				t.Error("the refusal deleted the family")
			}
		})
	}
}

func TestTheIdleExpiryRestartsAndTheAbsoluteOneStays(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.MaxLifetime = 3 * day })
	session := f.signIn(t)
	end := testStart.Add(3 * day)
	for f.clock.now().Add(23 * time.Hour).Before(end) {
		f.clock.advance(23 * time.Hour)
		session = f.mustRefresh(t, session.RefreshToken)
		family := f.family(t, session.RefreshToken)
		wantEqual(t, "idle expiry", family.IdleExpiry, f.clock.now().Add(day))
		wantEqual(t, "absolute expiry", family.AbsoluteExpiry, end)
	}
	f.clock.advance(end.Sub(f.clock.now()) - 10*time.Second)
	session = f.mustRefresh(t, session.RefreshToken)
	wantEqual(t, "lifetime of the last access token", session.ExpiresIn, 10*time.Second)
	wantEqual(t, "its exp", f.claims(t, session.AccessToken).Expiry.UTC(), end)

	f.clock.advance(10 * time.Second)
	f.wantRefused(t, session.RefreshToken)
	if _, err := f.server.CheckAccessToken(session.AccessToken, nil); err == nil {
		t.Error("the last access token outlives its session")
	}
}

func TestWithoutAnAbsoluteLifetimeASessionLastsAsLongAsItIsUsed(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.MaxLifetime = 0 })
	session := f.signIn(t)
	for range 100 {
		f.clock.advance(23 * time.Hour)
		session = f.mustRefresh(t, session.RefreshToken)
	}
	if family := f.family(t, session.RefreshToken); !family.AbsoluteExpiry.IsZero() {
		t.Errorf("absolute expiry %s, want none", family.AbsoluteExpiry)
	}
}

func TestARefreshUsesTheLifetimesOfItsClient(t *testing.T) {
	f := newFixture(t)
	session := f.mustToken(t, signIn(confidential("brief"), ""))
	f.clock.advance(time.Hour)
	r := refreshing(session.RefreshToken)
	r.Client = confidential("brief")
	refreshed := f.mustToken(t, r)
	wantEqual(t, "access token's lifetime", refreshed.ExpiresIn, 10*time.Minute)
	wantEqual(t, "idle expiry", f.family(t, refreshed.RefreshToken).IdleExpiry, testStart.Add(3*time.Hour))
	wantEqual(t, "audience", f.claims(t, refreshed.AccessToken).Audience, []string{briefAudience})
}

func TestANarrowedScopeIsForOneAccessTokenOnly(t *testing.T) {
	f := newFixture(t)
	session := f.signIn(t)
	for _, test := range []struct {
		scope string
		want  []string
	}{
		{"read", []string{"read"}},
		{"", []string{"default", "read", "write"}},
		{"write default", []string{"write", "default"}},
		{"write write", []string{"write"}},
		{"default read write", []string{"default", "read", "write"}},
	} {
		r := refreshing(session.RefreshToken)
		r.Scope = test.scope
		session = f.mustToken(t, r)
		wantEqual(t, "scopes for "+test.scope, session.Scopes, test.want)
		wantEqual(t, "scope claim for "+test.scope, f.claims(t, session.AccessToken).Scopes, test.want)
		wantEqual(t, "family's scopes", f.family(t, session.RefreshToken).Scopes, []string{"default", "read", "write"})
	}
}

func TestAScopeThatWasNotGrantedAtFirstCannotBeHadByARefresh(t *testing.T) {
	f := newFixture(t)
	session := f.mustToken(t, signIn(confidential("portal"), "read"))
	r := refreshing(session.RefreshToken)
	r.Scope = "read write" // the client may have it, the session may not
	_, refused := f.token(t, r)
	wantCode(t, refused, InvalidScope)
	wantEqual(t, "scopes", f.mustRefresh(t, session.RefreshToken).Scopes, []string{"read"})
}

func TestResourcesNarrowTheAudienceOfOneAccessToken(t *testing.T) {
	f := newFixture(t)
	session := f.signIn(t)
	for _, test := range []struct {
		name            string
		resources, want []string
	}{
		{"one", []string{filesAudience}, []string{filesAudience}},
		{"both", []string{filesAudience, apiAudience}, []string{apiAudience, filesAudience}},
		{"one, named twice", []string{apiAudience, apiAudience}, []string{apiAudience}},
		{"none", nil, []string{apiAudience, filesAudience}},
	} {
		r := refreshing(session.RefreshToken)
		r.Resources = test.resources
		session = f.mustToken(t, r)
		wantEqual(t, test.name, f.claims(t, session.AccessToken).Audience, test.want)
	}
}

// restored is a second gateway on a store that was copied from the first one's while it held this record.
func restored(t *testing.T, f *fixture, record *tokenstore.Family, changes ...func(*Config)) *fixture {
	t.Helper()
	store := openStore(t, t.TempDir(), f.clock.now)
	for _, use := range []tokenstore.KeyUse{tokenstore.MACKey, tokenstore.SigningKey} {
		keys, err := f.store.Keys(t.Context(), use)
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range keys {
			if err := store.AddKey(t.Context(), key); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := store.CreateFamily(t.Context(), record); err != nil {
		t.Fatal(err)
	}
	return newFixtureOn(t, f.clock, store, changes...)
}

func TestARolledBackStoreLogsNobodyOut(t *testing.T) {
	for _, test := range []struct {
		name    string
		ahead   int
		changes []func(*Config)
	}{
		{"one generation behind", 1, nil},
		{"many generations behind", 5, nil},
		{"one generation behind, with a grace window", 1, []func(*Config){withGrace(time.Minute)}},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t, test.changes...)
			chain := []*TokenResponse{f.signIn(t)}
			record := f.family(t, chain[0].RefreshToken)
			for range test.ahead {
				chain = append(chain, f.mustRefresh(t, chain[len(chain)-1].RefreshToken))
			}
			newest := chain[len(chain)-1]

			g := restored(t, f, record, test.changes...)
			next := g.mustRefresh(t, newest.RefreshToken)
			events := g.wantEvents(t, StoreRolledBack)
			wantEqual(t, "event", events[0], Event{
				Kind: StoreRolledBack, ClientID: "portal", Subject: "admin", FamilyID: record.ID,
			})
			wantEqual(t, "generation", g.family(t, next.RefreshToken).Generation, uint32(test.ahead+1))
			g.wantGood(t, next.AccessToken, newest.AccessToken)
			next = g.mustRefresh(t, next.RefreshToken)
			g.wantEvents(t)

			g.wantRefused(t, chain[0].RefreshToken)
			g.wantEvents(t, RefreshTokenReused)
			g.wantRefused(t, next.RefreshToken)
			g.wantRevoked(t, next.AccessToken, newest.AccessToken)
		})
	}
}

func TestOneWhoLostTheAnswerToARefreshOnARolledBackStoreIsHealedToo(t *testing.T) {
	f := newFixture(t, withGrace(time.Minute))
	first := f.signIn(t)
	record := f.family(t, first.RefreshToken)
	second := f.mustRefresh(t, first.RefreshToken)
	g := restored(t, f, record, withGrace(time.Minute))
	third := g.mustRefresh(t, second.RefreshToken)
	again := g.mustRefresh(t, second.RefreshToken)
	wantEqual(t, "successor", again.RefreshToken, third.RefreshToken)
	g.wantEvents(t, StoreRolledBack, RefreshTokenReplayed)
}

func TestAForkAfterARollbackIsAReuse(t *testing.T) {
	for _, grace := range []time.Duration{0, time.Minute} {
		t.Run("with a grace window of "+grace.String(), func(t *testing.T) {
			f := newFixture(t, withGrace(grace))
			first := f.signIn(t)
			record := f.family(t, first.RefreshToken)
			lost := f.mustRefresh(t, first.RefreshToken)
			g := restored(t, f, record, withGrace(grace))
			forked := g.mustRefresh(t, first.RefreshToken) // whoever has the older token comes first
			wantEqual(t, "generation", f.parse(t, lost.RefreshToken).generation, f.parse(t, forked.RefreshToken).generation)

			g.wantRefused(t, lost.RefreshToken)
			g.wantEvents(t, RefreshTokenReused)
			g.wantRefused(t, forked.RefreshToken)
			g.wantRevoked(t, first.AccessToken, lost.AccessToken, forked.AccessToken)
		})
	}
}

func TestAForkOneGenerationBehindIsAReuseAlsoInTheGraceWindow(t *testing.T) {
	f := newFixture(t, withGrace(time.Minute))
	first := f.signIn(t)
	record := f.family(t, first.RefreshToken)
	lost := f.mustRefresh(t, first.RefreshToken)
	g := restored(t, f, record, withGrace(time.Minute))
	forked := g.mustRefresh(t, first.RefreshToken)
	forked = g.mustRefresh(t, forked.RefreshToken)
	g.wantRefused(t, lost.RefreshToken) // the successor was sealed to the other token of this generation
	g.wantEvents(t, RefreshTokenReused)
	g.wantRefused(t, forked.RefreshToken)
}

func TestJunkNeverReachesTheStore(t *testing.T) {
	f := newFixture(t)
	session := f.signIn(t)
	genuine := f.parse(t, session.RefreshToken)
	forger := macKey{id: 1, key: make([]byte, 32)}
	calls := f.store.calls.Load()
	for name, token := range map[string]string{
		"junk":                          "junk",
		"only the prefix":               "rt_",
		"a UUID":                        uuid.NewString(),
		"the family's ID":               f.claims(t, session.AccessToken).FamilyID,
		"an access token":               session.AccessToken,
		"a forged tag":                  forger.formatRefreshToken(genuine),
		"a forged tag, next generation": forger.formatRefreshToken(refreshToken{family: genuine.family, generation: 1}),
		"a guessed secret":              forger.formatRefreshToken(refreshToken{family: genuine.family}),
		"the token in capitals":         strings.ToUpper(session.RefreshToken),
		"the token and a space":         session.RefreshToken + " ",
	} {
		t.Run(name, func(t *testing.T) { f.wantRefused(t, token) })
	}
	wantEqual(t, "calls of the store", f.store.calls.Load(), calls)
	f.wantEvents(t)
	f.wantGood(t, session.AccessToken)
	f.mustRefresh(t, session.RefreshToken)
}

func TestAStoreThatFailsLeavesTheTokenAsItWas(t *testing.T) {
	for _, method := range []string{"Family", "RotateFamily"} {
		t.Run(method, func(t *testing.T) {
			f := newFixture(t)
			session := f.signIn(t)
			record := f.family(t, session.RefreshToken)
			f.store.failOn(method)
			for range 3 {
				_, refused := f.token(t, refreshing(session.RefreshToken))
				wantUnavailable(t, refused)
			}
			f.store.failOn("")
			wantEqual(t, "the family's record", f.family(t, session.RefreshToken), record)
			f.wantGood(t, session.AccessToken)
			f.mustRefresh(t, session.RefreshToken)
			f.wantEvents(t)
		})
	}
}

func TestAReuseThatCannotBeRecordedIsNotToldAsOne(t *testing.T) {
	f := newFixture(t)
	first := f.signIn(t)
	second := f.mustRefresh(t, first.RefreshToken)
	f.store.failOn("Revoke")
	_, refused := f.token(t, refreshing(first.RefreshToken))
	wantUnavailable(t, refused)
	f.wantEvents(t)
	f.store.failOn("")
	f.wantGood(t, second.AccessToken)
	third := f.mustRefresh(t, second.RefreshToken)

	f.wantRefused(t, first.RefreshToken)
	f.wantEvents(t, RefreshTokenReused)
	f.wantRefused(t, third.RefreshToken)
}

func TestAStoreThatWasClosedIsUnavailable(t *testing.T) {
	f := newFixture(t)
	session := f.signIn(t)
	if err := f.store.Close(); err != nil {
		t.Fatal(err)
	}
	_, refused := f.token(t, refreshing(session.RefreshToken))
	wantUnavailable(t, refused)
	if !errors.Is(refused, tokenstore.ErrClosed) {
		t.Errorf("cause %v, want that the store is closed", refused.Cause)
	}
}

func TestACallerWhoGaveUpGetsNoTokens(t *testing.T) {
	f := newFixture(t)
	session := f.signIn(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, refused := f.server.Token(ctx, refreshing(session.RefreshToken))
	wantUnavailable(t, refused)
	f.mustRefresh(t, session.RefreshToken)
}

func TestWhoLosesEveryRaceIsToldToTryAgain(t *testing.T) {
	f := newFixture(t)
	session := f.signIn(t)
	tries := 0
	f.store.before = func(method string) error {
		if method == "RotateFamily" {
			tries++
			return tokenstore.ErrConflict
		}
		return nil
	}
	_, refused := f.token(t, refreshing(session.RefreshToken))
	wantUnavailable(t, refused)
	wantEqual(t, "tries", tries, maxRaces)
	f.store.before = nil
	f.mustRefresh(t, session.RefreshToken)
}

func TestWhoeverLosesARaceByOneIsDecidedByWhatIsThereThen(t *testing.T) {
	for _, test := range []struct {
		name  string
		grace time.Duration
		want  EventKind
	}{
		{"without a grace window it is a reuse", 0, RefreshTokenReused},
		{"in the grace window it is a replay", time.Minute, RefreshTokenReplayed},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t, withGrace(test.grace))
			session := f.signIn(t)
			var won *TokenResponse
			f.store.before = func(method string) error {
				if method == "RotateFamily" {
					f.store.before = nil
					won = f.mustRefresh(t, session.RefreshToken)
				}
				return nil
			}
			response, refused := f.token(t, refreshing(session.RefreshToken))
			f.wantEvents(t, test.want)
			if test.grace == 0 {
				wantCode(t, refused, InvalidGrant)
				f.wantRefused(t, won.RefreshToken)
				return
			}
			if refused != nil {
				t.Fatal(refused)
			}
			wantEqual(t, "successor", response.RefreshToken, won.RefreshToken)
			f.mustRefresh(t, won.RefreshToken)
		})
	}
}

func TestARevocationThatComesBetweenWinsOverTheRefresh(t *testing.T) {
	for _, method := range []string{"Family", "RotateFamily"} {
		t.Run("just before "+method, func(t *testing.T) {
			f := newFixture(t)
			session := f.signIn(t)
			f.store.before = func(called string) error {
				if called == method {
					f.store.before = nil
					f.revoke(t, session.RefreshToken)
				}
				return nil
			}
			f.wantRefused(t, session.RefreshToken)
			f.wantRevoked(t, session.AccessToken)
			f.wantEvents(t)
			if f.family(t, session.RefreshToken) != nil {
				t.Error("the refresh brought the family back")
			}
		})
	}
}

func TestARevocationThatRacesWithRefreshesLeavesNothingAlive(t *testing.T) {
	f := newFixture(t, withGrace(time.Minute))
	for range 20 {
		first := f.signIn(t)
		issued := []*TokenResponse{first}
		var both sync.WaitGroup
		gate := make(chan struct{})
		both.Go(func() {
			<-gate
			for {
				response, refused := f.token(t, refreshing(issued[len(issued)-1].RefreshToken))
				if refused != nil {
					return
				}
				issued = append(issued, response)
			}
		})
		both.Go(func() {
			<-gate
			if _, _, refused := f.server.Revoke(t.Context(), RevocationRequest{
				Client: confidential("portal"), Token: first.RefreshToken,
			}); refused != nil {
				t.Error(refused)
			}
		})
		close(gate)
		both.Wait()
		for _, response := range issued {
			f.wantRevoked(t, response.AccessToken)
			f.wantRefused(t, response.RefreshToken)
		}
	}
}

func revokePrevious(c *Config) { c.RevokePreviousAccessToken = true }

func TestARefreshRevokesTheEarlierAccessTokensWhereThatIsWanted(t *testing.T) {
	for _, test := range []struct {
		name string
		step time.Duration
	}{
		{"a minute apart", time.Minute},
		{"in successive milliseconds", time.Millisecond},
		{"in one millisecond", 0},
		{"with a clock that is set back", -time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t, revokePrevious)
			session := f.signIn(t)
			bystander := f.signIn(t)
			var earlier []string
			for range 4 {
				earlier = append(earlier, session.AccessToken)
				f.clock.advance(test.step)
				session = f.mustRefresh(t, session.RefreshToken)
				if test.step >= 0 { // a token isn't valid before its nbf
					f.wantGood(t, session.AccessToken, bystander.AccessToken)
					f.wantRevoked(t, earlier...)
				}
			}
			f.clock.advance(10 * time.Second)
			f.wantGood(t, session.AccessToken, bystander.AccessToken)
			f.wantRevoked(t, earlier...)
			f.revoke(t, session.RefreshToken)
			f.wantRevoked(t, session.AccessToken)
		})
	}
}

func TestARefreshThatFailsRevokesNoAccessToken(t *testing.T) {
	f := newFixture(t, revokePrevious)
	session := f.signIn(t)
	f.store.failOn("RotateFamily")
	_, refused := f.token(t, refreshing(session.RefreshToken))
	wantUnavailable(t, refused)
	f.wantGood(t, session.AccessToken)
}

func TestTheRevocationOfEarlierAccessTokensLastsAsLongAsTheyDo(t *testing.T) {
	f := newFixture(t, revokePrevious)
	first := f.signIn(t)
	f.clock.advance(time.Minute)
	f.mustRefresh(t, first.RefreshToken)
	f.clock.advance(58 * time.Minute)
	f.store.Revocations().Sweep(f.clock.now())
	f.wantRevoked(t, first.AccessToken)
	f.clock.advance(time.Hour)
	f.store.Revocations().Sweep(f.clock.now())
	wantEqual(t, "revocations", f.store.Revocations().Len(), 0)
}

func TestWithoutThatTheEarlierAccessTokensStayGood(t *testing.T) {
	f := newFixture(t)
	first := f.signIn(t)
	second := f.mustRefresh(t, first.RefreshToken)
	third := f.mustRefresh(t, second.RefreshToken)
	f.wantGood(t, first.AccessToken, second.AccessToken, third.AccessToken)
	wantEqual(t, "revocations", f.store.Revocations().Len(), 0)
}

func TestAFamilyThatHasRotatedAsOftenAsItCanIsRefusedWithoutEffect(t *testing.T) {
	f := newFixture(t)
	session := f.signIn(t)
	last := *f.family(t, session.RefreshToken)
	first := last
	token := refreshToken{family: last.ID, generation: 1<<32 - 1}
	last.Generation, last.SecretHash = token.generation, token.secretHash()
	if err := f.store.RotateFamily(t.Context(), &first, &last); err != nil {
		t.Fatal(err)
	}
	f.wantRefused(t, f.server.keyring.keys.Load().mac.formatRefreshToken(token))
	f.wantEvents(t)
	wantEqual(t, "revocations", f.store.Revocations().Len(), 0)
}

func TestAReplayInTheMillisecondOfTheRotationGetsAGoodAccessToken(t *testing.T) {
	f := newFixture(t, withGrace(time.Minute), func(c *Config) { c.RevokePreviousAccessToken = true })
	first := f.signIn(t)
	second := f.mustRefresh(t, first.RefreshToken)
	again := f.mustRefresh(t, first.RefreshToken)
	wantEqual(t, "successor", again.RefreshToken, second.RefreshToken)
	f.wantGood(t, second.AccessToken, again.AccessToken)
	f.wantRevoked(t, first.AccessToken)
}

func TestAfterARollBackAPreviousAccessTokenStaysRevokedUntilItExpires(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.RevokePreviousAccessToken = true })
	first := f.signIn(t)
	backup := f.family(t, first.RefreshToken)
	f.clock.advance(50 * time.Minute)
	second := f.mustRefresh(t, first.RefreshToken)
	newer := f.family(t, second.RefreshToken)
	if err := f.store.RotateFamily(t.Context(), newer, backup); err != nil {
		t.Fatal(err)
	}
	f.clock.advance(5 * time.Minute)
	f.mustRefresh(t, second.RefreshToken)
	f.wantRevoked(t, second.AccessToken)
	f.clock.advance(50 * time.Minute) // long after the backup's own access tokens, five minutes before this one's expiry
	f.store.Revocations().Sweep(f.clock.now())
	f.wantRevoked(t, second.AccessToken)
}

func TestJustBeforeItsEndAFamilyStillGetsAnAccessTokenThatIsGood(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.MaxLifetime = time.Hour })
	session := f.signIn(t)
	end := f.family(t, session.RefreshToken).AbsoluteExpiry
	f.clock.advance(end.Sub(f.clock.now()) - time.Millisecond)
	last := f.mustRefresh(t, session.RefreshToken)
	wantEqual(t, "lifetime", last.ExpiresIn, time.Second)
	f.wantGood(t, last.AccessToken)
	f.clock.advance(time.Millisecond)
	f.wantRefused(t, last.RefreshToken)
}

func TestATokenOfTheLastGenerationIsRefused(t *testing.T) {
	f := newFixture(t)
	session := f.signIn(t)
	token := f.parse(t, session.RefreshToken)
	token.generation = math.MaxUint32
	f.wantRefused(t, f.server.keyring.keys.Load().mac.formatRefreshToken(token))
	f.mustRefresh(t, session.RefreshToken)
}
