package caddymodule_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// Rows 78 to 84 and 86 to 90 of the attacks: what is tried against the token and revocation endpoints.

func TestAttackEndpointForm(t *testing.T) {
	g := start(t)
	session := g.signIn()
	good := basic(clientID, clientSecret)
	bearer := func(form url.Values) url.Values {
		all := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {session.refresh}, "token": {session.refresh}}
		maps.Copy(all, form)
		return all
	}
	header := func(name, value string) http.Header {
		h := good.Clone()
		h.Set(name, value)
		return h
	}
	query := "?" + bearer(nil).Encode()
	inJSON := `{"grant_type":"refresh_token","refresh_token":"` + session.refresh + `","token":"` + session.refresh + `"}`
	cases := []struct {
		name, method, query, body string
		header                    http.Header
		status                    int
		code                      string
	}{
		{"row 78: GET with everything in the query", "GET", query, "", good, 405, "invalid_request"},
		{"row 78: GET with a form", "GET", "", bearer(nil).Encode(), header("Content-Type", formType), 405, "invalid_request"},
		{"row 78: GET that calls itself POST", "GET", query, "", header("X-HTTP-Method-Override", "POST"), 405, "invalid_request"},
		{"row 79: JSON", "POST", "", inJSON, header("Content-Type", "application/json"), 400, "invalid_request"},
		{"row 79: JSON that calls itself a form", "POST", "", inJSON, header("Content-Type", formType), 400, "invalid_request"},
		{"row 79: everything in the query", "POST", query, "", header("Content-Type", formType), 400, "invalid_request"},
		{"row 80: parameters twice", "POST", "", bearer(nil).Encode() + "&" + bearer(nil).Encode(), header("Content-Type", formType),
			400, "invalid_request"},
		{"row 80: a parameter twice, once percent-encoded", "POST", "",
			bearer(nil).Encode() + "&%74oken=x&%67rant_type=password", header("Content-Type", formType), 400, "invalid_request"},
		{"row 81: Basic and a secret in the body", "POST", "", bearer(url.Values{"client_secret": {clientSecret}}).Encode(),
			header("Content-Type", formType), 400, "invalid_request"},
		{"row 81: Basic and an assertion", "POST", "",
			bearer(url.Values{"client_assertion": {"a.b.c"}, "client_assertion_type": {assertionType}}).Encode(),
			header("Content-Type", formType), 400, "invalid_request"},
		{"row 81: Basic of one client and the ID of another", "POST", "", bearer(url.Values{"client_id": {publicID}}).Encode(),
			header("Content-Type", formType), 400, "invalid_request"},
		{"row 82: Basic without a colon", "POST", "", bearer(nil).Encode(), formHeader(http.Header{"Authorization": {"Basic YWJj"}}),
			401, "invalid_client"},
		{"row 82: Basic that is not base64", "POST", "", bearer(nil).Encode(), formHeader(http.Header{"Authorization": {"Basic %%%"}}),
			401, "invalid_client"},
		{"row 82: Basic with broken percent-encoding", "POST", "", bearer(nil).Encode(),
			formHeader(http.Header{"Authorization": {"Basic JTp6eg=="}}), 401, "invalid_client"},
		{"row 82: Basic that is enormous", "POST", "", bearer(nil).Encode(), formHeader(basic(strings.Repeat("a", 8<<10), "b")),
			401, "invalid_client"},
	}
	for _, test := range cases {
		for _, path := range formEndpoints {
			t.Run(fmt.Sprintf("%s at %s is answered %d", test.name, path, test.status), func(t *testing.T) {
				a := g.do(g.request(test.method, path+test.query, test.body, test.header))
				a.wantError(t, test.status, test.code)
				if test.status == http.StatusUnauthorized {
					wantInvalidClient(t, g, a)
				}
			})
		}
	}
	t.Run("rows 78 to 82: none of that has used or revoked the token", func(t *testing.T) {
		g.call("/api/", session.access).wantStatus(t, http.StatusOK)
		g.refresh(session.refresh).wantStatus(t, http.StatusOK)
	})
}

func TestAttackEndpointBodies(t *testing.T) {
	g := prepare(t)
	g.load(withServers(g.caddyfile(usualOptions, usualSite), "timeouts {\nread_body_idle 200ms\n}"))
	head := func(path, length string) string {
		return "POST " + path + " HTTP/1.1\r\nHost: " + strings.TrimPrefix(g.url, "http://") + "\r\nContent-Type: " + formType +
			"\r\nAuthorization: " + basic(clientID, clientSecret).Get("Authorization") + "\r\n" + length + "\r\n\r\n"
	}
	for _, path := range formEndpoints {
		t.Run("row 83: of a body that claims to be huge no more than 64 KiB are waited for at "+path, func(t *testing.T) {
			connection := g.dial()
			connection.write(head(path, "Content-Length: 1099511627776") + "token=x&padding=" + strings.Repeat("x", 64<<10))
			connection.read().wantError(t, http.StatusBadRequest, "invalid_request")
		})
		t.Run("row 83: a body in endless chunks is not read to its end at "+path, func(t *testing.T) {
			connection := g.dial()
			connection.write(head(path, "Transfer-Encoding: chunked"))
			for range 8 {
				connection.write("2000\r\n" + strings.Repeat("x", 8<<10) + "\r\n")
			}
			connection.write("1\r\nx\r\n")
			connection.read().wantError(t, http.StatusBadRequest, "invalid_request")
		})
		t.Run("row 83: a body that stalls at "+path+" is given up, and holds nobody else up", func(t *testing.T) {
			slow := make([]*rawConnection, 50)
			for i := range slow {
				slow[i] = g.dial()
				slow[i].write(head(path, "Content-Length: 100") + "grant_type=pass")
			}
			g.signIn()
			for _, connection := range slow {
				connection.read().wantError(t, http.StatusBadRequest, "invalid_request")
			}
		})
		t.Run("row 83: a body that ends too early is refused at "+path, func(t *testing.T) {
			connection := g.dial()
			connection.write(head(path, "Content-Length: 100") + "token=x&grant_type=client_credentials")
			if err := connection.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			connection.read().wantError(t, http.StatusBadRequest, "invalid_request")
		})
		t.Run("row 83: tens of thousands of parameters are read like any others at "+path, func(t *testing.T) {
			body := strings.Repeat("a=&", 20_000) + "grant_type=client_credentials&token=x"
			g.postBody(path, body, basic(clientID, clientSecret)).wantStatus(t, http.StatusOK)
		})
	}
}

func TestAttackEndpointHashFlood(t *testing.T) {
	const cost, requests = 12, 60 // fewer failures than the throttle of an address takes
	g := startWith(t, usualOptions+`
		client hashed {
			secret_hash `+hashOf(t, "the secret of hashed", cost)+`
			grant_types client_credentials
		}
		user erika `+hashOf(t, "the password of erika", cost), usualSite)
	credentials := url.Values{"grant_type": {"client_credentials"}}
	floods := []struct {
		name    string
		request func(i int) (url.Values, http.Header)
		status  int // of those that get their turn
		code    string
	}{
		{"sign-ins", func(int) (url.Values, http.Header) {
			return url.Values{"grant_type": {"password"}, "username": {"erika"}, "password": {"wrong"}}, basic(clientID, clientSecret)
		}, http.StatusBadRequest, "invalid_grant"},
		{"clients that nobody knows", func(i int) (url.Values, http.Header) {
			return credentials, basic("nobody"+strconv.Itoa(i), "wrong")
		}, http.StatusUnauthorized, "invalid_client"},
	}
	for _, flood := range floods {
		t.Run("row 83: of a flood of "+flood.name+" the excess is turned away, and other requests are served", func(t *testing.T) {
			flooders := make([]*http.Request, requests)
			for i := range flooders {
				form, header := flood.request(i)
				flooders[i] = g.request(http.MethodPost, "/oauth2/token", form.Encode(), formHeader(header))
			}
			answers, failed := make(chan answer, requests), make(chan error, requests)
			var flooding sync.WaitGroup
			for _, request := range flooders {
				flooding.Go(func() {
					response, err := http.DefaultTransport.RoundTrip(request)
					if err != nil {
						failed <- err
						return
					}
					defer response.Body.Close()
					body, err := io.ReadAll(response.Body)
					if err != nil {
						failed <- err
						return
					}
					answers <- answer{response, body}
				})
			}
			over := make(chan struct{})
			go func() {
				flooding.Wait()
				close(over)
			}()
			var most, served int
		meanwhile:
			for {
				select {
				case <-over:
					break meanwhile
				default:
				}
				before := hashesUnderWay()
				g.token(credentials).wantStatus(t, http.StatusOK)
				g.do(g.request(http.MethodGet, "/oauth2/jwks", "", nil)).wantStatus(t, http.StatusOK)
				after := hashesUnderWay()
				most = max(most, before, after)
				if before > 0 && after > 0 {
					served++
				}
			}
			close(answers)
			close(failed)
			for err := range failed {
				t.Error(err)
			}
			if most > runtime.GOMAXPROCS(0) {
				t.Errorf("%d hashes were computed at once, on %d processors", most, runtime.GOMAXPROCS(0))
			}
			if served == 0 {
				t.Error("no other request was served while hashes were computed")
			}
			turns, excess := 0, 0
			for a := range answers {
				if a.StatusCode == http.StatusServiceUnavailable {
					a.wantError(t, http.StatusServiceUnavailable, "temporarily_unavailable")
					wantRetryAfter(t, a)
					excess++
					continue
				}
				if a.StatusCode != http.StatusTooManyRequests { // some had their turn after 20 others had failed
					a.wantError(t, flood.status, flood.code)
				}
				turns++
			}
			if turns == 0 || excess == 0 {
				t.Errorf("%d had their turn and %d were turned away", turns, excess)
			}
		})
	}
}

func TestAttackEndpointScope(t *testing.T) {
	g := start(t)
	session := g.token(with(passwordForm(), "scope", "read")).tokens(t)
	for name, scope := range map[string]string{
		"a scope that the client has and the session has not": "read write",
		"another scope instead":                               "write",
		"a scope that nobody has":                             "admin",
		"a scope beside its own, in quotes":                   `read "write"`,
		"a line break":                                        "read\r\nwrite",
		"a NUL":                                               "read\x00write",
		"a long list":                                         strings.Repeat("read ", 1000) + "write",
	} {
		t.Run("row 84: a refresh can't get "+name, func(t *testing.T) {
			g.token(with(refreshForm(session.refresh), "scope", scope)).wantError(t, http.StatusBadRequest, "invalid_scope")
		})
	}
	t.Run("row 84: the session is unharmed, and no wider", func(t *testing.T) {
		a := g.refresh(session.refresh)
		a.wantStatus(t, http.StatusOK)
		if got := a.text(t, "scope"); got != "read" {
			t.Errorf("got scope %q", got)
		}
	})
	t.Run("row 84: nor can a client get more than its own at the start", func(t *testing.T) {
		for _, form := range []url.Values{passwordForm(), {"grant_type": {"client_credentials"}}} {
			g.post("/oauth2/token", with(form, "scope", "read write"), basic(otherID, otherSecret)).
				wantError(t, http.StatusBadRequest, "invalid_scope")
		}
	})
}

func TestAttackEndpointForeignToken(t *testing.T) {
	g := start(t)
	public := http.Header{}
	thieves := map[string]struct {
		header http.Header
		form   url.Values
	}{
		"another client":       {basic(otherID, otherSecret), nil},
		"a public client":      {public, url.Values{"client_id": {publicID}}},
		"an unknown client":    {basic("nobody", "x"), nil},
		"the client's ID only": {public, url.Values{"client_id": {clientID}}},
		"a wrong secret":       {basic(clientID, "wrong"), nil},
	}
	for name, thief := range thieves {
		t.Run("row 86: "+name+" can neither use nor revoke a client's tokens", func(t *testing.T) {
			session := g.signIn()
			old := session.refresh
			session = g.refresh(old).tokens(t) // so that the old one, presented by its owner, would end the session
			for _, token := range []string{session.refresh, old, session.access} {
				refresh, revocation := refreshForm(token), url.Values{"token": {token}}
				maps.Copy(refresh, thief.form)
				maps.Copy(revocation, thief.form)
				a := g.post("/oauth2/token", refresh, thief.header)
				if code := a.text(t, "error"); code != "invalid_grant" && code != "invalid_client" {
					t.Fatalf("got status %d, body %s", a.StatusCode, a.body)
				}
				for _, hint := range []string{"", "access_token", "refresh_token"} {
					a := g.post("/oauth2/revoke", with(revocation, "token_type_hint", hint), thief.header)
					if a.StatusCode != http.StatusOK && a.text(t, "error") != "invalid_client" {
						t.Fatalf("got status %d, body %s", a.StatusCode, a.body)
					}
					for _, told := range []string{"RevokedAccessToken", "RevokedRefreshToken", "AuthorizedUser"} {
						if values := a.Header[http.CanonicalHeaderKey(told)]; len(values) > 0 {
							t.Errorf("was told %s: %v", told, values)
						}
					}
				}
			}
			g.call("/api/", session.access).wantStatus(t, http.StatusOK)
			next := g.refresh(session.refresh).tokens(t)
			g.call("/api/", next.access).wantStatus(t, http.StatusOK)
		})
	}
	t.Run("row 86: a client's own access token is no refresh token", func(t *testing.T) {
		session := g.signIn()
		g.refresh(session.access).wantError(t, http.StatusBadRequest, "invalid_grant")
		g.call("/api/", session.refresh).wantStatus(t, http.StatusUnauthorized)
		g.refresh(session.refresh).wantStatus(t, http.StatusOK)
	})
}

func TestAttackEndpointForgedRefreshToken(t *testing.T) {
	g, spied := startOnSpiedStore(t, usualOptions)
	session := g.signIn()
	other := g.signIn()
	const firstOfGeneration, firstOfSecret, firstOfTag = 18, 22, 46 // bytes of the decoded token
	splice := func(at int) string {                                 // the session's token up to there, the other session's from there on
		index := len("rt_") + at*8/6
		return session.refresh[:index] + other.refresh[index:]
	}
	forged := map[string]string{
		"another version":                        flip(t, session.refresh, 0),
		"another MAC key":                        flip(t, session.refresh, 1),
		"the next family":                        flip(t, session.refresh, firstOfGeneration-1),
		"a generation from the future":           flip(t, session.refresh, firstOfSecret-1),
		"a generation far in the future":         flip(t, session.refresh, firstOfGeneration),
		"a guessed secret":                       flip(t, session.refresh, firstOfSecret),
		"a guessed tag":                          flip(t, session.refresh, firstOfTag),
		"a guessed secret and tag":               splice(firstOfSecret + 2),
		"another token's tag":                    splice(firstOfTag + 2),
		"no tag":                                 session.refresh[:len("rt_")+firstOfTag*8/6],
		"bytes behind it":                        session.refresh + "AAAA",
		"bytes in front of it":                   "rt_" + session.refresh,
		"padding":                                session.refresh + "=",
		"a space behind it":                      session.refresh + " ",
		"a prefix in upper case":                 "RT_" + strings.TrimPrefix(session.refresh, "rt_"),
		"the family's ID alone":                  fmt.Sprint(claimsIn(t, session.access)["sid"]),
		"64 KiB of the alphabet, or nearly so":   "rt_" + strings.Repeat("A", 60<<10),
		"all zeros where the parts should stand": "rt_" + strings.Repeat("A", len(session.refresh)-len("rt_")),
	}
	for name, token := range forged {
		t.Run("row 87: a refresh token with "+name+" is refused without a look into the store", func(t *testing.T) {
			if token == session.refresh {
				t.Fatal("nothing was forged")
			}
			before := spied.calls.Load()
			g.refresh(token).wantError(t, http.StatusBadRequest, "invalid_grant")
			a := g.revoke(token)
			a.wantStatus(t, http.StatusOK)
			if len(a.body) > 0 || len(a.Header["Revokedrefreshtoken"]) > 0 {
				t.Errorf("got headers %v, body %s", a.Header, a.body)
			}
			if after := spied.calls.Load(); after != before {
				t.Errorf("the store was asked %d times", after-before)
			}
		})
	}
	t.Run("row 87: the families are unharmed", func(t *testing.T) {
		before := spied.calls.Load()
		for _, s := range []tokens{session, other} {
			g.call("/api/", s.access).wantStatus(t, http.StatusOK)
			g.refresh(s.refresh).wantStatus(t, http.StatusOK)
		}
		if spied.calls.Load() == before {
			t.Error("the store was not asked about true tokens either: the spy sees nothing")
		}
	})
}

func TestAttackEndpointHeaders(t *testing.T) {
	g, spied := startOnSpiedStore(t, usualOptions)
	good := basic(clientID, clientSecret)
	credentials := url.Values{"grant_type": {"client_credentials"}}
	seen := make(map[string]bool)
	check := func(name string, status int, a answer) {
		t.Run(fmt.Sprintf("row 88: %s, answered %d, is guarded", name, status), func(t *testing.T) {
			a.wantStatus(t, status)
			wantUnstored(t, a)
			for header, want := range map[string]string{"X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff"} {
				if got := a.Header.Get(header); got != want {
					t.Errorf("got %s %q, want %q", header, got, want)
				}
			}
			if id := a.Header.Get("X-Request-Id"); id == "" || seen[id] {
				t.Errorf("X-Request-Id %q is missing or was given before", id)
			}
			seen[a.Header.Get("X-Request-Id")] = true
		})
	}
	session := g.signIn()
	check("a sign-in", 200, g.token(passwordForm()))
	check("the same sign-in", 200, g.token(passwordForm()))
	check("client credentials", 200, g.token(credentials))
	check("a refresh", 200, g.refresh(session.refresh))
	check("a reuse", 400, g.refresh(session.refresh))
	check("a wrong password", 400, g.token(with(passwordForm(), "password", "wrong")))
	check("a wrong scope", 400, g.token(with(credentials, "scope", "admin")))
	check("a wrong resource", 400, g.token(with(credentials, "resource", "https://x.example.com")))
	check("a wrong grant type", 400, g.token(url.Values{"grant_type": {"magic"}}))
	check("a grant that is not the client's", 400, g.post("/oauth2/token", with(credentials, "client_id", publicID), nil))
	check("a script's request", 200, g.post("/oauth2/token", credentials, headerWith(good, "Origin", "https://app.example.com")))
	check("a strange script's request", 200, g.post("/oauth2/token", credentials, headerWith(good, "Origin", "https://x.example.com")))
	for _, path := range formEndpoints {
		form := url.Values{"grant_type": {"password"}, "username": {userName}, "password": {userPassword}, "token": {g.signIn().refresh}}
		check("a good request to "+path, 200, g.post(path, form, good))
		check("no parameters at "+path, 400, g.post(path, nil, good))
		check("a wrong Content-Type at "+path, 400, g.post(path, form, headerWith(good, "Content-Type", "text/plain")))
		check("a body that is too large at "+path, 400, g.postBody(path, strings.Repeat("a", 64<<10+1), good))
		check("two ways to authenticate at "+path, 400, g.post(path, with(form, "client_secret", "x"), good))
		check("a wrong secret at "+path, 401, g.post(path, form, basic(clientID, "wrong")))
		check("no client at "+path, 401, g.post(path, form, nil))
		check("GET "+path, 405, g.do(g.request(http.MethodGet, path, "", nil)))
		check("HEAD "+path, 405, g.do(g.request(http.MethodHead, path, "", nil)))
		check("OPTIONS "+path, 405, g.do(g.request(http.MethodOptions, path, "", nil)))
		preflight := http.Header{"Origin": {"https://app.example.com"}, "Access-Control-Request-Method": {"POST"}}
		check("a preflight of "+path, 204, g.do(g.request(http.MethodOptions, path, "", preflight)))
		g.post(path, form, good).wantStatus(t, http.StatusOK) // forgets the failures
	}
	check("a revocation", 200, g.revoke(g.signIn().refresh))
	check("a revocation of nothing", 200, g.revoke("unknown"))
	untilThrottled(t, 40, "invalid_client", func(int) answer { return g.post("/oauth2/token", credentials, basic("guess", "wrong")) })
	check("one failure too many", 429, g.post("/oauth2/token", credentials, basic("guess", "wrong")))

	session = g.signIn()
	spied.reads.Store(true)
	spied.writes.Store(true)
	for name, ask := range map[string]func() answer{
		"a sign-in":                    func() answer { return g.token(passwordForm()) },
		"a refresh":                    func() answer { return g.refresh(session.refresh) },
		"a revocation":                 func() answer { return g.revoke(session.refresh) },
		"an access token's revocation": func() answer { return g.revoke(session.access) },
	} {
		a := ask()
		check(name+" while the store is broken", 503, a)
		t.Run("row 88: "+name+" while the store is broken says when to try again, and not why", func(t *testing.T) {
			a.wantError(t, http.StatusServiceUnavailable, "temporarily_unavailable")
			wantRetryAfter(t, a)
			if bytes.Contains(a.body, []byte(errDisk.Error())) {
				t.Errorf("got %s", a.body)
			}
		})
	}
	spied.reads.Store(false)
	spied.writes.Store(false)
	t.Run("row 88: what failed has changed nothing", func(t *testing.T) {
		g.call("/api/", session.access).wantStatus(t, http.StatusOK)
		g.refresh(session.refresh).wantStatus(t, http.StatusOK)
	})
}

func TestAttackEndpointAssertion(t *testing.T) {
	key := newSigningKey(t)
	g := startWith(t, usualOptions+"\nclient signer {\npublic_key_file "+publicKeyFile(t, key.Public())+
		"\ngrant_types client_credentials\n}", usualSite)
	assertion := func(audience any) url.Values {
		claims := assertionClaims("signer", "")
		claims["aud"] = audience
		form := assertionForm(signES256(t, key, map[string]any{"alg": "ES256"}, claims))
		form.Set("grant_type", "client_credentials")
		form.Set("token", "unknown")
		return form
	}
	for _, path := range formEndpoints {
		t.Run("row 89: an assertion that was used is refused at "+path+", in whatever spelling", func(t *testing.T) {
			form := assertion(g.url)
			g.post(path, form, nil).wantStatus(t, http.StatusOK)
			used := form.Get("client_assertion")
			for _, spelling := range []string{used, used + "=", used + "\n", " " + used} {
				wantInvalidClient(t, g, g.post(path, with(form, "client_assertion", spelling), nil))
			}
		})
		for name, audience := range map[string]any{
			"another server":            "https://idp.example.com",
			"another server's endpoint": "https://idp.example.com/oauth2/token",
			"this host by its name":     strings.Replace(g.url, "127.0.0.1", "localhost", 1),
			"the client itself":         "signer",
			"a list of others":          []string{"https://a.example.com", "https://b.example.com"},
			"a number":                  1,
		} {
			t.Run("row 89: an assertion meant for "+name+" is refused at "+path, func(t *testing.T) {
				wantInvalidClient(t, g, g.post(path, assertion(audience), nil))
			})
		}
	}
	t.Run("row 89: of many that use an assertion at once one gets through", func(t *testing.T) {
		form := assertion(g.url)
		requests := make([]*http.Request, 20)
		for i := range requests {
			requests[i] = g.request(http.MethodPost, "/oauth2/token", form.Encode(), formHeader(http.Header{}))
		}
		var passed, refused atomic.Int32
		var racing sync.WaitGroup
		for _, request := range requests {
			racing.Go(func() {
				response, err := http.DefaultTransport.RoundTrip(request)
				if err != nil {
					t.Error(err)
					return
				}
				_ = response.Body.Close()
				switch response.StatusCode {
				case http.StatusOK:
					passed.Add(1)
				case http.StatusUnauthorized:
					refused.Add(1)
				}
			})
		}
		racing.Wait()
		if passed.Load() != 1 || refused.Load() != 19 {
			t.Errorf("%d got through and %d were refused", passed.Load(), refused.Load())
		}
	})
}

func TestAttackEndpointClaimName(t *testing.T) {
	g := prepare(t)
	for name, claim := range map[string]string{
		"a quote":             `su"b`,
		"a backslash":         `su\b`,
		"a line break":        "su\nb",
		"a control character": "su\x01b",
		"nothing":             "",
	} {
		quoted := strings.ReplaceAll(strings.ReplaceAll(claim, `\`, `\\`), `"`, `\"`)
		t.Run("row 90: a claim's name with "+name+" in it is refused in a Caddyfile", func(t *testing.T) {
			site := strings.Replace(usualSite, "X-User-Id sub", `X-User-Id "`+quoted+`"`, 1)
			if err := adaptError(t, g.caddyfile(usualOptions, site)); err == nil || !strings.Contains(err.Error(), "claim") {
				t.Errorf("got error %v", err)
			}
		})
		t.Run("row 90: a claim's name with "+name+" in it is refused in JSON", func(t *testing.T) {
			good := string(adapt(t, g.caddyfile(usualOptions, usualSite)))
			bad := strings.Replace(good, `"claim":"sub"`, `"claim":`+jsonString(claim), 1)
			if bad == good {
				t.Fatalf("nothing was changed in %s", good)
			}
			if err := caddy.Load([]byte(bad), true); err == nil || !strings.Contains(err.Error(), "claim") {
				t.Errorf("got error %v", err)
			}
		})
	}
}

// jsonString writes a string of ASCII characters as JSON does, with every special one as its number.
func jsonString(s string) string {
	var b strings.Builder
	for _, c := range s {
		if c < 0x20 || c == '"' || c == '\\' {
			fmt.Fprintf(&b, `\u%04x`, c)
			continue
		}
		b.WriteRune(c)
	}
	return `"` + b.String() + `"`
}

func headerWith(header http.Header, name, value string) http.Header {
	header = header.Clone()
	header.Set(name, value)
	return header
}

// hashesUnderWay counts the goroutines that are computing a bcrypt hash.
func hashesUnderWay() int {
	stacks := make([]byte, 4<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	count := 0
	for stack := range bytes.SplitSeq(stacks, []byte("\n\n")) {
		if bytes.Contains(stack, []byte("crypto/bcrypt.CompareHashAndPassword")) {
			count++
		}
	}
	return count
}

// rawConnection is for requests that no HTTP client would send.
type rawConnection struct {
	*net.TCPConn
	t *testing.T
}

func (g *gateway) dial() *rawConnection {
	g.t.Helper()
	connection, err := net.Dial("tcp", strings.TrimPrefix(g.url, "http://"))
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { _ = connection.Close() })
	return &rawConnection{connection.(*net.TCPConn), g.t}
}

func (c *rawConnection) write(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		c.t.Fatal(err)
	}
}

func (c *rawConnection) read() answer {
	c.t.Helper()
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		c.t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return answer{response, body}
}
