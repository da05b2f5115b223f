package caddymodule_test

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tokengateway/caddy-token-gateway/tokenstore"
)

// RFC 7009, by the rows of the checklist.
func TestRFCRevocation(t *testing.T) {
	key := newForgingKey(t)
	g, f := startForging(t, key)
	const path = "/oauth2/revoke"
	usual := basic(clientID, clientSecret)
	wantEnded := func(t *testing.T, session tokens) {
		t.Helper()
		g.wantInvalidToken(t, session.access)
		g.refresh(session.refresh).wantError(t, http.StatusBadRequest, "invalid_grant")
	}
	wantUnharmed := func(t *testing.T, session tokens) {
		t.Helper()
		g.wantGood(t, session.access)
		g.refresh(session.refresh).wantStatus(t, http.StatusOK)
	}

	t.Run("row 91: the request is a POST of a form", func(t *testing.T) {
		session := g.signIn()
		form := url.Values{"token": {session.refresh}}
		for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete} {
			a := g.do(g.request(method, path+"?"+form.Encode(), "", usual))
			a.wantError(t, http.StatusMethodNotAllowed, "invalid_request")
			if got := a.Header.Get("Allow"); got != http.MethodPost {
				t.Fatalf("got Allow %q, want POST", got)
			}
		}
		header := usual.Clone()
		header.Set("Content-Type", "application/json")
		g.postBody(path, `{"token":"`+session.refresh+`"}`, header).wantError(t, http.StatusBadRequest, "invalid_request")
		g.post(path+"?"+form.Encode(), nil, usual).wantError(t, http.StatusBadRequest, "invalid_request")
		wantUnharmed(t, session)
	})

	t.Run("row 92: a client with a secret authenticates, before anything is done to the token", func(t *testing.T) {
		session := g.signIn()
		form := url.Values{"token": {session.refresh}}
		for _, header := range []http.Header{nil, basic(clientID, "wrong"), basic("stranger", clientSecret)} {
			g.post(path, form, header).wantError(t, http.StatusUnauthorized, "invalid_client")
		}
		g.post(path, with(form, "client_id", clientID), nil).wantError(t, http.StatusUnauthorized, "invalid_client")
		wantUnharmed(t, session)
	})

	t.Run("row 92: a client with a secret may also send it in the form", func(t *testing.T) {
		session := g.signIn()
		wantRevocationDone(t, g.post(path, url.Values{"token": {session.refresh}, "client_id": {clientID}, "client_secret": {clientSecret}}, nil))
		wantEnded(t, session)
	})

	t.Run("row 92: a public client says who it is", func(t *testing.T) {
		session := g.post("/oauth2/token", with(passwordForm(), "client_id", publicID), nil).tokens(t)
		g.post(path, url.Values{"token": {session.refresh}}, nil).wantError(t, http.StatusUnauthorized, "invalid_client")
		g.wantGood(t, session.access)
		wantRevocationDone(t, g.post(path, url.Values{"token": {session.refresh}, "client_id": {publicID}}, nil))
		g.wantInvalidToken(t, session.access)
	})

	t.Run("row 93: a token of another client is answered as an unknown one, and unharmed", func(t *testing.T) {
		session := g.signIn()
		unknown := g.post(path, url.Values{"token": {"unknown"}}, basic(otherID, otherSecret))
		for _, token := range []string{session.refresh, session.access} {
			a := g.post(path, url.Values{"token": {token}}, basic(otherID, otherSecret))
			wantRevocationDone(t, a)
			wantSameHeaders(t, a, unknown)
			wantRevocationDone(t, g.post(path, url.Values{"token": {token}, "client_id": {publicID}}, nil))
		}
		wantUnharmed(t, session)
	})

	t.Run("row 94: a request without a token is invalid", func(t *testing.T) {
		for _, form := range []url.Values{{}, {"token": {""}}, {"token_type_hint": {"refresh_token"}}} {
			g.post(path, form, usual).wantError(t, http.StatusBadRequest, "invalid_request")
		}
	})

	t.Run("row 95: an unknown token is answered 200", func(t *testing.T) {
		session := g.signIn()
		for _, token := range []string{"unknown", "rt_unknown", "a.b.c", session.refresh + "x", session.access + "x", strings.Repeat("x", 20000), "\x00\r\n", "é"} {
			wantRevocationDone(t, g.revoke(token))
		}
		wantUnharmed(t, session)
	})

	t.Run("row 95: a revoked token is answered 200, as an unknown one is", func(t *testing.T) {
		session := g.signIn()
		wantRevocationDone(t, g.revoke(session.refresh))
		unknown := g.revoke("unknown")
		for _, token := range []string{session.refresh, session.access} {
			again := g.revoke(token)
			wantRevocationDone(t, again)
			wantSameHeaders(t, again, unknown)
		}
	})

	t.Run("row 95: an expired access token is answered 200", func(t *testing.T) {
		wantRevocationDone(t, g.revoke(f.token(claimChanges{"exp": time.Now().Unix() - 10})))
	})

	t.Run("row 96: a wrong hint still finds the token", func(t *testing.T) {
		session := g.signIn()
		wantRevocationDone(t, g.post(path, url.Values{"token": {session.refresh}, "token_type_hint": {"access_token"}}, usual))
		wantEnded(t, session)
		session = g.signIn()
		wantRevocationDone(t, g.post(path, url.Values{"token": {session.access}, "token_type_hint": {"refresh_token"}}, usual))
		wantEnded(t, session)
	})

	t.Run("row 97: an unknown hint is ignored", func(t *testing.T) {
		for _, hint := range []string{"id_token", "REFRESH_TOKEN", "x", ""} {
			session := g.signIn()
			wantRevocationDone(t, g.post(path, url.Values{"token": {session.refresh}, "token_type_hint": {hint}}, usual))
			wantEnded(t, session)
		}
	})

	t.Run("row 98: with a refresh token of whatever generation, its access tokens die", func(t *testing.T) {
		for generation := range 3 {
			sessions := []tokens{g.signIn()}
			for range 2 {
				sessions = append(sessions, g.refresh(sessions[len(sessions)-1].refresh).tokens(t))
			}
			bystander := g.signIn()
			a := g.revoke(sessions[generation].refresh)
			wantRevocationDone(t, a)
			for name, want := range map[string]string{
				"RevokedAccessToken":  claimsOf(t, sessions[2].access)["jti"].(string),
				"RevokedRefreshToken": sessions[generation].refresh,
				"AuthorizedUser":      userName,
			} {
				if got := a.Header.Get(name); got != want {
					t.Fatalf("got %s %q, want %q", name, got, want)
				}
			}
			for _, session := range sessions {
				wantEnded(t, session)
			}
			wantUnharmed(t, bystander)
		}
	})

	t.Run("row 99: with an access token, its family dies", func(t *testing.T) {
		first := g.signIn()
		second := g.refresh(first.refresh).tokens(t)
		a := g.revoke(first.access)
		wantRevocationDone(t, a)
		if got, want := a.Header.Get("RevokedRefreshToken"), familyOf(t, first).String(); got != want {
			t.Fatalf("got RevokedRefreshToken %q, want the family's ID", got)
		}
		wantEnded(t, first)
		wantEnded(t, second)
	})

	t.Run("row 99: also with one that has expired", func(t *testing.T) {
		session := g.signIn()
		expired := f.token(claimChanges{"exp": time.Now().Unix() - 10, "sid": familyOf(t, session).String()})
		g.wantInvalidToken(t, expired)
		wantRevocationDone(t, g.revoke(expired))
		wantEnded(t, session)
	})

	t.Run("row 99: an access token without a family dies alone", func(t *testing.T) {
		form := url.Values{"grant_type": {"client_credentials"}}
		one, two := g.token(form).tokens(t).access, g.token(form).tokens(t).access
		a := g.revoke(one)
		wantRevocationDone(t, a)
		if got := a.Header.Get("RevokedAccessToken"); got != claimsOf(t, one)["jti"] || a.Header.Get("RevokedRefreshToken") != "" {
			t.Fatalf("got headers %v", a.Header)
		}
		g.wantInvalidToken(t, one)
		g.wantGood(t, two)
	})

	t.Run("row 100: at once: each of 50 sessions is dead when its revocation is answered", func(t *testing.T) {
		var sessions sync.WaitGroup
		var alive atomic.Int64
		for range 50 {
			session := g.signIn()
			sessions.Go(func() {
				done := g.revoke(session.refresh).StatusCode == http.StatusOK
				if !done || g.call("/api/x", session.access).StatusCode != http.StatusUnauthorized {
					alive.Add(1)
				}
			})
		}
		sessions.Wait()
		if alive.Load() != 0 {
			t.Fatalf("%d sessions outlived their revocation", alive.Load())
		}
	})

	t.Run("row 105: a public client's scripts may call it from its origin", func(t *testing.T) {
		const origin = "https://app.example.com"
		preflight := g.do(g.request(http.MethodOptions, path, "", http.Header{
			"Origin": {origin}, "Access-Control-Request-Method": {"POST"}, "Access-Control-Request-Headers": {"authorization"},
		}))
		preflight.wantStatus(t, http.StatusNoContent)
		if got := preflight.Header.Get("Access-Control-Allow-Methods"); got != http.MethodPost {
			t.Fatalf("got methods %q", got)
		}
		session := g.post("/oauth2/token", with(passwordForm(), "client_id", publicID), nil).tokens(t)
		form := url.Values{"token": {session.refresh}, "client_id": {publicID}}
		for _, a := range []answer{preflight, g.post(path, form, http.Header{"Origin": {origin}})} {
			if got := a.Header.Get("Access-Control-Allow-Origin"); got != origin {
				t.Fatalf("got allowed origin %q, want %s", got, origin)
			}
		}
		g.wantInvalidToken(t, session.access)
	})

	t.Run("row 105: scripts from elsewhere, or as another client, can't read the answer", func(t *testing.T) {
		for _, a := range []answer{
			g.post(path, url.Values{"token": {"x"}, "client_id": {publicID}}, http.Header{"Origin": {"https://evil.example.com"}}),
			g.post(path, url.Values{"token": {"x"}, "client_id": {clientID}, "client_secret": {clientSecret}}, http.Header{"Origin": {"https://app.example.com"}}),
			g.do(g.request(http.MethodOptions, path, "", http.Header{
				"Origin": {"https://evil.example.com"}, "Access-Control-Request-Method": {"POST"},
			})),
		} {
			if got := a.Header.Get("Access-Control-Allow-Origin"); got != "" {
				t.Fatalf("got allowed origin %q, want none", got)
			}
		}
	})
}

func TestRFCRevocationOfAnExpiredRefreshToken(t *testing.T) {
	t.Run("row 95: an expired refresh token is answered 200, and its session ends", func(t *testing.T) {
		g := start(t)
		session := g.signIn()
		g.changeStore(func(store tokenstore.Store) error {
			family, err := store.Family(t.Context(), familyOf(t, session))
			if err != nil {
				return err
			}
			expired := *family
			expired.IdleExpiry = time.Now().Add(-time.Second)
			return store.RotateFamily(t.Context(), family, &expired)
		})
		wantRevocationDone(t, g.revoke(session.refresh))
		g.wantInvalidToken(t, session.access)
	})
}

func TestRFCRevocationWithAFailingStore(t *testing.T) {
	unavailable := func(t *testing.T, a answer) {
		t.Helper()
		a.wantError(t, http.StatusServiceUnavailable, "temporarily_unavailable")
		if seconds, err := strconv.Atoi(a.Header.Get("Retry-After")); err != nil || seconds < 1 {
			t.Fatalf("got Retry-After %q, want seconds", a.Header.Get("Retry-After"))
		}
	}
	for name, of := range map[string]func(*spiedDatabase) *atomic.Bool{
		"reading": func(d *spiedDatabase) *atomic.Bool { return &d.reads },
		"writing": func(d *spiedDatabase) *atomic.Bool { return &d.writes },
	} {
		t.Run("row 103: when "+name+" fails the answer is 503 with Retry-After, and nothing is half done", func(t *testing.T) {
			g, database := startOnSpiedStore(t, usualOptions)
			fails := of(database)
			first := g.signIn()
			used := g.signIn()
			current := g.refresh(used.refresh).tokens(t)

			fails.Store(true)
			unavailable(t, g.refresh(first.refresh))
			unavailable(t, g.refresh(used.refresh)) // a reuse that can't be punished
			unavailable(t, g.revoke(first.refresh))
			unavailable(t, g.revoke(first.access))
			if name == "writing" {
				unavailable(t, g.token(passwordForm()))
			}
			for _, access := range []string{first.access, used.access, current.access} {
				g.wantGood(t, access) // no revocation was answered 200, so none took place
			}

			fails.Store(false)
			second := g.refresh(first.refresh).tokens(t)
			g.refresh(current.refresh).wantStatus(t, http.StatusOK)
			g.revoke(second.refresh).wantStatus(t, http.StatusOK)
			g.wantInvalidToken(t, first.access)
			g.wantInvalidToken(t, second.access)
			g.refresh(used.refresh).wantError(t, http.StatusBadRequest, "invalid_grant")
			g.wantInvalidToken(t, current.access)
		})
	}
}

// wantRevocationDone fails the test unless the answer is the one of RFC 7009 §2.2.
func wantRevocationDone(t *testing.T, a answer) {
	t.Helper()
	a.wantStatus(t, http.StatusOK)
	if len(a.body) != 0 || a.Header.Get("Content-Type") != "application/json" || a.Header.Get("Content-Length") != "0" {
		t.Fatalf("got headers %v and body %q, want an empty body", a.Header, a.body)
	}
}

// wantSameHeaders fails the test if the two answers can be told apart by anything but when they were given.
func wantSameHeaders(t *testing.T, a, b answer) {
	t.Helper()
	for _, header := range []http.Header{a.Header, b.Header} {
		for _, name := range []string{"Date", "X-Request-Id"} {
			header.Del(name)
		}
	}
	if len(a.Header) != len(b.Header) {
		t.Fatalf("got headers %v, want %v", a.Header, b.Header)
	}
	for name := range a.Header {
		if a.Header.Get(name) != b.Header.Get(name) {
			t.Fatalf("got %s %q, want %q", name, a.Header.Get(name), b.Header.Get(name))
		}
	}
}
