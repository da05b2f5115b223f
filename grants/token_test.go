package grants

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/uuid"

	"github.com/tokengateway/caddy-token-gateway/tokenstore"
)

func TestATokenRequestIsCheckedBeforeItsGrant(t *testing.T) {
	f := newFixture(t, func(c *Config) {
		c.Clients[1].GrantTypes = []string{RefreshToken} // the rival
	})
	for _, test := range []struct {
		name      string
		grantType string
		client    ClientAuthentication
		want      Code
	}{
		{"no grant type", "", confidential("portal"), InvalidRequest},
		{"an unknown grant type", "urn:example:unknown", confidential("portal"), UnsupportedGrantType},
		{"a grant type in capitals", "PASSWORD", confidential("portal"), UnsupportedGrantType},
		{"a grant type that no endpoint serves", AuthorizationCode, confidential("portal"), UnsupportedGrantType},
		{"a grant type that the client may not use", Password, confidential("rival"), UnauthorizedClient},
		{"another one", ClientCredentials, confidential("kiosk"), UnauthorizedClient},
		{"a refresh by a client that may not", RefreshToken, confidential("kiosk"), UnauthorizedClient},
		{"an unknown client", Password, confidential("nobody"), InvalidClient},
		{"an unknown client and an unknown grant type", "urn:example:unknown", confidential("nobody"), UnsupportedGrantType},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, refused := f.token(t, TokenRequest{
				GrantType: test.grantType, Client: test.client, Username: "admin", Password: testPassword,
			})
			wantCode(t, refused, test.want)
		})
	}
}

func TestADisabledGrantTypeIsOffForEveryClient(t *testing.T) {
	for _, grantType := range []string{Password, ClientCredentials, RefreshToken} {
		t.Run(grantType, func(t *testing.T) {
			f := newFixture(t, func(c *Config) { c.DisabledGrantTypes = []string{grantType} })
			r := signIn(confidential("portal"), "")
			r.GrantType = grantType
			_, refused := f.token(t, r)
			wantCode(t, refused, UnsupportedGrantType)
		})
	}
}

func TestTheClientIsToldToTheCallerOnlyIfItIsKnown(t *testing.T) {
	f := newFixture(t)
	for _, test := range []struct {
		name    string
		request TokenRequest
		want    string
	}{
		{"a success", signIn(confidential("portal"), ""), "portal"},
		{"a refusal", TokenRequest{Client: confidential("portal"), GrantType: Password}, "portal"},
		{"a grant type that the client may not use", TokenRequest{Client: confidential("kiosk"), GrantType: RefreshToken}, "kiosk"},
		{"a wrong secret", TokenRequest{Client: ClientAuthentication{ClientID: "portal", Secret: "wrong"}, GrantType: Password}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, client, _ := f.server.Token(t.Context(), test.request)
			var id string
			if client != nil {
				id = client.ID
			}
			wantEqual(t, "client", id, test.want)
		})
	}
}

func TestASignInBeginsAFamily(t *testing.T) {
	f := newFixture(t)
	f.clock.advance(123 * time.Millisecond)
	response := f.signIn(t)
	now := f.clock.now()

	wantEqual(t, "lifetime", response.ExpiresIn, time.Hour)
	wantEqual(t, "scopes", response.Scopes, []string{"default", "read", "write"})
	claims := f.claims(t, response.AccessToken)
	wantEqual(t, "iss", claims.Issuer, testIssuer)
	wantEqual(t, "sub", claims.Subject, "admin")
	wantEqual(t, "client_id", claims.ClientID, "portal")
	wantEqual(t, "aut", claims.UserType, "APPLICATION_USER")
	wantEqual(t, "aud", claims.Audience, []string{apiAudience, filesAudience})
	wantEqual(t, "scope", claims.Scopes, []string{"default", "read", "write"})
	wantEqual(t, "iat", claims.IssuedAt.UTC(), now.Truncate(time.Second))
	wantEqual(t, "nbf", claims.NotBefore.UTC(), now.Truncate(time.Second))
	wantEqual(t, "exp", claims.Expiry.UTC(), now.Truncate(time.Second).Add(time.Hour))

	jti := uuid.MustParse(claims.TokenID)
	wantEqual(t, "version of the jti", jti.Version(), uuid.Version(7))
	wantEqual(t, "variant of the jti", jti.Variant(), uuid.RFC4122)
	wantEqual(t, "moment of the jti", tokenstore.Moment(jti), now.UnixMilli())

	token, family := f.parse(t, response.RefreshToken), f.family(t, response.RefreshToken)
	wantEqual(t, "sid", claims.FamilyID, token.family.String())
	wantEqual(t, "moment of the family", tokenstore.Moment(token.family), now.UnixMilli())
	wantEqual(t, "record", family, &tokenstore.Family{
		ID: token.family, ClientID: "portal", Subject: "admin", GrantType: Password,
		Scopes: []string{"default", "read", "write"}, Audience: []string{apiAudience, filesAudience},
		CredentialDigest: f.config.Users[0].Password.Fingerprint(),
		SecretHash:       token.secretHash(),
		AccessTokenID:    jti, AccessExpiry: claims.Expiry.UTC(),
		CreatedAt: now, RotatedAt: now, IdleExpiry: now.Add(day), AbsoluteExpiry: now.Add(30 * day).Truncate(time.Second),
	})
}

func TestEverySignInIsAFamilyOfItsOwn(t *testing.T) {
	f := newFixture(t)
	one, other := f.signIn(t), f.signIn(t)
	if f.parse(t, one.RefreshToken).family == f.parse(t, other.RefreshToken).family {
		t.Fatal("two sign-ins share a family")
	}
	f.revoke(t, one.RefreshToken)
	f.wantGood(t, other.AccessToken)
	f.mustRefresh(t, other.RefreshToken)
}

func TestTheRecordYieldsNoToken(t *testing.T) {
	f := newFixture(t, withGrace(time.Minute))
	response := f.mustRefresh(t, f.signIn(t).RefreshToken)
	encoded, err := f.family(t, response.RefreshToken).Encode()
	if err != nil {
		t.Fatal(err)
	}
	secret := f.parse(t, response.RefreshToken).secret
	for n := 4; n <= len(secret); n++ {
		if strings.Contains(string(encoded), string(secret[:n])) {
			t.Fatalf("the record holds the first %d bytes of the secret", n)
		}
	}
}

func TestWhereNoRefreshTokenMayBeUsedNoneIsGiven(t *testing.T) {
	for _, test := range []struct {
		name   string
		client string
		with   []func(*Config)
	}{
		{"the client may not refresh", "kiosk", nil},
		{"refreshing is switched off", "portal", []func(*Config){func(c *Config) { c.DisabledGrantTypes = []string{RefreshToken} }}},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t, test.with...)
			calls := f.store.calls.Load()
			response := f.mustToken(t, signIn(confidential(test.client), ""))
			wantEqual(t, "refresh token", response.RefreshToken, "")
			claims := f.claims(t, response.AccessToken)
			wantEqual(t, "sid", claims.FamilyID, "")
			wantEqual(t, "sub", claims.Subject, "admin")
			wantEqual(t, "aut", claims.UserType, "APPLICATION_USER")
			wantEqual(t, "calls of the store", f.store.calls.Load(), calls)
		})
	}
}

func TestTheFirstAccessTokenDoesNotOutliveItsFamily(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.MaxLifetime = 10 * time.Minute })
	wantEqual(t, "lifetime", f.signIn(t).ExpiresIn, 10*time.Minute)
}

func TestASignInThatCannotBeRecordedGivesNoTokens(t *testing.T) {
	f := newFixture(t)
	f.store.failOn("CreateFamily")
	_, refused := f.token(t, signIn(confidential("portal"), ""))
	wantUnavailable(t, refused)
}

func TestWithoutRandomnessThereAreNoTokens(t *testing.T) {
	f := newFixture(t)
	session := f.signIn(t)
	f.start(t, func(c *Config) { c.Random = iotest.ErrReader(errors.New("no entropy")) })
	for _, r := range []TokenRequest{
		signIn(confidential("portal"), ""), refreshing(session.RefreshToken),
		{Client: confidential("portal"), GrantType: ClientCredentials}, signIn(confidential("kiosk"), ""),
	} {
		_, refused := f.token(t, r)
		wantCode(t, refused, ServerError)
	}
	f.start(t)
	f.mustRefresh(t, session.RefreshToken)
}

func TestWhenRandomnessEndsHalfwayTheTokenIsStillGood(t *testing.T) {
	f := newFixture(t, withGrace(time.Minute))
	session := f.signIn(t)
	for _, enough := range []int{0, 5, 10, 11, 33} { // an ID takes 10 bytes, a secret 24
		f.start(t, withGrace(time.Minute), func(c *Config) { c.Random = strings.NewReader(strings.Repeat("x", enough)) })
		_, refused := f.token(t, refreshing(session.RefreshToken))
		wantCode(t, refused, ServerError)
	}
	f.start(t, withGrace(time.Minute))
	f.mustRefresh(t, session.RefreshToken)
	f.wantEvents(t)
}

func TestTheResponsesScopesAreTheCallersOwn(t *testing.T) {
	f := newFixture(t)
	response := f.mustToken(t, signIn(confidential("portal"), ""))
	response.Scopes[0] = "changed"
	if scopes := f.config.Clients[0].Scopes; slices.Contains(scopes, "changed") {
		t.Errorf("the client's scopes are now %q", scopes)
	}
}
