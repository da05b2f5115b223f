package caddymodule_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"golang.org/x/crypto/bcrypt"

	"github.com/tokengateway/caddy-token-gateway/tokenstore"
)

// secretsSeen are the secrets that a test made use of, by what they are.
type secretsSeen map[string]string

// wantNone fails the test if a text holds one of the secrets. It doesn't show the secret.
func (s secretsSeen) wantNone(t *testing.T, where, text string) {
	t.Helper()
	for what, secret := range s {
		if len(secret) < 8 {
			t.Fatalf("%s is too short to be looked for", what)
		}
		if strings.Contains(text, secret) {
			t.Errorf("%s holds %s", where, what)
		}
	}
}

// addTokens notes an answer's tokens: the parts of them that nobody else may know, in case one is cut or put together.
func (s secretsSeen) addTokens(name string, session tokens) {
	s[name+"'s access token"] = session.access
	s[name+"'s access token's signature"] = session.access[strings.LastIndexByte(session.access, '.')+1:]
	s.addRefreshToken(name, session.refresh)
}

func (s secretsSeen) addRefreshToken(name, token string) {
	s[name+"'s refresh token"] = token
	s[name+"'s refresh token without its prefix"] = strings.TrimPrefix(token, "rt_")
	s[name+"'s refresh token's end"] = token[len(token)-20:]
}

// addMaterial notes a key in the forms in which it could get into a text.
func (s secretsSeen) addMaterial(name string, material []byte) {
	s[name] = string(material)
	s[name+" in hexadecimal"] = hex.EncodeToString(material)
	s[name+" in base64"] = base64.RawStdEncoding.EncodeToString(material)
	s[name+" in base64url"] = base64.RawURLEncoding.EncodeToString(material)
}

const (
	markedSecret    = "MARKER-client-secret"
	markedEnvSecret = "MARKER-secret-from-the-environment"
	markedPassword  = "MARKER-password"
	wrongPassword   = "MARKER-wrong-password"
)

func TestNoSecretIsWrittenAnywhere(t *testing.T) {
	t.Setenv("MARKED_SECRET", markedEnvSecret)
	autosave := caddy.ConfigAutosavePath
	caddy.ConfigAutosavePath = filepath.Join(t.TempDir(), "autosave.json")
	t.Cleanup(func() { caddy.ConfigAutosavePath = autosave })

	g := prepare(t)
	database := g.spy()
	options := strings.Replace(usualOptions, "secret "+clientSecret, "secret "+markedSecret, 1)
	options = strings.Replace(options, `secret "`+otherSecret+`"`, "secret {env.MARKED_SECRET}", 1)
	hash, err := bcrypt.GenerateFromPassword([]byte(markedPassword), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	caddyfile := g.caddyfile(options+"\nuser marked "+string(hash)+"\n", usualSite)
	caddyfile = strings.Replace(caddyfile, "store badger", "store spied", 1)
	caddyfile = strings.Replace(caddyfile, "\tpersist_config off\n", "", 1)
	g.load(caddyfile)

	seen := secretsSeen{
		"the client's secret": markedSecret, "the secret from the environment": markedEnvSecret, "the password": markedPassword, "the wrong password": wrongPassword,
		"the usual client's Basic credentials": encodedBasic(clientID, markedSecret),
		"the other client's Basic credentials": encodedBasic(otherID, markedEnvSecret),
	}
	usual, other := basic(clientID, markedSecret), basic(otherID, markedEnvSecret)
	post := func(path string, form url.Values, header http.Header) answer {
		return g.post("/oauth2/"+path, form, header)
	}

	// A session from its beginning to its end, by both kinds of client, and in both ways to authenticate.
	first := post("token", passwordForm(), usual).tokens(t)
	second := post("token", refreshForm(first.refresh), usual).tokens(t)
	inForm := post("token", with(with(passwordForm(), "client_id", clientID), "client_secret", markedSecret), nil).tokens(t)
	others := post("token", with(with(passwordForm(), "username", "marked"), "password", markedPassword), other).tokens(t)
	for name, session := range map[string]tokens{"the first session": first, "its successor": second, "the session by form": inForm, "the other client": others} {
		seen.addTokens(name, session)
		g.wantGood(t, session.access)
	}
	g.call("/read/x", first.access).wantStatus(t, http.StatusForbidden)
	post("revoke", url.Values{"token": {second.refresh}}, usual).wantStatus(t, http.StatusOK)
	post("revoke", url.Values{"token": {inForm.access}, "token_type_hint": {"access_token"}}, usual).wantStatus(t, http.StatusOK)
	g.wantInvalidToken(t, second.access)

	// A reuse.
	reused := post("token", passwordForm(), usual).tokens(t)
	successor := post("token", refreshForm(reused.refresh), usual).tokens(t)
	seen.addTokens("the reused session", reused)
	seen.addTokens("the reused session's successor", successor)
	post("token", refreshForm(reused.refresh), usual).wantError(t, http.StatusBadRequest, "invalid_grant")
	g.wantInvalidToken(t, successor.access)

	// Everything wrong that holds a secret.
	post("token", with(passwordForm(), "password", wrongPassword), usual).wantError(t, http.StatusBadRequest, "invalid_grant")
	post("token", passwordForm(), basic(clientID, "MARKER-wrong-secret")).wantError(t, http.StatusUnauthorized, "invalid_client")
	seen["the wrong secret"] = "MARKER-wrong-secret"
	seen["the wrong secret's Basic credentials"] = encodedBasic(clientID, "MARKER-wrong-secret")
	post("token", with(passwordForm(), "client_secret", "MARKER-second-secret"), usual).wantError(t, http.StatusBadRequest, "invalid_request")
	seen["the second secret"] = "MARKER-second-secret"
	post("token", refreshForm(others.refresh), usual).wantError(t, http.StatusBadRequest, "invalid_grant")
	forged := others.refresh[:len(others.refresh)-1] + "_"
	post("token", refreshForm(forged), usual).wantError(t, http.StatusBadRequest, "invalid_grant")
	post("token", with(refreshForm(others.refresh), "scope", "admin"), other).wantError(t, http.StatusBadRequest, "invalid_scope")
	g.postBody("/oauth2/token", "refresh_token="+others.refresh+"&refresh_token="+others.refresh, other).wantError(t, http.StatusBadRequest, "invalid_request")
	header := usual.Clone()
	header.Set("Content-Type", "application/json")
	g.postBody("/oauth2/token", `{"refresh_token":"`+others.refresh+`"}`, header).wantError(t, http.StatusBadRequest, "invalid_request")
	for _, authorization := range [][]string{
		{"Bearer " + others.access + "MARKER-appended"}, {"Bearer " + others.refresh}, {others.access}, {"Bearer " + others.access, "Bearer x"},
		{"Bearer " + others.access + "," + others.access},
	} {
		if a := g.do(g.request(http.MethodGet, "/api/x", "", http.Header{"Authorization": authorization})); a.StatusCode == http.StatusOK {
			t.Fatal("a bad Authorization header passed")
		}
	}
	seen["what was appended to a token"] = "MARKER-appended"

	// The same with a store that fails.
	for _, fails := range []interface{ Store(bool) }{&database.reads, &database.writes} {
		fails.Store(true)
		post("token", refreshForm(others.refresh), other).wantError(t, http.StatusServiceUnavailable, "temporarily_unavailable")
		post("revoke", url.Values{"token": {others.refresh}}, other).wantError(t, http.StatusServiceUnavailable, "temporarily_unavailable")
		post("revoke", url.Values{"token": {others.access}}, other).wantError(t, http.StatusServiceUnavailable, "temporarily_unavailable")
		fails.Store(false)
	}

	adapted := string(adapt(t, caddyfile))
	saved, err := os.ReadFile(caddy.ConfigAutosavePath)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(adapted, "{env.MARKED_SECRET}") || !strings.Contains(string(saved), "{env.MARKED_SECRET}") {
		t.Fatal("the placeholder isn't in the configuration: this is not the configuration that was meant")
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	g.openStore(func(store tokenstore.Store) error {
		for name, use := range map[string]tokenstore.KeyUse{"a MAC key": tokenstore.MACKey, "a signing key": tokenstore.SigningKey} {
			keys, err := store.Keys(t.Context(), use)
			if err != nil {
				return err
			}
			if len(keys) == 0 {
				t.Fatalf("the store doesn't hold %s", name)
			}
			for _, key := range keys {
				seen.addMaterial(name, key.Material)
			}
		}
		return nil
	})
	logs := g.logs()
	for _, line := range []string{"handled request", "request refused", "bearer token refused", "it may be stolen", errDisk.Error()} {
		if !strings.Contains(logs, line) {
			t.Fatalf("%q is not in the log: not everything was run through", line)
		}
	}
	seen.wantNone(t, "the log", logs)
	seen.wantNone(t, "the adapted configuration", adapted)
	seen.wantNone(t, "the saved configuration", string(saved))
}

func TestARefusedRequestIsFoundInTheLogByItsID(t *testing.T) {
	g := start(t)
	f := func(form url.Values, header http.Header) answer { return g.post("/oauth2/token", form, header) }
	for _, c := range []struct {
		name, message string
		refused       func() answer
	}{
		{"a wrong secret", "request refused", func() answer { return f(passwordForm(), basic(clientID, "wrong")) }},
		{"a bad refresh token", "request refused", func() answer { return g.refresh("x") }},
		{"no token to revoke", "request refused", func() answer { return g.revoke("") }},
		{"a wrong method", "request refused", func() answer { return g.do(g.request(http.MethodGet, "/oauth2/token", "", nil)) }},
		{"a bad access token", "bearer token refused", func() answer { return g.call("/api/x", "x") }},
		{"no access token", "bearer token refused", func() answer { return g.do(g.request(http.MethodGet, "/api/x", "", nil)) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := c.refused()
			id := a.Header.Get("X-Request-Id")
			if a.StatusCode < 400 || id == "" {
				t.Fatalf("got status %d, request ID %q", a.StatusCode, id)
			}
			awaitUntil(t, "the refusal is in the log", func() bool {
				for line := range strings.Lines(g.logs()) {
					var entry struct {
						Message   string `json:"msg"`
						RequestID string `json:"request_id"`
					}
					if json.Unmarshal([]byte(line), &entry) == nil && entry.RequestID == id {
						return entry.Message == c.message
					}
				}
				return false
			})
		})
	}
}

func TestAReuseIsLoggedWithItsSession(t *testing.T) {
	g := start(t)
	session := g.signIn()
	g.refresh(session.refresh).wantStatus(t, http.StatusOK)
	refused := g.refresh(session.refresh)
	refused.wantError(t, http.StatusBadRequest, "invalid_grant")
	for line := range strings.Lines(g.logs()) {
		var entry map[string]any
		if json.Unmarshal([]byte(line), &entry) != nil || entry["session"] == nil || entry["level"] != "warn" {
			continue
		}
		for name, want := range map[string]any{
			"session": familyOf(t, session).String(), "client": clientID, "subject": userName, "request_id": refused.Header.Get("X-Request-Id"),
		} {
			if entry[name] != want {
				t.Errorf("got %s %v, want %v", name, entry[name], want)
			}
		}
		return
	}
	t.Fatal("no warning tells of the reuse")
}

// encodedBasic is what stands after the scheme in a Basic Authorization header.
func encodedBasic(id, secret string) string {
	return strings.TrimPrefix(basic(id, secret).Get("Authorization"), "Basic ")
}

// The documents tell how to keep a token that a client put into a URL out of the access log.
func TestTheDocumentedFilterKeepsTokensInURLsOutOfTheLog(t *testing.T) {
	const document = "../docs/operating.md"
	content, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	_, filter, found := strings.Cut(string(content), "\t\tformat filter {")
	filter, _, ended := strings.Cut(filter, "\n\t\t}\n")
	if !found || !ended {
		t.Fatalf("%s has no filter", document)
	}
	g := prepare(t)
	caddyfile := g.caddyfile(usualOptions, usualSite)
	g.load(strings.Replace(caddyfile, "\n\tlog\n", "\n\tlog {\n\t\toutput file "+g.logFile+"\n\t\tformat filter {"+filter+"\n\t\t}\n\t}\n", 1))
	for _, name := range []string{"access_token", "refresh_token", "token", "client_secret", "password"} {
		g.do(g.request(http.MethodGet, "/api/x?a=kept&"+name+"=marker-"+name, "", nil)).wantStatus(t, http.StatusUnauthorized)
	}
	logs := g.logs()
	if !strings.Contains(logs, "a=kept") {
		t.Error("the requests are not in the access log")
	}
	for line := range strings.SplitSeq(logs, "\n") {
		if strings.Contains(line, `"handled request"`) && strings.Contains(line, "marker-") {
			t.Errorf("a token is in the access log: %s", line)
		}
	}
}
