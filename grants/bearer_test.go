package grants

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/tokengateway/caddy-token-gateway/accesstoken"
	"github.com/tokengateway/caddy-token-gateway/tokenstore"
)

func TestAnAccessTokenIsGoodForItsAudience(t *testing.T) {
	f := newFixture(t)
	both := f.signIn(t).AccessToken
	r := signIn(confidential("portal"), "")
	r.Resources = []string{filesAudience}
	files := f.mustToken(t, r).AccessToken
	for _, test := range []struct {
		name      string
		token     string
		audiences []string
		want      accesstoken.Reason // empty for good
	}{
		{"one of its audiences", both, []string{apiAudience}, ""},
		{"the other one", both, []string{filesAudience}, ""},
		{"one of several that are taken", files, []string{apiAudience, filesAudience}, ""},
		{"whatever the server gives tokens for", files, nil, ""},
		{"another audience", files, []string{apiAudience}, accesstoken.WrongAudience},
		{"an audience that nobody has", both, []string{"https://other.example.com"}, accesstoken.WrongAudience},
		{"an audience with a slash more", both, []string{apiAudience + "/"}, accesstoken.WrongAudience},
		{"the empty audience", both, []string{""}, accesstoken.WrongAudience},
	} {
		t.Run(test.name, func(t *testing.T) {
			claims, err := f.server.CheckAccessToken(test.token, test.audiences)
			wantEqual(t, "reason", reason(err), test.want)
			wantEqual(t, "claims", claims != nil, test.want == "")
		})
	}
}

func TestATokenForAnAudienceThatIsNoLongerServedIsRefused(t *testing.T) {
	f := newFixture(t)
	token := f.mustToken(t, signIn(confidential("brief"), "")).AccessToken
	f.start(t, withClient("brief", func(c *Client) { c.Audience = []string{apiAudience} }))
	_, err := f.server.CheckAccessToken(token, nil)
	wantEqual(t, "reason", reason(err), accesstoken.WrongAudience)
	_, err = f.server.CheckAccessToken(token, []string{briefAudience})
	wantEqual(t, "reason where it is named", reason(err), accesstoken.Reason(""))
}

func TestAnAccessTokenIsGoodInItsTime(t *testing.T) {
	f := newFixture(t)
	token := f.signIn(t).AccessToken
	for _, test := range []struct {
		step time.Duration
		want accesstoken.Reason
	}{
		{0, ""},
		{time.Hour - time.Millisecond, ""},
		{time.Millisecond, accesstoken.Expired},
		{-time.Hour - time.Minute, accesstoken.NotYetValid},
	} {
		f.clock.advance(test.step)
		_, err := f.server.CheckAccessToken(token, nil)
		wantEqual(t, "reason at "+f.clock.now().String(), reason(err), test.want)
	}
}

func TestARevocationReachesTheTokensThatItConcerns(t *testing.T) {
	f := newFixture(t)
	session := f.signIn(t)
	claims := f.claims(t, session.AccessToken)
	jti, sid := uuid.MustParse(claims.TokenID), uuid.MustParse(claims.FamilyID)
	for _, test := range []struct {
		name       string
		revocation tokenstore.Revocation
		revoked    bool
	}{
		{"its jti", tokenstore.Revocation{Kind: tokenstore.RevokedToken, ID: jti}, true},
		{"its family", tokenstore.Revocation{Kind: tokenstore.RevokedFamily, ID: sid}, true},
		{"its family, up to its moment", tokenstore.Revocation{Kind: tokenstore.RevokedFamily, ID: sid, IssuedUpTo: testStart}, true},
		{"its family, up to a moment before", tokenstore.Revocation{Kind: tokenstore.RevokedFamily, ID: sid, IssuedUpTo: testStart.Add(-time.Millisecond)}, false},
		{"its subject", tokenstore.Revocation{Kind: tokenstore.RevokedSubject, Name: "admin"}, true},
		{"its subject, up to its moment", tokenstore.Revocation{Kind: tokenstore.RevokedSubject, Name: "admin", IssuedUpTo: testStart}, true},
		{"its subject, up to a moment before", tokenstore.Revocation{Kind: tokenstore.RevokedSubject, Name: "admin", IssuedUpTo: testStart.Add(-time.Millisecond)}, false},
		{"its client", tokenstore.Revocation{Kind: tokenstore.RevokedClient, Name: "portal"}, true},
		{"its client, up to a moment before", tokenstore.Revocation{Kind: tokenstore.RevokedClient, Name: "portal", IssuedUpTo: testStart.Add(-time.Millisecond)}, false},
		{"another jti", tokenstore.Revocation{Kind: tokenstore.RevokedToken, ID: uuid.Must(uuid.NewV7())}, false},
		{"another family", tokenstore.Revocation{Kind: tokenstore.RevokedFamily, ID: uuid.Must(uuid.NewV7())}, false},
		{"another subject", tokenstore.Revocation{Kind: tokenstore.RevokedSubject, Name: "portal"}, false},
		{"another client", tokenstore.Revocation{Kind: tokenstore.RevokedClient, Name: "admin"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			// A gateway of its own for each, with the same keys.
			g := restored(t, f, &tokenstore.Family{ID: sid, IdleExpiry: testStart.Add(day)})
			g.wantGood(t, session.AccessToken)
			test.revocation.ExpiresAt = testStart.Add(2 * time.Hour)
			if err := g.store.Revoke(t.Context(), test.revocation); err != nil {
				t.Fatal(err)
			}
			_, err := g.server.CheckAccessToken(session.AccessToken, nil)
			wantEqual(t, "revoked", reason(err) == accesstoken.Revoked, test.revoked)
			wantEqual(t, "good", err == nil, !test.revoked)
		})
	}
}

// TestATokenThatTheServerCannotHaveMadeIsRefused: signed with its key, say by a former owner of it, but not as it does.
func TestATokenThatTheServerCannotHaveMadeIsRefused(t *testing.T) {
	f := newFixture(t)
	good := accesstoken.Claims{
		Issuer: testIssuer, Subject: "admin", Audience: []string{apiAudience}, ClientID: "portal", UserType: applicationUser,
		TokenID: uuid.Must(uuid.NewV7()).String(), IssuedAt: testStart, NotBefore: testStart, Expiry: testStart.Add(time.Hour),
	}
	for _, test := range []struct {
		name   string
		change func(*accesstoken.Claims)
		want   accesstoken.Reason
	}{
		{"as it does", func(*accesstoken.Claims) {}, ""},
		{"with a jti that is no UUID", func(c *accesstoken.Claims) { c.TokenID = "1" }, accesstoken.BadClaims},
		{"with a sid that is no UUID", func(c *accesstoken.Claims) { c.FamilyID = "1" }, accesstoken.BadClaims},
		{"for another issuer", func(c *accesstoken.Claims) { c.Issuer = testIssuer + "/" }, accesstoken.WrongIssuer},
		{"without a subject", func(c *accesstoken.Claims) { c.Subject = "" }, accesstoken.BadClaims},
	} {
		t.Run(test.name, func(t *testing.T) {
			claims := good
			test.change(&claims)
			token, err := f.server.keyring.keys.Load().signer.Mint(&claims)
			if err != nil {
				t.Fatal(err)
			}
			got, err := f.server.CheckAccessToken(token, nil)
			wantEqual(t, "reason", reason(err), test.want)
			wantEqual(t, "claims", got != nil, test.want == "")
		})
	}
}

func TestWhatIsNoAccessTokenIsRefused(t *testing.T) {
	f := newFixture(t)
	session := f.signIn(t)
	for name, token := range map[string]string{
		"nothing": "", "junk": "junk", "a refresh token": session.RefreshToken,
		"a token without its signature": session.AccessToken[:len(session.AccessToken)-86],
	} {
		claims, err := f.server.CheckAccessToken(token, nil)
		wantEqual(t, name, reason(err), accesstoken.Malformed)
		wantEqual(t, name+", claims", claims == nil, true)
	}
}
