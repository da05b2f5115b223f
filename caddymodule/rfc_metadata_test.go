package caddymodule_test

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
)

const metadataURL = "/.well-known/oauth-authorization-server"

// RFC 8414, by the rows of the checklist.
func TestRFCMetadata(t *testing.T) {
	g := start(t)
	get := func(path string) answer { return g.do(g.request(http.MethodGet, path, "", nil)) }
	document := get(metadataURL)

	t.Run("row 135: the document is at the well-known path", func(t *testing.T) {
		document.wantStatus(t, http.StatusOK)
		get("/oauth2"+metadataURL).wantStatus(t, http.StatusNotFound)
	})

	t.Run("row 136: the issuer is the configured one", func(t *testing.T) {
		if got := document.text(t, "issuer"); got != g.url {
			t.Fatalf("got issuer %q, want %q", got, g.url)
		}
	})

	t.Run("row 137: the token endpoint is where it says", func(t *testing.T) {
		endpoint := document.text(t, "token_endpoint")
		path, ours := strings.CutPrefix(endpoint, g.url)
		if !ours {
			t.Fatalf("got token endpoint %q", endpoint)
		}
		g.post(path, passwordForm(), basic(clientID, clientSecret)).wantStatus(t, http.StatusOK)
	})

	t.Run("row 138: response_types_supported says that there are none", func(t *testing.T) {
		if got := textsIn(t, document, "response_types_supported"); !slices.Equal(got, []string{"none"}) {
			t.Fatalf("got %q", got)
		}
	})

	t.Run("row 139: the revocation endpoint is where it says", func(t *testing.T) {
		endpoint := document.text(t, "revocation_endpoint")
		path, ours := strings.CutPrefix(endpoint, g.url)
		if !ours {
			t.Fatalf("got revocation endpoint %q", endpoint)
		}
		session := g.signIn()
		g.post(path, map[string][]string{"token": {session.refresh}}, basic(clientID, clientSecret)).wantStatus(t, http.StatusOK)
		g.wantInvalidToken(t, session.access)
	})

	t.Run("row 139: no endpoint is named that isn't served", func(t *testing.T) {
		for name, value := range document.json(t) {
			if strings.HasSuffix(name, "_endpoint") && name != "token_endpoint" && name != "revocation_endpoint" {
				t.Errorf("%s is %v", name, value)
			}
		}
	})

	t.Run("row 139: both endpoints tell how clients may authenticate", func(t *testing.T) {
		want := []string{"client_secret_basic", "client_secret_post", "none"}
		for _, endpoint := range []string{"token", "revocation"} {
			if got := textsIn(t, document, endpoint+"_endpoint_auth_methods_supported"); !slices.Equal(got, want) {
				t.Errorf("got %q for the %s endpoint, want %q", got, endpoint, want)
			}
		}
	})

	t.Run("row 141: there is no empty list", func(t *testing.T) {
		wantNoEmptyList(t, document)
		if _, there := document.json(t)["token_endpoint_auth_signing_alg_values_supported"]; there {
			t.Fatal("signing algorithms are listed though no client has a key")
		}
	})

	t.Run("row 142: the answer is 200 with application/json", func(t *testing.T) {
		for _, path := range []string{metadataURL, "/oauth2/jwks"} {
			a := get(path)
			a.wantStatus(t, http.StatusOK)
			if got := a.Header.Get("Content-Type"); got != "application/json" {
				t.Errorf("got Content-Type %q for %s", got, path)
			}
			if len(a.json(t)) == 0 {
				t.Errorf("%s is empty", path)
			}
		}
		if uri := document.text(t, "jwks_uri"); uri != g.url+"/oauth2/jwks" {
			t.Errorf("got jwks_uri %q", uri)
		}
	})

	for _, path := range []string{metadataURL, "/oauth2/jwks"} {
		t.Run("row 143: scripts from everywhere may read "+path, func(t *testing.T) {
			origin := http.Header{"Origin": {"https://anywhere.example.com"}}
			a := g.do(g.request(http.MethodGet, path, "", origin))
			a.wantStatus(t, http.StatusOK)
			origin.Set("Access-Control-Request-Method", "GET")
			preflight := g.do(g.request(http.MethodOptions, path, "", origin))
			preflight.wantStatus(t, http.StatusNoContent)
			for _, a := range []answer{a, preflight} {
				if got := a.Header.Get("Access-Control-Allow-Origin"); got != "*" {
					t.Errorf("got allowed origin %q, want *", got)
				}
				if got := a.Header.Get("Access-Control-Allow-Credentials"); got != "" {
					t.Errorf("got allowed credentials %q", got)
				}
			}
		})
	}
}

func TestRFCMetadataOfAnIssuerWithAPath(t *testing.T) {
	for _, slash := range []string{"", "/"} {
		t.Run(fmt.Sprintf("row 135: the well-known path goes in front of the issuer's path, which ends in %q", "tenant"+slash), func(t *testing.T) {
			g := prepare(t)
			issuer := g.url + "/the/tenant" + slash
			g.load(strings.Replace(g.caddyfile(usualOptions, usualSite), "issuer "+g.url, "issuer "+issuer, 1))
			a := g.do(g.request(http.MethodGet, metadataURL+"/the/tenant", "", nil))
			if got := a.text(t, "issuer"); got != issuer {
				t.Fatalf("got issuer %q, want %q", got, issuer)
			}
			if got := claimsOf(t, g.signIn().access)["iss"]; got != issuer {
				t.Fatalf("the tokens have the issuer %v, want %q", got, issuer)
			}
			for _, path := range []string{metadataURL, "/the/tenant" + metadataURL} {
				if body := g.do(g.request(http.MethodGet, path, "", nil)).body; len(body) != 0 {
					t.Fatalf("%s: got %s", path, body)
				}
			}
		})
	}
}

func TestRFCMetadataIssuersThatAreRefused(t *testing.T) {
	g := prepare(t)
	for _, issuer := range []string{
		"http://auth.example.com", "https://auth.example.com?x=1", "https://auth.example.com?", "https://auth.example.com/#x",
		"https://auth.example.com#", "https://user:password@auth.example.com", "auth.example.com", "ftp://localhost", "https://",
	} {
		t.Run("row 136: "+issuer, func(t *testing.T) {
			caddyfile := strings.Replace(g.caddyfile(usualOptions, usualSite), "issuer "+g.url, `issuer "`+issuer+`"`, 1)
			_, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), map[string]any{"filename": "Caddyfile"})
			if err == nil || !strings.Contains(err.Error(), "issuer") || !strings.Contains(err.Error(), "Caddyfile:") {
				t.Fatalf("got error %v, want one of the issuer that names the place", err)
			}
		})
	}
}

func TestRFCMetadataOfClientsWithKeys(t *testing.T) {
	t.Run("row 140: the algorithms are listed that a client may sign with, none and HMAC not among them", func(t *testing.T) {
		der, err := x509.MarshalPKIXPublicKey(newForgingKey(t).Public())
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "client.pem")
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		g := startWith(t, "client signer {\npublic_key_file "+path+"\ngrant_types client_credentials\n}\n", usualSite)
		document := g.do(g.request(http.MethodGet, metadataURL, "", nil))
		for _, endpoint := range []string{"token", "revocation"} {
			if got := textsIn(t, document, endpoint+"_endpoint_auth_methods_supported"); !slices.Equal(got, []string{"private_key_jwt"}) {
				t.Errorf("got methods %q for the %s endpoint", got, endpoint)
			}
			got := textsIn(t, document, endpoint+"_endpoint_auth_signing_alg_values_supported")
			if !slices.Contains(got, "ES256") {
				t.Errorf("got algorithms %q for the %s endpoint", got, endpoint)
			}
			if slices.ContainsFunc(got, func(a string) bool { return strings.EqualFold(a, "none") || strings.HasPrefix(a, "HS") }) {
				t.Errorf("got algorithms %q for the %s endpoint", got, endpoint)
			}
		}
	})
	t.Run("row 141: with nothing to list there is no list", func(t *testing.T) {
		g := startWith(t, "", usualSite)
		document := g.do(g.request(http.MethodGet, metadataURL, "", nil))
		wantNoEmptyList(t, document)
		for _, name := range []string{"grant_types_supported", "scopes_supported", "token_endpoint_auth_methods_supported"} {
			if value, there := document.json(t)[name]; there {
				t.Errorf("%s is %v", name, value)
			}
		}
	})
}

// textsIn returns a member that is a list of strings.
func textsIn(t *testing.T, a answer, name string) []string {
	t.Helper()
	list, ok := a.json(t)[name].([]any)
	if !ok {
		t.Fatalf("there is no list %s in %s", name, a.body)
	}
	texts := make([]string, len(list))
	for i, value := range list {
		texts[i], _ = value.(string)
	}
	return texts
}

func wantNoEmptyList(t *testing.T, a answer) {
	t.Helper()
	a.wantStatus(t, http.StatusOK)
	for name, value := range a.json(t) {
		if list, ok := value.([]any); value == nil || ok && len(list) == 0 {
			t.Errorf("%s is %v", name, value)
		}
	}
}
