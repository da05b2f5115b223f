package caddymodule_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/google/uuid"
	"golang.org/x/crypto/bcrypt"

	"github.com/tokengateway/caddy-token-gateway/tokenstore"
	"github.com/tokengateway/caddy-token-gateway/tokenstore/badger"
)

// Rows 41 to 58 and 71 to 75 of the checklist: what the token endpoint answers (RFC 6749 §5, §10), and its grants of
// client credentials and of passwords (§4.3, §4.4).

func TestRFCTokenSuccess(t *testing.T) {
	g := start(t)
	cases := []struct {
		name      string
		form      url.Values
		scope     string
		refreshed bool // whether there is a refresh token
	}{
		{"a password", passwordForm(), "default", true},
		{"a password, with a scope", with(passwordForm(), "scope", "write read"), "write read", true},
		{"a password, with a scope twice", with(passwordForm(), "scope", "read read"), "read", true},
		{"client credentials", url.Values{"grant_type": {"client_credentials"}}, "default", false},
		{"a refresh", refreshForm(g.signIn().refresh), "default", true},
		{"a refresh for less", with(refreshForm(g.token(with(passwordForm(), "scope", "read write")).tokens(t).refresh),
			"scope", "read"), "read", true},
	}
	for _, test := range cases {
		a := g.token(test.form)
		t.Run("rows 41 and 42: "+test.name+" is answered 200 with JSON", func(t *testing.T) {
			a.wantStatus(t, http.StatusOK)
			if got := a.Header.Values("Content-Type"); !slices.Equal(got, []string{"application/json"}) {
				t.Errorf("got Content-Type %q", got)
			}
			if got := a.Header.Get("Content-Length"); got != strconv.Itoa(len(a.body)) {
				t.Errorf("got Content-Length %q for %d bytes", got, len(a.body))
			}
		})
		t.Run("rows 43 and 44: "+test.name+" gives an access_token of type Bearer", func(t *testing.T) {
			if got := a.text(t, "token_type"); got != "Bearer" {
				t.Errorf("got token_type %q", got)
			}
			g.call("/api/", a.text(t, "access_token")).wantStatus(t, http.StatusOK)
		})
		t.Run("row 45: after "+test.name+" expires_in is a JSON number and agrees with exp", func(t *testing.T) {
			var members struct {
				ExpiresIn json.RawMessage `json:"expires_in"`
			}
			if err := json.Unmarshal(a.body, &members); err != nil {
				t.Fatal(err)
			}
			if string(members.ExpiresIn) != "3600" {
				t.Errorf("got expires_in %s, want the number 3600", members.ExpiresIn)
			}
			claims := claimsIn(t, a.text(t, "access_token"))
			if life := claims["exp"].(float64) - claims["iat"].(float64); life != 3600 {
				t.Errorf("exp is %v seconds after iat", life)
			}
		})
		t.Run("row 46: after "+test.name+" the scope is told", func(t *testing.T) {
			if got := a.text(t, "scope"); got != test.scope {
				t.Errorf("got scope %q, want %q", got, test.scope)
			}
			if got := claimsIn(t, a.text(t, "access_token"))["scope"]; got != test.scope {
				t.Errorf("the token has scope %q, want %q", got, test.scope)
			}
		})
		t.Run("rows 47 and 48: the answer to "+test.name+" is not to be stored", func(t *testing.T) { wantUnstored(t, a) })
		t.Run("row 49: the tokens of "+test.name+" are visible ASCII", func(t *testing.T) {
			refresh := a.text(t, "refresh_token")
			if (refresh != "") != test.refreshed {
				t.Errorf("got refresh_token %q", refresh)
			}
			if token := a.text(t, "access_token") + refresh; strings.ContainsFunc(token, func(c rune) bool { return c < 0x21 || c > 0x7e }) {
				t.Errorf("got %q", token)
			}
		})
	}
}

func TestRFCTokenEntropy(t *testing.T) {
	g := start(t)
	t.Run("row 50: a refresh token's secret has 192 random bits", func(t *testing.T) {
		const tokens = 64 // a fair bit is the same in all of them once in 2^63 times
		var ones, zeros [24]byte
		seen := make(map[string]bool)
		token := g.signIn().refresh
		for range tokens {
			_, secret := insideRefreshToken(t, token)
			if len(secret) != len(ones) || seen[string(secret)] {
				t.Fatalf("the secret %x has %d bytes or was given before", secret, len(secret))
			}
			seen[string(secret)] = true
			for i, b := range secret {
				ones[i] |= b
				zeros[i] |= ^b
			}
			token = g.refresh(token).tokens(t).refresh
		}
		for i := range ones {
			if ones[i]&zeros[i] != 0xff {
				t.Errorf("byte %d of the secret has bits that are always the same: ones %08b, zeros %08b", i, ones[i], zeros[i])
			}
		}
	})
	t.Run("row 50: no two access tokens have one jti", func(t *testing.T) {
		seen := make(map[any]bool)
		for range 32 {
			jti := claimsIn(t, g.token(url.Values{"grant_type": {"client_credentials"}}).tokens(t).access)["jti"]
			if seen[jti] || jti == nil {
				t.Fatalf("jti %v is missing or was given before", jti)
			}
			seen[jti] = true
		}
	})
}

func TestRFCTokenAtRest(t *testing.T) {
	const name, password = "erika", "correct horse battery staple"
	options := usualOptions + "\nuser " + name + " " + hashOf(t, password, bcrypt.MinCost)
	for _, grace := range []string{"0s", "60s"} {
		t.Run("row 51: with a grace of "+grace+" the store alone yields no secret", func(t *testing.T) {
			g := startWith(t, options+"\nrefresh_token {\nreuse_grace "+grace+"\n}", usualSite)
			form := url.Values{"grant_type": {"password"}, "username": {name}, "password": {password}}
			first := g.token(form).tokens(t)
			second := g.refresh(first.refresh).tokens(t)
			needles := map[string][]byte{
				"the client's secret": []byte(clientSecret), "the other client's secret": []byte(otherSecret),
				"the password": []byte(password),
			}
			for which, token := range map[string]tokens{"first": first, "second": second} {
				_, secret := insideRefreshToken(t, token.refresh)
				needles["the "+which+" refresh token"] = []byte(token.refresh[len("rt_"):])
				needles["the "+which+" access token"] = []byte(token.access)
				needles["the signature of the "+which+" access token"] = []byte(token.access[strings.LastIndexByte(token.access, '.'):])
				needles["the "+which+" secret"] = secret
				needles["the "+which+" secret in base64"] = []byte(base64.RawStdEncoding.EncodeToString(secret))
				needles["the "+which+" secret in base64url"] = []byte(base64.RawURLEncoding.EncodeToString(secret))
				needles["the "+which+" secret in hexadecimal"] = []byte(hex.EncodeToString(secret))
				needles["the "+which+" secret in upper-case hexadecimal"] = []byte(strings.ToUpper(hex.EncodeToString(secret)))
			}
			// What has to be there shows that the search finds things.
			_, current := insideRefreshToken(t, second.refresh)
			hash := sha256.Sum256(current)
			search := func(when string) {
				t.Helper()
				files := filesBelow(t, g.store)
				if !contains(files, hash[:]) || !contains(files, []byte(name)) {
					t.Fatalf("%s: the family's record is not in the store's %d files", when, len(files))
				}
				for what, needle := range needles {
					if contains(files, needle) {
						t.Errorf("%s: %s is in the store's files", when, what)
					}
				}
			}
			search("while Caddy runs")
			if err := caddy.Stop(); err != nil {
				t.Fatal(err)
			}
			search("after Caddy has stopped")
		})
	}
}

func TestRFCTokenErrorForm(t *testing.T) {
	g := start(t)
	unauthorized := http.Header{"Authorization": {`Digest "täst"`}}
	good := basic(clientID, clientSecret)
	cases := []struct {
		name, path, body string
		header           http.Header
		status           int
		code             string
	}{
		{"no grant type", "token", "", good, 400, "invalid_request"},
		{"a parameter twice", "token", "scope=a&scope=b", good, 400, "invalid_request"},
		{"a value that is not UTF-8", "token", "scope=%FF", good, 400, "invalid_request"},
		{"an unknown grant type", "token", "grant_type=%22%5C%C3%A4", good, 400, "unsupported_grant_type"},
		{"no client", "token", "grant_type=password", nil, 401, "invalid_client"},
		{"a wrong secret", "token", "grant_type=password", basic(clientID, `wrong"\`), 401, "invalid_client"},
		{"another scheme", "token", "grant_type=password", unauthorized, 401, "invalid_client"},
		{"a wrong password", "token", "grant_type=password&username=%22%C3%A4&password=%5C", good, 400, "invalid_grant"},
		{"a junk refresh token", "token", "grant_type=refresh_token&refresh_token=%22%C3%A4%5C", good, 400, "invalid_grant"},
		{"a scope out of reach", "token", "grant_type=client_credentials&scope=admin", good, 400, "invalid_scope"},
		{"a malformed scope", "token", "grant_type=client_credentials&scope=%22%C3%A4%5C", good, 400, "invalid_scope"},
		{"a resource out of reach", "token", "grant_type=client_credentials&resource=%22%C3%A4%5C", good, 400, "invalid_target"},
		{"a grant that is not the client's", "token", "grant_type=client_credentials&client_id=" + publicID, nil, 400, "unauthorized_client"},
		{"no token to revoke", "revoke", "", good, 400, "invalid_request"},
		{"no client to revoke for", "revoke", "token=x", nil, 401, "invalid_client"},
		{"a wrong secret to revoke with", "revoke", "token=x", basic(clientID, "wrong"), 401, "invalid_client"},
	}
	for _, test := range cases {
		a := g.postBody("/oauth2/"+test.path, test.body, test.header)
		t.Run("rows 52 and 53: "+test.name+" is answered "+strconv.Itoa(test.status)+" with a JSON error", func(t *testing.T) {
			a.wantError(t, test.status, test.code)
			if got := a.Header.Values("Content-Type"); !slices.Equal(got, []string{"application/json"}) {
				t.Errorf("got Content-Type %q", got)
			}
			if got := a.json(t); len(got) != 2 {
				t.Errorf("got members %v, want error and error_description only", got)
			}
		})
		t.Run("row 54: "+test.name+" is described in the characters that the RFC allows", func(t *testing.T) {
			for _, text := range []string{a.text(t, "error"), a.text(t, "error_description")} {
				if text == "" || strings.ContainsFunc(text, func(c rune) bool { return c < 0x20 || c > 0x7e || c == '"' || c == '\\' }) {
					t.Errorf("got %q", text)
				}
			}
		})
		t.Run("row 55: the answer to "+test.name+" is not to be stored", func(t *testing.T) { wantUnstored(t, a) })
	}
}

func TestRFCTokenInvalidGrant(t *testing.T) {
	const successor = "erika"
	g := prepare(t)
	usual := g.caddyfile(usualOptions, usualSite)
	g.reload(usual)
	// Each case spoils a refresh token of the usual client in its own way, and returns it.
	cases := []struct {
		name  string
		spoil func(token string) string
	}{
		{"junk", func(string) string { return "junk" }},
		{"an empty envelope", func(string) string { return "rt_" }},
		{"one with another tag", func(token string) string { return flip(t, token, -1) }},
		{"one with another secret", func(token string) string { return flip(t, token, 30) }},
		{"one with another family", func(token string) string { return flip(t, token, 10) }},
		{"one that was cut", func(token string) string { return token[:len(token)-1] }},
		{"one with a line break in it", func(token string) string { return token[:20] + "\n" + token[20:] }},
		{"one without its prefix", func(token string) string { return strings.TrimPrefix(token, "rt_") }},
		{"an access token", func(string) string { return g.signIn().access }},
		{"one that was revoked", func(token string) string {
			g.revoke(token).wantStatus(t, http.StatusOK)
			return token
		}},
		{"one that was used", func(token string) string {
			g.refresh(token).wantStatus(t, http.StatusOK)
			return token
		}},
		{"the successor of one that was used twice", func(token string) string {
			next := g.refresh(token).tokens(t).refresh
			g.refresh(token).wantStatus(t, http.StatusBadRequest)
			return next
		}},
		{"another client's", func(string) string {
			return g.post("/oauth2/token", passwordForm(), basic(otherID, otherSecret)).tokens(t).refresh
		}},
		{"a public client's", func(string) string {
			return g.post("/oauth2/token", with(passwordForm(), "client_id", publicID), nil).tokens(t).refresh
		}},
		{"one that was not used for too long", func(token string) string {
			g.rewriteFamily(usual, token, func(f *tokenstore.Family) { f.IdleExpiry = time.Now().Add(-time.Second) })
			return token
		}},
		{"one of a session that is too old", func(token string) string {
			g.rewriteFamily(usual, token, func(f *tokenstore.Family) { f.AbsoluteExpiry = time.Now().Add(-time.Second) })
			return token
		}},
		{"one whose user has another password", func(token string) string {
			g.reload(strings.ReplaceAll(usual, userHash, hashOf(t, "another", bcrypt.MinCost)))
			return token
		}},
		{"one whose user is gone", func(token string) string {
			g.reload(strings.ReplaceAll(usual, "user "+userName+" ", "user "+successor+" "))
			return token
		}},
	}
	var first []byte
	for _, test := range cases {
		t.Run("row 56: a refresh token that is "+test.name+" is an invalid_grant like every other", func(t *testing.T) {
			g.reload(usual)
			a := g.refresh(test.spoil(g.signIn().refresh))
			a.wantError(t, http.StatusBadRequest, "invalid_grant")
			if first == nil {
				first = a.body
			}
			if !bytes.Equal(a.body, first) {
				t.Errorf("got %s, but %s for the first of them", a.body, first)
			}
		})
	}
	t.Run("row 56: an unknown user and a wrong password are one invalid_grant", func(t *testing.T) {
		g.reload(usual)
		unknown := g.token(with(passwordForm(), "username", "nobody"))
		wrong := g.token(with(passwordForm(), "password", "wrong"))
		unknown.wantError(t, http.StatusBadRequest, "invalid_grant")
		if !bytes.Equal(unknown.body, wrong.body) || unknown.StatusCode != wrong.StatusCode {
			t.Errorf("got %s and %s", unknown.body, wrong.body)
		}
	})
}

func TestRFCTokenInvalidScope(t *testing.T) {
	g := start(t)
	scopes := map[string]string{
		"one that nobody has":         "admin",
		"one of several":              "read admin",
		"one in another case":         "Read",
		"the beginning of one":        "rea",
		"two spaces between":          "read  write",
		"a space in front":            " read",
		"a space behind":              "read ",
		"a tab between":               "read\twrite",
		"a line break between":        "read\nwrite",
		"a comma between":             "read,write",
		"a quote":                     `re"ad`,
		"a backslash":                 `re\ad`,
		"a control character":         "read\x01",
		"a NUL":                       "read\x00",
		"a letter that is not ASCII":  "réad",
		"a letter that only looks so": "rеad", // Cyrillic
		"DEL":                         "read\x7f",
	}
	granted := g.token(with(passwordForm(), "scope", "read write")).tokens(t)
	for name, scope := range scopes {
		for _, form := range []url.Values{passwordForm(), {"grant_type": {"client_credentials"}}, refreshForm(granted.refresh)} {
			t.Run("row 57: "+name+" is an invalid_scope for "+form.Get("grant_type"), func(t *testing.T) {
				g.token(with(form, "scope", scope)).wantError(t, http.StatusBadRequest, "invalid_scope")
			})
		}
	}
	t.Run("row 57: no such request uses up the refresh token", func(t *testing.T) {
		g.refresh(granted.refresh).wantStatus(t, http.StatusOK)
	})
}

func TestRFCTokenEchoesNothing(t *testing.T) {
	const marker = "MaRkEr7Q"
	g := start(t)
	good := basic(clientID, clientSecret)
	password := url.Values{"grant_type": {"password"}}
	cases := []struct {
		name, path string
		form       url.Values
		header     http.Header
	}{
		{"a grant type", "token", url.Values{"grant_type": {marker}}, good},
		{"a user name", "token", with(passwordForm(), "username", marker), good},
		{"a password", "token", with(passwordForm(), "password", marker), good},
		{"a scope", "token", with(passwordForm(), "scope", marker), good},
		{"a malformed scope", "token", with(passwordForm(), "scope", marker+`"`), good},
		{"a resource", "token", with(passwordForm(), "resource", marker), good},
		{"a refresh token", "token", refreshForm(marker), good},
		{"a refresh token that looks right", "token", refreshForm("rt_" + marker), good},
		{"a client", "token", password, basic(marker, "x")},
		{"a client's secret", "token", password, basic(clientID, marker)},
		{"a client in the body", "token", with(password, "client_id", marker), nil},
		{"a secret in the body", "token", url.Values{"grant_type": {"password"}, "client_id": {clientID}, "client_secret": {marker}}, nil},
		{"a client_id that contradicts", "token", with(password, "client_id", marker), good},
		{"a second secret", "token", with(password, "client_secret", marker), good},
		{"an assertion", "token", url.Values{"grant_type": {"password"}, "client_assertion": {marker}, "client_assertion_type": {marker}}, nil},
		{"a parameter twice", "token", url.Values{"grant_type": {marker, marker}}, good},
		{"a parameter's name", "token", url.Values{marker: {marker}}, good},
		{"an authentication scheme", "token", password, http.Header{"Authorization": {marker + " " + marker}}},
		{"a Content-Type", "token", password, http.Header{"Content-Type": {marker + "/" + marker}}},
		{"an origin", "token", password, http.Header{"Origin": {"https://" + marker + ".example.com"}}},
		{"a request ID", "token", password, http.Header{"X-Request-Id": {marker}}},
		{"a secret at the revocation endpoint", "revoke", url.Values{"token": {marker}}, basic(clientID, marker)},
		{"a client at the revocation endpoint", "revoke", url.Values{"token": {marker}}, basic(marker, marker)},
		{"a token and its hint", "revoke", url.Values{"token": {marker}, "token_type_hint": {marker}}, good},
		{"two tokens", "revoke", url.Values{"token": {marker, marker}}, good},
	}
	for _, test := range cases {
		t.Run("row 58: "+test.name+" is not echoed", func(t *testing.T) {
			a := g.post("/oauth2/"+test.path, test.form, test.header)
			if a.StatusCode == http.StatusOK && test.path == "token" {
				t.Fatalf("got %s, want an error", a.body)
			}
			if answer := fmt.Sprint(a.Header) + string(a.body); strings.Contains(strings.ToLower(answer), strings.ToLower(marker)) {
				t.Errorf("got headers %v, body %s", a.Header, a.body)
			}
		})
	}
	t.Run("row 58: nothing secret is logged either", func(t *testing.T) {
		secrets := map[string]string{
			"a wrong password": "LoGgEd-password", "a wrong secret": "LoGgEd-secret", "a wrong token": "LoGgEd-token",
		}
		g.token(with(passwordForm(), "password", secrets["a wrong password"])).wantStatus(t, http.StatusBadRequest)
		g.post("/oauth2/token", password, basic(clientID, secrets["a wrong secret"])).wantStatus(t, http.StatusUnauthorized)
		g.refresh(secrets["a wrong token"]).wantStatus(t, http.StatusBadRequest)
		g.revoke(secrets["a wrong token"]).wantStatus(t, http.StatusOK)
		session := g.signIn()
		next := g.refresh(session.refresh).tokens(t)
		g.revoke(next.refresh).wantStatus(t, http.StatusOK)
		secrets["the client's secret"] = clientSecret
		secrets["an access token"], secrets["a refresh token"] = session.access, session.refresh
		secrets["the revoked refresh token"] = next.refresh
		secrets["the Authorization header"] = strings.TrimPrefix(good.Get("Authorization"), "Basic ")
		logs := g.logs()
		if !strings.Contains(logs, "/oauth2/revoke") {
			t.Fatalf("the log does not have the requests: %s", logs)
		}
		for what, secret := range secrets {
			if strings.Contains(logs, secret) {
				t.Errorf("%s is in the log", what)
			}
		}
	})
}

func TestRFCTokenClientCredentials(t *testing.T) {
	g := start(t)
	form := url.Values{"grant_type": {"client_credentials"}}
	t.Run("row 71: a public client gets nothing by client credentials", func(t *testing.T) {
		g.post("/oauth2/token", with(form, "client_id", publicID), nil).wantError(t, http.StatusBadRequest, "unauthorized_client")
	})
	t.Run("row 71: a public client that lists client_credentials is refused at load", func(t *testing.T) {
		err := adaptError(t, g.caddyfile("client leaky {\npublic\ngrant_types client_credentials\n}", usualSite))
		if err == nil || !strings.Contains(err.Error(), "client_credentials") {
			t.Errorf("got error %v", err)
		}
	})
	t.Run("row 71: a confidential client that does not authenticate gets nothing", func(t *testing.T) {
		g.post("/oauth2/token", with(form, "client_id", clientID), nil).wantError(t, http.StatusUnauthorized, "invalid_client")
	})
	t.Run("row 72: there is no refresh token, though the client may refresh", func(t *testing.T) {
		a := g.token(form)
		a.wantStatus(t, http.StatusOK)
		if token, there := a.json(t)["refresh_token"]; there {
			t.Errorf("got refresh_token %v", token)
		}
		if sid, there := claimsIn(t, a.text(t, "access_token"))["sid"]; there {
			t.Errorf("the access token belongs to the session %v", sid)
		}
	})
	t.Run("row 73: the token says that it speaks for a client", func(t *testing.T) {
		machine := claimsIn(t, g.token(form).tokens(t).access)
		if machine["sub"] != clientID || machine["aut"] != "APPLICATION" {
			t.Errorf("got sub %v, aut %v", machine["sub"], machine["aut"])
		}
		person := claimsIn(t, g.signIn().access)
		if person["sub"] != userName || person["aut"] != "APPLICATION_USER" {
			t.Errorf("got sub %v, aut %v for a user", person["sub"], person["aut"])
		}
	})
	t.Run("row 73: nothing that the client sends makes it somebody else", func(t *testing.T) {
		asUser := url.Values{"grant_type": {"client_credentials"}, "username": {userName}, "password": {userPassword}, "sub": {userName}}
		if got := claimsIn(t, g.token(asUser).tokens(t).access)["sub"]; got != clientID {
			t.Errorf("got sub %v", got)
		}
	})
	t.Run("row 73: a client with the name of a user is refused at load", func(t *testing.T) {
		err := adaptError(t, g.caddyfile(usualOptions+"client "+userName+" {\nsecret x\ngrant_types client_credentials\n}", usualSite))
		if err == nil || !strings.Contains(err.Error(), userName) {
			t.Errorf("got error %v", err)
		}
	})
}

func TestRFCTokenPassword(t *testing.T) {
	g := startWith(t, usualOptions+`
		client browser {
			secret `+clientSecret+`
			grant_types refresh_token client_credentials
		}`, usualSite)
	t.Run("row 74: a client that does not list password can't use it", func(t *testing.T) {
		g.post("/oauth2/token", passwordForm(), basic("browser", clientSecret)).
			wantError(t, http.StatusBadRequest, "unauthorized_client")
	})
	t.Run("row 74: nor can it find out by that whether a password is right", func(t *testing.T) {
		right := g.post("/oauth2/token", passwordForm(), basic("browser", clientSecret))
		wrong := g.post("/oauth2/token", with(passwordForm(), "password", "wrong"), basic("browser", clientSecret))
		if right.StatusCode != wrong.StatusCode || !bytes.Equal(right.body, wrong.body) {
			t.Errorf("got %s and %s", right.body, wrong.body)
		}
	})
	t.Run("row 74: a client that lists it can", func(t *testing.T) {
		g.token(passwordForm()).wantStatus(t, http.StatusOK)
	})
}

func TestRFCTokenThrottle(t *testing.T) {
	const failures = 20
	g := prepare(t)
	// Requests say where they come from as they would behind a load balancer.
	g.load(withServers(g.caddyfile(usualOptions+"\nuser erika "+userHash, usualSite), "trusted_proxies static 127.0.0.1"))
	signIn := func(address, name, password string) answer {
		header := basic(clientID, clientSecret)
		header.Set("X-Forwarded-For", address)
		return g.post("/oauth2/token", url.Values{"grant_type": {"password"}, "username": {name}, "password": {password}}, header)
	}
	const attacker, home, flood, bystander = "198.51.100.1", "198.51.100.2", "198.51.100.3", "198.51.100.4"
	t.Run("row 75: a user is throttled after 20 failures from an address", func(t *testing.T) {
		n := untilThrottled(t, 2*failures, "invalid_grant", func(int) answer { return signIn(attacker, userName, "wrong") })
		if n < failures {
			t.Errorf("throttled after %d failures, want %d", n, failures)
		}
		wantThrottled(t, signIn(attacker, userName, userPassword))
	})
	t.Run("row 75: another user can sign in from there", func(t *testing.T) {
		signIn(attacker, "erika", userPassword).wantStatus(t, http.StatusOK)
	})
	t.Run("row 75: the user can sign in from elsewhere", func(t *testing.T) {
		signIn(home, userName, userPassword).wantStatus(t, http.StatusOK)
	})
	t.Run("row 75: clients can still authenticate from there", func(t *testing.T) {
		header := basic(clientID, clientSecret)
		header.Set("X-Forwarded-For", attacker)
		g.post("/oauth2/token", url.Values{"grant_type": {"client_credentials"}}, header).wantStatus(t, http.StatusOK)
	})
	t.Run("row 75: a name that nobody has is throttled like a user", func(t *testing.T) {
		n := untilThrottled(t, 2*failures, "invalid_grant", func(int) answer { return signIn(attacker, "nobody", "wrong") })
		if n < failures {
			t.Errorf("throttled after %d failures, want %d", n, failures)
		}
	})
	t.Run("row 75: a success forgets the failures", func(t *testing.T) {
		for range 3 {
			for range failures - 1 {
				signIn(home, userName, "wrong").wantError(t, http.StatusBadRequest, "invalid_grant")
			}
			signIn(home, userName, userPassword).wantStatus(t, http.StatusOK)
		}
	})
	t.Run("row 75: an address is throttled after 200 failures, whatever the names", func(t *testing.T) {
		n := untilThrottled(t, 1000, "invalid_grant", func(i int) answer { return signIn(flood, "user"+strconv.Itoa(i), "wrong") })
		if n < 200 {
			t.Errorf("throttled after %d failures, want 200", n)
		}
		signIn(bystander, userName, userPassword).wantStatus(t, http.StatusOK)
	})
}

// untilThrottled repeats an attempt that fails with 400 until it is throttled, and returns how often it failed before.
func untilThrottled(t *testing.T, most int, code string, attempt func(int) answer) int {
	t.Helper()
	for i := range most {
		a := attempt(i)
		if a.StatusCode == http.StatusTooManyRequests {
			wantThrottled(t, a)
			return i
		}
		if got := a.text(t, "error"); got != code {
			t.Fatalf("got %s, want %s", a.body, code)
		}
	}
	t.Fatalf("not throttled after %d failures", most)
	return most
}

func wantThrottled(t *testing.T, a answer) {
	t.Helper()
	a.wantError(t, http.StatusTooManyRequests, "temporarily_unavailable")
	wantRetryAfter(t, a)
}

// wantRetryAfter fails the test unless the answer says in whole seconds when to try again.
func wantRetryAfter(t *testing.T, a answer) {
	t.Helper()
	if seconds, err := strconv.Atoi(a.Header.Get("Retry-After")); err != nil || seconds < 1 {
		t.Errorf("got Retry-After %q, want seconds", a.Header.Get("Retry-After"))
	}
}

// wantUnstored fails the test unless the answer forbids everybody to keep it.
func wantUnstored(t *testing.T, a answer) {
	t.Helper()
	if got := a.Header.Values("Cache-Control"); !slices.Equal(got, []string{"no-store"}) {
		t.Errorf("got Cache-Control %q", got)
	}
	if got := a.Header.Values("Pragma"); !slices.Equal(got, []string{"no-cache"}) {
		t.Errorf("got Pragma %q", got)
	}
}

// claimsIn returns a token's claims. Nothing is verified.
func claimsIn(t *testing.T, token string) map[string]any {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("%q is not a JWT", token)
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	claims := make(map[string]any)
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	return claims
}

// insideRefreshToken returns the parts of a refresh token that tests look at.
func insideRefreshToken(t *testing.T, token string) (family uuid.UUID, secret []byte) {
	t.Helper()
	decoded, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(token, "rt_"))
	if err != nil || len(decoded) != 62 || !strings.HasPrefix(token, "rt_") {
		t.Fatalf("%q is not a refresh token of 62 bytes: %v", token, err)
	}
	return uuid.UUID(decoded[2:18]), decoded[22:46]
}

// flip returns a refresh token with one bit changed, in the byte at an index; -1 is the last one.
func flip(t *testing.T, token string, index int) string {
	t.Helper()
	decoded, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(token, "rt_"))
	if err != nil {
		t.Fatal(err)
	}
	decoded[(index+len(decoded))%len(decoded)] ^= 1
	return "rt_" + base64.RawURLEncoding.EncodeToString(decoded)
}

// rewriteFamily stops Caddy, changes the record of a refresh token's family, and starts Caddy again.
func (g *gateway) rewriteFamily(caddyfile, token string, change func(*tokenstore.Family)) {
	g.t.Helper()
	id, _ := insideRefreshToken(g.t, token)
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	if err := caddy.Stop(); err != nil {
		g.t.Fatal(err)
	}
	store, err := badger.Open(badger.Options{Directory: g.store})
	if err != nil {
		g.t.Fatal(err)
	}
	family, err := store.Family(g.t.Context(), id)
	if err == nil {
		changed := *family
		change(&changed)
		err = store.RotateFamily(g.t.Context(), family, &changed)
	}
	if err := errors.Join(err, store.Close()); err != nil {
		g.t.Fatal(err)
	}
	g.load(caddyfile)
}

// filesBelow returns the content of every file in a directory and below.
func filesBelow(t *testing.T, directory string) [][]byte {
	t.Helper()
	var contents [][]byte
	err := filepath.WalkDir(directory, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		contents = append(contents, content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return contents
}

func contains(files [][]byte, needle []byte) bool {
	return slices.ContainsFunc(files, func(content []byte) bool { return bytes.Contains(content, needle) })
}

// adaptError returns what is wrong with a Caddyfile.
func adaptError(t *testing.T, caddyfile string) error {
	t.Helper()
	_, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), map[string]any{"filename": "Caddyfile"})
	return err
}

// withServers returns a Caddyfile with the global option servers.
func withServers(caddyfile, options string) string {
	return strings.Replace(caddyfile, "admin off", "admin off\n\tservers {\n\t\t"+options+"\n\t}", 1)
}
