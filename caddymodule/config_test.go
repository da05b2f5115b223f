package caddymodule_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/go-jose/go-jose/v4"
	"golang.org/x/crypto/argon2"

	"github.com/tokengateway/caddy-token-gateway/caddymodule"
)

// jsonEquivalents are options as the Caddyfile has them, and the JSON that they mean. KEYFILE is a file with a private key.
var jsonEquivalents = map[string]struct{ options, json string }{
	"an issuer only": {
		options: `issuer https://auth.example.com/tenant`,
		json:    `{"issuer": "https://auth.example.com/tenant"}`,
	},
	"a store in a directory": {
		options: "issuer https://auth.example.com\n store badger /tmp/gateway-tokens",
		json:    `{"issuer": "https://auth.example.com", "store": {"name": "badger", "directory": "/tmp/gateway-tokens"}}`,
	},
	"signing with a generated key": {
		options: "issuer https://auth.example.com\n signing {\n algorithm RS256\n rotate_every 30d\n }",
		json:    `{"issuer": "https://auth.example.com", "signing": {"algorithm": "RS256", "rotate_every": 2592000000000000}}`,
	},
	"signing with a key that is never replaced": {
		options: "issuer https://auth.example.com\n signing {\n rotate_every 0\n }",
		json:    `{"issuer": "https://auth.example.com", "signing": {"rotate_every": 0}}`,
	},
	"signing with a key file": {
		options: "issuer https://auth.example.com\n signing {\n key_file KEYFILE\n }",
		json:    `{"issuer": "https://auth.example.com", "signing": {"key_file": "KEYFILE"}}`,
	},
	"what access tokens are like": {
		options: "issuer https://auth.example.com\n access_token {\n lifetime 10m\n audience https://api.example.com other\n }",
		json: `{"issuer": "https://auth.example.com",
			"access_token": {"lifetime": 600000000000, "audience": ["https://api.example.com", "other"]}}`,
	},
	"what refresh tokens are like": {
		options: "issuer https://auth.example.com\n refresh_token {\n lifetime 12h\n max_lifetime 0\n reuse_grace 30s\n }",
		json: `{"issuer": "https://auth.example.com",
			"refresh_token": {"lifetime": 43200000000000, "max_lifetime": 0, "reuse_grace": 30000000000}}`,
	},
	"switches": {
		options: "issuer https://auth.example.com\n revocation_headers off\n revoke_previous_access_token on\n" +
			" disable_grant_types password refresh_token",
		json: `{"issuer": "https://auth.example.com", "revocation_headers": false, "revoke_previous_access_token": true,
			"disable_grant_types": ["password", "refresh_token"]}`,
	},
	"a client with a literal secret": {
		options: "issuer https://auth.example.com\n client app {\n secret abc\n grant_types refresh_token client_credentials\n" +
			" scopes default read\n audience one two\n access_token_lifetime 5m\n refresh_token_lifetime 6h\n }",
		json: `{"issuer": "https://auth.example.com", "clients": [{"id": "app",
			"secret_sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
			"grant_types": ["refresh_token", "client_credentials"], "scopes": ["default", "read"], "audience": ["one", "two"],
			"access_token_lifetime": 300000000000, "refresh_token_lifetime": 21600000000000}]}`,
	},
	"a client with a placeholder for its secret": {
		options: "issuer https://auth.example.com\n client app {\n secret {env.GATEWAY_TEST_SECRET}\n grant_types refresh_token\n }",
		json: `{"issuer": "https://auth.example.com",
			"clients": [{"id": "app", "secret": "{env.GATEWAY_TEST_SECRET}", "grant_types": ["refresh_token"]}]}`,
	},
	"a client with a hash": {
		options: "issuer https://auth.example.com\n client app {\n secret_hash " + userHash + "\n grant_types refresh_token\n }",
		json: `{"issuer": "https://auth.example.com",
			"clients": [{"id": "app", "secret_hash": "` + userHash + `", "grant_types": ["refresh_token"]}]}`,
	},
	"a client with a public key": {
		options: "issuer https://auth.example.com\n client app {\n public_key_file KEYFILE\n grant_types refresh_token\n }",
		json: `{"issuer": "https://auth.example.com",
			"clients": [{"id": "app", "public_key_file": "KEYFILE", "grant_types": ["refresh_token"]}]}`,
	},
	"a client with a certificate of a subject": {
		options: "issuer https://auth.example.com\n client app {\n tls_client_subject CN=app\n grant_types refresh_token\n }",
		json: `{"issuer": "https://auth.example.com",
			"clients": [{"id": "app", "tls_client_subject": "CN=app", "grant_types": ["refresh_token"]}]}`,
	},
	"a client with a certificate of a key": {
		options: "issuer https://auth.example.com\n client app {\n tls_client_key_sha256 " + strings.Repeat("0f", 32) +
			"\n grant_types refresh_token\n }",
		json: `{"issuer": "https://auth.example.com", "clients": [{"id": "app",
			"tls_client_key_sha256": "` + strings.Repeat("0f", 32) + `", "grant_types": ["refresh_token"]}]}`,
	},
	"a public client": {
		options: "issuer https://auth.example.com\n client app {\n public\n grant_types authorization_code refresh_token\n" +
			" redirect_uris https://app.example.com/callback\n cors_origins https://app.example.com\n }",
		json: `{"issuer": "https://auth.example.com", "clients": [{"id": "app", "public": true,
			"grant_types": ["authorization_code", "refresh_token"], "redirect_uris": ["https://app.example.com/callback"],
			"cors_origins": ["https://app.example.com"]}]}`,
	},
	"a user": {
		options: "issuer https://auth.example.com\n user admin " + userHash,
		json:    `{"issuer": "https://auth.example.com", "users": [{"name": "admin", "password_hash": "` + userHash + `"}]}`,
	},
}

func TestTheCaddyfileAndJSONMeanTheSame(t *testing.T) {
	for name, equivalent := range jsonEquivalents {
		t.Run(name, func(t *testing.T) {
			t.Setenv("GATEWAY_TEST_SECRET", clientSecret)
			keyFile := writePEM(t, "PRIVATE KEY", newECKey(t))
			options := strings.ReplaceAll(equivalent.options, "KEYFILE", keyFile)
			want := strings.ReplaceAll(equivalent.json, "KEYFILE", keyFile)
			var adapted struct {
				Apps struct{ OAuth any }
			}
			decode(t, string(adapt(t, "{\n oauth {\n "+options+"\n }\n}\n")), &adapted)
			var wanted any
			decode(t, want, &wanted)
			if !reflect.DeepEqual(adapted.Apps.OAuth, wanted) {
				t.Fatalf("the Caddyfile is adapted to %v, want %v", adapted.Apps.OAuth, wanted)
			}
			if err := validateApps(t, `{"oauth": `+want+`}`); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// No setting is left out of the table above.
func TestEverySettingIsComparedWithTheCaddyfile(t *testing.T) {
	seen := make(map[string]bool)
	for _, equivalent := range jsonEquivalents {
		for setting := range settingsIn(t, equivalent.json) {
			seen[setting] = true
		}
	}
	for _, settings := range []any{
		caddymodule.App{}, caddymodule.Signing{}, caddymodule.AccessToken{}, caddymodule.RefreshToken{}, caddymodule.Client{},
		caddymodule.User{}, caddymodule.BadgerStore{},
	} {
		typ := reflect.TypeOf(settings)
		for field := range typ.Fields() {
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			if name != "" && !seen[name] {
				t.Errorf("%s.%s: no test sets %q", typ.Name(), field.Name, name)
			}
		}
	}
}

func TestPlaceholdersThatStandForNothingAreRefused(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	for name, test := range map[string]struct {
		oauth string // with PLACEHOLDER
		want  string // which setting the error names
	}{
		"in the issuer":                    {`{"issuer": "https://PLACEHOLDER"}`, `issuer: `},
		"in the store's directory":         {`{"issuer": "https://a.example", "store": {"name": "badger", "directory": "PLACEHOLDER/tokens"}}`, `store: loading module 'badger': provision oauth.stores.badger: badger: directory: `},
		"in the signing key's file":        {`{"issuer": "https://a.example", "signing": {"key_file": "PLACEHOLDER"}}`, `signing: key_file: `},
		"in a client's secret":             {clientJSON(`"secret": "PLACEHOLDER"`), `client "app": secret: `},
		"in a part of a client's secret":   {clientJSON(`"secret": "prefix-PLACEHOLDER"`), `client "app": secret: `},
		"in a client's secret_hash":        {clientJSON(`"secret_hash": "PLACEHOLDER"`), `client "app": secret_hash: `},
		"in a client's public_key_file":    {clientJSON(`"public_key_file": "PLACEHOLDER"`), `client "app": public_key_file: `},
		"in a client's scopes":             {clientJSON(`"secret": "s", "scopes": ["default", "PLACEHOLDER"]`), `client "app": scopes: `},
		"in a client's audience":           {clientJSON(`"secret": "s", "audience": ["PLACEHOLDER"]`), `client "app": audience: `},
		"in a client's cors_origins":       {clientJSON(`"secret": "s", "cors_origins": ["https://PLACEHOLDER"]`), `client "app": cors_origins: `},
		"in a client's redirect_uris":      {clientJSON(`"secret": "s", "redirect_uris": ["https://PLACEHOLDER"]`), `client "app": redirect_uris: `},
		"in the hash of a user's password": {`{"issuer": "https://a.example", "users": [{"name": "admin", "password_hash": "PLACEHOLDER"}]}`, `user "admin": password hash: `},
	} {
		for kind, placeholder := range map[string]string{
			"of an environment variable": "{env.GATEWAY_TEST_UNSET}",
			"of a file":                  "{file." + missing + "}",
			"of no known kind":           "{nothing.of.the.kind}",
		} {
			t.Run(name+" "+kind, func(t *testing.T) {
				err := validateApps(t, `{"oauth": `+strings.ReplaceAll(test.oauth, "PLACEHOLDER", placeholder)+`}`)
				wantErrorWith(t, err, test.want, placeholder, "set what it stands for")
			})
		}
	}
}

func TestAnEmptyEnvironmentVariableIsNoSecret(t *testing.T) {
	t.Setenv("GATEWAY_TEST_EMPTY", "")
	err := validateApps(t, `{"oauth": `+clientJSON(`"secret": "{env.GATEWAY_TEST_EMPTY}"`)+`}`)
	wantErrorWith(t, err, `client "app": secret: `, "{env.GATEWAY_TEST_EMPTY}")
}

func TestMistakesInJSONAreRefused(t *testing.T) {
	ecKey := newECKey(t)
	privateKey := writePEM(t, "PRIVATE KEY", ecKey)
	publicKey := writePEM(t, "PUBLIC KEY", ecKey.Public())
	garbage := filepath.Join(t.TempDir(), "garbage")
	writeFile(t, garbage, []byte("correct-horse"))
	missing := filepath.Join(t.TempDir(), "missing")
	oauth := func(members string) string { return `{"issuer": "https://a.example", ` + members + `}` }
	second := `, {"id": "app", "public": true, "grant_types": ["refresh_token"]}]`

	for name, test := range map[string]struct{ oauth, want string }{
		"no issuer":                 {`{}`, "there is no issuer; set one in the global option oauth: issuer https://…"},
		"an issuer that is no URL":  {`{"issuer": "a.example"}`, `issuer "a.example" is not a URL of the form https://host[:port][/path]`},
		"a client that is null":     {oauth(`"clients": [null]`), "a client or a user is null; remove it"},
		"a user that is null":       {oauth(`"users": [null]`), "a client or a user is null; remove it"},
		"an issuer with a password": {`{"issuer": "https://u:p@a.example"}`, "the issuer is not a URL of the form https://host[:port][/path]: it has an @"},
		"a bad lifetime that no client has": {
			oauth(`"access_token": {"lifetime": "500ms"}`), "access_token: an access token's lifetime has to be whole seconds",
		},
		"an issuer with a query":           {`{"issuer": "https://a.example?x=y"}`, `issuer "https://a.example?x=y" is not a URL of the form`},
		"an issuer with a fragment":        {`{"issuer": "https://a.example#x"}`, `issuer "https://a.example#x" is not a URL of the form`},
		"an issuer over plain HTTP":        {`{"issuer": "http://a.example"}`, `issuer "http://a.example" has to begin with https://; http:// is taken for localhost only`},
		"an unknown member":                {oauth(`"lifetime": 1`), `unknown field "lifetime"`},
		"an unknown store":                 {oauth(`"store": {"name": "sqlite"}`), "oauth.stores.sqlite"},
		"an unknown member of the store":   {oauth(`"store": {"name": "badger", "cache": 1}`), `unknown field "cache"`},
		"an unknown algorithm":             {oauth(`"signing": {"algorithm": "HS256"}`), `signing: algorithm "HS256" is not one of [ES256 ES384 RS256 PS256 EdDSA]`},
		"a rotation too often":             {oauth(`"signing": {"rotate_every": 1000000000}`), "signing: rotate_every 1s is shorter than 1h (0 means never)"},
		"a key file that isn't there":      {oauth(`"signing": {"key_file": "` + missing + `"}`), "signing: key_file: open " + missing},
		"a key file with a public key":     {oauth(`"signing": {"key_file": "` + publicKey + `"}`), "signing: key_file " + publicKey + ": it holds a public key where a private key is needed"},
		"a key file for another algorithm": {oauth(`"signing": {"algorithm": "RS256", "key_file": "` + privateKey + `"}`), "signing: key_file " + privateKey + ": a key for ES256 can't be used with RS256"},
		"a key file without a key":         {oauth(`"signing": {"key_file": "` + garbage + `"}`), "signing: key_file " + garbage + ": it is neither PEM nor a JSON Web Key"},
		"a maximal lifetime below 1s":      {oauth(`"refresh_token": {"max_lifetime": 1}`), "max_lifetime has to be at least 1s, or 0 for no limit, not 1ns"},
		"a negative maximal lifetime":      {oauth(`"refresh_token": {"max_lifetime": -1000000000}`), "max_lifetime has to be at least 1s, or 0 for no limit, not -1s"},
		"a grace window of 61s":            {oauth(`"refresh_token": {"reuse_grace": 61000000000}`), "reuse_grace has to be whole seconds, from 0s to 1m, not 1m1s"},
		"a grace window of 1.5s":           {oauth(`"refresh_token": {"reuse_grace": 1500000000}`), "reuse_grace has to be whole seconds, from 0s to 1m, not 1.5s"},
		"a negative grace window":          {oauth(`"refresh_token": {"reuse_grace": -1}`), "reuse_grace has to be whole seconds, from 0s to 1m, not -1ns"},
		"an unknown grant type disabled":   {oauth(`"disable_grant_types": ["implicit"]`), `disable_grant_types: grant type "implicit" is not one of`},

		"a client without an ID":                    {oauth(`"clients": [{"public": true, "grant_types": ["refresh_token"]}]`), "a client has no ID"},
		"a client with an ID that is not ASCII":     {oauth(`"clients": [{"id": "käse", "public": true, "grant_types": ["refresh_token"]}]`), `client ID "käse" has characters other than printable ASCII`},
		"a client that is there twice":              {strings.Replace(clientJSON(`"secret": "s"`), "]}]", "]}"+second, 1), `client "app" is there twice`},
		"a client without a secret":                 {clientJSON(`"scopes": ["default"]`), `client "app" has no secret; give it a secret or a secret_hash, or mark it public`},
		"a client with a secret and a hash":         {clientJSON(`"secret": "s", "secret_hash": "` + userHash + `"`), `client "app" has more than one of secret, secret_hash; keep one`},
		"a public client with a secret":             {clientJSON(`"public": true, "secret": "s"`), `client "app" is public and has a secret; remove one of the two`},
		"a public client with client_credentials":   {oauth(`"clients": [{"id": "app", "public": true, "grant_types": ["client_credentials"]}]`), `client "app" is public and lists client_credentials, which is for clients with a secret (RFC 6749 §4.4)`},
		"a client without grant types":              {oauth(`"clients": [{"id": "app", "secret": "s"}]`), `client "app" has no grant_types; list what it may use: authorization_code, client_credentials, password, refresh_token`},
		"a client with an unknown grant type":       {oauth(`"clients": [{"id": "app", "secret": "s", "grant_types": ["implicit"]}]`), `client "app": grant type "implicit" is not one of authorization_code, client_credentials, password, refresh_token`},
		"a client for passwords and no user":        {oauth(`"clients": [{"id": "app", "secret": "s", "grant_types": ["password"]}]`), `client "app" lists the grant type password, and there is no user; add one: user <name> <hash>`},
		"a secret's digest that is not hexadecimal": {clientJSON(`"secret_sha256": "` + strings.Repeat("0g", 32) + `"`), `client "app": secret_sha256 is not a SHA-256 in hexadecimal (64 digits)`},
		"a secret's digest that is too short":       {clientJSON(`"secret_sha256": "0f"`), `client "app": secret_sha256 is not a SHA-256 in hexadecimal (64 digits)`},
		"a secret's digest that is too long":        {clientJSON(`"secret_sha256": "` + strings.Repeat("0f", 33) + `"`), `client "app": secret_sha256 is not a SHA-256 in hexadecimal (64 digits)`},
		"a secret's hash that is none":              {clientJSON(`"secret_hash": "correct-horse"`), `client "app": secret_hash: the value is not a bcrypt or argon2id hash; make one with: caddy hash-password`},
		"a key's digest that is not hexadecimal":    {clientJSON(`"tls_client_key_sha256": "` + strings.Repeat("0g", 32) + `"`), `client "app": tls_client_key_sha256 is not a SHA-256 in hexadecimal (64 digits)`},
		"a public key's file that isn't there":      {clientJSON(`"public_key_file": "` + missing + `"`), `client "app": public_key_file: open ` + missing},
		"a public key's file without a key":         {clientJSON(`"public_key_file": "` + garbage + `"`), `client "app": public_key_file ` + garbage + `: it is neither PEM nor a JSON Web Key`},
		"a scope with a space":                      {clientJSON(`"secret": "s", "scopes": ["read write"]`), `client "app": scopes: scope "read write" has characters other than visible ASCII, or a quote or a backslash`},
		"more than a thousand scopes":               {clientJSON(`"secret": "s", "scopes": ["s"` + strings.Repeat(`, "s"`, 1000) + `]`), `client "app": scopes: there are 1001, more than 1000`},
		"more than a thousand audiences":            {clientJSON(`"secret": "s", "audience": ["a"` + strings.Repeat(`, "a"`, 1000) + `]`), `client "app": audience: there are 1001, more than 1000`},
		"an empty audience":                         {clientJSON(`"secret": "s", "audience": [""]`), `client "app": audience: audience "" is empty or has control characters`},
		"an origin with a path":                     {clientJSON(`"secret": "s", "cors_origins": ["https://a.example/"]`), `client "app": cors_origins: origin "https://a.example/" is not of the form https://host[:port]`},
		"a relative redirect URI":                   {clientJSON(`"secret": "s", "redirect_uris": ["/callback"]`), `client "app": redirect_uris: redirect URI "/callback" is not an absolute URI without a fragment`},
		"an access token of half a second":          {clientJSON(`"secret": "s", "access_token_lifetime": 500000000`), `client "app": an access token's lifetime has to be whole seconds, from 1s to 366d, not 500ms`},
		"an access token of a second and a half":    {clientJSON(`"secret": "s", "access_token_lifetime": 1500000000`), `not 1.5s`},
		"an access token of more than 366 days":     {clientJSON(`"secret": "s", "access_token_lifetime": 31622401000000000`), `not 8784h0m1s`},
		"an access token of negative lifetime":      {clientJSON(`"secret": "s", "access_token_lifetime": -1000000000`), `not -1s`},
		"access tokens of half a second":            {strings.Replace(clientJSON(`"secret": "s"`), "{", `{"access_token": {"lifetime": 500000000}, `, 1), `an access token's lifetime has to be whole seconds, from 1s to 366d, not 500ms`},
		"a refresh token of half a second":          {clientJSON(`"secret": "s", "refresh_token_lifetime": 500000000`), `client "app": a refresh token's lifetime has to be at least 1s, not 500ms`},
		"refresh tokens of half a second":           {strings.Replace(clientJSON(`"secret": "s"`), "{", `{"refresh_token": {"lifetime": 500000000}, `, 1), `a refresh token's lifetime has to be at least 1s, not 500ms`},
		"a lifetime that is no duration":            {clientJSON(`"secret": "s", "access_token_lifetime": "long"`), `invalid duration "long"`},

		"a user without a name":         {oauth(`"users": [{"password_hash": "` + userHash + `"}]`), `user name "" is empty or has control characters`},
		"a user without a password":     {oauth(`"users": [{"name": "admin"}]`), `user "admin": password hash: the value is not a bcrypt or argon2id hash; make one with: caddy hash-password`},
		"a user with a plain password":  {oauth(`"users": [{"name": "admin", "password_hash": "correct-horse"}]`), `user "admin": password hash: the value is not a bcrypt or argon2id hash; make one with: caddy hash-password`},
		"a user that is there twice":    {oauth(`"users": [{"name": "admin", "password_hash": "` + userHash + `"}, {"name": "admin", "password_hash": "` + userHash + `"}]`), `user "admin" is there twice`},
		"a user with a client's name":   {strings.Replace(clientJSON(`"secret": "s"`), "{", `{"users": [{"name": "app", "password_hash": "`+userHash+`"}], `, 1), `user "app" has the name of a client; the client could pose as the user, so rename one of them`},
		"an unknown member of a client": {clientJSON(`"secret": "s", "color": "blue"`), `unknown field "color"`},
	} {
		t.Run(name, func(t *testing.T) {
			err := validateApps(t, `{"oauth": `+test.oauth+`}`)
			wantErrorWith(t, err, test.want)
			if strings.Contains(err.Error(), "correct-horse") {
				t.Errorf("the error tells a secret: %v", err)
			}
		})
	}
}

func TestMistakesInHandlersAreRefused(t *testing.T) {
	for name, test := range map[string]struct{ handler, want string }{
		"a base path without a slash":         {`{"handler": "oauth_server", "path": "auth"}`, `path "auth" has to begin with a slash`},
		"a base path with a slash at the end": {`{"handler": "oauth_server", "path": "/auth/"}`, `path "/auth/" has to begin with a slash, must not end with one`},
		"an unknown member of oauth_server":   {`{"handler": "oauth_server", "base": "/auth"}`, `unknown field "base"`},
		"an unknown member of bearer_auth":    {`{"handler": "bearer_auth", "scope": "read"}`, `unknown field "scope"`},
		"a scope with a space":                {`{"handler": "bearer_auth", "scopes": ["read write"]}`, `scopes: scope "read write" has characters other than visible ASCII`},
		"an empty audience":                   {`{"handler": "bearer_auth", "audience": [""]}`, `audience: audience "" is empty or has control characters`},
		"an audience that is not set":         {`{"handler": "bearer_auth", "audience": ["{env.GATEWAY_TEST_UNSET}"]}`, `{env.GATEWAY_TEST_UNSET}`},
		"a scope that is not set":             {`{"handler": "bearer_auth", "scopes": ["{env.GATEWAY_TEST_UNSET}"]}`, `{env.GATEWAY_TEST_UNSET}`},
		"a header without a name":             {`{"handler": "bearer_auth", "headers": [{"claim": "sub"}]}`, `header "" is not a valid header name`},
		"a header without a claim":            {`{"handler": "bearer_auth", "headers": [{"name": "X-User-Id"}]}`, `claim "" is empty`},
		"a header that means something":       {`{"handler": "bearer_auth", "headers": [{"name": "host", "claim": "sub"}]}`, `header host has a meaning of its own; choose another, such as X-User-Id`},
	} {
		t.Run(name, func(t *testing.T) {
			wantErrorWith(t, validateApps(t, `{"oauth": {"issuer": "https://a.example"}, "http": `+httpJSON(test.handler)+`}`), test.want)
		})
	}
}

func TestHandlersNeedTheOAuthApp(t *testing.T) {
	for _, handler := range []string{"oauth_server", "bearer_auth"} {
		t.Run(handler, func(t *testing.T) {
			err := validateApps(t, `{"http": `+httpJSON(`{"handler": "`+handler+`"}`)+`}`)
			wantErrorWith(t, err, "there is no issuer; set one in the global option oauth: issuer https://…")
		})
	}
}

func TestHandlersAreSetUpByJSON(t *testing.T) {
	for name, handler := range map[string]string{
		"oauth_server": `{"handler": "oauth_server", "path": "/auth", "behind_tls_proxy": true}`,
		"bearer_auth": `{"handler": "bearer_auth", "scopes": ["read"], "audience": ["https://api.example.com"], "forward_token": true,
			"headers": [{"name": "X-User-Id", "claim": "sub"}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			if err := validateApps(t, `{"oauth": {"issuer": "https://a.example"}, "http": `+httpJSON(handler)+`}`); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestIssuersOverHTTPAreForLoopbackOnly(t *testing.T) {
	for issuer, good := range map[string]bool{
		"http://localhost":          true,
		"http://localhost:9080":     true,
		"http://auth.localhost":     true,
		"http://127.0.0.1:9080":     true,
		"http://127.8.8.8":          true,
		"http://[::1]:9080":         true,
		"http://localhost.example":  false,
		"http://notlocalhost":       false,
		"http://127.0.0.1.example":  false,
		"http://192.168.0.1":        false,
		"http://0.0.0.0":            false,
		"http://[::]":               false,
		"http://gateway":            false,
		"https://gateway":           true,
		"https://192.168.0.1:9443":  true,
		"https://auth.example.com":  true,
		"ftp://localhost":           false,
		"unix:///run/gateway.sock":  false,
		"//auth.example.com":        false,
		"https://auth.example.com?": false,
	} {
		t.Run(issuer, func(t *testing.T) {
			err := validateApps(t, `{"oauth": {"issuer": "`+issuer+`"}}`)
			if good && err != nil {
				t.Fatal(err)
			}
			if !good {
				wantErrorWith(t, err, `issuer "`+issuer+`"`)
			}
		})
	}
}

func TestSecretsComeFromWhereverTheyAreKept(t *testing.T) {
	directory := t.TempDir()
	withLineBreak, withWindowsLineBreak, hashFile := filepath.Join(directory, "unix"), filepath.Join(directory, "windows"), filepath.Join(directory, "hash")
	writeFile(t, withLineBreak, []byte(clientSecret+"\n"))
	writeFile(t, withWindowsLineBreak, []byte(clientSecret+"\r\n"))
	writeFile(t, hashFile, []byte(argon2idHash(clientSecret)+"\n"))
	t.Setenv("GATEWAY_TEST_SECRET", clientSecret)
	t.Setenv("GATEWAY_TEST_HASH", bcryptOfSecret)
	for name, proof := range map[string]string{
		"the Caddyfile":                       "secret " + clientSecret,
		"an environment variable":             "secret {env.GATEWAY_TEST_SECRET}",
		"a file with a line break at its end": "secret {file." + withLineBreak + "}",
		"a file with a Windows line break":    "secret {file." + withWindowsLineBreak + "}",
		"a variable of the Caddyfile":         "secret {$GATEWAY_TEST_SECRET}",
		"a bcrypt hash":                       "secret_hash " + bcryptOfSecret,
		"an argon2id hash":                    "secret_hash " + argon2idHash(clientSecret),
		"an environment variable with a hash": "secret_hash {env.GATEWAY_TEST_HASH}",
		"a file with a hash":                  "secret_hash {file." + hashFile + "}",
	} {
		t.Run(name, func(t *testing.T) {
			g := startWith(t, "client app {\n "+proof+"\n grant_types client_credentials\n}", usualSite)
			form := url.Values{"grant_type": {"client_credentials"}}
			access := g.post("/oauth2/token", form, basic("app", clientSecret)).tokens(t).access
			g.call("/api/hello", access).wantStatus(t, http.StatusOK)
			for _, wrong := range []string{clientSecret + "\n", clientSecret[1:], strings.ToUpper(clientSecret), proof} {
				g.post("/oauth2/token", form, basic("app", wrong)).wantError(t, http.StatusUnauthorized, "invalid_client")
			}
		})
	}
}

func TestPasswordsAreComparedWithTheirHashes(t *testing.T) {
	hashFile := filepath.Join(t.TempDir(), "hash")
	writeFile(t, hashFile, []byte(userHash+"\n"))
	t.Setenv("GATEWAY_TEST_HASH", argon2idHash(userPassword))
	for name, hash := range map[string]string{
		"bcrypt":                              userHash,
		"argon2id":                            argon2idHash(userPassword),
		"an environment variable with a hash": "{env.GATEWAY_TEST_HASH}",
		"a file with a hash":                  "{file." + hashFile + "}",
	} {
		t.Run(name, func(t *testing.T) {
			g := startWith(t, "client "+clientID+" {\n secret "+clientSecret+"\n grant_types password\n}\nuser "+userName+" "+hash, usualSite)
			g.call("/api/hello", g.signIn().access).wantStatus(t, http.StatusOK)
			if got := g.backend.last().Header.Get("X-User-Id"); got != userName {
				t.Errorf("the backend was told %q, want %q", got, userName)
			}
			g.token(with(passwordForm(), "password", "Admin")).wantError(t, http.StatusBadRequest, "invalid_grant")
		})
	}
}

func TestLifetimesAndAudiencesAreInTheTokens(t *testing.T) {
	const own = `
		client own {
			secret ` + clientSecret + `
			grant_types client_credentials
			access_token_lifetime 10m
			audience https://own.example.com https://second.example.com
		}
		client general {
			secret ` + clientSecret + `
			grant_types client_credentials
		}`
	for name, test := range map[string]struct {
		options, client string
		lifetime        float64
		audience        any
	}{
		"the client's own": {
			options: "access_token {\n lifetime 2h\n audience https://api.example.com\n}" + own, client: "own",
			lifetime: 600, audience: []any{"https://own.example.com", "https://second.example.com"},
		},
		"the general ones": {
			options: "access_token {\n lifetime 2h\n audience https://api.example.com\n}" + own, client: "general",
			lifetime: 7200, audience: "https://api.example.com",
		},
		"the defaults": {options: own, client: "general", lifetime: 3600, audience: "general"},
	} {
		t.Run(name, func(t *testing.T) {
			g := startWith(t, test.options, usualSite)
			got := g.post("/oauth2/token", url.Values{"grant_type": {"client_credentials"}}, basic(test.client, clientSecret))
			claims := tokenPart(t, got.tokens(t).access, 1)
			if got.json(t)["expires_in"] != test.lifetime || claims["exp"].(float64)-claims["iat"].(float64) != test.lifetime {
				t.Errorf("got answer %s with claims %v, want a lifetime of %v seconds", got.body, claims, test.lifetime)
			}
			if !reflect.DeepEqual(claims["aud"], test.audience) {
				t.Errorf("got aud %v, want %v", claims["aud"], test.audience)
			}
		})
	}
}

func TestAnAccessTokenDoesNotOutliveItsSession(t *testing.T) {
	g := startWith(t, "refresh_token {\n max_lifetime 5m\n}\n"+usualOptions, usualSite)
	got := g.token(passwordForm())
	got.wantStatus(t, http.StatusOK)
	if lifetime, ok := got.json(t)["expires_in"].(float64); !ok || lifetime > 300 {
		t.Errorf("got %s, want at most the 300 seconds of the session", got.body)
	}
}

func TestDisabledGrantTypesAreOff(t *testing.T) {
	t.Run("password", func(t *testing.T) {
		g := startWith(t, "disable_grant_types password\n"+usualOptions, usualSite)
		g.token(passwordForm()).wantError(t, http.StatusBadRequest, "unsupported_grant_type")
		wantGrantTypes(t, g, "client_credentials", "refresh_token")
	})
	t.Run("refresh_token", func(t *testing.T) {
		g := start(t)
		session := g.signIn()
		http.DefaultTransport.(*http.Transport).CloseIdleConnections() // the reload ends them
		g.load(g.caddyfile("disable_grant_types refresh_token\n"+usualOptions, usualSite))
		g.refresh(session.refresh).wantError(t, http.StatusBadRequest, "unsupported_grant_type")
		got := g.signIn()
		if got.refresh != "" {
			t.Error("there is a refresh token although the grant type is off")
		}
		g.call("/api/hello", got.access).wantStatus(t, http.StatusOK)
		wantGrantTypes(t, g, "client_credentials", "password")
	})
	t.Run("all of them", func(t *testing.T) {
		g := startWith(t, "disable_grant_types password refresh_token client_credentials authorization_code\n"+usualOptions, usualSite)
		for _, grantType := range []string{"password", "refresh_token", "client_credentials", "authorization_code"} {
			g.token(url.Values{"grant_type": {grantType}}).wantError(t, http.StatusBadRequest, "unsupported_grant_type")
		}
	})
}

// wantGrantTypes fails the test unless the metadata document lists these.
func wantGrantTypes(t *testing.T, g *gateway, want ...any) {
	t.Helper()
	got := g.do(g.request(http.MethodGet, "/.well-known/oauth-authorization-server", "", nil)).json(t)["grant_types_supported"]
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the metadata document lists the grant types %v, want %v", got, want)
	}
}

func TestRevocationHeadersCanBeTurnedOff(t *testing.T) {
	for setting, want := range map[string]bool{"": true, "revocation_headers on": true, "revocation_headers off": false} {
		t.Run("set to "+setting, func(t *testing.T) {
			g := startWith(t, setting+"\n"+usualOptions, usualSite)
			got := g.revoke(g.signIn().refresh)
			got.wantStatus(t, http.StatusOK)
			for _, name := range []string{"RevokedAccessToken", "RevokedRefreshToken", "AuthorizedUser"} {
				if is := got.Header.Get(name) != ""; is != want {
					t.Errorf("header %s is there: %t, want %t", name, is, want)
				}
			}
		})
	}
}

func TestARefreshMayRevokeThePreviousAccessToken(t *testing.T) {
	for setting, want := range map[string]int{
		"": http.StatusOK, "revoke_previous_access_token off": http.StatusOK, "revoke_previous_access_token on": http.StatusUnauthorized,
	} {
		t.Run("set to "+setting, func(t *testing.T) {
			g := startWith(t, setting+"\n"+usualOptions, usualSite)
			first := g.signIn()
			second := g.refresh(first.refresh).tokens(t)
			g.call("/api/hello", first.access).wantStatus(t, want)
			g.call("/api/hello", second.access).wantStatus(t, http.StatusOK)
		})
	}
}

func TestTokensAreSignedAsTheAlgorithmSays(t *testing.T) {
	for _, algorithm := range []string{"ES256", "ES384", "RS256", "PS256", "EdDSA"} {
		t.Run(algorithm, func(t *testing.T) {
			g := startWith(t, "signing {\n algorithm "+algorithm+"\n}\n"+usualOptions, usualSite)
			access := g.signIn().access
			header := tokenPart(t, access, 0)
			if header["alg"] != algorithm || header["typ"] != "at+jwt" {
				t.Errorf("got header %v, want alg %s and typ at+jwt", header, algorithm)
			}
			set := wantVerified(t, g, access)
			if len(set.Keys) != 1 {
				t.Errorf("%d keys are published, want 1", len(set.Keys))
			}
			keys := set.Key(header["kid"].(string))
			if len(keys) != 1 || keys[0].Algorithm != algorithm || keys[0].Use != "sig" {
				t.Errorf("the token's key is published as %v", keys)
			}
			g.call("/api/hello", access).wantStatus(t, http.StatusOK)
		})
	}
}

func TestKeyFilesSignTokens(t *testing.T) {
	first := newECKey(t)
	_, second, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(first)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		content []byte
		keys    []crypto.Signer
	}{
		"PKCS #8 in PEM": {pemOf(t, "PRIVATE KEY", first), []crypto.Signer{first}},
		"SEC 1 in PEM":   {pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1}), []crypto.Signer{first}},
		"two keys in PEM": {
			slices.Concat(pemOf(t, "PRIVATE KEY", first), pemOf(t, "PRIVATE KEY", second)), []crypto.Signer{first, second},
		},
		"a JWK": {jwkOf(t, second), []crypto.Signer{second}},
		"a JWK set": {
			fmt.Appendf(nil, `{"keys": [%s, %s]}`, jwkOf(t, second), jwkOf(t, first)), []crypto.Signer{second, first},
		},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "key")
			writeFile(t, file, test.content)
			t.Setenv("SIGNING_KEY_FILE", file)
			g := startWith(t, "signing {\n key_file {env.SIGNING_KEY_FILE}\n}\n"+usualOptions, usualSite)
			access := g.signIn().access
			if got, want := tokenPart(t, access, 0)["kid"], thumbprint(t, test.keys[0].Public()); got != want {
				t.Errorf("the token is signed with key %v, want the file's first, %s", got, want)
			}
			set := wantVerified(t, g, access)
			for _, key := range test.keys {
				if len(set.Key(thumbprint(t, key.Public()))) != 1 {
					t.Error("a key of the file is not published")
				}
			}
			if len(set.Keys) != len(test.keys) {
				t.Errorf("%d keys are published, want %d", len(set.Keys), len(test.keys))
			}
			g.call("/api/hello", access).wantStatus(t, http.StatusOK)
		})
	}
}

func TestAnIssuerWithAPathHasItsMetadataWhereTheRFCSays(t *testing.T) {
	g := prepare(t)
	issuer := g.url + "/tenant/one"
	g.load(strings.Replace(g.caddyfile(usualOptions, usualSite), "issuer "+g.url, "issuer "+issuer, 1))
	document := g.do(g.request(http.MethodGet, "/.well-known/oauth-authorization-server/tenant/one", "", nil))
	document.wantStatus(t, http.StatusOK)
	for name, want := range map[string]string{
		"issuer":              issuer,
		"token_endpoint":      g.url + "/oauth2/token",
		"revocation_endpoint": g.url + "/oauth2/revoke",
		"jwks_uri":            g.url + "/oauth2/jwks",
	} {
		if got := document.text(t, name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	for _, path := range []string{"/.well-known/oauth-authorization-server", "/tenant/one/.well-known/oauth-authorization-server"} {
		if got := g.do(g.request(http.MethodGet, path, "", nil)); len(got.body) > 0 {
			t.Errorf("%s is served, too: %s", path, got.body)
		}
	}
	access := g.signIn().access
	if got := tokenPart(t, access, 1)["iss"]; got != issuer {
		t.Errorf("tokens have iss %v, want %s", got, issuer)
	}
	g.call("/api/hello", access).wantStatus(t, http.StatusOK)
}

func TestTheBasePathOfTheEndpointsMoves(t *testing.T) {
	for _, base := range []string{"/auth", "/"} {
		t.Run(base, func(t *testing.T) {
			g := startWith(t, usualOptions, strings.Replace(usualSite, "oauth_server", "oauth_server "+base, 1))
			prefix := strings.TrimSuffix(base, "/")
			access := g.post(prefix+"/token", passwordForm(), basic(clientID, clientSecret)).tokens(t).access
			g.call("/api/hello", access).wantStatus(t, http.StatusOK)
			g.post(prefix+"/revoke", url.Values{"token": {access}}, basic(clientID, clientSecret)).wantStatus(t, http.StatusOK)
			g.call("/api/hello", access).wantStatus(t, http.StatusUnauthorized)
			document := g.do(g.request(http.MethodGet, "/.well-known/oauth-authorization-server", "", nil))
			if got, want := document.text(t, "jwks_uri"), g.url+prefix+"/jwks"; got != want {
				t.Errorf("jwks_uri is %q, want %q", got, want)
			}
			if got := g.do(g.request(http.MethodGet, prefix+"/jwks", "", nil)).json(t)["keys"]; got == nil {
				t.Error("no keys are served below the base path")
			}
			if got := g.token(passwordForm()); len(got.body) > 0 {
				t.Errorf("the default path is served, too: %s", got.body)
			}
		})
	}
}

func TestTheStoreIsInCaddysDataDirectoryByDefault(t *testing.T) {
	data := t.TempDir()
	t.Setenv("XDG_DATA_HOME", data)
	for name, store := range map[string]string{"without a store": "", "with a store without a directory": "store badger"} {
		t.Run(name, func(t *testing.T) {
			g := prepare(t)
			g.load(strings.Replace(g.caddyfile(usualOptions, usualSite), "store badger "+g.store, store, 1))
			g.call("/api/hello", g.signIn().access).wantStatus(t, http.StatusOK)
			files, err := os.ReadDir(filepath.Join(data, "caddy", "oauth"))
			if err != nil {
				t.Fatal(err)
			}
			if len(files) == 0 {
				t.Error("the store's default directory is empty")
			}
			if _, err := os.Stat(g.store); !os.IsNotExist(err) {
				t.Errorf("the other store's directory: %v, want it not to be there", err)
			}
		})
	}
}

func TestScriptsMayCallTheEndpointsFromTheirClientsOriginOnly(t *testing.T) {
	const origin, foreign = "https://app.example.com", "https://evil.example.com"
	g := start(t)
	preflight := func(path, origin, method string) answer {
		return g.do(g.request(http.MethodOptions, path, "", http.Header{
			"Origin": {origin}, "Access-Control-Request-Method": {method}, "Access-Control-Request-Headers": {"authorization, content-type"},
		}))
	}
	wantAllowed := func(t *testing.T, got answer, want string) {
		t.Helper()
		if allowed := got.Header.Get("Access-Control-Allow-Origin"); allowed != want {
			t.Errorf("status %d: origin %q is allowed, want %q", got.StatusCode, allowed, want)
		}
		if credentials := got.Header.Get("Access-Control-Allow-Credentials"); credentials != "" {
			t.Errorf("cookies are allowed: %q", credentials)
		}
	}
	public := with(passwordForm(), "client_id", publicID)

	for _, path := range []string{"/oauth2/token", "/oauth2/revoke"} {
		t.Run("a preflight of "+path+" from the client's origin", func(t *testing.T) {
			got := preflight(path, origin, http.MethodPost)
			got.wantStatus(t, http.StatusNoContent)
			wantAllowed(t, got, origin)
			if methods, headers := got.Header.Get("Access-Control-Allow-Methods"), got.Header.Get("Access-Control-Allow-Headers"); methods != "POST" ||
				headers != "Authorization, Content-Type" {
				t.Errorf("allowed are the methods %q and the headers %q", methods, headers)
			}
			if vary := got.Header.Values("Vary"); !slices.Contains(vary, "Origin") {
				t.Errorf("got Vary %q, want it to name Origin", vary)
			}
		})
		t.Run("a preflight of "+path+" from a foreign origin", func(t *testing.T) {
			got := preflight(path, foreign, http.MethodPost)
			wantAllowed(t, got, "")
			if methods := got.Header.Get("Access-Control-Allow-Methods"); methods != "" || got.StatusCode == http.StatusNoContent {
				t.Errorf("status %d, methods %q, want nothing allowed", got.StatusCode, methods)
			}
		})
		t.Run("a preflight of "+path+" from the null origin", func(t *testing.T) {
			wantAllowed(t, preflight(path, "null", http.MethodPost), "")
		})
	}
	for name, test := range map[string]struct {
		form    url.Values
		header  http.Header
		status  int
		allowed string
	}{
		"a request from the client's origin":                  {public, http.Header{"Origin": {origin}}, http.StatusOK, origin},
		"a refused request from the client's origin":          {with(public, "password", "wrong"), http.Header{"Origin": {origin}}, http.StatusBadRequest, origin},
		"a request of no known client from a client's origin": {with(public, "client_id", "nobody"), http.Header{"Origin": {origin}}, http.StatusUnauthorized, origin},
		"a request from a foreign origin":                     {public, http.Header{"Origin": {foreign}}, http.StatusOK, ""},
		"a request without an origin":                         {public, http.Header{}, http.StatusOK, ""},
		"a request of a client from another client's origin": {
			passwordForm(), http.Header{"Origin": {origin}, "Authorization": basic(clientID, clientSecret)["Authorization"]}, http.StatusOK, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := g.post("/oauth2/token", test.form, test.header)
			got.wantStatus(t, test.status)
			wantAllowed(t, got, test.allowed)
			if exposed := got.Header.Get("Access-Control-Expose-Headers"); (exposed != "") != (test.allowed != "") {
				t.Errorf("the headers %q are exposed", exposed)
			}
			if vary := got.Header.Values("Vary"); !slices.Contains(vary, "Origin") {
				t.Errorf("got Vary %q, want it to name Origin", vary)
			}
		})
	}
	for _, path := range []string{"/oauth2/jwks", "/.well-known/oauth-authorization-server"} {
		t.Run(path+" from any origin", func(t *testing.T) {
			got := g.do(g.request(http.MethodGet, path, "", http.Header{"Origin": {foreign}}))
			got.wantStatus(t, http.StatusOK)
			wantAllowed(t, got, "*")
			got = preflight(path, foreign, http.MethodGet)
			got.wantStatus(t, http.StatusNoContent)
			wantAllowed(t, got, "*")
		})
	}
}

// bcryptOfSecret is a hash of clientSecret with bcrypt's smallest cost.
const bcryptOfSecret = "$2a$04$BrnhDArv5vrjtbqINB/XvehQAsegcF4sMI.ZR3Zj4/f7/6pLqB3ym"

// argon2idHash is a hash as caddy hash-password makes it, cheaper.
func argon2idHash(password string) string {
	salt := []byte("0123456789abcdef")
	encode := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=64,t=1,p=1$%s$%s", argon2.Version, encode(salt),
		encode(argon2.IDKey([]byte(password), salt, 1, 64, 1, 32)))
}

// clientJSON is the app's JSON with one client, app, that has these members beside its grant type.
func clientJSON(members string) string {
	return `{"issuer": "https://a.example", "clients": [{"id": "app", ` + members + `, "grant_types": ["refresh_token"]}]}`
}

// httpJSON is the HTTP app's JSON with one handler.
func httpJSON(handler string) string {
	return `{"servers": {"gateway": {"listen": ["127.0.0.1:0"], "routes": [{"handle": [` + handler + `]}]}}}`
}

// validateApps does what caddy validate does with a configuration of these apps.
func validateApps(t *testing.T, apps string) error {
	t.Helper()
	config := new(caddy.Config)
	decode(t, `{"admin": {"disabled": true}, "logging": {"logs": {"default": {"writer": {"output": "discard"}}}}, "apps": `+apps+`}`, config)
	return caddy.Validate(config)
}

func wantErrorWith(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", parts)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("got error %q, want it to have %q", err, part)
		}
	}
}

// settingsIn returns the names of all members of a JSON object and of what is in it.
func settingsIn(t *testing.T, object string) map[string]bool {
	t.Helper()
	names := make(map[string]bool)
	var collect func(value any)
	collect = func(value any) {
		switch value := value.(type) {
		case map[string]any:
			for name, member := range value {
				names[name] = true
				collect(member)
			}
		case []any:
			for _, element := range value {
				collect(element)
			}
		}
	}
	var value any
	decode(t, object, &value)
	collect(value)
	return names
}

func decode(t *testing.T, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
}

// tokenPart returns the header (0) or the claims (1) of a token.
func tokenPart(t *testing.T, token string, part int) map[string]any {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("%q is not a JWT", token)
	}
	content, err := base64.RawURLEncoding.DecodeString(parts[part])
	if err != nil {
		t.Fatal(err)
	}
	members := make(map[string]any)
	decode(t, string(content), &members)
	return members
}

// wantVerified fails the test unless a token's signature is good by the published keys, which it returns.
func wantVerified(t *testing.T, g *gateway, token string) jose.JSONWebKeySet {
	t.Helper()
	got := g.do(g.request(http.MethodGet, "/oauth2/jwks", "", nil))
	got.wantStatus(t, http.StatusOK)
	var set jose.JSONWebKeySet
	decode(t, string(got.body), &set)
	parsed, err := jose.ParseSigned(token, []jose.SignatureAlgorithm{jose.ES256, jose.ES384, jose.RS256, jose.PS256, jose.EdDSA})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parsed.Verify(set); err != nil {
		t.Errorf("the token can't be verified with %s: %v", got.body, err)
	}
	for _, private := range []string{"d", "p", "q", "k"} {
		for element := range maps.Keys(settingsIn(t, string(got.body))) {
			if element == private {
				t.Errorf("the private member %q is published", private)
			}
		}
	}
	return set
}

func newECKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// pemOf encodes a private key (PRIVATE KEY) or a public one (PUBLIC KEY).
func pemOf(t *testing.T, blockType string, key any) []byte {
	t.Helper()
	encode := x509.MarshalPKCS8PrivateKey
	if blockType == "PUBLIC KEY" {
		encode = x509.MarshalPKIXPublicKey
	}
	content, err := encode(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: blockType, Bytes: content})
}

// writePEM writes a key into a file and returns the file's name.
func writePEM(t *testing.T, blockType string, key any) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key.pem")
	writeFile(t, file, pemOf(t, blockType, key))
	return file
}

func writeFile(t *testing.T, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func jwkOf(t *testing.T, private crypto.Signer) []byte {
	t.Helper()
	content, err := json.Marshal(jose.JSONWebKey{Key: private})
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// thumbprint is a public key's kid (RFC 7638).
func thumbprint(t *testing.T, public crypto.PublicKey) string {
	t.Helper()
	digest, err := (&jose.JSONWebKey{Key: public}).Thumbprint(crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(digest)
}
