package caddymodule_test

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"
)

// RFC 6750 and OAuth 2.1 §5, by the rows of the checklist.
func TestRFCBearer(t *testing.T) {
	g, f := startForging(t, newForgingKey(t))
	good := g.signIn().access
	expired := f.token(claimChanges{"exp": time.Now().Unix() - 1})
	get := func(path string, header http.Header) answer { return g.do(g.request(http.MethodGet, path, "", header)) }

	t.Run("row 107: the token is in the Authorization header, under the scheme Bearer in any case", func(t *testing.T) {
		for _, scheme := range []string{"Bearer", "bearer", "BEARER"} {
			get("/api/x", http.Header{"Authorization": {scheme + " " + good}}).wantStatus(t, http.StatusOK)
		}
		for _, name := range []string{"X-Authorization", "Proxy-Authorization", "Cookie"} {
			get("/api/x", http.Header{name: {"Bearer " + good}}).wantChallenge(t, http.StatusUnauthorized, "")
		}
	})

	t.Run("row 108: a token in the query isn't read", func(t *testing.T) {
		before := g.backend.requests()
		get("/api/x?access_token="+good, nil).wantChallenge(t, http.StatusUnauthorized, "")
		wantNothingThrough(t, g, before)
		get("/api/x?access_token="+expired, http.Header{"Authorization": {"Bearer " + good}}).wantStatus(t, http.StatusOK)
	})

	t.Run("row 109: a token in a form isn't read", func(t *testing.T) {
		before := g.backend.requests()
		g.post("/api/x", url.Values{"access_token": {good}}, nil).wantChallenge(t, http.StatusUnauthorized, "")
		wantNothingThrough(t, g, before)
		header := http.Header{"Authorization": {"Bearer " + good}}
		g.post("/api/x", url.Values{"access_token": {expired}}, header).wantStatus(t, http.StatusOK)
	})

	t.Run("row 110: two Authorization headers are an invalid request", func(t *testing.T) {
		before := g.backend.requests()
		get("/api/x", http.Header{"Authorization": {"Bearer " + good, "Bearer " + good}}).wantChallenge(t, http.StatusBadRequest, "invalid_request")
		wantNothingThrough(t, g, before)
	})

	t.Run("row 111: without a token the challenge is bare", func(t *testing.T) {
		a := get("/api/x", nil)
		a.wantChallenge(t, http.StatusUnauthorized, "")
		if got, want := a.Header.Get("WWW-Authenticate"), fmt.Sprintf("Bearer realm=%q", g.url); got != want {
			t.Fatalf("got challenge %s, want %s", got, want)
		}
	})

	t.Run("row 112: a bad token is answered 401 with invalid_token", func(t *testing.T) {
		revoked := g.signIn()
		g.revoke(revoked.refresh).wantStatus(t, http.StatusOK)
		for name, token := range map[string]string{
			"expired": expired, "malformed": "x", "revoked": revoked.access, "a refresh token": g.signIn().refresh,
			"signed by somebody else": good[:len(good)-10] + "AAAAAAAAAA",
		} {
			t.Run(name, func(t *testing.T) { g.wantInvalidToken(t, token) })
		}
	})

	t.Run("row 113: without the scope the answer is 403 with insufficient_scope and the scope that is needed", func(t *testing.T) {
		before := g.backend.requests()
		a := g.call("/read/x", good)
		a.wantChallenge(t, http.StatusForbidden, "insufficient_scope")
		if got := attributesOf(t, a)["scope"]; got != "read" {
			t.Fatalf("got scope %q, want read", got)
		}
		wantNothingThrough(t, g, before)
		g.call("/read/x", g.token(with(passwordForm(), "scope", "read")).tokens(t).access).wantStatus(t, http.StatusOK)
	})

	t.Run("row 114: the challenge's attributes are quoted, and none is there twice", func(t *testing.T) {
		for _, a := range []answer{
			get("/api/x", nil),
			g.call("/api/x", expired),
			g.call("/api/x", "x"),
			g.call("/api/x", "x,y"),
			g.call("/read/x", good),
		} {
			if got := attributesOf(t, a)["realm"]; got != g.url {
				t.Fatalf("got realm %q, want %q", got, g.url)
			}
		}
	})

	t.Run("row 116: no token is in the logs, be it good or bad", func(t *testing.T) {
		good, expired := g.signIn().access, f.token(claimChanges{"exp": time.Now().Unix() - 1})
		headers := map[string][]string{
			"good": {"Bearer " + good}, "expired": {"Bearer " + expired}, "no scheme": {good}, "Basic": {"Basic " + good},
			"twice": {"Bearer " + good, "Bearer " + expired}, "malformed": {"Bearer x" + good},
		}
		for _, values := range headers {
			get("/api/x", http.Header{"Authorization": values})
			get("/read/x", http.Header{"Authorization": values})
		}
		logs := g.logs()
		for _, token := range []string{good, expired} {
			for _, segment := range strings.Split(token, ".")[1:] {
				if strings.Contains(logs, segment) {
					t.Fatal("a part of a token is in the log")
				}
			}
		}
	})
}

func TestRFCBearerAudience(t *testing.T) {
	const first, second, third = "https://first.example.com", "https://second.example.com", "https://third.example.com"
	options := strings.Replace(usualOptions, "secret "+clientSecret, "secret "+clientSecret+"\naudience "+first+" "+second, 1)
	g := startWith(t, options, `
	oauth_server
	handle /any/* {
		bearer_auth
		reverse_proxy UPSTREAM
	}
	handle /first/* {
		bearer_auth {
			audience `+first+`
		}
		reverse_proxy UPSTREAM
	}
	handle /second-or-third/* {
		bearer_auth {
			audience `+third+` `+second+`
		}
		reverse_proxy UPSTREAM
	}
	handle /third/* {
		bearer_auth {
			audience `+third+`
		}
		reverse_proxy UPSTREAM
	}
`)
	both := g.signIn().access
	onlySecond := g.token(with(passwordForm(), "resource", second)).tokens(t).access
	others := g.post("/oauth2/token", passwordForm(), basic(otherID, otherSecret)).tokens(t).access // for its own client_id

	for _, c := range []struct {
		name, path, token string
		status            int
	}{
		{"without a setting, an audience of this gateway is taken", "/any/x", both, http.StatusOK},
		{"without a setting, any other of this gateway too", "/any/x", others, http.StatusOK},
		{"one of the token's audiences is enough", "/first/x", both, http.StatusOK},
		{"a token for another API is refused", "/first/x", onlySecond, http.StatusUnauthorized},
		{"one of the API's audiences is enough", "/second-or-third/x", onlySecond, http.StatusOK},
		{"no audience in common", "/third/x", both, http.StatusUnauthorized},
		{"another client's audience", "/first/x", others, http.StatusUnauthorized},
	} {
		t.Run("row 115: "+c.name, func(t *testing.T) {
			before := g.backend.requests()
			a := g.call(c.path, c.token)
			a.wantStatus(t, c.status)
			if c.status != http.StatusOK {
				a.wantChallenge(t, c.status, "invalid_token")
				wantNothingThrough(t, g, before)
			}
		})
	}
}

func TestRFCBearerTowardsTheSite(t *testing.T) {
	g := startWith(t, usualOptions, `
	oauth_server
	handle /api/* {
		bearer_auth
		reverse_proxy UPSTREAM
	}
	handle /forwarded/* {
		bearer_auth {
			forward_token on
		}
		reverse_proxy UPSTREAM
	}
	handle /read/* {
		bearer_auth {
			scopes read
		}
		reverse_proxy UPSTREAM
	}
	handle_errors {
		respond "{http.error.status_code} {http.auth.bearer.error}"
	}
`)
	session := g.signIn()

	t.Run("row 107: the upstream gets no token", func(t *testing.T) {
		g.call("/api/x", session.access).wantStatus(t, http.StatusOK)
		if got, there := g.backend.last().Header["Authorization"]; there {
			t.Fatalf("the backend got %q", got)
		}
	})
	t.Run("row 107: unless it is to have it", func(t *testing.T) {
		g.call("/forwarded/x", session.access).wantStatus(t, http.StatusOK)
		if got := g.backend.last().Header.Get("Authorization"); got != "Bearer "+session.access {
			t.Fatalf("the backend got %q", got)
		}
	})
	revoked := g.signIn()
	g.revoke(revoked.access).wantStatus(t, http.StatusOK)
	for _, c := range []struct {
		name, path, want string
		header           []string
	}{
		{"row 110: the site's error page knows of two headers", "/api/x", "400 malformed_request", []string{"Bearer x", "Bearer y"}},
		{"row 111: the site's error page knows that there was no token", "/api/x", "401 missing", nil},
		{"row 112: the site's error page knows what was wrong with the token", "/api/x", "401 malformed", []string{"Bearer x"}},
		{"row 112: the site's error page knows that the token was revoked", "/api/x", "401 revoked", []string{"Bearer " + revoked.access}},
		{"row 113: the site's error page knows that the scope is missing", "/read/x", "403 insufficient_scope", []string{"Bearer " + session.access}},
	} {
		t.Run(c.name, func(t *testing.T) {
			header := http.Header{}
			if c.header != nil {
				header["Authorization"] = c.header
			}
			a := g.do(g.request(http.MethodGet, c.path, "", header))
			if got := string(a.body); got != c.want || a.Header.Get("WWW-Authenticate") == "" {
				t.Fatalf("got body %q and headers %v, want %q and a challenge", got, a.Header, c.want)
			}
		})
	}
}

var (
	challengeForm      = regexp.MustCompile(`^Bearer [a-z_]+="(?:[^"\\]|\\.)*"(?:, [a-z_]+="(?:[^"\\]|\\.)*")*$`)
	challengeAttribute = regexp.MustCompile(`([a-z_]+)="((?:[^"\\]|\\.)*)"`)
)

// attributesOf takes an answer's only challenge apart (RFC 9110 §11.6.1).
func attributesOf(t *testing.T, a answer) map[string]string {
	t.Helper()
	challenges := a.Header.Values("WWW-Authenticate")
	if len(challenges) != 1 || !challengeForm.MatchString(challenges[0]) {
		t.Fatalf("got challenges %q", challenges)
	}
	attributes := make(map[string]string)
	for _, match := range challengeAttribute.FindAllStringSubmatch(challenges[0], -1) {
		if _, twice := attributes[match[1]]; twice {
			t.Fatalf("%s is there twice in %s", match[1], challenges[0])
		}
		attributes[match[1]] = match[2]
	}
	return attributes
}

func TestBearerAuthWithinBearerAuth(t *testing.T) {
	g := startWith(t, usualOptions, `
	bearer_auth {
		header X-User-Id sub
	}
	handle /read/* {
		bearer_auth {
			scopes read
		}
		reverse_proxy UPSTREAM
	}
	handle /forward/* {
		bearer_auth {
			forward_token on
		}
		reverse_proxy UPSTREAM
	}
	oauth_server
`)
	reader := g.token(with(passwordForm(), "scope", "read")).tokens(t)
	g.call("/read/hello", reader.access).wantStatus(t, http.StatusOK)
	got := g.backend.last().Header
	if got.Get("X-User-Id") != userName || got.Get("Authorization") != "" {
		t.Errorf("the backend got user %q and Authorization %q", got.Get("X-User-Id"), got.Get("Authorization"))
	}
	writer := g.token(with(passwordForm(), "scope", "write")).tokens(t)
	g.call("/read/hello", writer.access).wantStatus(t, http.StatusForbidden)
	g.call("/forward/hello", writer.access).wantStatus(t, http.StatusOK)
	if got := g.backend.last().Header.Get("Authorization"); got != "Bearer "+writer.access {
		t.Errorf("the backend got Authorization %q", got)
	}
	g.do(g.request(http.MethodGet, "/read/hello", "", nil)).wantStatus(t, http.StatusUnauthorized)
}
