package grants

import (
	"bytes"
	"sync"
	"testing"
	"time"

	"github.com/tokengateway/caddy-token-gateway/accesstoken"
	"github.com/tokengateway/caddy-token-gateway/tokenstore"
)

func (f *fixture) storedKeys(t testing.TB, use tokenstore.KeyUse) []tokenstore.Key {
	t.Helper()
	keys, err := f.store.Store.Keys(t.Context(), use)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func (f *fixture) refreshKeys(t testing.TB) {
	t.Helper()
	if err := f.server.RefreshKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// signer is the ID of the key that signs now.
func (f *fixture) signer() string { return f.server.keyring.keys.Load().signer.ID }

func (f *fixture) published(id string) bool {
	return bytes.Contains(f.server.PublicKeys().JWKS(), []byte(`"`+id+`"`))
}

func rotating(every time.Duration) func(*Config) {
	return func(c *Config) { c.Keyring.RotateEvery = every }
}

func TestTheFirstStartMakesKeysAndLaterOnesReadThem(t *testing.T) {
	f := newFixture(t)
	signing, macs := f.storedKeys(t, tokenstore.SigningKey), f.storedKeys(t, tokenstore.MACKey)
	wantEqual(t, "signing keys", len(signing), 1)
	wantEqual(t, "MAC keys", len(macs), 1)
	wantEqual(t, "number, algorithm and times of the signing key",
		[]any{signing[0].Number, signing[0].Algorithm, signing[0].CreatedAt, signing[0].ActiveFrom},
		[]any{uint32(1), "ES256", testStart, testStart})
	wantEqual(t, "number and size of the MAC key", []any{macs[0].Number, len(macs[0].Material)}, []any{uint32(1), 32})

	session, signer := f.signIn(t), f.signer()
	f.clock.advance(time.Minute)
	f.start(t)
	wantEqual(t, "signer", f.signer(), signer)
	f.wantGood(t, session.AccessToken)
	f.mustRefresh(t, session.RefreshToken)
	wantEqual(t, "signing keys", f.storedKeys(t, tokenstore.SigningKey), signing)
	wantEqual(t, "MAC keys", f.storedKeys(t, tokenstore.MACKey), macs)
}

func TestTwoStoresHaveDifferentKeys(t *testing.T) {
	one, other := newFixture(t), newFixture(t)
	session := one.signIn(t)
	_, refused := other.token(t, refreshing(session.RefreshToken))
	wantCode(t, refused, InvalidGrant)
	_, err := other.server.CheckAccessToken(session.AccessToken, nil)
	wantEqual(t, "reason", reason(err), accesstoken.WrongKey)
}

func TestServersThatStartAtOnceAgreeOnTheKeys(t *testing.T) {
	clock := newTestClock()
	store := openStore(t, t.TempDir(), clock.now)
	events := new(eventLog)
	servers := make([]*Server, 8)
	var all sync.WaitGroup
	for i := range servers {
		all.Go(func() {
			config := testConfig(new(bcryptComparer))
			config.Clock, config.Observe = clock.now, events.record
			var err error
			if servers[i], err = New(t.Context(), config, store); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if t.Failed() {
		return
	}
	first := servers[0].keyring.keys.Load()
	for _, server := range servers[1:] {
		keys := server.keyring.keys.Load()
		wantEqual(t, "signer", keys.signer.ID, first.signer.ID)
		wantEqual(t, "MAC key", keys.mac, first.mac)
	}
	created := events.take()
	wantEqual(t, "events", len(created), 1)
	wantEqual(t, "event", created[0], Event{Kind: SigningKeyCreated, KeyID: first.signer.ID})
}

func TestASuccessorIsPublishedAheadAndUsedFromItsTimeOn(t *testing.T) {
	f := newFixture(t, rotating(90*day))
	first := f.signer()
	step := func(to time.Time) {
		f.clock.advance(to.Sub(f.clock.now()))
		f.refreshKeys(t)
	}
	due := testStart.Add(90 * day)

	step(due.Add(-day - time.Millisecond))
	wantEqual(t, "keys before the successor is due", len(f.storedKeys(t, tokenstore.SigningKey)), 1)
	f.wantEvents(t)

	step(due.Add(-day))
	stored := f.storedKeys(t, tokenstore.SigningKey)
	wantEqual(t, "keys when it is due", len(stored), 2)
	wantEqual(t, "its time", stored[1].ActiveFrom, due)
	second := f.wantEvents(t, SigningKeyCreated)[0].KeyID
	wantEqual(t, "both are published", []bool{f.published(first), f.published(second)}, []bool{true, true})
	wantEqual(t, "signer", f.signer(), first)

	step(due.Add(-time.Millisecond))
	wantEqual(t, "keys a moment before its time", len(f.storedKeys(t, tokenstore.SigningKey)), 2)
	wantEqual(t, "signer a moment before its time", f.signer(), first)
	old := f.mustToken(t, TokenRequest{GrantType: ClientCredentials, Client: confidential("portal")})

	step(due)
	wantEqual(t, "signer from then on", f.signer(), second)
	fresh := f.mustToken(t, TokenRequest{GrantType: ClientCredentials, Client: confidential("portal")})
	f.wantGood(t, old.AccessToken, fresh.AccessToken)

	step(due.Add(59 * time.Minute))
	f.wantGood(t, old.AccessToken)

	step(due.Add(time.Hour + retireMargin))
	wantEqual(t, "the first is still published", f.published(first), true)
	step(due.Add(time.Hour + retireMargin + time.Millisecond))
	wantEqual(t, "the first is published after its last token's time", f.published(first), false)
	wantEqual(t, "keys", len(f.storedKeys(t, tokenstore.SigningKey)), 1)
	wantEqual(t, "signer", f.signer(), second)
	f.wantEvents(t)
}

func TestAServerThatSleptThroughARotationStillPublishesAhead(t *testing.T) {
	f := newFixture(t, rotating(10*day))
	first := f.signer()
	f.clock.advance(25 * day)
	f.refreshKeys(t)
	stored := f.storedKeys(t, tokenstore.SigningKey)
	wantEqual(t, "keys", len(stored), 2)
	wantEqual(t, "the successor's time", stored[1].ActiveFrom, f.clock.now().Add(day))
	wantEqual(t, "signer", f.signer(), first)
	f.refreshKeys(t)
	wantEqual(t, "keys", len(f.storedKeys(t, tokenstore.SigningKey)), 2)
}

func TestAShortRotationIntervalPublishesHalfOfItAhead(t *testing.T) {
	f := newFixture(t, rotating(time.Hour))
	f.clock.advance(30*time.Minute - time.Millisecond)
	f.refreshKeys(t)
	wantEqual(t, "keys", len(f.storedKeys(t, tokenstore.SigningKey)), 1)
	f.clock.advance(time.Millisecond)
	f.refreshKeys(t)
	stored := f.storedKeys(t, tokenstore.SigningKey)
	wantEqual(t, "keys", len(stored), 2)
	wantEqual(t, "the successor's time", stored[1].ActiveFrom, testStart.Add(time.Hour))
}

func TestWithoutARotationIntervalTheKeyStays(t *testing.T) {
	f := newFixture(t)
	f.clock.advance(3650 * day)
	f.refreshKeys(t)
	wantEqual(t, "keys", len(f.storedKeys(t, tokenstore.SigningKey)), 1)
}

func TestAGatewayLearnsOfTheKeysThatAnotherMade(t *testing.T) {
	f := newFixture(t, rotating(90*day))
	other := newFixtureOn(t, f.clock, f.store.Store, rotating(90*day))
	f.clock.advance(89 * day)
	other.refreshKeys(t)
	f.refreshKeys(t)
	f.wantEvents(t) // the other made it
	f.clock.advance(day)
	other.refreshKeys(t)
	token := other.mustToken(t, TokenRequest{GrantType: ClientCredentials, Client: confidential("portal")})
	f.wantGood(t, token.AccessToken) // published ahead: f hasn't looked since
	f.refreshKeys(t)
	wantEqual(t, "signer", f.signer(), other.signer())
}

func TestAnotherAlgorithmTakesOverAtOnce(t *testing.T) {
	f := newFixture(t)
	session, first := f.signIn(t), f.signer()
	f.clock.advance(time.Minute)
	f.start(t, func(c *Config) { c.Keyring.Algorithm = accesstoken.EdDSA })
	if f.signer() == first {
		t.Fatal("the key of the other algorithm still signs")
	}
	wantEqual(t, "algorithm", f.server.keyring.keys.Load().signer.Algorithm, accesstoken.EdDSA)
	f.wantGood(t, session.AccessToken, f.mustRefresh(t, session.RefreshToken).AccessToken)
	f.refreshKeys(t)
	wantEqual(t, "keys", len(f.storedKeys(t, tokenstore.SigningKey)), 2)
}

func TestAnotherAlgorithmTakesOverAlsoWhileASuccessorWaits(t *testing.T) {
	f := newFixture(t, rotating(90*day))
	f.clock.advance(89*day + time.Hour)
	f.refreshKeys(t) // a successor for tomorrow
	f.start(t, rotating(90*day), func(c *Config) { c.Keyring.Algorithm = accesstoken.EdDSA })
	wantEqual(t, "algorithm", f.server.keyring.keys.Load().signer.Algorithm, accesstoken.EdDSA)
	f.clock.advance(day)
	f.refreshKeys(t)
	wantEqual(t, "algorithm when the successor's time has come", f.server.keyring.keys.Load().signer.Algorithm, accesstoken.EdDSA)
}

func TestKeysFromAFileSignAndTheStoredOnesStillVerify(t *testing.T) {
	first, err := accesstoken.GenerateKey(accesstoken.ES256)
	if err != nil {
		t.Fatal(err)
	}
	second, err := accesstoken.GenerateKey(accesstoken.EdDSA)
	if err != nil {
		t.Fatal(err)
	}
	f := newFixture(t, rotating(90*day))
	session, generated := f.signIn(t), f.signer()
	fromFile := func(c *Config) { c.Keyring.FileKeys = []*accesstoken.Key{first, second} }
	f.start(t, rotating(90*day), fromFile)
	wantEqual(t, "signer", f.signer(), first.ID)
	wantEqual(t, "published", []bool{f.published(first.ID), f.published(second.ID), f.published(generated)}, []bool{true, true, true})
	f.wantGood(t, session.AccessToken, f.mustRefresh(t, session.RefreshToken).AccessToken)

	f.clock.advance(200 * day)
	f.refreshKeys(t)
	wantEqual(t, "published", []bool{f.published(first.ID), f.published(second.ID), f.published(generated)}, []bool{true, true, false})
	for _, stored := range f.storedKeys(t, tokenstore.SigningKey) {
		if !isFileMark(stored) {
			t.Errorf("signing key %d is still stored", stored.Number)
		}
	}
	wantEqual(t, "the file's keys", f.config.Keyring.FileKeys, []*accesstoken.Key{first, second})
	f.wantEvents(t)

	f.start(t, rotating(90*day))
	if f.signer() == generated || !f.published(f.signer()) {
		t.Error("without the file, no new key was made")
	}

	g := newFixture(t, fromFile)
	wantEqual(t, "keys of a new store", len(g.storedKeys(t, tokenstore.SigningKey)), 0)
	g.wantGood(t, g.signIn(t).AccessToken)
}

func TestWhenTheClockIsSetBackTheOldestKeySigns(t *testing.T) {
	f := newFixture(t)
	first := f.signer()
	f.clock.advance(-day)
	f.refreshKeys(t)
	wantEqual(t, "signer", f.signer(), first)
	wantEqual(t, "keys", len(f.storedKeys(t, tokenstore.SigningKey)), 1)
}

func TestSeveralMACKeysVerifyAndTheNewestOneMakes(t *testing.T) {
	f := newFixture(t)
	old := f.signIn(t)
	err := f.store.AddKey(t.Context(), tokenstore.Key{Use: tokenstore.MACKey, Number: 2, Material: bytes.Repeat([]byte{7}, 32)})
	if err != nil {
		t.Fatal(err)
	}
	f.refreshKeys(t)
	next := f.mustRefresh(t, old.RefreshToken)
	f.mustRefresh(t, next.RefreshToken)
	only2 := map[byte]macKey{2: f.server.keyring.keys.Load().macs[2]}
	if _, ok := parseRefreshToken(next.RefreshToken, only2); !ok {
		t.Error("the new token was not made with the newest key")
	}
}

func TestAServerWithoutItsKeysDoesNotStart(t *testing.T) {
	for _, method := range []string{"Keys", "AddKey"} {
		t.Run(method, func(t *testing.T) {
			clock := newTestClock()
			store := &tappedStore{Store: openStore(t, t.TempDir(), clock.now)}
			store.failOn(method)
			config := testConfig(new(bcryptComparer))
			config.Clock = clock.now
			if _, err := New(t.Context(), config, store); err == nil {
				t.Error("it starts")
			}
		})
	}
}

func TestAServerDoesNotStartWithAnAlgorithmThatItCannotSignWith(t *testing.T) {
	for _, algorithm := range []accesstoken.Algorithm{"", "none", "HS256"} {
		clock := newTestClock()
		config := testConfig(new(bcryptComparer))
		config.Clock, config.Keyring.Algorithm = clock.now, algorithm
		store := openStore(t, t.TempDir(), clock.now)
		if _, err := New(t.Context(), config, store); err == nil {
			t.Errorf("it starts with %q", algorithm)
		}
		keys, err := store.Keys(t.Context(), tokenstore.SigningKey)
		if err != nil || len(keys) > 0 {
			t.Errorf("with %q: %d keys were recorded, %v", algorithm, len(keys), err)
		}
	}
}

func TestADamagedSigningKeyIsTold(t *testing.T) {
	clock := newTestClock()
	store := openStore(t, t.TempDir(), clock.now)
	err := store.AddKey(t.Context(), tokenstore.Key{
		Use: tokenstore.SigningKey, Number: 1, Algorithm: "ES256", Material: []byte("damaged"), ActiveFrom: clock.now(),
	})
	if err != nil {
		t.Fatal(err)
	}
	config := testConfig(new(bcryptComparer))
	config.Clock = clock.now
	if _, err = New(t.Context(), config, store); err == nil {
		t.Error("the server starts with a damaged key")
	}
}

func TestAFailedRefreshOfTheKeysLeavesThemInUse(t *testing.T) {
	f := newFixture(t, rotating(90*day))
	signer := f.signer()
	for _, method := range []string{"Keys", "AddKey", "DeleteKey"} {
		f.store.failOn(method)
		f.clock.advance(91 * day) // for each method its turn comes: a successor, then the retirement of the first
		err := f.server.RefreshKeys(t.Context())
		wantEqual(t, method+" failing is told", err != nil, method != "DeleteKey")
		wantEqual(t, "signer", f.signer(), signer)
	}
	f.clock.advance(3 * day)
	if err := f.server.RefreshKeys(t.Context()); err == nil {
		t.Error("a key that can't be retired is not told")
	}
	f.wantGood(t, f.mustToken(t, TokenRequest{GrantType: ClientCredentials, Client: confidential("portal")}).AccessToken)
	f.store.failOn("")
	f.refreshKeys(t)
	if f.published(signer) {
		t.Error("the first key is still published")
	}
}

func TestALostRaceForANewKeyIsNoError(t *testing.T) {
	f := newFixture(t, rotating(90*day))
	f.clock.advance(90 * day)
	f.store.before = func(method string) error {
		if method == "AddKey" {
			f.store.before = nil
			other := newFixtureOn(t, f.clock, f.store.Store, rotating(90*day))
			other.refreshKeys(t)
		}
		return nil
	}
	f.refreshKeys(t)
	f.wantEvents(t)
	wantEqual(t, "keys", len(f.storedKeys(t, tokenstore.SigningKey)), 2)
}

func TestAllAlgorithmsSign(t *testing.T) {
	for _, algorithm := range accesstoken.Algorithms {
		t.Run(string(algorithm), func(t *testing.T) {
			f := newFixture(t, func(c *Config) { c.Keyring.Algorithm = algorithm })
			f.wantGood(t, f.signIn(t).AccessToken)
		})
	}
}
