package caddymodule_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// sourceCredentials is the Authorization header of the source system's documentation, word for word.
const sourceCredentials = "Basic dTJRMGpDb2RhWklnRlZoZkxUY3VSNHJCX05ZYTpCWkVmaUZBd043NkJDUUxKTjFTcW5YaGxVcm9h"

const exampleFile = "../Caddyfile.example"

// The example is run as its readers run it: by the built binary.
func TestTheExampleDoesWhatTheSourceSystemsDocumentationShows(t *testing.T) {
	g := runExample(t)
	source := http.Header{"Authorization": {sourceCredentials}, "Content-Type": {"application/x-www-form-urlencoded"}}

	// The page begins with a refresh token that is there already.
	first := g.post("/oauth2/token", passwordForm(), source).tokens(t)

	refreshed := g.postBody("/oauth2/token", "grant_type=refresh_token&refresh_token="+first.refresh, source)
	session := refreshed.tokens(t)
	for name, want := range map[string]any{"token_type": "Bearer", "expires_in": 3600.0, "scope": "default"} {
		if got := refreshed.json(t)[name]; got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	if session.refresh == "" || session.refresh == first.refresh {
		t.Error("the refresh gave no new refresh token")
	}
	header, claims := tokenPart(t, session.access, 0), tokenPart(t, session.access, 1)
	if header["typ"] != "at+jwt" || header["alg"] != "ES256" {
		t.Errorf("the access token has the header %v", header)
	}
	for name, want := range map[string]any{
		"iss": g.url, "sub": userName, "aut": "APPLICATION_USER", "aud": clientID, "azp": clientID, "client_id": clientID, "scope": "default",
	} {
		if claims[name] != want {
			t.Errorf("the access token's %s is %v, want %v", name, claims[name], want)
		}
	}

	t.Run("the API is open to the access token, and forged headers don't get through", func(t *testing.T) {
		request := g.request(http.MethodGet, "/api/hello", "", http.Header{
			"Authorization": {"Bearer " + session.access},
			"X-User-Id":     {"forged"}, "x-USER-id": {"forged"}, "X-Scope": {"forged"}, "X-Client-Id": {"forged"},
		})
		got := g.do(request)
		got.wantStatus(t, http.StatusOK)
		for _, line := range []string{
			"GET /api/hello\n", "X-User-Id: " + userName + "\n", "X-Client-Id: " + clientID + "\n", "X-Scope: default\n", "Authorization: \n",
		} {
			if !strings.Contains(string(got.body), line) {
				t.Errorf("the backend was sent %q, want it to have %q", got.body, line)
			}
		}
		if strings.Contains(string(got.body), "forged") || strings.Contains(string(got.body), session.access) {
			t.Errorf("the backend was sent %q", got.body)
		}
	})
	t.Run("the API is closed without an access token", func(t *testing.T) {
		got := g.do(g.request(http.MethodGet, "/api/hello", "", http.Header{"X-User-Id": {"forged"}}))
		got.wantStatus(t, http.StatusUnauthorized)
		if challenge := got.Header.Get("WWW-Authenticate"); !strings.HasPrefix(challenge, "Bearer ") {
			t.Errorf("got challenge %q", challenge)
		}
	})
	t.Run("writing takes the scope write", func(t *testing.T) {
		g.call("/api/write/it", session.access).wantStatus(t, http.StatusForbidden)
		writer := g.post("/oauth2/token", with(passwordForm(), "scope", "write"), source).tokens(t)
		got := g.call("/api/write/it", writer.access)
		got.wantStatus(t, http.StatusOK)
		if want := "X-User-Id: " + userName + "\n"; !strings.Contains(string(got.body), want) {
			t.Errorf("the backend was sent %q, want it to have %q", got.body, want)
		}
	})

	revoked := g.postBody("/oauth2/revoke", "token="+session.refresh+"&token_type_hint=refresh_token", source)
	revoked.wantStatus(t, http.StatusOK)
	if len(revoked.body) > 0 {
		t.Errorf("the revocation is answered with the body %q", revoked.body)
	}
	for name, want := range map[string]string{
		"Content-Type":           "application/json",
		"Cache-Control":          "no-store",
		"Pragma":                 "no-cache",
		"X-Frame-Options":        "DENY",
		"X-Content-Type-Options": "nosniff",
		"RevokedAccessToken":     claims["jti"].(string),
		"RevokedRefreshToken":    session.refresh,
		"AuthorizedUser":         userName,
	} {
		if got := revoked.Header.Get(name); got != want {
			t.Errorf("the revocation's header %s is %q, want %q", name, got, want)
		}
	}
	for _, access := range []string{first.access, session.access} {
		g.call("/api/hello", access).wantStatus(t, http.StatusUnauthorized)
	}
	g.postBody("/oauth2/token", "grant_type=refresh_token&refresh_token="+session.refresh, source).
		wantError(t, http.StatusBadRequest, "invalid_grant")

	again := g.post("/oauth2/token", passwordForm(), source).tokens(t)
	g.postBody("/oauth2/revoke", "token="+again.access, source).wantStatus(t, http.StatusOK)
	g.call("/api/hello", again.access).wantStatus(t, http.StatusUnauthorized)
}

// runExample builds the binary and runs it with the example, whose ports are replaced by free ones and whose data is in a
// directory of the test's. It returns once the gateway answers over a TLS connection that its own root certificate vouches
// for. The harness's methods speak to it.
func runExample(t *testing.T) *gateway {
	t.Helper()
	directory := t.TempDir()
	binary := filepath.Join(directory, "caddy")
	if output, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "./caddy").CombinedOutput(); err != nil {
		t.Fatalf("building the binary: %v\n%s", err, output)
	}
	port, backendPort, adminPort := freePort(t), freePort(t), freePort(t)
	example := strings.NewReplacer(":9443", ":"+port, ":8081", ":"+backendPort).Replace(readExample(t))
	for _, what := range []string{"issuer https://localhost:" + port, "\nhttps://localhost:" + port + " {", "reverse_proxy 127.0.0.1:" + backendPort} {
		if !strings.Contains(example, what) {
			t.Fatalf("the example has no %q", what)
		}
	}
	head, rest, found := strings.Cut(example, "\n{\n")
	if !found {
		t.Fatal("the example has no global options")
	}
	example = head + "\n{\n\tadmin 127.0.0.1:" + adminPort + "\n" + rest
	config := filepath.Join(directory, "Caddyfile.example")
	writeFile(t, config, []byte(example))

	running, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	command := exec.CommandContext(running, binary, "run", "--config", config, "--adapter", "caddyfile")
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	command.WaitDelay = 30 * time.Second
	command.Env = append(os.Environ(),
		"XDG_DATA_HOME="+filepath.Join(directory, "data"), "XDG_CONFIG_HOME="+filepath.Join(directory, "config"), "HOME="+directory)
	var log bytes.Buffer // read after the end only
	command.Stdout, command.Stderr = &log, &log
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = command.Wait() // the test fails by what the server answers, and says what it logged
		close(ended)
	}()
	t.Cleanup(func() {
		stop()
		<-ended
		if t.Failed() {
			t.Logf("the server's log:\n%s", log.String())
		}
		if strings.Contains(log.String(), clientSecret) {
			t.Error("the client's secret is in the log")
		}
	})

	g := &gateway{t: t, url: "https://localhost:" + port}
	transport := waitForGateway(t, g.url, filepath.Join(directory, "data", "caddy", "pki", "authorities", "local", "root.crt"), ended)
	usual := http.DefaultTransport
	http.DefaultTransport = transport // the one that the harness uses
	t.Cleanup(func() {
		http.DefaultTransport = usual
		transport.CloseIdleConnections()
	})
	return g
}

// waitForGateway asks until the gateway answers, and returns a transport that trusts its root certificate.
func waitForGateway(t *testing.T, gatewayURL, rootFile string, ended <-chan struct{}) *http.Transport {
	t.Helper()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		if transport := transportTrusting(rootFile); transport != nil {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, gatewayURL+"/oauth2/jwks", nil)
			if err != nil {
				t.Fatal(err)
			}
			response, err := transport.RoundTrip(request)
			if err == nil {
				_, err = io.Copy(io.Discard, response.Body)
				if err = errors.Join(err, response.Body.Close()); err == nil && response.StatusCode == http.StatusOK {
					return transport
				}
			}
			transport.CloseIdleConnections()
		}
		select {
		case <-again.C:
		case <-ended:
			t.Fatal("the server ended before it answered")
		case <-t.Context().Done():
			t.Fatal("the server did not answer")
		}
	}
}

// transportTrusting returns nil until the file with the root certificate is there.
func transportTrusting(rootFile string) *http.Transport {
	content, err := os.ReadFile(rootFile)
	if err != nil {
		return nil
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(content) {
		return nil
	}
	return &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
}

func readExample(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile(exampleFile)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// groups are the blocks of the global option oauth that need no comment, because their options have them.
var groups = []string{"signing", "access_token", "refresh_token"}

func TestTheExampleExplainsItsOptions(t *testing.T) {
	var blocks []string
	previous, explained := "", 0
	for number, line := range strings.Split(readExample(t), "\n") {
		line = strings.TrimSpace(line)
		name, _, _ := strings.Cut(line, " ")
		switch {
		case line == "}":
			blocks = blocks[:len(blocks)-1]
		case line == "" || strings.HasPrefix(line, "#") || len(blocks) == 0:
		case blocks[0] != "{" && len(blocks) > 1: // within a directive of a site
		case name == "oauth", name == "respond", slices.Contains(groups, name):
		case strings.HasPrefix(blocks[0], "http:"): // the backend
		case !strings.HasPrefix(previous, "#"):
			t.Errorf("line %d: no comment says what %s is", number+1, name)
		default:
			explained++
		}
		if strings.HasSuffix(line, "{") && !strings.HasPrefix(line, "#") {
			blocks = append(blocks, name)
		}
		previous = line
	}
	if explained < 20 {
		t.Errorf("only %d options were found", explained)
	}
}

func TestTheExampleIsFormatted(t *testing.T) {
	example := readExample(t)
	if formatted := string(caddyfile.Format([]byte(example))); formatted != example {
		t.Errorf("caddy fmt would make of it:\n%s", formatted)
	}
}

// configurations are the example and all blocks of the documentation that are whole Caddyfiles.
func configurations(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{"Caddyfile.example": readExample(t)}
	documents := []string{"../README.md"}
	err := filepath.WalkDir("../docs", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && strings.HasSuffix(path, ".md") {
			documents = append(documents, path)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	blocks, haveReadme := 0, false
	for _, document := range documents {
		content, err := os.ReadFile(document)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		haveReadme = haveReadme || document == documents[0]
		for line, block := range fencedBlocks(string(content), "caddyfile") {
			blocks++
			found[fmt.Sprintf("%s:%d", strings.TrimPrefix(document, "../"), line)] = block
		}
	}
	if haveReadme && blocks == 0 {
		t.Error("there is a README.md, and no document has a block marked caddyfile")
	}
	return found
}

// fencedBlocks returns the Markdown blocks with exactly this info string, by the number of their first line.
func fencedBlocks(markdown, info string) map[int]string {
	found := make(map[int]string)
	begin, indent := 0, ""
	var block []string
	for i, line := range strings.Split(markdown, "\n") {
		trimmed := strings.TrimSpace(line)
		switch {
		case begin == 0 && strings.HasPrefix(trimmed, "```"):
			begin, block = i+1, nil
			indent, _, _ = strings.Cut(line, "`")
			if strings.TrimPrefix(trimmed, "```") != info {
				begin = -1
			}
		case begin != 0 && trimmed == "```":
			if begin > 0 {
				found[begin] = strings.Join(block, "\n") + "\n"
			}
			begin = 0
		case begin > 0:
			block = append(block, strings.TrimPrefix(line, indent))
		}
	}
	return found
}

func TestFencedBlocksAreFound(t *testing.T) {
	got := fencedBlocks("a\n```caddyfile\none\n\n# two\n```\n```caddyfile-snippet\nno\n```\n```\nno\n```\n- b\n  ```caddyfile\n  three\n  ```\n", "caddyfile")
	if want := map[int]string{2: "one\n\n# two\n", 14: "three\n"}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// What stands for something outside of a documented configuration.
var (
	environmentPlaceholders = regexp.MustCompile(`\{(?:env\.|\$)([A-Za-z_][A-Za-z0-9_]*)`)
	filePlaceholders        = regexp.MustCompile(`\{file\.[^}]*\}`)
	keyFiles                = regexp.MustCompile(`(key_file|trust_pool file|pem_file|root)([ \t]+)/\S+`)
)

func TestTheDocumentedConfigurationsAreGood(t *testing.T) {
	for name, text := range configurations(t) {
		t.Run(name, func(t *testing.T) {
			directory := t.TempDir()
			t.Setenv("XDG_DATA_HOME", directory)
			t.Setenv("XDG_CONFIG_HOME", directory)
			keys, secret := filepath.Join(directory, "keys.pem"), filepath.Join(directory, "secret")
			writeFile(t, keys, keyAndCertificate(t))
			writeFile(t, secret, []byte(userHash+"\n")) // good for a secret and for a hash
			for _, match := range environmentPlaceholders.FindAllStringSubmatch(text, -1) {
				value := userHash
				switch variable := match[1]; {
				case strings.HasSuffix(variable, "FILE"):
					value = keys
				case variable == "HOME" || strings.HasSuffix(variable, "DIR") || strings.HasSuffix(variable, "DIRECTORY"):
					value = directory
				case strings.HasSuffix(variable, "ISSUER") || strings.HasSuffix(variable, "URL"):
					value = "https://auth.example.com"
				}
				t.Setenv(match[1], value)
			}
			text = filePlaceholders.ReplaceAllLiteralString(text, "{file."+secret+"}")
			text = keyFiles.ReplaceAllString(text, "${1}${2}"+keys)

			members := make(map[string]any)
			decode(t, string(adapt(t, text)), &members)
			members["admin"] = map[string]any{"disabled": true}
			members["logging"] = map[string]any{"logs": map[string]any{"default": map[string]any{"writer": map[string]any{"output": "discard"}}}}
			members["storage"] = map[string]any{"module": "file_system", "root": directory}
			changed, err := json.Marshal(members)
			if err != nil {
				t.Fatal(err)
			}
			config := new(caddy.Config)
			decode(t, string(changed), config)
			if err := caddy.Validate(config); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// keyAndCertificate is a file that can be a signing key, a public key and a certificate authority.
func keyAndCertificate(t *testing.T) []byte {
	t.Helper()
	key := newECKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "example"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return slices.Concat(pemOf(t, "PRIVATE KEY", key), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}))
}
