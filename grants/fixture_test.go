package grants

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/crypto/bcrypt"

	"github.com/tokengateway/caddy-token-gateway/accesstoken"
	"github.com/tokengateway/caddy-token-gateway/tokenstore"
	"github.com/tokengateway/caddy-token-gateway/tokenstore/badger"
)

const (
	testIssuer        = "https://auth.example.com"
	testTokenEndpoint = testIssuer + "/oauth2/token"

	apiAudience   = "https://api.example.com"
	filesAudience = "https://files.example.com"
	briefAudience = "https://brief.example.com"

	testSecret   = "a long and random client secret"
	testPassword = "correct horse battery staple"

	day = 24 * time.Hour
)

// testStart is when the clock of every fixture begins.
var testStart = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

// home is where requests come from unless a test says otherwise.
var home = netip.MustParseAddr("192.0.2.1")

// Computing a hash takes its time, so each is computed once.
var (
	passwordHash = sync.OnceValue(func() []byte { return bcryptHash(testPassword) })
	secretHash   = sync.OnceValue(func() []byte { return bcryptHash(testSecret) })
)

func bcryptHash(plaintext string) []byte {
	hash, err := bcrypt.GenerateFromPassword([]byte(plaintext), bcrypt.MinCost)
	if err != nil {
		panic(err)
	}
	return hash
}

// bcryptComparer counts how often it is asked.
type bcryptComparer struct{ calls atomic.Int64 }

func (c *bcryptComparer) Compare(hashed, plaintext []byte) (bool, error) {
	c.calls.Add(1)
	err := bcrypt.CompareHashAndPassword(hashed, plaintext)
	if errors.Is(err, bcrypt.ErrMismatchedHashAndPassword) {
		return false, nil
	}
	return err == nil, err
}

// testClock stands still unless a test moves it.
type testClock struct{ ms atomic.Int64 }

func newTestClock() *testClock {
	c := new(testClock)
	c.ms.Store(testStart.UnixMilli())
	return c
}

func (c *testClock) now() time.Time          { return time.UnixMilli(c.ms.Load()).UTC() }
func (c *testClock) advance(d time.Duration) { c.ms.Add(d.Milliseconds()) }

// eventLog records what a server tells its observer.
type eventLog struct {
	mu     sync.Mutex
	events []Event
}

func (l *eventLog) record(_ context.Context, event Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, event)
}

// take returns the events since it was called last.
func (l *eventLog) take() []Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	events := l.events
	l.events = nil
	return events
}

// tappedStore is a real store that counts its calls and can be made to fail.
type tappedStore struct {
	tokenstore.Store

	calls atomic.Int64

	// before is told the name of each method that is called; its error is returned in place of the call. Nil lets every
	// call through. It isn't to be changed while calls are under way.
	before func(method string) error
}

func (s *tappedStore) tap(method string) error {
	s.calls.Add(1)
	if s.before == nil {
		return nil
	}
	return s.before(method)
}

// failOn makes every call of one method fail, the empty name none.
func (s *tappedStore) failOn(method string) {
	s.before = func(called string) error {
		if called == method {
			return errors.New("no space left on device")
		}
		return nil
	}
}

func (s *tappedStore) CreateFamily(ctx context.Context, family *tokenstore.Family) error {
	if err := s.tap("CreateFamily"); err != nil {
		return err
	}
	return s.Store.CreateFamily(ctx, family)
}

func (s *tappedStore) Family(ctx context.Context, id uuid.UUID) (*tokenstore.Family, error) {
	if err := s.tap("Family"); err != nil {
		return nil, err
	}
	return s.Store.Family(ctx, id)
}

func (s *tappedStore) RotateFamily(ctx context.Context, from, to *tokenstore.Family, revocations ...tokenstore.Revocation) error {
	if err := s.tap("RotateFamily"); err != nil {
		return err
	}
	return s.Store.RotateFamily(ctx, from, to, revocations...)
}

func (s *tappedStore) Revoke(ctx context.Context, revocation tokenstore.Revocation) error {
	if err := s.tap("Revoke"); err != nil {
		return err
	}
	return s.Store.Revoke(ctx, revocation)
}

func (s *tappedStore) UseOnce(ctx context.Context, id [32]byte, until time.Time) error {
	if err := s.tap("UseOnce"); err != nil {
		return err
	}
	return s.Store.UseOnce(ctx, id, until)
}

func (s *tappedStore) Keys(ctx context.Context, use tokenstore.KeyUse) ([]tokenstore.Key, error) {
	if err := s.tap("Keys"); err != nil {
		return nil, err
	}
	return s.Store.Keys(ctx, use)
}

func (s *tappedStore) AddKey(ctx context.Context, key tokenstore.Key) error {
	if err := s.tap("AddKey"); err != nil {
		return err
	}
	return s.Store.AddKey(ctx, key)
}

func (s *tappedStore) DeleteKey(ctx context.Context, use tokenstore.KeyUse, number uint32) error {
	if err := s.tap("DeleteKey"); err != nil {
		return err
	}
	return s.Store.DeleteKey(ctx, use, number)
}

// openStore opens a Badger store in a directory until the test ends.
func openStore(t testing.TB, directory string, clock func() time.Time) *badger.Store {
	t.Helper()
	store, err := badger.Open(badger.Options{Directory: directory, Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return store
}

// fixture is a server at work on a real store, with a clock that the test sets.
type fixture struct {
	clock    *testClock
	store    *tappedStore
	events   *eventLog
	comparer *bcryptComparer
	config   Config
	server   *Server
}

// newFixture starts a server on a new store. The changes are made to a configuration with clients of every sort.
func newFixture(t testing.TB, changes ...func(*Config)) *fixture {
	t.Helper()
	clock := newTestClock()
	return newFixtureOn(t, clock, openStore(t, t.TempDir(), clock.now), changes...)
}

func newFixtureOn(t testing.TB, clock *testClock, store tokenstore.Store, changes ...func(*Config)) *fixture {
	t.Helper()
	f := &fixture{
		clock:    clock,
		store:    &tappedStore{Store: store},
		events:   new(eventLog),
		comparer: new(bcryptComparer),
	}
	f.start(t, changes...)
	return f
}

// start makes the fixture's server anew, as a reload of the configuration does.
func (f *fixture) start(t testing.TB, changes ...func(*Config)) {
	t.Helper()
	f.config = testConfig(f.comparer)
	f.config.Observe = f.events.record
	f.config.Clock = f.clock.now
	for _, change := range changes {
		change(&f.config)
	}
	server, err := New(t.Context(), f.config, f.store)
	if err != nil {
		t.Fatal(err)
	}
	f.server = server
	f.events.take()
}

func testConfig(comparer Comparer) Config {
	user := []string{Password, RefreshToken}
	return Config{
		Issuer:         testIssuer,
		TokenEndpoints: []string{testTokenEndpoint},
		MaxLifetime:    30 * day,
		Keyring:        KeyringConfig{Algorithm: accesstoken.ES256, LongestToken: time.Hour},
		Clients: []*Client{
			{ // confidential, its secret random
				ID: "portal", Secret: DigestCredential(sha256.Sum256([]byte(testSecret))),
				GrantTypes: []string{Password, RefreshToken, ClientCredentials, AuthorizationCode},
				Scopes:     []string{"default", "read", "write"}, Audience: []string{apiAudience, filesAudience},
				AccessTokenLifetime: time.Hour, RefreshTokenLifetime: day,
			},
			{ // another one that may do the same
				ID: "rival", Secret: DigestCredential(sha256.Sum256([]byte(testSecret))), GrantTypes: user,
				Scopes: []string{"default", "read", "write"}, Audience: []string{apiAudience},
				AccessTokenLifetime: time.Hour, RefreshTokenLifetime: day,
			},
			{ // public
				ID: "spa", Public: true, GrantTypes: user, CORSOrigins: []string{"https://app.example.com"},
				Scopes: []string{"default"}, Audience: []string{apiAudience},
				AccessTokenLifetime: time.Hour, RefreshTokenLifetime: day,
			},
			{ // confidential, its secret kept as a slow hash
				ID: "legacy", Secret: HashCredential(secretHash(), comparer), GrantTypes: user,
				Scopes: []string{"default"}, Audience: []string{apiAudience},
				AccessTokenLifetime: time.Hour, RefreshTokenLifetime: day,
			},
			{ // may not refresh
				ID: "kiosk", Secret: DigestCredential(sha256.Sum256([]byte(testSecret))), GrantTypes: []string{Password},
				Scopes: []string{"default"}, Audience: []string{apiAudience},
				AccessTokenLifetime: time.Hour, RefreshTokenLifetime: day,
			},
			{ // lifetimes and an audience of its own
				ID: "brief", Secret: DigestCredential(sha256.Sum256([]byte(testSecret))),
				GrantTypes: []string{Password, RefreshToken, ClientCredentials},
				Scopes:     []string{"default"}, Audience: []string{briefAudience},
				AccessTokenLifetime: 10 * time.Minute, RefreshTokenLifetime: 2 * time.Hour,
			},
		},
		Users: []*User{
			{Name: "admin", Password: HashCredential(passwordHash(), comparer)},
			{Name: "guest", Password: HashCredential(passwordHash(), comparer)},
		},
	}
}

func withGrace(grace time.Duration) func(*Config) { return func(c *Config) { c.ReuseGrace = grace } }

func withoutUser(name string) func(*Config) {
	return func(c *Config) { c.Users = slices.DeleteFunc(c.Users, func(u *User) bool { return u.Name == name }) }
}

func withClient(id string, change func(*Client)) func(*Config) {
	return func(c *Config) {
		for _, client := range c.Clients {
			if client.ID == id {
				change(client)
			}
		}
	}
}

// confidential is how a client with the usual secret says who it is.
func confidential(id string) ClientAuthentication {
	return ClientAuthentication{ClientID: id, Secret: testSecret, Address: home}
}

func (f *fixture) token(t testing.TB, r TokenRequest) (*TokenResponse, *Error) {
	t.Helper()
	response, _, refused := f.server.Token(t.Context(), r)
	if (response == nil) == (refused == nil) {
		t.Errorf("the answer is %v and %v, want exactly one of the two", response, refused)
	}
	return response, refused
}

func (f *fixture) mustToken(t testing.TB, r TokenRequest) *TokenResponse {
	t.Helper()
	response, refused := f.token(t, r)
	if refused != nil {
		t.Fatalf("%s was refused: %v", r.GrantType, refused)
	}
	return response
}

// signIn begins a family with the password grant, with all of the portal's scopes.
func (f *fixture) signIn(t testing.TB) *TokenResponse {
	t.Helper()
	return f.mustToken(t, signIn(confidential("portal"), "default read write"))
}

func signIn(client ClientAuthentication, scope string) TokenRequest {
	return TokenRequest{Client: client, GrantType: Password, Username: "admin", Password: testPassword, Scope: scope}
}

// refreshing is the portal's request for a refresh.
func refreshing(token string) TokenRequest {
	return TokenRequest{Client: confidential("portal"), GrantType: RefreshToken, RefreshToken: token}
}

func (f *fixture) mustRefresh(t testing.TB, token string) *TokenResponse {
	t.Helper()
	return f.mustToken(t, refreshing(token))
}

// wantRefused checks that a refresh token is answered as every bad one is.
func (f *fixture) wantRefused(t testing.TB, token string) {
	t.Helper()
	_, refused := f.token(t, refreshing(token))
	wantCode(t, refused, InvalidGrant)
}

func (f *fixture) revoke(t testing.TB, token string) RevocationResult {
	t.Helper()
	result, _, refused := f.server.Revoke(t.Context(), RevocationRequest{Client: confidential("portal"), Token: token})
	if refused != nil {
		t.Fatalf("the revocation was refused: %v", refused)
	}
	return result
}

// claims returns those of an access token that has to be good.
func (f *fixture) claims(t testing.TB, token string) *accesstoken.Claims {
	t.Helper()
	claims, err := f.server.CheckAccessToken(token, nil)
	if err != nil {
		t.Fatalf("the access token is refused: %v", err)
	}
	return claims
}

func (f *fixture) wantGood(t testing.TB, tokens ...string) {
	t.Helper()
	for i, token := range tokens {
		if _, err := f.server.CheckAccessToken(token, nil); err != nil {
			t.Errorf("access token %d of %d is refused: %v", i+1, len(tokens), err)
		}
	}
}

func (f *fixture) wantRevoked(t testing.TB, tokens ...string) {
	t.Helper()
	for i, token := range tokens {
		if _, err := f.server.CheckAccessToken(token, nil); reason(err) != accesstoken.Revoked {
			t.Errorf("access token %d of %d: %v, want it revoked", i+1, len(tokens), err)
		}
	}
}

// reason is why an access token was refused; empty if it wasn't.
func reason(err error) accesstoken.Reason {
	if refused, ok := errors.AsType[*accesstoken.Error](err); ok {
		return refused.Reason
	}
	return ""
}

func (f *fixture) parse(t testing.TB, token string) refreshToken {
	t.Helper()
	parsed, ok := parseRefreshToken(token, f.server.keyring.keys.Load().macs)
	if !ok {
		t.Fatal("the refresh token can't be parsed")
	}
	return parsed
}

// family returns the record of a refresh token's family, nil if there is none.
func (f *fixture) family(t testing.TB, token string) *tokenstore.Family {
	t.Helper()
	family, err := f.store.Store.Family(t.Context(), f.parse(t, token).family)
	if err != nil && !errors.Is(err, tokenstore.ErrNotFound) {
		t.Fatal(err)
	}
	return family
}

// wantEvents checks the kinds of the events since it was called last.
func (f *fixture) wantEvents(t testing.TB, want ...EventKind) []Event {
	t.Helper()
	events := f.events.take()
	var kinds []EventKind
	for _, event := range events {
		kinds = append(kinds, event.Kind)
	}
	if !slices.Equal(kinds, want) {
		t.Errorf("events %q, want %q", kinds, want)
	}
	return events
}

func wantCode(t testing.TB, refused *Error, want Code) {
	t.Helper()
	if refused == nil {
		t.Fatalf("the request was not refused, want %s", want)
	}
	if refused.Code != want {
		t.Fatalf("the request was refused with %v, want %s", refused, want)
	}
}

// wantUnavailable checks that a client is told to try again.
func wantUnavailable(t testing.TB, refused *Error) {
	t.Helper()
	wantCode(t, refused, TemporarilyUnavailable)
	if refused.RetryAfter <= 0 {
		t.Errorf("the client isn't told when to try again: %+v", refused)
	}
}

func wantEqual(t testing.TB, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}
