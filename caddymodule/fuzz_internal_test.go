package caddymodule

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/tokengateway/caddy-token-gateway/grants"
)

func FuzzParseForm(f *testing.F) {
	for _, body := range []string{
		"", "&", "=", "&&==&", "grant_type=refresh_token&refresh_token=abc", "grant_type=password&username=a+b&password=%26%3D%25",
		"token=a&token=b", "token=a&token=", "token=&token=", "token=a&to%6ben=b", "resource=https%3A%2F%2Fa&resource=https%3A%2F%2Fb",
		"token=%", "token=%zz", "%=token", "token=%ff", "token=\xff", "scope=%00", "unknown=%zz&token=a", "token=a;token=b", "token",
	} {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		parsed, refused := parseForm(body)
		expected, err := url.ParseQuery(body)
		if refused != nil {
			if refused.Code != grants.InvalidRequest || refused.Description == "" {
				t.Fatalf("refused with %+v, want invalid_request and a description", refused)
			}
			if len(parsed.values)+len(parsed.resources) > 0 {
				t.Fatalf("refused, and yet there are the values %v", parsed)
			}
			if err == nil && !objectionable(expected) {
				t.Fatalf("%q was refused: %s", body, refused.Description)
			}
			return
		}
		for name, value := range parsed.values {
			if value == "" || !utf8.ValidString(value) || !knownParameters[name] {
				t.Fatalf("%q has the value %q", name, value)
			}
			if err == nil && !slices.Equal(nonEmpty(expected[name]), []string{value}) {
				t.Fatalf("%q has the value %q, want %q", name, value, expected[name])
			}
		}
		for _, value := range parsed.resources {
			if value == "" || !utf8.ValidString(value) {
				t.Fatalf("there is the resource %q", value)
			}
		}
		if err == nil && !slices.Equal(parsed.resources, nonEmpty(expected["resource"])) {
			t.Fatalf("got the resources %q, want %q", parsed.resources, expected["resource"])
		}
		if err == nil && objectionable(expected) {
			t.Fatalf("%q was not refused", body)
		}
	})
}

// objectionable reports whether a form has a known parameter twice, or with a value that is not UTF-8.
func objectionable(values url.Values) bool {
	for name := range knownParameters {
		if name != "resource" && len(nonEmpty(values[name])) > 1 {
			return true
		}
		if slices.ContainsFunc(values[name], func(value string) bool { return !utf8.ValidString(value) }) {
			return true
		}
	}
	return false
}

func nonEmpty(values []string) []string {
	return slices.DeleteFunc(slices.Clone(values), func(value string) bool { return value == "" })
}

func FuzzBasicCredentials(f *testing.F) {
	for _, authorization := range []string{
		"", "Basic", "Basic ", "Basic  ", "Bearer abc", "Basic dTJR", "Basic !!!",
		"Basic dTJRMGpDb2RhWklnRlZoZkxUY3VSNHJCX05ZYTpCWkVmaUZBd043NkJDUUxKTjFTcW5YaGxVcm9h",
		"basic " + base64.StdEncoding.EncodeToString([]byte("a%20b:c%3Ad")), "BASIC   " + base64.StdEncoding.EncodeToString([]byte("a+b::")),
		"Basic " + base64.StdEncoding.EncodeToString([]byte(":secret")), "Basic " + base64.StdEncoding.EncodeToString([]byte("id:")),
		"Basic " + base64.StdEncoding.EncodeToString([]byte("%:%")), "Basic " + base64.StdEncoding.EncodeToString([]byte("id:\xff")),
		"Basic\t" + base64.StdEncoding.EncodeToString([]byte("id:secret")),
	} {
		f.Add(authorization)
	}
	f.Fuzz(func(t *testing.T, authorization string) {
		id, secret, ok := basicCredentials(authorization)
		if !ok {
			return
		}
		if id == "" {
			t.Fatal("the client ID is empty")
		}
		if scheme, _, _ := strings.Cut(authorization, " "); !strings.EqualFold(scheme, "Basic") {
			t.Fatalf("the scheme %q was taken for Basic", scheme)
		}
		pair := url.QueryEscape(id) + ":" + url.QueryEscape(secret)
		id2, secret2, ok := basicCredentials("Basic " + base64.StdEncoding.EncodeToString([]byte(pair)))
		if !ok || id2 != id || secret2 != secret {
			t.Fatalf("%q and %q, written again, are read as %q and %q (%t)", id, secret, id2, secret2, ok)
		}
	})
}

func FuzzCaddyfile(f *testing.F) {
	for _, options := range []string{
		"", "{", "{\n}", "{\n issuer https://a.example\n}", "{\n issuer https://a.example\n store badger /tmp/x\n}",
		"{\n issuer https://a.example\n signing {\n algorithm ES256\n rotate_every 90d\n key_file {env.X}\n }\n}",
		"{\n issuer https://a.example\n access_token {\n lifetime 1h\n audience a b\n }\n refresh_token {\n max_lifetime 0\n }\n}",
		"{\n issuer https://a.example\n client a {\n secret s\n grant_types client_credentials\n }\n}",
		"{\n issuer https://a.example\n client a {\n secret \"s t\"\n grant_types refresh_token\n scopes a b\n cors_origins https://b\n }\n}",
		"{\n issuer https://a.example\n client a {\n public\n grant_types refresh_token\n }\n client a {\n }\n}",
		"{\n issuer {env.ISSUER}\n client a {\n secret {env.S}\n grant_types refresh_token\n }\n}",
		"{\n issuer https://a.example\n user admin {env.HASH}\n}", "{\n issuer https://a.example {\n x\n }\n}", "{ issuer a }", "} {", "x {\n}",
		"{\n store\n}", "{\n store {\n}", "{\n client\n}", "{\n client {\n {\n", "{\n user\n}", "{\n disable_grant_types {\n}", "{\n \"\"\n}",
	} {
		f.Add(options)
	}
	f.Fuzz(func(t *testing.T, options string) {
		tokens, err := caddyfile.Tokenize([]byte("oauth "+options), "Caddyfile")
		if err != nil {
			return // not what a Caddyfile consists of
		}
		value, err := parseOAuthOption(caddyfile.NewDispenser(tokens), nil)
		if err != nil {
			if !strings.Contains(err.Error(), ", at Caddyfile:") {
				t.Fatalf("the error doesn't tell the place: %v", err)
			}
			return
		}
		app := new(App)
		if err := json.Unmarshal(value.(httpcaddyfile.App).Value, app); err != nil {
			t.Fatal(err)
		}
		if app.Issuer == "" {
			t.Fatal("there is no issuer")
		}
		if err := app.contradictions(); err != nil {
			t.Fatalf("the JSON contradicts itself: %v", err)
		}
		for _, client := range app.Clients {
			if client.Secret != "" && !symbolic(client.Secret) {
				t.Fatalf("the secret of client %q is in the JSON", client.ID)
			}
		}
	})
}
