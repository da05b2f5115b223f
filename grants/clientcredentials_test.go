package grants

import (
	"testing"
	"time"
)

func TestTheClientCredentialsGrant(t *testing.T) {
	f := newFixture(t)
	for _, test := range []struct {
		name         string
		client       ClientAuthentication
		scope        string
		resources    []string
		want         Code // empty for success
		wantScopes   []string
		wantAudience []string
		wantLife     time.Duration
	}{
		{name: "without a scope gives the client's first", client: confidential("portal"),
			wantScopes: []string{"default"}, wantAudience: []string{apiAudience, filesAudience}, wantLife: time.Hour},
		{name: "gives the scopes that were asked for", client: confidential("portal"), scope: "write read",
			wantScopes: []string{"write", "read"}, wantAudience: []string{apiAudience, filesAudience}, wantLife: time.Hour},
		{name: "is narrowed to a resource", client: confidential("portal"), resources: []string{apiAudience},
			wantScopes: []string{"default"}, wantAudience: []string{apiAudience}, wantLife: time.Hour},
		{name: "uses the client's own lifetime and audience", client: confidential("brief"),
			wantScopes: []string{"default"}, wantAudience: []string{briefAudience}, wantLife: 10 * time.Minute},
		{name: "refuses an unknown scope", client: confidential("portal"), scope: "unknown", want: InvalidScope},
		{name: "refuses a malformed scope", client: confidential("portal"), scope: "read\twrite", want: InvalidScope},
		{name: "refuses a foreign resource", client: confidential("portal"), resources: []string{briefAudience}, want: InvalidTarget},
		{name: "refuses a client that may not", client: confidential("rival"), want: UnauthorizedClient},
		{name: "refuses a wrong secret", client: ClientAuthentication{ClientID: "portal", Secret: "wrong"}, want: InvalidClient},
		{name: "refuses a client without its secret", client: ClientAuthentication{ClientID: "portal"}, want: InvalidClient},
	} {
		t.Run(test.name, func(t *testing.T) {
			calls := f.store.calls.Load()
			response, refused := f.token(t, TokenRequest{
				GrantType: ClientCredentials, Client: test.client, Scope: test.scope, Resources: test.resources,
			})
			wantEqual(t, "calls of the store", f.store.calls.Load(), calls)
			if test.want != "" {
				wantCode(t, refused, test.want)
				return
			}
			if refused != nil {
				t.Fatal(refused)
			}
			wantEqual(t, "refresh token", response.RefreshToken, "") // RFC 6749 §4.4.3
			wantEqual(t, "lifetime", response.ExpiresIn, test.wantLife)
			wantEqual(t, "scopes", response.Scopes, test.wantScopes)
			claims := f.claims(t, response.AccessToken)
			wantEqual(t, "sub", claims.Subject, test.client.ClientID)
			wantEqual(t, "client_id", claims.ClientID, test.client.ClientID)
			wantEqual(t, "aut", claims.UserType, "APPLICATION")
			wantEqual(t, "sid", claims.FamilyID, "")
			wantEqual(t, "scope", claims.Scopes, test.wantScopes)
			wantEqual(t, "aud", claims.Audience, test.wantAudience)
			wantEqual(t, "exp", claims.Expiry.UTC(), f.clock.now().Add(test.wantLife))
		})
	}
}
