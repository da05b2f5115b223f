package caddymodule_test

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/google/uuid"

	"github.com/tokengateway/caddy-token-gateway/tokenstore"
	"github.com/tokengateway/caddy-token-gateway/tokenstore/badger"
)

// hashOfAnotherPassword is a bcrypt hash, of no password that a test uses.
const hashOfAnotherPassword = "$2a$04$WT8GtW6cU8pLUdcrmqHA0.1hDU5ZjmsCIjuXlv2l5j9ZyGZBHyT5G"

// RFC 6749 §6, RFC 9700 §4.14 and OAuth 2.1 §4.3, by the rows of the checklist.
func TestRFCRefresh(t *testing.T) {
	wantUnharmed := func(t *testing.T, g *gateway, session tokens) {
		t.Helper()
		g.wantGood(t, session.access)
		g.refresh(session.refresh).wantStatus(t, http.StatusOK)
	}

	t.Run("row 76: the client is authenticated, before anything is done to the token", func(t *testing.T) {
		g := start(t)
		session := g.signIn()
		for name, header := range map[string]http.Header{
			"a wrong secret": basic(clientID, "wrong"), "no secret": basic(clientID, ""), "an unknown client": basic("stranger", clientSecret),
			"nothing": nil,
		} {
			t.Run(name, func(t *testing.T) {
				g.post("/oauth2/token", refreshForm(session.refresh), header).wantError(t, http.StatusUnauthorized, "invalid_client")
			})
		}
		wantUnharmed(t, g, session)
	})

	t.Run("row 77: the token is bound to its client", func(t *testing.T) {
		g := start(t)
		session := g.signIn()
		g.post("/oauth2/token", refreshForm(session.refresh), basic(otherID, otherSecret)).wantError(t, http.StatusBadRequest, "invalid_grant")
		g.post("/oauth2/token", with(refreshForm(session.refresh), "client_id", publicID), nil).wantError(t, http.StatusBadRequest, "invalid_grant")
		wantUnharmed(t, g, session)

		used := g.signIn()
		current := g.refresh(used.refresh).tokens(t)
		g.post("/oauth2/token", refreshForm(used.refresh), basic(otherID, otherSecret)).wantError(t, http.StatusBadRequest, "invalid_grant")
		wantUnharmed(t, g, current)
	})

	t.Run("row 78: the token is validated", func(t *testing.T) {
		g := start(t)
		session := g.signIn()
		for _, junk := range []string{
			"x", "rt_", "rt_x", session.access, session.refresh + "x", session.refresh + "=", session.refresh[:len(session.refresh)-1],
			" " + session.refresh, session.refresh + "\n", strings.ToUpper(session.refresh), strings.TrimPrefix(session.refresh, "rt_"),
		} {
			g.refresh(junk).wantError(t, http.StatusBadRequest, "invalid_grant")
		}
		g.token(url.Values{"grant_type": {"refresh_token"}}).wantError(t, http.StatusBadRequest, "invalid_request")
		wantUnharmed(t, g, session)
	})

	t.Run("row 79: the authorization is still active", func(t *testing.T) {
		for name, change := range map[string]func(options string) string{
			"the user is gone": func(options string) string {
				return strings.Replace(options, "user "+userName+" ", "user somebody-else ", 1)
			},
			"the user's password has changed": func(options string) string {
				return strings.Replace(options, userHash, hashOfAnotherPassword, 1)
			},
			"the client may no longer refresh": func(options string) string {
				return options + "\ndisable_grant_types refresh_token\n"
			},
		} {
			t.Run(name, func(t *testing.T) {
				g := start(t)
				session := g.signIn()
				g.restart(g.caddyfile(change(usualOptions), usualSite), nil)
				if answer := g.refresh(session.refresh); answer.StatusCode != http.StatusBadRequest {
					t.Fatalf("got status %d, body %s", answer.StatusCode, answer.body)
				}
				g.restart(g.caddyfile(usualOptions, usualSite), nil) // it was refused, and is no worse for it
				g.refresh(session.refresh).wantStatus(t, http.StatusOK)
			})
		}
	})

	t.Run("row 80: the scope is within the original", func(t *testing.T) {
		g := start(t)
		session := g.token(with(passwordForm(), "scope", "default read")).tokens(t)
		for _, scope := range []string{"write", "read write", "admin", "Read", "read\"", "read  default", "read,default"} {
			g.token(with(refreshForm(session.refresh), "scope", scope)).wantError(t, http.StatusBadRequest, "invalid_scope")
		}
		answer := g.token(with(refreshForm(session.refresh), "scope", "read"))
		if got := answer.text(t, "scope"); got != "read" || claimsOf(t, answer.tokens(t).access)["scope"] != "read" {
			t.Fatalf("got scope %q, want read", got)
		}
	})

	t.Run("row 81: no scope means the original", func(t *testing.T) {
		g := start(t)
		session := g.token(with(passwordForm(), "scope", "write default")).tokens(t)
		if got := g.refresh(session.refresh).text(t, "scope"); got != "write default" {
			t.Fatalf("got scope %q, want the granted one", got)
		}
	})

	t.Run("row 82: the new refresh token keeps the original scope", func(t *testing.T) {
		g := start(t)
		session := g.token(with(passwordForm(), "scope", "default read write")).tokens(t)
		narrowed := g.token(with(refreshForm(session.refresh), "scope", "read")).tokens(t)
		if got := g.refresh(narrowed.refresh).text(t, "scope"); got != "default read write" {
			t.Fatalf("got scope %q, want the granted one", got)
		}
	})

	t.Run("row 83: the resource is within what was consented", func(t *testing.T) {
		const first, second = "https://first.example.com", "https://second.example.com"
		g := startWith(t, usualOptions+"\naccess_token {\naudience "+first+" "+second+"\n}\n", usualSite)
		session := g.signIn()
		g.token(with(refreshForm(session.refresh), "resource", "https://third.example.com")).wantError(t, http.StatusBadRequest, "invalid_target")
		narrowed := g.token(with(refreshForm(session.refresh), "resource", second)).tokens(t)
		if got := claimsOf(t, narrowed.access)["aud"]; got != second {
			t.Fatalf("got audience %v, want %s", got, second)
		}
		all, _ := claimsOf(t, g.refresh(narrowed.refresh).tokens(t).access)["aud"].([]any)
		if len(all) != 2 {
			t.Fatalf("got audience %v, want both", all)
		}
	})

	t.Run("row 84: the tokens of a public client rotate", func(t *testing.T) {
		g := start(t)
		public := func(form url.Values) answer {
			return g.post("/oauth2/token", with(form, "client_id", publicID), nil)
		}
		first := public(passwordForm()).tokens(t)
		second := public(refreshForm(first.refresh)).tokens(t)
		if second.refresh == first.refresh || second.refresh == "" {
			t.Fatal("the refresh token did not rotate")
		}
		public(refreshForm(first.refresh)).wantError(t, http.StatusBadRequest, "invalid_grant")
		public(refreshForm(second.refresh)).wantError(t, http.StatusBadRequest, "invalid_grant")
		g.wantInvalidToken(t, second.access)
	})

	t.Run("row 85: the family stays the same, and every sign-in begins another", func(t *testing.T) {
		g := start(t)
		first := g.signIn()
		second := g.refresh(first.refresh).tokens(t)
		third := g.refresh(second.refresh).tokens(t)
		family := familyOf(t, first)
		if familyOf(t, second) != family || familyOf(t, third) != family {
			t.Fatal("a refresh changed the family")
		}
		if familyOf(t, g.signIn()) == family {
			t.Fatal("two sign-ins share a family")
		}
	})

	t.Run("row 86: reuse revokes the active token and the grant", func(t *testing.T) {
		for generations := 1; generations <= 3; generations++ {
			g := start(t)
			sessions := []tokens{g.signIn()}
			for range generations {
				sessions = append(sessions, g.refresh(sessions[len(sessions)-1].refresh).tokens(t))
			}
			bystander := g.signIn()
			g.refresh(sessions[0].refresh).wantError(t, http.StatusBadRequest, "invalid_grant")
			for _, session := range sessions {
				g.wantInvalidToken(t, session.access)
				g.refresh(session.refresh).wantError(t, http.StatusBadRequest, "invalid_grant")
			}
			wantUnharmed(t, g, bystander)
		}
	})

	t.Run("row 86: within the grace window the same successor is given again, and the window ends when that is used", func(t *testing.T) {
		g := startWith(t, usualOptions+"\nrefresh_token {\nreuse_grace 60s\n}\n", usualSite)
		first := g.signIn()
		second := g.refresh(first.refresh).tokens(t)
		again := g.refresh(first.refresh).tokens(t)
		if again.refresh != second.refresh {
			t.Fatal("the family forked")
		}
		third := g.refresh(second.refresh).tokens(t)
		g.refresh(first.refresh).wantError(t, http.StatusBadRequest, "invalid_grant")
		for _, access := range []string{first.access, second.access, again.access, third.access} {
			g.wantInvalidToken(t, access)
		}
	})

	t.Run("row 87: a refresh token expires when it isn't used, and at the latest when its family does", func(t *testing.T) {
		for name, expire := range map[string]func(*tokenstore.Family){
			"idle":     func(f *tokenstore.Family) { f.IdleExpiry = time.Now().Add(-time.Second) },
			"absolute": func(f *tokenstore.Family) { f.AbsoluteExpiry = time.Now().Add(-time.Second) },
		} {
			t.Run(name, func(t *testing.T) {
				g := start(t)
				expired, other := g.signIn(), g.signIn()
				g.changeStore(func(store tokenstore.Store) error {
					family, err := store.Family(t.Context(), familyOf(t, expired))
					if err != nil {
						return err
					}
					changed := *family
					expire(&changed)
					return store.RotateFamily(t.Context(), family, &changed)
				})
				g.refresh(expired.refresh).wantError(t, http.StatusBadRequest, "invalid_grant")
				g.wantGood(t, expired.access) // the access token has its own expiry
				wantUnharmed(t, g, other)
			})
		}
	})

	t.Run("row 88: a session ends by logout", func(t *testing.T) {
		g := start(t)
		session := g.signIn()
		g.revoke(session.refresh).wantStatus(t, http.StatusOK)
		g.refresh(session.refresh).wantError(t, http.StatusBadRequest, "invalid_grant")
		g.wantInvalidToken(t, session.access)
	})

	t.Run("row 88: a session ends when its user changes the password", func(t *testing.T) {
		g := start(t)
		session := g.signIn()
		g.restart(g.caddyfile(strings.Replace(usualOptions, userHash, hashOfAnotherPassword, 1), usualSite), nil)
		g.refresh(session.refresh).wantError(t, http.StatusBadRequest, "invalid_grant")
	})

	for name, revocation := range map[string]tokenstore.Revocation{
		"the user's":   {Kind: tokenstore.RevokedSubject, Name: userName},
		"the client's": {Kind: tokenstore.RevokedClient, Name: clientID},
	} {
		t.Run("row 88: all sessions end that an administrator has ended: "+name, func(t *testing.T) {
			g := start(t)
			sessions := []tokens{g.signIn(), g.signIn()}
			g.changeStore(func(store tokenstore.Store) error {
				revocation.IssuedUpTo, revocation.ExpiresAt = time.Now(), time.Now().Add(time.Hour)
				return store.Revoke(t.Context(), revocation)
			})
			for _, session := range sessions {
				g.wantInvalidToken(t, session.access)
				g.refresh(session.refresh).wantError(t, http.StatusBadRequest, "invalid_grant")
			}
			wantUnharmed(t, g, g.signIn())
		})
	}

	t.Run("row 90: a refresh token can't be forged, whatever is known of a family", func(t *testing.T) {
		g := start(t)
		first := g.signIn()
		current := g.refresh(first.refresh).tokens(t)
		raw := decodeSegment(t, strings.TrimPrefix(current.refresh, "rt_"))
		for i := range raw {
			forged := append([]byte(nil), raw...)
			forged[i] ^= 1
			g.refresh("rt_"+encodeSegment(string(forged))).wantError(t, http.StatusBadRequest, "invalid_grant")
		}
		// An old generation of the family, with a secret and a tag that somebody made up.
		family := familyOf(t, current)
		guessed := append([]byte{raw[0], raw[1]}, family[:]...)
		guessed = append(guessed, make([]byte, len(raw)-len(guessed))...)
		g.refresh("rt_"+encodeSegment(string(guessed))).wantError(t, http.StatusBadRequest, "invalid_grant")
		wantUnharmed(t, g, current)
	})
}

// familyOf returns the family that a session's access token names.
func familyOf(t *testing.T, session tokens) uuid.UUID {
	t.Helper()
	sid, _ := claimsOf(t, session.access)["sid"].(string)
	family, err := uuid.Parse(sid)
	if err != nil {
		t.Fatalf("sid %q: %v", sid, err)
	}
	return family
}

// changeStore stops Caddy, changes what its store remembers, and runs Caddy with the usual configuration again.
func (g *gateway) changeStore(change func(tokenstore.Store) error) {
	g.t.Helper()
	g.restart(g.caddyfile(usualOptions, usualSite), func() { g.openStore(change) })
}

// restart stops Caddy, does something in between unless that is nil, and runs Caddy with a Caddyfile.
func (g *gateway) restart(caddyfile string, between func()) {
	g.t.Helper()
	awaitEnd := g.watchServer()
	if err := caddy.Stop(); err != nil {
		g.t.Fatal(err)
	}
	awaitEnd()
	if between != nil {
		between()
	}
	g.load(caddyfile)
}

// openStore opens the store that Caddy has let go of.
func (g *gateway) openStore(use func(tokenstore.Store) error) {
	g.t.Helper()
	store, err := badger.Open(badger.Options{Directory: g.store})
	if err != nil {
		g.t.Fatal(err)
	}
	if err := errors.Join(use(store), store.Close()); err != nil {
		g.t.Fatal(err)
	}
}
