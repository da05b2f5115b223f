package caddymodule_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
)

var update = flag.Bool("update", false, "write what testdata/caddyfile is adapted to into its files")

// goldenSeparator stands between the Caddyfile and what comes of it, as in Caddy's own adaptation tests.
const goldenSeparator = "----------\n"

// errorPlace is how an error ends: with the file and the line.
var errorPlace = regexp.MustCompile(`, at Caddyfile:[1-9][0-9]*\n?$`)

func TestCaddyfilesAreAdaptedAsTheGoldenFilesSay(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "caddyfile", "*.caddyfiletest"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatal("there are no golden files")
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".caddyfiletest")
		t.Run(name, func(t *testing.T) {
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			caddyfile, want, found := strings.Cut(string(content), goldenSeparator)
			if !found {
				t.Fatalf("%s has no line %q", file, strings.TrimSpace(goldenSeparator))
			}
			got, failed := adaptedText(t, caddyfile)
			if wantError := strings.HasSuffix(name, "_error"); failed != wantError {
				t.Fatalf("failed: %t, want %t, got:\n%s", failed, wantError, got)
			}
			if failed && !errorPlace.MatchString(got) {
				t.Errorf("the error does not end with its file and line: %s", got)
			}
			if *update {
				if err := os.WriteFile(file, []byte(caddyfile+goldenSeparator+got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

// Every option that an error lists as known has golden files of its own.
func TestEveryOptionHasGoldenFiles(t *testing.T) {
	directory := filepath.Join("testdata", "caddyfile")
	for block, prefix := range map[string]string{
		"oauth": "", "signing": "signing_", "access_token": "access_token_", "refresh_token": "refresh_token_",
		"client": "client_", "oauth_server": "oauth_server_", "bearer_auth": "bearer_auth_",
	} {
		content, err := os.ReadFile(filepath.Join(directory, block+"_unknown_option_error.caddyfiletest"))
		if err != nil {
			t.Fatal(err)
		}
		_, known, found := strings.Cut(string(content), "known here: ")
		known, _, _ = strings.Cut(known, ", at ")
		if !found || known == "" {
			t.Fatalf("the error for an unknown option of %s lists none", block)
		}
		for option := range strings.SplitSeq(known, ", ") {
			files, err := filepath.Glob(filepath.Join(directory, prefix+option+"*.caddyfiletest"))
			if err != nil {
				t.Fatal(err)
			}
			failing := 0
			for _, file := range files {
				if strings.HasSuffix(file, "_error.caddyfiletest") {
					failing++
				}
			}
			if failing == 0 || failing == len(files) {
				t.Errorf("option %s of %s: %d golden files, of which %d are for errors", option, block, len(files), failing)
			}
		}
	}
}

func TestErrorsTellNoSecret(t *testing.T) {
	for name, options := range map[string]string{
		"a secret of two words":                        "client app {\n secret hunter2 hunter3 \n}",
		"a secret behind the client's ID":              "client app hunter2",
		"a secret given twice":                         "client app {\n secret hunter2\n secret hunter3\n}",
		"a secret of a public client":                  "client app {\n public\n secret hunter2\n}",
		"a secret beside a hash":                       "client app {\n secret hunter2\n secret_hash " + userHash + "\n grant_types refresh_token\n}",
		"a secret where its hash should be":            "client app {\n secret_hash hunter2\n}",
		"two secrets where a hash should be":           "client app {\n secret_hash hunter2 hunter3\n}",
		"a secret on a public client's flag":           "client app {\n public hunter2\n}",
		"a secret with a block":                        "client app {\n secret hunter2 {\n hunter3\n }\n public\n}",
		"a client without grant types":                 "client app {\n secret hunter2\n}",
		"a password where its hash should be":          "user admin hunter2",
		"a password of two words":                      "user admin hunter2 hunter3",
		"a password of three words":                    "user admin hunter2 hunter3 hunter4",
		"a password that looks like a hash":            "user admin $2a$hunter2",
		"a password that looks like an argon2id hash":  "user admin $argon2id$v=19$hunter2",
		"the hash of a user that is there twice":       "user admin " + userHash + "\n user admin " + userHash,
		"the hash of a user that is named as a client": "client app {\n secret hunter2\n grant_types client_credentials\n}\n user app " + userHash,
	} {
		t.Run(name, func(t *testing.T) {
			got, failed := adaptedText(t, "{\n oauth {\n issuer https://auth.example.com\n "+options+"\n }\n}\n")
			if !failed {
				t.Fatalf("no error, but:\n%s", got)
			}
			for _, secret := range []string{"hunter", userHash} {
				if strings.Contains(got, secret) {
					t.Errorf("the error tells a secret: %s", got)
				}
			}
		})
	}
}

func TestALiteralSecretIsNotInTheAdaptedConfiguration(t *testing.T) {
	for name, secret := range map[string]string{
		"one word":                        "hunter2",
		"quoted":                          `"hunter2 and more"`,
		"with a closing brace":            "hunter2}",
		"put in by a parse-time variable": "{$GATEWAY_TEST_LITERAL_SECRET}",
		"with characters of other uses":   "hunter2$%&=+",
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("GATEWAY_TEST_LITERAL_SECRET", "hunter2")
			got, failed := adaptedText(t, `{
	oauth {
		issuer https://auth.example.com
		client app {
			secret `+secret+`
			grant_types client_credentials
		}
	}
}
`)
			if failed {
				t.Fatal(got)
			}
			if strings.Contains(got, "hunter2") || !strings.Contains(got, `"secret_sha256"`) {
				t.Errorf("the secret is not replaced by its digest:\n%s", got)
			}
		})
	}
}

func TestABearerAuthForTheWholeSiteLeavesTheEndpointsOpen(t *testing.T) {
	g := startWith(t, usualOptions, "reverse_proxy UPSTREAM\n bearer_auth\n oauth_server\n")
	g.call("/hello", "no token").wantStatus(t, http.StatusUnauthorized)
	session := g.signIn()
	g.call("/hello", session.access).wantStatus(t, http.StatusOK)
	g.revoke(session.refresh).wantStatus(t, http.StatusOK)
	g.call("/hello", session.access).wantStatus(t, http.StatusUnauthorized)
}

// adaptedText returns the JSON that a Caddyfile is adapted to, indented, or the text of the error.
// withoutTestStores takes the store that only tests have out of a list of the known ones.
var withoutTestStores = strings.NewReplacer(", spied", "")

func adaptedText(t *testing.T, caddyfile string) (text string, failed bool) {
	t.Helper()
	adapter := caddyconfig.GetAdapter("caddyfile")
	adapted, warnings, err := adapter.Adapt([]byte(caddyfile), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		return withoutTestStores.Replace(err.Error()) + "\n", true
	}
	for _, warning := range warnings {
		if !strings.Contains(warning.Message, "not formatted") {
			t.Errorf("warning: %s", warning)
		}
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, adapted, "", "\t"); err != nil {
		t.Fatal(err)
	}
	return indented.String() + "\n", false
}
