package grants

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"strconv"
	"testing"
	"time"

	"github.com/tokengateway/caddy-token-gateway/accesstoken"
)

func TestClientsSayWhoTheyAre(t *testing.T) {
	f := newFixture(t)
	for _, test := range []struct {
		name   string
		client ClientAuthentication
		want   Code // empty for success
	}{
		{"a confidential client with its secret", confidential("portal"), ""},
		{"a confidential client with its hashed secret", confidential("legacy"), ""},
		{"a public client with its name", ClientAuthentication{ClientID: "spa"}, ""},
		{"nobody", ClientAuthentication{}, InvalidClient},
		{"nobody, with a secret", ClientAuthentication{Secret: testSecret}, InvalidClient},
		{"an unknown client", confidential("nobody"), InvalidClient},
		{"an unknown client without a secret", ClientAuthentication{ClientID: "nobody"}, InvalidClient},
		{"a client in capitals", confidential("PORTAL"), InvalidClient},
		{"a confidential client without its secret", ClientAuthentication{ClientID: "portal"}, InvalidClient},
		{"a confidential client with a wrong secret", ClientAuthentication{ClientID: "portal", Secret: "wrong"}, InvalidClient},
		{"a confidential client with its secret and a space", ClientAuthentication{ClientID: "portal", Secret: testSecret + " "}, InvalidClient},
		{"a client with a wrong secret for its hash", ClientAuthentication{ClientID: "legacy", Secret: "wrong"}, InvalidClient},
		{"a client with a hash and no secret", ClientAuthentication{ClientID: "legacy"}, InvalidClient},
		{"a public client that sends a secret", confidential("spa"), InvalidClient},
		{"a client that sends its digest", ClientAuthentication{ClientID: "portal", Secret: fmt.Sprintf("%x", sha256.Sum256([]byte(testSecret)))}, InvalidClient},
		{"a client that sends its hash", ClientAuthentication{ClientID: "legacy", Secret: string(secretHash())}, InvalidClient},
	} {
		t.Run(test.name, func(t *testing.T) {
			client, refused := f.server.authenticate(t.Context(), test.client)
			if test.want != "" {
				wantCode(t, refused, test.want)
				return
			}
			if refused != nil {
				t.Fatal(refused)
			}
			wantEqual(t, "client", client.ID, test.client.ClientID)
		})
	}
}

func TestAnUnknownClientAndAWrongSecretCannotBeToldApart(t *testing.T) {
	f := newFixture(t)
	type answer struct {
		refused  Error
		computed int64
	}
	answers := map[string]answer{}
	for _, id := range []string{"legacy", "portal", "nobody"} {
		before := f.comparer.calls.Load()
		_, refused := f.server.authenticate(t.Context(), ClientAuthentication{ClientID: id, Secret: "wrong", Address: home})
		wantCode(t, refused, InvalidClient)
		refused.Cause = nil // is never sent
		answers[id] = answer{*refused, f.comparer.calls.Load() - before}
	}
	wantEqual(t, "slow hashes for a client that has one", answers["legacy"].computed, int64(1))
	wantEqual(t, "answer to a client with a digest", answers["portal"], answers["legacy"])
	wantEqual(t, "answer to an unknown client", answers["nobody"], answers["legacy"])
}

// signer makes client assertions.
type signer struct {
	private ed25519.PrivateKey
	public  *accesstoken.Key
}

func newSigner(t testing.TB) signer {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := accesstoken.NewPublicKey(public, accesstoken.EdDSA)
	if err != nil {
		t.Fatal(err)
	}
	return signer{private, key}
}

func (s signer) sign(t testing.TB, header, claims map[string]any) string {
	t.Helper()
	encode := func(v any) string {
		encoded, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(encoded)
	}
	input := encode(header) + "." + encode(claims)
	return input + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(s.private, []byte(input)))
}

func robot(keys ...*accesstoken.Key) func(*Config) {
	return func(c *Config) {
		c.Clients = append(c.Clients, &Client{
			ID: "robot", Keys: accesstoken.NewKeySet(keys...), GrantTypes: []string{ClientCredentials},
			Scopes: []string{"default"}, Audience: []string{apiAudience}, AccessTokenLifetime: time.Hour,
		})
	}
}

func TestAClientAssertion(t *testing.T) {
	mine, other := newSigner(t), newSigner(t)
	f := newFixture(t, robot(mine.public))
	now := testStart.Unix()
	for _, test := range []struct {
		name    string
		with    signer
		header  map[string]any // what differs from a good one; nil removes
		claims  map[string]any
		request ClientAuthentication
		refused bool
	}{
		{name: "for the issuer", with: mine},
		{name: "for the token endpoint", with: mine, claims: map[string]any{"aud": testTokenEndpoint}},
		{name: "for several", with: mine, claims: map[string]any{"aud": []string{"https://other.example.com", testIssuer}}},
		{name: "of a named client", with: mine, request: ClientAuthentication{ClientID: "robot"}},
		{name: "without a key ID", with: mine, header: map[string]any{"kid": nil}},
		{name: "without iat", with: mine, claims: map[string]any{"iat": nil}},
		{name: "that lives ten minutes", with: mine, claims: map[string]any{"exp": now + 600}},

		{name: "with another client's name", with: mine, request: ClientAuthentication{ClientID: "portal"}, refused: true},
		{name: "without its type", with: mine, request: ClientAuthentication{AssertionType: "none"}, refused: true},
		{name: "of another type", with: mine, request: ClientAuthentication{
			AssertionType: "urn:ietf:params:oauth:client-assertion-type:saml2-bearer"}, refused: true},
		{name: "of a type in capitals", with: mine, request: ClientAuthentication{
			AssertionType: "URN:IETF:PARAMS:OAUTH:CLIENT-ASSERTION-TYPE:JWT-BEARER"}, refused: true},
		{name: "signed by somebody else", with: other, refused: true},
		{name: "signed by somebody else who names the client's key", with: other, header: map[string]any{"kid": mine.public.ID}, refused: true},
		{name: "with alg none", with: mine, header: map[string]any{"alg": "none"}, refused: true},
		{name: "with a symmetric alg", with: mine, header: map[string]any{"alg": "HS256"}, refused: true},
		{name: "with another alg", with: mine, header: map[string]any{"alg": "ES256"}, refused: true},
		{name: "from another issuer", with: mine, claims: map[string]any{"iss": "portal"}, refused: true},
		{name: "without an issuer", with: mine, claims: map[string]any{"iss": nil}, refused: true},
		{name: "about another client", with: mine, claims: map[string]any{"sub": "portal"}, refused: true},
		{name: "about an unknown client", with: mine, claims: map[string]any{"sub": "nobody", "iss": "nobody"}, refused: true},
		{name: "about nobody", with: mine, claims: map[string]any{"sub": nil}, refused: true},
		{name: "for another server", with: mine, claims: map[string]any{"aud": "https://other.example.com"}, refused: true},
		{name: "for the issuer with a slash more", with: mine, claims: map[string]any{"aud": testIssuer + "/"}, refused: true},
		{name: "for nobody", with: mine, claims: map[string]any{"aud": nil}, refused: true},
		{name: "without jti", with: mine, claims: map[string]any{"jti": nil}, refused: true},
		{name: "without exp", with: mine, claims: map[string]any{"exp": nil}, refused: true},
		{name: "that has expired", with: mine, claims: map[string]any{"exp": now}, refused: true},
		{name: "that lives too long", with: mine, claims: map[string]any{"exp": now + 601}, refused: true},
		{name: "that is not valid yet", with: mine, claims: map[string]any{"nbf": now + 60}, refused: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			header := map[string]any{"alg": "EdDSA", "typ": "JWT", "kid": test.with.public.ID}
			claims := map[string]any{
				"iss": "robot", "sub": "robot", "aud": testIssuer, "jti": test.name, "iat": now, "exp": now + 60,
			}
			for target, changes := range map[*map[string]any]map[string]any{&header: test.header, &claims: test.claims} {
				maps.Copy(*target, changes)
				maps.DeleteFunc(*target, func(_ string, v any) bool { return v == nil })
			}
			a := test.request
			a.Address = home
			a.Assertion = test.with.sign(t, header, claims)
			if a.AssertionType == "" {
				a.AssertionType = JWTBearer
			}
			r := TokenRequest{GrantType: ClientCredentials, Client: a}
			response, refused := f.token(t, r)
			if test.refused {
				wantCode(t, refused, InvalidClient)
				return
			}
			if refused != nil {
				t.Fatal(refused)
			}
			wantEqual(t, "sub", f.claims(t, response.AccessToken).Subject, "robot")
			_, refused = f.token(t, r)
			wantCode(t, refused, InvalidClient) // it is used up
		})
	}
}

func (s signer) assertion(t testing.TB, now time.Time, jti string) ClientAuthentication {
	t.Helper()
	return ClientAuthentication{Address: home, AssertionType: JWTBearer, Assertion: s.sign(t,
		map[string]any{"alg": "EdDSA", "kid": s.public.ID},
		map[string]any{"iss": "robot", "sub": "robot", "aud": testIssuer, "jti": jti, "exp": now.Unix() + 60})}
}

func TestWhatIsNoAssertionIsRefused(t *testing.T) {
	mine := newSigner(t)
	f := newFixture(t, robot(mine.public))
	accessToken := f.signIn(t).AccessToken
	for name, a := range map[string]ClientAuthentication{
		"junk":                                 {AssertionType: JWTBearer, Assertion: "junk"},
		"nothing":                              {AssertionType: JWTBearer},
		"an access token":                      {AssertionType: JWTBearer, Assertion: accessToken},
		"an assertion without a type":          {Assertion: mine.assertion(t, testStart, "1").Assertion},
		"a client with keys that has a secret": {ClientID: "robot", Secret: testSecret},
		"a client with keys that has nothing":  {ClientID: "robot"},
	} {
		t.Run(name, func(t *testing.T) {
			_, refused := f.server.authenticate(t.Context(), a)
			wantCode(t, refused, InvalidClient)
		})
	}
}

func TestAnAssertionThatWasRefusedIsNotUsedUp(t *testing.T) {
	mine := newSigner(t)
	f := newFixture(t, robot(mine.public))
	wrong := mine.assertion(t, testStart, "same jti")
	wrong.ClientID = "portal"
	if _, refused := f.server.authenticate(t.Context(), wrong); refused == nil {
		t.Fatal("accepted for another client")
	}
	if _, refused := f.server.authenticate(t.Context(), mine.assertion(t, testStart, "same jti")); refused != nil {
		t.Fatal(refused)
	}
}

func TestAnAssertionThatCannotBeRecordedIsNotTaken(t *testing.T) {
	mine := newSigner(t)
	f := newFixture(t, robot(mine.public))
	a := mine.assertion(t, testStart, "1")
	f.store.failOn("UseOnce")
	_, refused := f.token(t, TokenRequest{GrantType: ClientCredentials, Client: a})
	wantUnavailable(t, refused)
	f.store.failOn("")
	f.mustToken(t, TokenRequest{GrantType: ClientCredentials, Client: a})
}

func TestOneJTIServesTwoClients(t *testing.T) {
	mine := newSigner(t)
	f := newFixture(t, robot(mine.public), func(c *Config) {
		second := *c.Clients[len(c.Clients)-1]
		second.ID = "second"
		c.Clients = append(c.Clients, &second)
	})
	for _, id := range []string{"robot", "second"} {
		a := ClientAuthentication{AssertionType: JWTBearer, Assertion: mine.sign(t,
			map[string]any{"alg": "EdDSA"},
			map[string]any{"iss": id, "sub": id, "aud": testIssuer, "jti": "1", "exp": testStart.Unix() + 60})}
		client, refused := f.server.authenticate(t.Context(), a)
		if refused != nil {
			t.Fatal(refused)
		}
		wantEqual(t, "client", client.ID, id)
	}
}

func TestForgingAssertionsIsThrottled(t *testing.T) {
	mine, other := newSigner(t), newSigner(t)
	f := newFixture(t, robot(mine.public))
	for range pairBurst {
		_, refused := f.server.authenticate(t.Context(), other.assertion(t, testStart, "1"))
		wantCode(t, refused, InvalidClient)
	}
	_, refused := f.server.authenticate(t.Context(), mine.assertion(t, testStart, "1"))
	wantThrottled(t, refused, pairInterval)
	f.clock.advance(pairInterval)
	if _, refused = f.server.authenticate(t.Context(), mine.assertion(t, testStart, "1")); refused != nil {
		t.Fatal(refused)
	}
}

func certificate(t *testing.T, commonName string) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: commonName, Organization: []string{"Example"}},
		NotBefore: testStart, NotAfter: testStart.Add(day),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func TestATLSCertificateProvesAClient(t *testing.T) {
	machine, device := certificate(t, "machine"), certificate(t, "device")
	namesake := certificate(t, "machine")
	f := newFixture(t, func(c *Config) {
		template := Client{GrantTypes: []string{ClientCredentials}, Scopes: []string{"default"}, Audience: []string{apiAudience}}
		bySubject, byKey, either := template, template, template
		bySubject.ID, bySubject.Certificate = "machine", &CertificateRule{Subject: "CN=machine,O=Example"}
		byKey.ID, byKey.Certificate = "device", &CertificateRule{KeySHA256: sha256.Sum256(device.RawSubjectPublicKeyInfo)}
		either.ID, either.Certificate = "either", byKey.Certificate
		either.Secret = DigestCredential(sha256.Sum256([]byte(testSecret)))
		c.Clients = append(c.Clients, &bySubject, &byKey, &either)
	})
	for _, test := range []struct {
		name    string
		client  ClientAuthentication
		refused bool
	}{
		{"by its subject", ClientAuthentication{ClientID: "machine", Certificate: machine, CertificateTrusted: true}, false},
		{"by its subject, with a renewed certificate", ClientAuthentication{ClientID: "machine", Certificate: namesake, CertificateTrusted: true}, false},
		{"by its key, self-signed", ClientAuthentication{ClientID: "device", Certificate: device}, false},
		{"by its key, from an authority", ClientAuthentication{ClientID: "device", Certificate: device, CertificateTrusted: true}, false},
		{"by its key, where it also has a secret", ClientAuthentication{ClientID: "either", Certificate: device}, false},
		{"by its secret, where it also has a key", confidential("either"), false},
		{"not by a subject that anybody may write", ClientAuthentication{ClientID: "machine", Certificate: machine}, true},
		{"not by another's subject", ClientAuthentication{ClientID: "machine", Certificate: device, CertificateTrusted: true}, true},
		{"not by another's key", ClientAuthentication{ClientID: "device", Certificate: machine, CertificateTrusted: true}, true},
		{"not without a certificate, by subject", ClientAuthentication{ClientID: "machine", CertificateTrusted: true}, true},
		{"not without a certificate, by key", ClientAuthentication{ClientID: "device"}, true},
		{"not by a wrong secret beside the right key", ClientAuthentication{ClientID: "either", Secret: "wrong", Certificate: device}, true},
		{"not by a secret where it has none", ClientAuthentication{ClientID: "machine", Secret: testSecret, Certificate: machine, CertificateTrusted: true}, true},
		{"not for a client without a rule", ClientAuthentication{ClientID: "portal", Certificate: machine, CertificateTrusted: true}, true},
		{"not for nobody", ClientAuthentication{Certificate: machine, CertificateTrusted: true}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			client, refused := f.server.authenticate(t.Context(), test.client)
			if test.refused {
				wantCode(t, refused, InvalidClient)
				return
			}
			if refused != nil {
				t.Fatal(refused)
			}
			wantEqual(t, "client", client.ID, test.client.ClientID)
		})
	}
}

func TestAGoodClientAssertionClearsTheFailuresBeforeIt(t *testing.T) {
	mine, other := newSigner(t), newSigner(t)
	f := newFixture(t, robot(mine.public))
	for round := range 3 {
		for range pairBurst - 1 {
			_, refused := f.server.authenticate(t.Context(), other.assertion(t, testStart, "wrong"))
			wantCode(t, refused, InvalidClient)
		}
		if _, refused := f.server.authenticate(t.Context(), mine.assertion(t, testStart, strconv.Itoa(round))); refused != nil {
			t.Fatalf("round %d: %v", round, refused)
		}
	}
}
