package grants

import (
	"fmt"
	"net/netip"
	"testing"
)

func TestThePasswordGrant(t *testing.T) {
	f := newFixture(t)
	for _, test := range []struct {
		name           string
		client         ClientAuthentication
		user, password string
		scope          string
		resources      []string
		want           Code // empty for success
	}{
		{"of a confidential client", confidential("portal"), "admin", testPassword, "", nil, ""},
		{"of a client whose secret is hashed", confidential("legacy"), "admin", testPassword, "", nil, ""},
		{"of a public client", ClientAuthentication{ClientID: "spa"}, "guest", testPassword, "", nil, ""},
		{"with a scope and a resource", confidential("portal"), "admin", testPassword, "read", []string{filesAudience}, ""},
		{"with a wrong password", confidential("portal"), "admin", "wrong", "", nil, InvalidGrant},
		{"with another case of the password", confidential("portal"), "admin", "Correct horse battery staple", "", nil, InvalidGrant},
		{"of an unknown user", confidential("portal"), "nobody", testPassword, "", nil, InvalidGrant},
		{"of a user in capitals", confidential("portal"), "ADMIN", testPassword, "", nil, InvalidGrant},
		{"of a client as if it were a user", confidential("portal"), "portal", testSecret, "", nil, InvalidGrant},
		{"without a user name", confidential("portal"), "", testPassword, "", nil, InvalidRequest},
		{"without a password", confidential("portal"), "admin", "", "", nil, InvalidRequest},
		{"with a scope that another client may have", confidential("legacy"), "admin", testPassword, "read", nil, InvalidScope},
		{"with an unknown scope", confidential("portal"), "admin", testPassword, "unknown", nil, InvalidScope},
		{"with a malformed scope", confidential("portal"), "admin", testPassword, " read", nil, InvalidScope},
		{"with an unknown resource", confidential("portal"), "admin", testPassword, "", []string{"https://other.example.com"}, InvalidTarget},
	} {
		t.Run(test.name, func(t *testing.T) {
			response, refused := f.token(t, TokenRequest{
				GrantType: Password, Client: test.client, Username: test.user, Password: test.password,
				Scope: test.scope, Resources: test.resources,
			})
			if test.want != "" {
				wantCode(t, refused, test.want)
				return
			}
			if refused != nil {
				t.Fatal(refused)
			}
			claims := f.claims(t, response.AccessToken)
			wantEqual(t, "sub", claims.Subject, test.user)
			wantEqual(t, "client_id", claims.ClientID, test.client.ClientID)
			if test.resources != nil {
				wantEqual(t, "aud", claims.Audience, test.resources)
			}
			if test.scope == "" {
				test.scope = "default"
			}
			wantEqual(t, "scope", claims.Scopes, []string{test.scope})
		})
	}
}

func TestAResourceNarrowsTheFirstAccessTokenAndNotTheFamily(t *testing.T) {
	f := newFixture(t)
	r := signIn(confidential("portal"), "")
	r.Resources = []string{filesAudience}
	session := f.mustToken(t, r)
	wantEqual(t, "aud", f.claims(t, session.AccessToken).Audience, []string{filesAudience})
	wantEqual(t, "later aud", f.claims(t, f.mustRefresh(t, session.RefreshToken).AccessToken).Audience, []string{apiAudience, filesAudience})
}

func TestAnUnknownUserAndAWrongPasswordCannotBeToldApart(t *testing.T) {
	f := newFixture(t)
	var answers []Error
	var compared []int64
	for _, user := range []string{"admin", "nobody"} {
		before := f.comparer.calls.Load()
		r := signIn(confidential("portal"), "")
		r.Username, r.Password = user, "wrong"
		_, refused := f.token(t, r)
		wantCode(t, refused, InvalidGrant)
		refused.Cause = nil // is never sent
		answers = append(answers, *refused)
		compared = append(compared, f.comparer.calls.Load()-before)
	}
	wantEqual(t, "answer to an unknown user", answers[1], answers[0])
	wantEqual(t, "hashes computed for a wrong password", compared[0], int64(1))
	wantEqual(t, "hashes computed for an unknown user", compared[1], int64(1))
}

func TestGuessingPasswordsIsThrottledPerUserAndAddress(t *testing.T) {
	f := newFixture(t)
	guess := func(user, password string, address netip.Addr) *Error {
		r := signIn(confidential("portal"), "")
		r.Client.Address, r.Username, r.Password = address, user, password
		_, refused := f.token(t, r)
		return refused
	}
	for i := range pairBurst {
		wantCode(t, guess("admin", fmt.Sprint("guess ", i), home), InvalidGrant)
	}
	computed := f.comparer.calls.Load()
	refused := guess("admin", testPassword, home)
	wantUnavailable(t, refused)
	wantEqual(t, "throttled", refused.Throttled, true)
	wantEqual(t, "hashes computed meanwhile", f.comparer.calls.Load(), computed)

	if refused := guess("guest", testPassword, home); refused != nil {
		t.Errorf("another user from there: %v", refused)
	}
	if refused := guess("admin", testPassword, netip.MustParseAddr("192.0.2.2")); refused != nil {
		t.Errorf("the user from elsewhere: %v", refused)
	}
	f.clock.advance(refused.RetryAfter)
	if refused := guess("admin", testPassword, home); refused != nil {
		t.Errorf("after the time that was told: %v", refused)
	}
	wantCode(t, guess("admin", "wrong", home), InvalidGrant)
}
