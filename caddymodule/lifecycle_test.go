package caddymodule_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/tokengateway/caddy-token-gateway/tokenstore"
	"github.com/tokengateway/caddy-token-gateway/tokenstore/badger"
)

func TestAReloadDisturbsNobody(t *testing.T) {
	// A lost answer may be asked for again within the grace window. Linux resets connections that wait at a listener which
	// is being replaced, so a client has to be ready to do so.
	g := startWith(t, usualOptions+"\nrefresh_token {\nreuse_grace 60s\n}\n", usualSite)
	caddyfile := g.caddyfile(usualOptions+"\nrefresh_token {\nreuse_grace 60s\n}\n", usualSite)
	session, revoked := g.signIn(), g.signIn()
	g.revoke(revoked.refresh).wantStatus(t, http.StatusOK)

	var requests sync.WaitGroup
	var served atomic.Int64
	stop := make(chan struct{})
	finish := sync.OnceFunc(func() {
		close(stop)
		requests.Wait()
	})
	t.Cleanup(finish)
	run := func(request func() error) {
		requests.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := request(); err != nil {
					t.Error(err)
					return
				}
				served.Add(1)
			}
		})
	}
	for range 2 {
		run(func() error { return wantCalled(g, session.access, http.StatusOK) })
		run(func() error { return wantCalled(g, revoked.access, http.StatusUnauthorized) })
	}
	refreshed := make(chan tokens, 1)
	refreshed <- session
	run(func() error {
		current := <-refreshed
		a, err := g.tryAgain(func() *http.Request {
			request := g.request(http.MethodPost, "/oauth2/token", refreshForm(current.refresh).Encode(), basic(clientID, clientSecret))
			request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			return request
		})
		if err == nil && a.StatusCode != http.StatusOK {
			err = fmt.Errorf("a refresh was answered %d: %s", a.StatusCode, a.body)
		}
		if err != nil {
			return err
		}
		refreshed <- a.tokens(t)
		return nil
	})
	for range 5 {
		before := served.Load()
		g.restartLive(caddyfile)
		awaitUntil(t, "requests are served after the reload", func() bool { return served.Load() > before+20 })
	}
	finish()
	g.refresh((<-refreshed).refresh).wantStatus(t, http.StatusOK)
	g.wantInvalidToken(t, revoked.access)
	g.refresh(revoked.refresh).wantError(t, http.StatusBadRequest, "invalid_grant")
}

// wantCalled calls the API with an access token, by a connection of its own.
func wantCalled(g *gateway, accessToken string, status int) error {
	a, err := g.tryAgain(func() *http.Request {
		return g.request(http.MethodGet, "/api/x", "", http.Header{"Authorization": {"Bearer " + accessToken}})
	})
	if err == nil && a.StatusCode != status {
		err = fmt.Errorf("a call was answered %d, want %d", a.StatusCode, status)
	}
	return err
}

// tryAgain sends a request by a connection of its own, again if the connection is lost.
func (g *gateway) tryAgain(makeRequest func() *http.Request) (answer, error) {
	transport := &http.Transport{DisableKeepAlives: true}
	var lost error
	for range 10 {
		response, err := transport.RoundTrip(makeRequest())
		if err != nil {
			lost = err
			continue
		}
		body, err := io.ReadAll(response.Body)
		if err := errors.Join(err, response.Body.Close()); err != nil {
			lost = err
			continue
		}
		return answer{response, body}, nil
	}
	return answer{}, fmt.Errorf("ten connections were lost: %w", lost)
}

func TestReloadsLeaveNoGoroutine(t *testing.T) {
	g := start(t)
	caddyfile := g.caddyfile(usualOptions, usualSite)
	used := func() {
		session := g.signIn()
		g.wantGood(t, session.access)
		g.revoke(session.refresh).wantStatus(t, http.StatusOK)
	}
	reload := func() {
		g.restartLive(caddyfile)
		used()
	}
	reload()
	settle := func() int {
		// What the proxy keeps open to its backend is Caddy's own to keep.
		g.backend.server.CloseClientConnections()
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		return runtime.NumGoroutine()
	}
	// What the first reload leaves behind for a moment is gone when the number stops falling.
	before := settle()
	awaitUntil(t, "goroutines have settled", func() bool {
		now := settle()
		settled := now >= before
		before = min(before, now)
		return settled
	})
	for range 10 {
		reload()
	}
	awaitUntil(t, "there are no more goroutines than before the ten reloads", func() bool { return settle() <= before })
}

func TestAReloadThatFailsLeavesTheRunningGatewayAlone(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() })
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		corrupt func(g *gateway, caddyfile string) string
	}{
		{"a second site's port is taken", func(_ *gateway, caddyfile string) string {
			return caddyfile + "\nhttp://" + taken.Addr().String() + " {\n}\n"
		}},
		{"a client's secret is not set", func(_ *gateway, caddyfile string) string {
			return strings.Replace(caddyfile, "secret "+clientSecret, "secret {env.NOT_SET_ANYWHERE}", 1)
		}},
		{"the key file isn't there", func(_ *gateway, caddyfile string) string {
			return strings.Replace(caddyfile, "store badger", "signing {\nkey_file /not/there\n}\nstore badger", 1)
		}},
		{"another store can't be opened", func(g *gateway, caddyfile string) string {
			return strings.Replace(caddyfile, "store badger "+g.store, "store badger "+file, 1)
		}},
		{"the store moves, and a second site's port is taken", func(g *gateway, caddyfile string) string {
			return strings.Replace(caddyfile, g.store, g.store+"-moved", 1) + "\nhttp://" + taken.Addr().String() + " {\n}\n"
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := start(t)
			session, revoked := g.signIn(), g.signIn()
			g.revoke(revoked.refresh).wantStatus(t, http.StatusOK)
			for range 3 {
				if err := caddy.Load(adapt(t, c.corrupt(g, g.caddyfile(usualOptions, usualSite))), true); err == nil {
					t.Fatal("the configuration was loaded")
				}
				g.wantGood(t, session.access)
				g.wantInvalidToken(t, revoked.access)
				session = g.refresh(session.refresh).tokens(t)
			}
			g.revoke(session.refresh).wantStatus(t, http.StatusOK)
			g.wantInvalidToken(t, session.access)
			wantStoreFree(t, g.store+"-moved")
			g.restart(g.caddyfile(usualOptions, usualSite), func() { wantStoreFree(t, g.store) })
			g.wantInvalidToken(t, session.access)
		})
	}
}

func TestRequestsUnderWayOutliveAReload(t *testing.T) {
	t.Run("a refresh whose body is still on its way", func(t *testing.T) {
		g := start(t)
		session := g.signIn()
		finish := beginPost(t, g, "/oauth2/token", refreshForm(session.refresh))
		g.restartLive(g.caddyfile(usualOptions, usualSite))
		renewed := finish().tokens(t)
		g.wantGood(t, renewed.access)
		g.refresh(renewed.refresh).wantStatus(t, http.StatusOK)
	})
	t.Run("a revocation whose body is still on its way", func(t *testing.T) {
		g := start(t)
		session := g.signIn()
		finish := beginPost(t, g, "/oauth2/revoke", url.Values{"token": {session.refresh}})
		g.restartLive(g.caddyfile(usualOptions, usualSite))
		g.wantGood(t, session.access)
		wantRevocationDone(t, finish())
		g.wantInvalidToken(t, session.access)
	})
	t.Run("a refresh whose store is gone when its body is there is told to come again", func(t *testing.T) {
		g := start(t)
		session := g.signIn()
		finish := beginPost(t, g, "/oauth2/token", refreshForm(session.refresh))
		g.restartLive(withoutOAuth(g))
		finish().wantError(t, http.StatusServiceUnavailable, "temporarily_unavailable")
		wantStoreFree(t, g.store)
		g.restartLive(g.caddyfile(usualOptions, usualSite))
		g.refresh(session.refresh).wantStatus(t, http.StatusOK)
	})
	t.Run("a call that the backend hasn't answered yet", func(t *testing.T) {
		arrived, release := make(chan struct{}), make(chan struct{})
		slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			close(arrived)
			<-release
			fmt.Fprint(w, "at last")
		}))
		t.Cleanup(slow.Close)
		g := prepare(t)
		caddyfile := g.caddyfile(usualOptions, usualSite+"\nhandle /slow {\nbearer_auth\nreverse_proxy "+strings.TrimPrefix(slow.URL, "http://")+"\n}\n")
		g.load(caddyfile)
		session := g.signIn()
		answers := make(chan answer, 1)
		var call sync.WaitGroup
		call.Go(func() { answers <- g.call("/slow", session.access) })
		<-arrived
		g.restartLive(caddyfile)
		close(release)
		call.Wait()
		if a := <-answers; a.StatusCode != http.StatusOK || string(a.body) != "at last" {
			t.Fatalf("got status %d, body %q", a.StatusCode, a.body)
		}
	})
}

func TestTheStoreIsClosedWhenNoConfigurationUsesIt(t *testing.T) {
	t.Run("the oauth block is removed", func(t *testing.T) {
		g := start(t)
		session := g.signIn()
		g.restartLive(withoutOAuth(g))
		wantStoreFree(t, g.store)
		g.restartLive(g.caddyfile(usualOptions, usualSite))
		g.wantGood(t, session.access)
		g.refresh(session.refresh).wantStatus(t, http.StatusOK)
	})
	t.Run("the store moves", func(t *testing.T) {
		g := start(t)
		session := g.signIn()
		old := g.store
		g.store += "-moved"
		g.restartLive(g.caddyfile(usualOptions, usualSite))
		wantStoreFree(t, old)
		g.refresh(session.refresh).wantError(t, http.StatusBadRequest, "invalid_grant") // what is new knows nothing of it
		g.refresh(g.signIn().refresh).wantStatus(t, http.StatusOK)
	})
	t.Run("the directory is only spelt in another way", func(t *testing.T) {
		g := start(t)
		session := g.signIn()
		g.restartLive(strings.Replace(g.caddyfile(usualOptions, usualSite), g.store, g.store+"/../"+filepath.Base(g.store)+"/", 1))
		g.wantGood(t, session.access)
		g.refresh(session.refresh).wantStatus(t, http.StatusOK)
	})
	t.Run("Caddy stops", func(t *testing.T) {
		g := start(t)
		session := g.signIn()
		g.restart(g.caddyfile(usualOptions, usualSite), func() { wantStoreFree(t, g.store) })
		g.wantGood(t, session.access)
	})
}

func TestTwoSitesShareOneStore(t *testing.T) {
	g := prepare(t)
	second := "http://127.0.0.1:" + freePort(t)
	caddyfile := g.caddyfile(usualOptions, usualSite)
	_, site, found := strings.Cut(caddyfile, "\n"+g.url+" {")
	if !found {
		t.Fatal("the Caddyfile has no site")
	}
	g.load(caddyfile + "\n" + second + " {" + site)
	other := *g
	other.url = second

	session := g.signIn()
	other.wantGood(t, session.access)
	renewed := other.refresh(session.refresh).tokens(t)
	g.wantGood(t, renewed.access)
	g.revoke(renewed.refresh).wantStatus(t, http.StatusOK)
	for _, access := range []string{session.access, renewed.access} {
		other.wantInvalidToken(t, access)
	}
	other.refresh(renewed.refresh).wantError(t, http.StatusBadRequest, "invalid_grant")
}

func TestTheBinary(t *testing.T) {
	directory := t.TempDir()
	binary := filepath.Join(directory, "caddy")
	if output, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "./caddy").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	g := &gateway{
		t: t, url: "http://127.0.0.1:" + freePort(t), store: filepath.Join(directory, "store"),
		logFile: filepath.Join(directory, "caddy.log"), backend: startBackend(t),
	}
	caddyfile := filepath.Join(directory, "Caddyfile")
	if err := os.WriteFile(caddyfile, []byte(g.caddyfile(usualOptions, usualSite)), 0o600); err != nil {
		t.Fatal(err)
	}
	command := func(name string) (*exec.Cmd, *bytes.Buffer) {
		c := exec.CommandContext(t.Context(), binary, name, "--config", caddyfile, "--adapter", "caddyfile")
		c.Env = append(os.Environ(), "XDG_DATA_HOME="+filepath.Join(directory, "data"), "XDG_CONFIG_HOME="+filepath.Join(directory, "config"))
		var output bytes.Buffer
		c.Stdout, c.Stderr = &output, &output
		return c, &output
	}
	// run starts the gateway and returns what kills it at once.
	run := func() (kill func()) {
		c, _ := command("run")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		kill = sync.OnceFunc(func() {
			if err := c.Process.Kill(); err != nil {
				t.Error(err)
			}
			_ = c.Wait() // it was killed
		})
		t.Cleanup(kill)
		awaitUntil(t, "the gateway is ready", func() bool {
			response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(g.request(http.MethodGet, "/oauth2/jwks", "", nil))
			if err != nil {
				return false
			}
			_ = response.Body.Close()
			return response.StatusCode == http.StatusOK
		})
		return kill
	}

	kill := run()
	t.Run("a configuration is validated beside the gateway that runs it", func(t *testing.T) {
		session := g.signIn()
		c, output := command("validate")
		if err := c.Run(); err != nil {
			t.Fatalf("%v: %s", err, output)
		}
		g.wantGood(t, session.access)
		g.refresh(session.refresh).wantStatus(t, http.StatusOK)
	})
	t.Run("row 73 of the attacks: what was revoked is still revoked after a kill -9 right after the answer", func(t *testing.T) {
		kept, byRefreshToken, byAccessToken := g.signIn(), g.signIn(), g.signIn()
		renewed := g.refresh(byRefreshToken.refresh).tokens(t)
		alone := g.token(url.Values{"grant_type": {"client_credentials"}}).tokens(t).access
		g.revoke(alone).wantStatus(t, http.StatusOK)
		g.revoke(byAccessToken.access).wantStatus(t, http.StatusOK)
		g.revoke(renewed.refresh).wantStatus(t, http.StatusOK)
		kill()
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		kill = run()
		for _, access := range []string{alone, byAccessToken.access, byRefreshToken.access, renewed.access} {
			g.wantInvalidToken(t, access)
		}
		for _, refresh := range []string{renewed.refresh, byAccessToken.refresh} {
			g.refresh(refresh).wantError(t, http.StatusBadRequest, "invalid_grant")
		}
		g.wantGood(t, kept.access)
		g.refresh(kept.refresh).wantStatus(t, http.StatusOK)
	})
	t.Run("what was rotated is still rotated after a kill -9 right after the answer", func(t *testing.T) {
		first := g.signIn()
		second := g.refresh(first.refresh).tokens(t)
		kill()
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		run()
		third := g.refresh(second.refresh).tokens(t)
		g.refresh(second.refresh).wantError(t, http.StatusBadRequest, "invalid_grant") // the reuse is known for one
		g.wantInvalidToken(t, third.access)
	})
}

// restartLive replaces the configuration without a stop in between. It returns when the server before takes no more
// connections: then none that is made is lost with it.
func (g *gateway) restartLive(caddyfile string) {
	g.t.Helper()
	awaitEnd := g.watchServer()
	g.load(caddyfile)
	awaitEnd()
}

// watchServer returns what waits until the server that runs now has closed its listeners.
func (g *gateway) watchServer() (awaitEnd func()) {
	g.t.Helper()
	connection, err := net.Dial("tcp", g.host())
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { _ = connection.Close() })
	fmt.Fprintf(connection, "GET /not-there HTTP/1.1\r\nHost: %s\r\n\r\n", g.host())
	reader := bufio.NewReader(connection)
	readAnswer(g.t, reader)
	return func() {
		g.t.Helper()
		// http.Server.Shutdown closes idle connections, such as this one, when it has closed the listeners.
		if _, err := reader.ReadByte(); err == nil {
			g.t.Fatal("the server said something that it wasn't asked for")
		}
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	}
}

// withoutOAuth is a Caddyfile for the same site that has nothing to do with tokens.
func withoutOAuth(g *gateway) string {
	caddyfile := g.caddyfile("", "respond \"nothing here\"")
	before, after, _ := strings.Cut(caddyfile, "\toauth {")
	_, after, _ = strings.Cut(after, "\n\t}")
	return before + after
}

// wantStoreFree fails the test unless nobody has the store in a directory open.
func wantStoreFree(t *testing.T, directory string) {
	t.Helper()
	store, err := badger.Open(badger.Options{Directory: directory})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Keys(t.Context(), tokenstore.MACKey); err != nil {
		t.Error(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
}

// beginPost sends a form but for its last byte, as the usual client, and returns when the gateway has begun to read it.
// What it returns sends the rest and reads the answer.
func beginPost(t *testing.T, g *gateway, path string, form url.Values) (finish func() answer) {
	t.Helper()
	connection, err := net.Dial("tcp", g.host())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	body := form.Encode()
	fmt.Fprintf(connection, "POST %s HTTP/1.1\r\nHost: %s\r\nAuthorization: %s\r\nContent-Type: application/x-www-form-urlencoded\r\n"+
		"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n", path, g.host(), basic(clientID, clientSecret).Get("Authorization"), len(body))
	reader := bufio.NewReader(connection)
	// A server says 100 when its handler begins to read.
	for _, want := range []string{"HTTP/1.1 100 Continue\r\n", "\r\n"} {
		if line, err := reader.ReadString('\n'); err != nil || line != want {
			t.Fatalf("got %q and error %v, want %q", line, err, want)
		}
	}
	write := func(s string) {
		if _, err := io.WriteString(connection, s); err != nil {
			t.Fatal(err)
		}
	}
	write(body[:len(body)-1])
	return func() answer {
		t.Helper()
		write(body[len(body)-1:])
		return readAnswer(t, reader)
	}
}

// awaitUntil returns when a condition holds; the test fails if it doesn't within half a minute.
func awaitUntil(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for range 6_000 {
		if holds() {
			return
		}
		<-tick.C
	}
	t.Fatalf("not within half a minute: %s", what)
}
