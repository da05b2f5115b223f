package caddymodule_test

import (
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"golang.org/x/crypto/bcrypt"
)

// Rows 1 to 18 of the checklist: the form of a request to the token and revocation endpoints (RFC 6749 §3.2, App. B).

// formEndpoints are the endpoints that take a form.
var formEndpoints = []string{"/oauth2/token", "/oauth2/revoke"}

const formType = "application/x-www-form-urlencoded"

func TestRFCRequestMethod(t *testing.T) {
	g := start(t)
	methods := []string{
		http.MethodGet, http.MethodHead, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions, "post",
	}
	for _, path := range formEndpoints {
		for _, method := range methods {
			t.Run("rows 1 and 2: "+method+" to "+path+" is answered 405 with Allow", func(t *testing.T) {
				a := g.do(g.request(method, path, passwordForm().Encode(), formHeader(basic(clientID, clientSecret))))
				a.wantStatus(t, http.StatusMethodNotAllowed)
				if got := a.Header.Values("Allow"); !slices.Equal(got, []string{http.MethodPost}) {
					t.Errorf("got Allow %q, want POST", got)
				}
				if method != http.MethodHead {
					a.wantError(t, http.StatusMethodNotAllowed, "invalid_request")
				}
			})
		}
	}
	t.Run("row 1: POST is served", func(t *testing.T) {
		g.token(passwordForm()).wantStatus(t, http.StatusOK)
		g.revoke("unknown").wantStatus(t, http.StatusOK)
	})
}

func TestRFCRequestURI(t *testing.T) {
	g := start(t)
	credentials := url.Values{"client_id": {clientID}, "client_secret": {clientSecret}}.Encode()
	t.Run("row 3: credentials in the URI authenticate nobody at the token endpoint", func(t *testing.T) {
		g.post("/oauth2/token?"+credentials, passwordForm(), nil).wantError(t, http.StatusUnauthorized, "invalid_client")
	})
	t.Run("row 3: credentials in the URI authenticate nobody at the revocation endpoint", func(t *testing.T) {
		token := g.signIn().refresh
		g.post("/oauth2/revoke?"+credentials, url.Values{"token": {token}}, nil).
			wantError(t, http.StatusUnauthorized, "invalid_client")
		g.refresh(token).wantStatus(t, http.StatusOK)
	})
	t.Run("row 4: a grant in the query is not read", func(t *testing.T) {
		g.post("/oauth2/token?"+passwordForm().Encode(), nil, basic(clientID, clientSecret)).
			wantError(t, http.StatusBadRequest, "invalid_request")
	})
	t.Run("row 4: a query that contradicts the body changes nothing", func(t *testing.T) {
		a := g.post("/oauth2/token?grant_type=bogus&grant_type=bogus&scope=write&client_id="+otherID, passwordForm(),
			basic(clientID, clientSecret))
		a.wantStatus(t, http.StatusOK)
		if got := a.text(t, "scope"); got != "default" {
			t.Errorf("got scope %q, want default", got)
		}
	})
	t.Run("row 4: a token in the query is not revoked", func(t *testing.T) {
		token := g.signIn().refresh
		g.post("/oauth2/revoke?token="+token, nil, basic(clientID, clientSecret)).
			wantError(t, http.StatusBadRequest, "invalid_request")
		g.refresh(token).wantStatus(t, http.StatusOK)
	})
}

func TestRFCRequestContentType(t *testing.T) {
	g := start(t)
	forms := map[string]url.Values{"/oauth2/token": passwordForm(), "/oauth2/revoke": {"token": {"unknown"}}}
	refused := map[string][]string{
		"no Content-Type":         nil,
		"an empty Content-Type":   {""},
		"JSON":                    {"application/json"},
		"a multipart form":        {"multipart/form-data; boundary=x"},
		"plain text":              {"text/plain"},
		"a longer name":           {formType + "x"},
		"no media type":           {"form"},
		"two in one header":       {formType + ", application/json"},
		"two headers, both right": {formType, formType},
		"a broken parameter":      {formType + "; charset"},
	}
	for name, values := range refused {
		for path, form := range forms {
			t.Run("row 5: "+name+" at "+path+" is refused", func(t *testing.T) {
				header := basic(clientID, clientSecret)
				if values != nil {
					header["Content-Type"] = values
				}
				g.do(g.request(http.MethodPost, path, form.Encode(), header)).
					wantError(t, http.StatusBadRequest, "invalid_request")
			})
		}
	}
	for _, value := range []string{
		formType, formType + "; charset=UTF-8", formType + ";charset=utf-8", `application/x-www-form-urlencoded; charset="utf-8"`,
		"Application/X-WWW-Form-URLEncoded",
	} {
		for path, form := range forms {
			t.Run("row 6: "+value+" at "+path+" is fine", func(t *testing.T) {
				header := basic(clientID, clientSecret)
				header.Set("Content-Type", value)
				g.post(path, form, header).wantStatus(t, http.StatusOK)
			})
		}
	}
}

func TestRFCRequestEncoding(t *testing.T) {
	const name, password = "jürgen 名", "grün & weiß = 100% €+"
	g := startWith(t, usualOptions+"\nuser \""+name+"\" "+hashOf(t, password, bcrypt.MinCost), usualSite)
	form := url.Values{"grant_type": {"password"}, "username": {name}, "password": {password}}
	t.Run("row 7: names and passwords are UTF-8", func(t *testing.T) {
		token := g.token(form).tokens(t)
		if got := claimsIn(t, token.access)["sub"]; got != name {
			t.Errorf("got sub %q, want %q", got, name)
		}
	})
	t.Run("row 7: UTF-8 may stand in the form without percent-encoding", func(t *testing.T) {
		body := "grant_type=password&username=jürgen+名&password=" + url.QueryEscape(password)
		g.postBody("/oauth2/token", body, basic(clientID, clientSecret)).wantStatus(t, http.StatusOK)
	})
	for what, username := range map[string]string{
		"Latin-1": "j%FCrgen", "an overlong form": "%C0%AF", "a surrogate": "%ED%A0%80", "a broken escape": "%zz",
		"a cut escape": "j%F",
	} {
		t.Run("row 7: "+what+" is refused", func(t *testing.T) {
			g.postBody("/oauth2/token", "grant_type=password&password=x&username="+username, basic(clientID, clientSecret)).
				wantError(t, http.StatusBadRequest, "invalid_request")
		})
	}
}

func TestRFCRequestParameters(t *testing.T) {
	g := startWith(t, usualOptions+`
		client wide {
			secret `+clientSecret+`
			grant_types client_credentials
			audience https://one.example.com https://two.example.com
		}`, usualSite)
	for _, name := range []string{
		"grant_type", "scope", "username", "password", "refresh_token", "client_id", "client_secret",
		"client_assertion_type", "client_assertion", "token", "token_type_hint",
	} {
		for _, path := range formEndpoints {
			t.Run("row 8: "+name+" twice at "+path+" is refused", func(t *testing.T) {
				form := with(passwordForm(), "token", "unknown")
				form.Del(name)
				for _, values := range []string{"=a&" + name + "=b", "=a&" + name + "=a"} {
					g.postBody(path, form.Encode()+"&"+name+values, basic(clientID, clientSecret)).
						wantError(t, http.StatusBadRequest, "invalid_request")
				}
			})
		}
	}
	resources := []struct {
		name  string
		asked []string
		want  []any // of the aud claim; nil where the request is to be refused
	}{
		{"row 9: resource may be there twice", []string{"https://one.example.com", "https://two.example.com"},
			[]any{"https://one.example.com", "https://two.example.com"}},
		{"row 9: the same resource twice counts once", []string{"https://two.example.com", "https://two.example.com"},
			[]any{"https://two.example.com"}},
		{"row 9: a resource that the client has not is an invalid_target", []string{"https://one.example.com", "https://x.example.com"},
			nil},
	}
	for _, test := range resources {
		t.Run(test.name, func(t *testing.T) {
			a := g.post("/oauth2/token", url.Values{"grant_type": {"client_credentials"}, "resource": test.asked},
				basic("wide", clientSecret))
			if test.want == nil {
				a.wantError(t, http.StatusBadRequest, "invalid_target")
				return
			}
			got := claimsIn(t, a.tokens(t).access)["aud"]
			if one, ok := got.(string); ok {
				got = []any{one}
			}
			if all, ok := got.([]any); !ok || !slices.Equal(all, test.want) {
				t.Errorf("got aud %v, want %v", got, test.want)
			}
		})
	}
	encoded := passwordForm().Encode()
	bodies := []struct {
		name, body string
		status     int
		code       string // of the error; of a success the scope
	}{
		{"row 10: an empty scope is no scope", encoded + "&scope=", 200, "default"},
		{"row 10: an empty client_id is none", encoded + "&client_id=&client_secret=&client_assertion=", 200, "default"},
		{"row 10: an empty resource is none", encoded + "&resource=", 200, "default"},
		{"row 10: an empty parameter beside a full one is not a second one", encoded + "&scope=&scope=read&scope", 200, "read"},
		{"row 10: an empty grant_type is none", "grant_type=&username=a&password=b", 400, "invalid_request"},
		{"row 10: an empty password is none", "grant_type=password&username=admin&password=", 400, "invalid_request"},
		{"row 10: an empty refresh_token is none", "grant_type=refresh_token&refresh_token=", 400, "invalid_request"},
		{"row 11: unknown parameters are ignored, also twice and badly encoded", encoded + "&foo=1&foo=2&bar=%FF&%20=x&baz", 200, "default"},
		{"row 12: the name Scope is not scope", encoded + "&Scope=read", 200, "default"},
		{"row 12: the name Grant_Type is not grant_type", strings.Replace(encoded, "grant_type", "Grant_Type", 1), 400, "invalid_request"},
		{"row 12: the grant PASSWORD is not password", strings.Replace(encoded, "=password", "=PASSWORD", 1), 400, "unsupported_grant_type"},
		{"row 12: the scope READ is not read", encoded + "&scope=READ", 400, "invalid_scope"},
		{"row 12: the user Admin is not admin", strings.Replace(encoded, "username=admin", "username=Admin", 1), 400, "invalid_grant"},
		{"row 12: the password ADMIN is not admin", strings.Replace(encoded, "password=admin", "password=ADMIN", 1), 400, "invalid_grant"},
	}
	for _, test := range bodies {
		t.Run(test.name, func(t *testing.T) {
			a := g.postBody("/oauth2/token", test.body, basic(clientID, clientSecret))
			if test.status != http.StatusOK {
				a.wantError(t, test.status, test.code)
				return
			}
			a.wantStatus(t, http.StatusOK)
			if got := a.text(t, "scope"); got != test.code {
				t.Errorf("got scope %q, want %q", got, test.code)
			}
		})
	}
	t.Run("row 10: an empty token to revoke is none", func(t *testing.T) {
		g.revoke("").wantError(t, http.StatusBadRequest, "invalid_request")
	})
	t.Run("row 12: client IDs are case-sensitive", func(t *testing.T) {
		g.post("/oauth2/token", passwordForm(), basic(strings.ToUpper(clientID), clientSecret)).
			wantError(t, http.StatusUnauthorized, "invalid_client")
	})
}

func TestRFCRequestGrantType(t *testing.T) {
	const machine = `
		client machine {
			secret ` + clientSecret + `
			grant_types client_credentials
		}`
	everything := passwordForm()
	everything.Set("refresh_token", "rt_x")
	cases := []struct {
		name, options, client, grantType string
		code                             string
	}{
		{"row 13: no grant_type", "", clientID, "", "invalid_request"},
		{"row 14: a grant type that nobody knows", "", clientID, "magic", "unsupported_grant_type"},
		{"row 14: a registered grant type that is not served", "", clientID, "urn:ietf:params:oauth:grant-type:device_code",
			"unsupported_grant_type"},
		{"row 14: a grant type that is reserved", "", clientID, "authorization_code", "unsupported_grant_type"},
		{"row 14: a grant type that is disabled", "disable_grant_types password", clientID, "password", "unsupported_grant_type"},
		{"row 14: a disabled grant type, asked for by a client that may not use it", "disable_grant_types password", "machine",
			"password", "unsupported_grant_type"},
		{"row 14: refresh tokens that are disabled", "disable_grant_types refresh_token", clientID, "refresh_token",
			"unsupported_grant_type"},
		{"row 15: password, not allowed to the client", "", "machine", "password", "unauthorized_client"},
		{"row 15: refresh_token, not allowed to the client", "", "machine", "refresh_token", "unauthorized_client"},
		{"row 15: client_credentials, not allowed to the client", "", publicID, "client_credentials", "unauthorized_client"},
	}
	g := prepare(t)
	for _, test := range cases {
		t.Run(test.name, func(t *testing.T) {
			g.reload(g.caddyfile(usualOptions+machine+"\n"+test.options, usualSite))
			form, header := with(everything, "grant_type", test.grantType), basic(test.client, clientSecret)
			if test.client == publicID {
				form, header = with(form, "client_id", publicID), nil
			}
			g.post("/oauth2/token", form, header).wantError(t, http.StatusBadRequest, test.code)
		})
	}
	t.Run("row 15: the grant that the client lists is served", func(t *testing.T) {
		g.post("/oauth2/token", url.Values{"grant_type": {"client_credentials"}}, basic("machine", clientSecret)).
			wantStatus(t, http.StatusOK)
	})
}

func TestRFCRequestSize(t *testing.T) {
	const limit = 64 << 10
	g := start(t)
	forms := map[string]url.Values{"/oauth2/token": passwordForm(), "/oauth2/revoke": {"token": {"unknown"}}}
	for path, form := range forms {
		for _, announced := range []string{"with its length", "in chunks"} {
			send := func(size int) answer {
				body := form.Encode() + "&padding="
				body += strings.Repeat("x", size-len(body))
				request := g.request(http.MethodPost, path, body, formHeader(basic(clientID, clientSecret)))
				if announced == "in chunks" {
					request.ContentLength = -1
				}
				return g.do(request)
			}
			t.Run("row 16: 64 KiB sent "+announced+" to "+path+" are read", func(t *testing.T) {
				send(limit).wantStatus(t, http.StatusOK)
			})
			t.Run("row 16: one byte more sent "+announced+" to "+path+" is refused", func(t *testing.T) {
				send(limit+1).wantError(t, http.StatusBadRequest, "invalid_request")
			})
		}
	}
}

func TestRFCRequestTransport(t *testing.T) {
	g := prepare(t)
	address := outsideAddress(t)
	site := "http://" + net.JoinHostPort(address, portOf(t, g.url))
	// The issuer stays what it is; the site moves to an address that other machines can reach.
	onThatAddress := func(directive string) string {
		caddyfile := g.caddyfile(usualOptions, directive+"\nbind "+address)
		return strings.Replace(caddyfile, "\n"+g.url+" {", "\n"+site+" {", 1)
	}
	post := func(path string, form url.Values, header http.Header) answer {
		request := g.request(http.MethodPost, path, form.Encode(), formHeader(header))
		target, err := url.Parse(site + path)
		if err != nil {
			t.Fatal(err)
		}
		request.URL, request.Host = target, target.Host
		return g.do(request)
	}
	spoofed := basic(clientID, clientSecret)
	spoofed.Set("X-Forwarded-Proto", "https")
	spoofed.Set("Forwarded", "proto=https;for=127.0.0.1;host=localhost")
	spoofed.Set("X-Forwarded-For", "127.0.0.1")
	g.reload(onThatAddress("oauth_server"))
	for _, path := range formEndpoints {
		t.Run("row 17: plain HTTP from outside to "+path+" is refused", func(t *testing.T) {
			post(path, with(passwordForm(), "token", "unknown"), basic(clientID, clientSecret)).
				wantError(t, http.StatusBadRequest, "invalid_request")
		})
		t.Run("row 17: no header makes plain HTTP to "+path+" pass for HTTPS", func(t *testing.T) {
			post(path, with(passwordForm(), "token", "unknown"), spoofed).wantError(t, http.StatusBadRequest, "invalid_request")
		})
	}
	g.reload(onThatAddress("oauth_server {\nbehind_tls_proxy\n}"))
	for _, path := range formEndpoints {
		t.Run("row 17: behind a proxy that ends TLS, "+path+" is served", func(t *testing.T) {
			post(path, with(passwordForm(), "token", "unknown"), basic(clientID, clientSecret)).wantStatus(t, http.StatusOK)
		})
	}
	g.reload(g.caddyfile(usualOptions, usualSite))
	t.Run("row 17: plain HTTP on loopback is served", func(t *testing.T) {
		g.token(passwordForm()).wantStatus(t, http.StatusOK)
	})
}

func TestRFCRequestRedirects(t *testing.T) {
	g := startWith(t, usualOptions, "oauth_server\nrespond 418")
	cases := []struct {
		method, path string
		status       int
	}{
		{http.MethodPost, "/oauth2/token", http.StatusOK},
		{http.MethodPost, "/oauth2/revoke", http.StatusOK},
		{http.MethodPost, "/oauth2/token?redirect_uri=https://evil.example.com", http.StatusOK},
		{http.MethodGet, "/oauth2/token", http.StatusMethodNotAllowed},
		{http.MethodPost, "/oauth2/token/", http.StatusNotFound},
		{http.MethodPost, "/oauth2//token", http.StatusNotFound},
		{http.MethodPost, "//oauth2/token", http.StatusTeapot},
		{http.MethodPost, "/oauth2/./token", http.StatusNotFound},
		{http.MethodPost, "/oauth2/Token", http.StatusNotFound},
		{http.MethodGet, "/oauth2/introspect", http.StatusNotFound},
		{http.MethodGet, "/oauth2", http.StatusTeapot},
		{http.MethodGet, "/oauth2x", http.StatusTeapot},
	}
	for _, test := range cases {
		t.Run("row 18: "+test.method+" "+test.path+" is not redirected", func(t *testing.T) {
			form := with(passwordForm(), "token", "unknown")
			form.Set("redirect_uri", "https://evil.example.com")
			a := g.do(g.request(test.method, test.path, form.Encode(), formHeader(basic(clientID, clientSecret))))
			a.wantStatus(t, test.status)
			if got := a.Header.Get("Location"); got != "" {
				t.Errorf("got Location %q", got)
			}
		})
	}
}

// formHeader returns a copy of a header with the Content-Type of a form.
func formHeader(header http.Header) http.Header {
	header = header.Clone()
	header.Set("Content-Type", formType)
	return header
}

// reload is load for a gateway that may be running already: no request goes to the server before by a connection of its.
func (g *gateway) reload(caddyfile string) {
	g.t.Helper()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	if err := caddy.Stop(); err != nil {
		g.t.Fatal(err)
	}
	g.load(caddyfile)
}

// hashOf returns a bcrypt hash of a password.
func hashOf(t *testing.T, password string, cost int) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), cost)
	if err != nil {
		t.Fatal(err)
	}
	return string(hash)
}

// outsideAddress returns an address of this machine that isn't loopback.
func outsideAddress(t *testing.T) string {
	t.Helper()
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range addresses {
		if network, ok := address.(*net.IPNet); ok && network.IP.IsGlobalUnicast() {
			return network.IP.String()
		}
	}
	t.Fatal("the machine has loopback addresses only; give it another one")
	return ""
}

func portOf(t *testing.T, site string) string {
	t.Helper()
	u, err := url.Parse(site)
	if err != nil {
		t.Fatal(err)
	}
	return u.Port()
}
