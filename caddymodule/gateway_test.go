package caddymodule_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/tokengateway/caddy-token-gateway/caddymodule"
)

// The clients and the user of the usual configuration.
const (
	clientID     = "u2Q0jCodaZIgFVhfLTcuR4rB_NYa"
	clientSecret = "BZEfiFAwN76BCQLJN1SqnXhlUroa"
	otherID      = "other"
	otherSecret  = "another secret: 100% of it" // needs encoding in every place that it can be in
	publicID     = "spa"
	userName     = "admin"
	userPassword = "admin"
	// userHash is of userPassword, with bcrypt's smallest cost.
	userHash = "$2a$04$nkgb41vqCtmIEosYV2KEveE8Cqs1WD37yPIdbEks54WJomUpOKqti"
)

// usualOptions are the options of the global option oauth in most tests.
const usualOptions = `
	client ` + clientID + ` {
		secret ` + clientSecret + `
		grant_types password refresh_token client_credentials
		scopes default read write
	}
	client ` + otherID + ` {
		secret "` + otherSecret + `"
		grant_types password refresh_token client_credentials
		scopes default read
	}
	client ` + publicID + ` {
		public
		grant_types password refresh_token
		scopes default read
		cors_origins https://app.example.com
	}
	user ` + userName + ` ` + userHash + `
`

// usualSite is the content of the gateway's site in most tests. UPSTREAM is the address of the backend.
const usualSite = `
	oauth_server
	handle /api/* {
		bearer_auth {
			header X-User-Id sub
		}
		reverse_proxy UPSTREAM
	}
	handle /read/* {
		bearer_auth {
			scopes read
		}
		reverse_proxy UPSTREAM
	}
`

// gateway is a Caddy in this process, with a site on loopback and a backend behind it.
type gateway struct {
	t       *testing.T
	url     string // of the site, without a slash at the end
	store   string // the store's directory
	logFile string
	backend *backend
}

// start runs Caddy with the usual configuration.
func start(t *testing.T) *gateway { return startWith(t, usualOptions, usualSite) }

// startWith runs Caddy with these options of the global option oauth, and this content of its site.
func startWith(t *testing.T, options, site string) *gateway {
	t.Helper()
	g := prepare(t)
	g.load(g.caddyfile(options, site))
	return g
}

// prepare makes everything but the running Caddy.
func prepare(t *testing.T) *gateway {
	t.Helper()
	directory := t.TempDir()
	g := &gateway{
		t:       t,
		url:     "http://127.0.0.1:" + freePort(t),
		store:   filepath.Join(directory, "store"),
		logFile: filepath.Join(directory, "caddy.log"),
		backend: startBackend(t),
	}
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	})
	return g
}

// caddyfile returns the whole Caddyfile.
func (g *gateway) caddyfile(options, site string) string {
	return fmt.Sprintf(`{
	admin off
	persist_config off
	auto_https off
	log {
		output file %s
		level DEBUG
	}
	oauth {
		issuer %s
		store badger %s
		%s
	}
}
%s {
	log
	%s
}
`, g.logFile, g.url, g.store, options, g.url, strings.ReplaceAll(site, "UPSTREAM", g.backend.address()))
}

// load makes Caddy run a Caddyfile, instead of the one that it runs so far.
func (g *gateway) load(caddyfile string) {
	g.t.Helper()
	if err := caddy.Load(adapt(g.t, caddyfile), true); err != nil {
		g.t.Fatal(err)
	}
}

func adapt(t *testing.T, caddyfile string) []byte {
	t.Helper()
	adapted, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		t.Fatal(err)
	}
	for _, warning := range warnings {
		if !strings.Contains(warning.Message, "not formatted") {
			t.Errorf("warning: %s", warning)
		}
	}
	return adapted
}

func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	return port
}

// logs returns what Caddy has logged so far.
func (g *gateway) logs() string {
	g.t.Helper()
	content, err := os.ReadFile(g.logFile)
	if err != nil {
		g.t.Fatal(err)
	}
	return string(content)
}

// answer is an HTTP answer, read to its end.
type answer struct {
	*http.Response
	body []byte
}

// json returns the body's members; the test fails if it isn't a JSON object.
func (a answer) json(t *testing.T) map[string]any {
	t.Helper()
	members := make(map[string]any)
	if err := json.Unmarshal(a.body, &members); err != nil {
		t.Fatalf("status %d, body %q: %v", a.StatusCode, a.body, err)
	}
	return members
}

// text returns a member of the body that is a string, empty if there is none.
func (a answer) text(t *testing.T, name string) string {
	t.Helper()
	value, _ := a.json(t)[name].(string)
	return value
}

// wantError fails the test unless the answer is an error of this status and code, with a description.
func (a answer) wantError(t *testing.T, status int, code string) {
	t.Helper()
	if a.StatusCode != status || a.text(t, "error") != code || a.text(t, "error_description") == "" {
		t.Fatalf("got status %d, body %s; want %d with %s and a description", a.StatusCode, a.body, status, code)
	}
}

// wantStatus fails the test unless the answer has this status.
func (a answer) wantStatus(t *testing.T, status int) {
	t.Helper()
	if a.StatusCode != status {
		t.Fatalf("got status %d, headers %v, body %s; want %d", a.StatusCode, a.Header, a.body, status)
	}
}

// do sends a request and reads the answer. No redirect is followed.
func (g *gateway) do(request *http.Request) answer {
	g.t.Helper()
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		g.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return answer{response, body}
}

// request makes a request to a path of the gateway.
func (g *gateway) request(method, path, body string, header http.Header) *http.Request {
	g.t.Helper()
	request, err := http.NewRequestWithContext(g.t.Context(), method, g.url+path, strings.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	for name, values := range header {
		request.Header[name] = values
	}
	return request
}

// post sends a form. The header may be nil; its Content-Type is set unless it has one.
func (g *gateway) post(path string, form url.Values, header http.Header) answer {
	g.t.Helper()
	return g.postBody(path, form.Encode(), header)
}

// postBody is post with the form as it goes over the wire.
func (g *gateway) postBody(path, body string, header http.Header) answer {
	g.t.Helper()
	request := g.request(http.MethodPost, path, body, header)
	if request.Header.Get("Content-Type") == "" {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return g.do(request)
}

// token asks the token endpoint as the usual client, authenticated by Basic.
func (g *gateway) token(form url.Values) answer {
	g.t.Helper()
	return g.post("/oauth2/token", form, basic(clientID, clientSecret))
}

// revoke asks the revocation endpoint as the usual client.
func (g *gateway) revoke(token string) answer {
	g.t.Helper()
	return g.post("/oauth2/revoke", url.Values{"token": {token}}, basic(clientID, clientSecret))
}

// tokens are what a success of the token endpoint holds.
type tokens struct{ access, refresh string }

func (a answer) tokens(t *testing.T) tokens {
	t.Helper()
	a.wantStatus(t, http.StatusOK)
	return tokens{a.text(t, "access_token"), a.text(t, "refresh_token")}
}

// signIn begins a session of the usual user at the usual client.
func (g *gateway) signIn() tokens {
	g.t.Helper()
	return g.token(passwordForm()).tokens(g.t)
}

func passwordForm() url.Values {
	return url.Values{"grant_type": {"password"}, "username": {userName}, "password": {userPassword}}
}

// refresh uses a refresh token as the usual client.
func (g *gateway) refresh(refreshToken string) answer {
	g.t.Helper()
	return g.token(refreshForm(refreshToken))
}

func refreshForm(refreshToken string) url.Values {
	return url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refreshToken}}
}

// call calls the API with an access token.
func (g *gateway) call(path, accessToken string) answer {
	g.t.Helper()
	return g.do(g.request(http.MethodGet, path, "", http.Header{"Authorization": {"Bearer " + accessToken}}))
}

// basic returns a header with Basic credentials, encoded as RFC 6749 §2.3.1 asks.
func basic(id, secret string) http.Header {
	request := &http.Request{Header: http.Header{}}
	request.SetBasicAuth(url.QueryEscape(id), url.QueryEscape(secret))
	return request.Header
}

// with returns a copy of a form with one parameter set.
func with(form url.Values, name, value string) url.Values {
	changed := url.Values{}
	for n, values := range form {
		changed[n] = values
	}
	changed.Set(name, value)
	return changed
}

// backend is the API behind the gateway. It keeps the last request that it got.
type backend struct {
	server *httptest.Server
	mu     sync.Mutex
	got    *http.Request
	count  int
}

func startBackend(t *testing.T) *backend {
	t.Helper()
	b := new(backend)
	b.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		b.mu.Lock()
		defer b.mu.Unlock()
		b.got, b.count = r, b.count+1
		fmt.Fprint(w, "from the backend")
	}))
	t.Cleanup(b.server.Close)
	return b
}

func (b *backend) address() string { return strings.TrimPrefix(b.server.URL, "http://") }

// last returns the last request that got through, nil if none did.
func (b *backend) last() *http.Request {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.got
}

// requests returns how many got through.
func (b *backend) requests() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.count
}

func TestASessionFromItsBeginningToItsEnd(t *testing.T) {
	g := start(t)
	first := g.signIn()
	call := g.call("/api/hello", first.access)
	call.wantStatus(t, http.StatusOK)
	if !bytes.Equal(call.body, []byte("from the backend")) {
		t.Fatalf("got body %q", call.body)
	}
	if got := g.backend.last().Header.Get("X-User-Id"); got != userName {
		t.Fatalf("the backend was told %q, want %q", got, userName)
	}
	second := g.refresh(first.refresh).tokens(t)
	if second.refresh == first.refresh || second.refresh == "" {
		t.Fatal("the refresh gave no new refresh token")
	}
	g.call("/api/hello", second.access).wantStatus(t, http.StatusOK)
	g.revoke(second.refresh).wantStatus(t, http.StatusOK)
	for _, token := range []string{first.access, second.access} {
		g.call("/api/hello", token).wantStatus(t, http.StatusUnauthorized)
	}
	g.refresh(second.refresh).wantError(t, http.StatusBadRequest, "invalid_grant")
}
