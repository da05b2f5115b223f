package grants

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/tokengateway/caddy-token-gateway/accesstoken"
	"github.com/tokengateway/caddy-token-gateway/tokenstore"
)

func TestARefreshTokenOfAnyGenerationRevokesItsFamily(t *testing.T) {
	for _, test := range []struct {
		name       string
		generation int
		wait       time.Duration
	}{
		{"the current one", 3, 0},
		{"the one before", 2, 0},
		{"the very first", 0, 0},
		{"the current one, long expired", 3, 2 * day},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t)
			chain := []*TokenResponse{f.signIn(t)}
			for range 3 {
				chain = append(chain, f.mustRefresh(t, chain[len(chain)-1].RefreshToken))
			}
			newest := f.claims(t, chain[3].AccessToken)
			f.clock.advance(test.wait)
			bystander := f.signIn(t)
			presented := chain[test.generation].RefreshToken

			wantEqual(t, "result", f.revoke(t, presented), RevocationResult{
				AccessToken: newest.TokenID, RefreshToken: presented, Subject: "admin",
			})
			for _, response := range chain {
				f.wantRefused(t, response.RefreshToken)
				if test.wait == 0 {
					f.wantRevoked(t, response.AccessToken)
				}
			}
			if f.family(t, presented) != nil {
				t.Error("the family is still there")
			}
			f.wantEvents(t) // nobody has misused anything
			f.wantGood(t, bystander.AccessToken)
			f.mustRefresh(t, bystander.RefreshToken)
		})
	}
}

func TestAnAccessTokenRevokesItsFamily(t *testing.T) {
	for _, test := range []struct {
		name   string
		newest bool
		wait   time.Duration
	}{
		{"the newest one", true, 0},
		{"an earlier one", false, 0},
		{"one that has expired", false, 2 * time.Hour},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t)
			first := f.signIn(t)
			f.clock.advance(test.wait)
			second := f.mustRefresh(t, first.RefreshToken)
			claims := f.claims(t, second.AccessToken)
			presented := first.AccessToken
			if test.newest {
				presented = second.AccessToken
			}
			wantEqual(t, "result", f.revoke(t, presented), RevocationResult{
				AccessToken: claims.TokenID, RefreshToken: claims.FamilyID, Subject: "admin",
			})
			f.wantRevoked(t, second.AccessToken)
			f.wantRefused(t, second.RefreshToken)
			f.wantRefused(t, first.RefreshToken)
		})
	}
}

func TestAnAccessTokenWithoutAFamilyRevokesItselfOnly(t *testing.T) {
	f := newFixture(t)
	r := TokenRequest{Client: confidential("portal"), GrantType: ClientCredentials}
	one, other := f.mustToken(t, r), f.mustToken(t, r)
	session := f.signIn(t)
	wantEqual(t, "result", f.revoke(t, one.AccessToken), RevocationResult{
		AccessToken: f.authentic(one.AccessToken).TokenID, Subject: "portal",
	})
	f.wantRevoked(t, one.AccessToken)
	f.wantGood(t, other.AccessToken, session.AccessToken)
	wantEqual(t, "revocations", f.store.Revocations().Len(), 1)
}

// authentic returns the claims of an access token that may be revoked or expired.
func (f *fixture) authentic(token string) *accesstoken.Claims {
	claims, err := f.server.verifier.Authentic(token, f.server.PublicKeys())
	if err != nil {
		panic(err)
	}
	return claims
}

func TestAnAccessTokenWhoseFamilyIsForgottenRevokesItself(t *testing.T) {
	f := newFixture(t)
	session := f.signIn(t)
	// A second gateway with the same keys whose store has lost the family.
	g := restored(t, f, &tokenstore.Family{ID: uuid.Must(uuid.NewV7()), IdleExpiry: f.clock.now().Add(day)})
	wantEqual(t, "result", g.revoke(t, session.AccessToken), RevocationResult{
		AccessToken: g.authentic(session.AccessToken).TokenID, Subject: "admin",
	})
	g.wantRevoked(t, session.AccessToken)
}

func TestAHintOnlyChoosesWhatIsTriedFirst(t *testing.T) {
	for _, hint := range []string{"", "refresh_token", "access_token", "id_token", "REFRESH_TOKEN"} {
		t.Run("hint "+hint, func(t *testing.T) {
			f := newFixture(t)
			for _, kind := range []string{"refresh token", "access token"} {
				session := f.signIn(t)
				token := session.RefreshToken
				if kind == "access token" {
					token = session.AccessToken
				}
				result, client, refused := f.server.Revoke(t.Context(), RevocationRequest{
					Client: confidential("portal"), Token: token, Hint: hint,
				})
				if refused != nil {
					t.Fatal(refused)
				}
				wantEqual(t, "client", client.ID, "portal")
				wantEqual(t, "subject of the "+kind, result.Subject, "admin")
				f.wantRevoked(t, session.AccessToken)
				f.wantRefused(t, session.RefreshToken)
			}
		})
	}
}

func TestATokenThatCannotBeRevokedIsNoErrorAndHarmsNobody(t *testing.T) {
	f := newFixture(t)
	session := f.signIn(t)
	appToken := f.mustToken(t, TokenRequest{Client: confidential("portal"), GrantType: ClientCredentials})
	forged := macKey{id: 1, key: make([]byte, 32)}.formatRefreshToken(f.parse(t, session.RefreshToken))
	gone := f.server.keyring.keys.Load().mac.formatRefreshToken(refreshToken{family: uuid.Must(uuid.NewV7())})
	for _, test := range []struct {
		name   string
		client ClientAuthentication
		token  string
	}{
		{"junk", confidential("portal"), "junk"},
		{"the family's ID", confidential("portal"), f.claims(t, session.AccessToken).FamilyID},
		{"a forged refresh token", confidential("portal"), forged},
		{"a refresh token whose family is gone", confidential("portal"), gone},
		{"an access token with another signature", confidential("portal"), session.AccessToken[:len(session.AccessToken)-8] + "AAAAAAAA"},
		{"another client's refresh token", confidential("rival"), session.RefreshToken},
		{"another client's access token", confidential("rival"), session.AccessToken},
		{"another client's access token without a family", confidential("rival"), appToken.AccessToken},
		{"a confidential client's refresh token, by a public one", ClientAuthentication{ClientID: "spa"}, session.RefreshToken},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, hint := range []string{"refresh_token", "access_token"} {
				result, _, refused := f.server.Revoke(t.Context(), RevocationRequest{Client: test.client, Token: test.token, Hint: hint})
				if refused != nil {
					t.Fatal(refused)
				}
				wantEqual(t, "result", result, RevocationResult{})
			}
		})
	}
	wantEqual(t, "revocations", f.store.Revocations().Len(), 0)
	f.wantGood(t, session.AccessToken, appToken.AccessToken)
	f.mustRefresh(t, session.RefreshToken)
}

func TestRevokingAgainIsNoErrorAndTellsNothing(t *testing.T) {
	f := newFixture(t)
	session := f.signIn(t)
	app := f.mustToken(t, TokenRequest{Client: confidential("portal"), GrantType: ClientCredentials})
	f.revoke(t, session.RefreshToken)
	f.revoke(t, app.AccessToken)
	for _, token := range []string{session.RefreshToken, session.AccessToken, app.AccessToken} {
		wantEqual(t, "result", f.revoke(t, token), RevocationResult{})
	}
	wantEqual(t, "revocations", f.store.Revocations().Len(), 2)
}

func TestAnExpiredAccessTokenWithoutAFamilyIsNotRecorded(t *testing.T) {
	f := newFixture(t)
	app := f.mustToken(t, TokenRequest{Client: confidential("portal"), GrantType: ClientCredentials})
	f.clock.advance(time.Hour)
	wantEqual(t, "result", f.revoke(t, app.AccessToken), RevocationResult{})
	wantEqual(t, "revocations", f.store.Revocations().Len(), 0)
}

func TestARevocationRequestIsCheckedBeforeItsToken(t *testing.T) {
	f := newFixture(t)
	session := f.signIn(t)
	for _, test := range []struct {
		name    string
		request RevocationRequest
		want    Code
	}{
		{"no token", RevocationRequest{Client: confidential("portal")}, InvalidRequest},
		{"a wrong secret", RevocationRequest{Client: ClientAuthentication{ClientID: "portal", Secret: "wrong"}, Token: session.RefreshToken}, InvalidClient},
		{"a confidential client without its secret", RevocationRequest{Client: ClientAuthentication{ClientID: "portal"}, Token: session.RefreshToken}, InvalidClient},
		{"no client", RevocationRequest{Token: session.RefreshToken}, InvalidClient},
		{"an unknown client and no token", RevocationRequest{Client: confidential("nobody")}, InvalidClient},
	} {
		t.Run(test.name, func(t *testing.T) {
			result, _, refused := f.server.Revoke(t.Context(), test.request)
			wantCode(t, refused, test.want)
			wantEqual(t, "result", result, RevocationResult{})
		})
	}
	f.mustRefresh(t, session.RefreshToken)
}

func TestAPublicClientRevokesItsOwnTokens(t *testing.T) {
	f := newFixture(t)
	spa := ClientAuthentication{ClientID: "spa"}
	session := f.mustToken(t, signIn(spa, ""))
	result, _, refused := f.server.Revoke(t.Context(), RevocationRequest{Client: spa, Token: session.RefreshToken})
	if refused != nil {
		t.Fatal(refused)
	}
	wantEqual(t, "subject", result.Subject, "admin")
	f.wantRevoked(t, session.AccessToken)
}

func TestARevocationThatCannotBeRecordedIsNotAnsweredAsOne(t *testing.T) {
	for _, method := range []string{"Family", "Revoke"} {
		for _, kind := range []string{"refresh token", "access token", "access token without a family"} {
			if method == "Family" && kind == "access token without a family" {
				continue // has none to read
			}
			t.Run(method+" fails for a "+kind, func(t *testing.T) {
				f := newFixture(t)
				session := f.signIn(t)
				app := f.mustToken(t, TokenRequest{Client: confidential("portal"), GrantType: ClientCredentials})
				token := map[string]string{
					"refresh token": session.RefreshToken, "access token": session.AccessToken,
					"access token without a family": app.AccessToken,
				}[kind]
				f.store.failOn(method)
				result, _, refused := f.server.Revoke(t.Context(), RevocationRequest{Client: confidential("portal"), Token: token})
				wantUnavailable(t, refused)
				wantEqual(t, "result", result, RevocationResult{})
				f.store.failOn("")
				f.wantGood(t, session.AccessToken, app.AccessToken)
				f.mustRefresh(t, session.RefreshToken)
				f.revoke(t, token)
				_, err := f.server.CheckAccessToken(app.AccessToken, nil)
				wantEqual(t, "whether the token without a family is revoked", err != nil, kind == "access token without a family")
			})
		}
	}
}

func TestARevocationOutlivesItsTokensAndIsThenForgotten(t *testing.T) {
	clock, directory := newTestClock(), filepath.Join(t.TempDir(), "store")
	store := openStore(t, directory, clock.now)
	f := newFixtureOn(t, clock, store)
	session := f.signIn(t)
	app := f.mustToken(t, TokenRequest{Client: confidential("portal"), GrantType: ClientCredentials})
	f.revoke(t, session.RefreshToken)
	f.revoke(t, app.AccessToken)

	// A second before the access tokens expire the store is opened again.
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	clock.advance(time.Hour - time.Second)
	reopened := openStore(t, directory, clock.now)
	f = newFixtureOn(t, clock, reopened)
	reopened.Revocations().Sweep(clock.now().Add(time.Second + revocationMargin))
	f.wantRevoked(t, session.AccessToken, app.AccessToken)
	f.wantRefused(t, session.RefreshToken)

	reopened.Revocations().Sweep(clock.now().Add(time.Second + revocationMargin + time.Millisecond))
	wantEqual(t, "revocations", reopened.Revocations().Len(), 0)
	clock.advance(time.Second)
	for _, token := range []string{session.AccessToken, app.AccessToken} {
		_, err := f.server.CheckAccessToken(token, nil)
		wantEqual(t, "reason", reason(err), accesstoken.Expired)
	}
}

func TestARevocationOfAFamilyCoversTokensThatARolledBackStoreNeverKnew(t *testing.T) {
	f := newFixture(t)
	first := f.signIn(t)
	record := f.family(t, first.RefreshToken)
	f.clock.advance(50 * time.Minute)
	second := f.mustRefresh(t, first.RefreshToken)
	g := restored(t, f, record)
	g.revoke(t, first.RefreshToken)
	f.clock.advance(59 * time.Minute)
	g.store.Revocations().Sweep(f.clock.now())
	g.wantRevoked(t, second.AccessToken)
}
