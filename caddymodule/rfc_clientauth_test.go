package caddymodule_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// Rows 19 to 40 of the checklist: how clients say who they are (RFC 6749 §2.3, RFC 7523, RFC 8705).

const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

func TestRFCClientAuthBasic(t *testing.T) {
	const oddID, oddSecret = "a b:c%d+e&f", "ß: +%=&/?"
	g := startWith(t, usualOptions+`
		client "`+oddID+`" {
			secret "`+oddSecret+`"
			grant_types client_credentials
		}`, usualSite)
	encoded := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	usual := encoded(clientID + ":" + clientSecret)
	cases := []struct {
		name, authorization string
		status              int
	}{
		{"row 19: both halves are form-encoded", basic(oddID, oddSecret).Get("Authorization"), 200},
		{"row 19: %20 is a space as + is", "Basic " + encoded("other:another%20secret%3A%20100%25%20of%20it"), 200},
		{"row 19: what needs no encoding may have it", "Basic " + encoded("%6Fther:another+secret:+100%25+of+it"), 200},
		{"row 19: a percent sign that is not encoded", "Basic " + encoded("other:"+otherSecret), 401},
		{"row 19: something that is not base64", "Basic " + clientID + ":" + clientSecret, 401},
		{"row 19: base64 that was cut", "Basic " + usual[:len(usual)-1], 401},
		{"row 19: nothing behind the scheme", "Basic", 401},
		{"row 19: an empty client ID", "Basic " + encoded(":"+clientSecret), 401},
		{"row 20: a colon in the secret", "Basic " + encoded("other:another secret: 100%25 of it"), 200},
		{"row 20: a colon in the client ID, encoded", "Basic " + encoded("a+b%3Ac%25d%2Be%26f:"+url.QueryEscape(oddSecret)), 200},
		{"row 20: a colon in the client ID, not encoded", "Basic " + encoded("a+b:c%25d%2Be%26f:"+url.QueryEscape(oddSecret)), 401},
		{"row 20: no colon", "Basic " + encoded(clientID+clientSecret), 401},
		{"row 20: an encoded colon only", "Basic " + encoded(clientID+"%3A"+clientSecret), 401},
		{"row 21: basic", "basic " + usual, 200},
		{"row 21: BASIC", "BASIC " + usual, 200},
		{"row 21: bAsIc", "bAsIc " + usual, 200},
		{"row 21: several spaces", "Basic   " + usual, 200},
		{"row 21: a longer name", "Basics " + usual, 401},
		{"row 21: another scheme", "Bearer " + usual, 401},
		{"row 21: no scheme", usual, 401},
	}
	forms := map[string]url.Values{"/oauth2/token": {"grant_type": {"client_credentials"}}, "/oauth2/revoke": {"token": {"unknown"}}}
	for _, test := range cases {
		for path, form := range forms {
			t.Run(fmt.Sprintf("%s at %s: %d", test.name, path, test.status), func(t *testing.T) {
				a := g.post(path, form, http.Header{"Authorization": {test.authorization}})
				if test.status == http.StatusOK {
					a.wantStatus(t, http.StatusOK)
					return
				}
				wantInvalidClient(t, g, a)
			})
		}
	}
}

func TestRFCClientAuthWays(t *testing.T) {
	g := start(t)
	const secret = clientSecret
	twoHeaders := http.Header{"Authorization": {basic(clientID, secret).Get("Authorization"), basic(clientID, secret).Get("Authorization")}}
	cases := []struct {
		name   string
		form   url.Values
		header http.Header
		status int
		code   string
	}{
		{"row 22: Basic", nil, basic(clientID, secret), 200, ""},
		{"row 22: client_secret_post", url.Values{"client_id": {clientID}, "client_secret": {secret}}, nil, 200, ""},
		{"row 22: client_secret_post with a secret that needs encoding",
			url.Values{"client_id": {otherID}, "client_secret": {otherSecret}}, nil, 200, ""},
		{"row 23: Basic and client_secret", url.Values{"client_secret": {secret}}, basic(clientID, secret), 400, "invalid_request"},
		{"row 23: Basic and all of client_secret_post", url.Values{"client_id": {clientID}, "client_secret": {secret}},
			basic(clientID, secret), 400, "invalid_request"},
		{"row 23: Basic and an assertion", url.Values{"client_assertion": {"x"}, "client_assertion_type": {assertionType}},
			basic(clientID, secret), 400, "invalid_request"},
		{"row 23: Basic and the type of an assertion", url.Values{"client_assertion_type": {assertionType}},
			basic(clientID, secret), 400, "invalid_request"},
		{"row 23: client_secret and an assertion", url.Values{"client_id": {clientID}, "client_secret": {secret},
			"client_assertion": {"x"}, "client_assertion_type": {assertionType}}, nil, 400, "invalid_request"},
		{"row 23: the same Authorization header twice", nil, twoHeaders, 400, "invalid_request"},
		{"row 24: a client_id that Basic contradicts", url.Values{"client_id": {otherID}}, basic(clientID, secret), 400, "invalid_request"},
		{"row 24: a client_id that Basic contradicts in case only", url.Values{"client_id": {strings.ToLower(clientID)}},
			basic(clientID, secret), 400, "invalid_request"},
		{"row 24: a client_id that Basic agrees with", url.Values{"client_id": {clientID}}, basic(clientID, secret), 200, ""},
		{"row 25: a wrong secret by Basic", nil, basic(clientID, "wrong"), 401, "invalid_client"},
		{"row 25: a wrong secret in the body", url.Values{"client_id": {clientID}, "client_secret": {"wrong"}}, nil, 401, "invalid_client"},
		{"row 25: another client's secret", nil, basic(clientID, otherSecret), 401, "invalid_client"},
		{"row 25: an unknown client by Basic", nil, basic("nobody", secret), 401, "invalid_client"},
		{"row 25: an unknown client in the body", url.Values{"client_id": {"nobody"}, "client_secret": {secret}}, nil, 401, "invalid_client"},
		{"row 25: an unknown client without a secret", url.Values{"client_id": {"nobody"}}, nil, 401, "invalid_client"},
		{"row 25: a secret without a client", url.Values{"client_secret": {secret}}, nil, 401, "invalid_client"},
		{"row 25: no client at all", nil, nil, 401, "invalid_client"},
		{"row 25: a broken assertion", url.Values{"client_assertion": {"x"}, "client_assertion_type": {assertionType}}, nil,
			401, "invalid_client"},
	}
	for _, test := range cases {
		for _, path := range formEndpoints {
			t.Run(fmt.Sprintf("%s at %s: %d", test.name, path, test.status), func(t *testing.T) {
				form := url.Values{"grant_type": {"client_credentials"}, "token": {"unknown"}}
				maps.Copy(form, test.form)
				a := g.post(path, form, test.header)
				switch test.status {
				case http.StatusOK:
					a.wantStatus(t, http.StatusOK)
				case http.StatusUnauthorized:
					wantInvalidClient(t, g, a)
				default:
					a.wantError(t, test.status, test.code)
				}
			})
		}
	}
	t.Run("rows 26 and 27: whether the header was used or not, the challenge is the same", func(t *testing.T) {
		header := g.post("/oauth2/token", passwordForm(), basic(clientID, "wrong"))
		body := g.post("/oauth2/token", with(passwordForm(), "client_id", clientID), nil)
		wantInvalidClient(t, g, header)
		wantInvalidClient(t, g, body)
		if !slices.Equal(header.Header.Values("WWW-Authenticate"), body.Header.Values("WWW-Authenticate")) {
			t.Errorf("got %v and %v", header.Header, body.Header)
		}
	})
}

func TestRFCClientAuthThrottle(t *testing.T) {
	const failures = 20
	g := prepare(t)
	g.load(withServers(g.caddyfile(usualOptions+`
		client guessable {
			secret_hash `+hashOf(t, clientSecret, bcrypt.MinCost)+`
			grant_types client_credentials
		}`, usualSite), "trusted_proxies static 127.0.0.1"))
	ask := func(address, path, id, secret string) answer {
		header := basic(id, secret)
		header.Set("X-Forwarded-For", address)
		return g.post(path, url.Values{"grant_type": {"client_credentials"}, "token": {"unknown"}}, header)
	}
	const attacker, home, another = "198.51.100.1", "198.51.100.2", "198.51.100.3"
	for _, id := range []string{clientID, "guessable", "nobody"} {
		t.Run("row 28: guessing the secret of "+id+" is throttled", func(t *testing.T) {
			n := untilThrottled(t, 2*failures, "invalid_client", func(i int) answer {
				return ask(attacker, formEndpoints[i%len(formEndpoints)], id, "wrong")
			})
			if n < failures {
				t.Errorf("throttled after %d failures, want %d", n, failures)
			}
			for _, path := range formEndpoints {
				wantThrottled(t, ask(attacker, path, id, clientSecret))
			}
		})
	}
	t.Run("row 28: meanwhile another client can authenticate from there", func(t *testing.T) {
		ask(attacker, "/oauth2/token", otherID, otherSecret).wantStatus(t, http.StatusOK)
	})
	t.Run("row 28: meanwhile the client can authenticate from elsewhere", func(t *testing.T) {
		ask(home, "/oauth2/token", clientID, clientSecret).wantStatus(t, http.StatusOK)
	})
	t.Run("row 28: a success forgets the failures", func(t *testing.T) {
		for range 3 {
			for range failures - 1 {
				wantInvalidClient(t, g, ask(another, "/oauth2/token", "guessable", "wrong"))
			}
			ask(another, "/oauth2/token", "guessable", clientSecret).wantStatus(t, http.StatusOK)
		}
	})
}

func TestRFCClientAuthRequired(t *testing.T) {
	g := start(t)
	public := g.post("/oauth2/token", with(passwordForm(), "client_id", publicID), nil).tokens(t)
	session := g.signIn()
	forms := map[string]url.Values{
		"password": passwordForm(), "client_credentials": {"grant_type": {"client_credentials"}},
		"refresh_token": refreshForm(session.refresh), "revocation": {"token": {session.refresh}},
	}
	for name, form := range forms {
		path := "/oauth2/token"
		if name == "revocation" {
			path = "/oauth2/revoke"
		}
		t.Run("row 29: for "+name+" a confidential client has to authenticate, not only to say its ID", func(t *testing.T) {
			wantInvalidClient(t, g, g.post(path, with(form, "client_id", clientID), nil))
			wantInvalidClient(t, g, g.post(path, form, basic(clientID, "")))
			wantInvalidClient(t, g, g.post(path, form, nil))
		})
	}
	t.Run("row 29: the tokens that were asked about are unharmed", func(t *testing.T) {
		g.refresh(session.refresh).wantStatus(t, http.StatusOK)
		g.call("/api/", session.access).wantStatus(t, http.StatusOK)
	})
	t.Run("row 30: a public client says its ID and nothing else", func(t *testing.T) {
		a := g.post("/oauth2/token", with(refreshForm(public.refresh), "client_id", publicID), nil)
		public = a.tokens(t)
	})
	t.Run("row 30: a public client may say its ID by Basic, with an empty secret", func(t *testing.T) {
		public = g.post("/oauth2/token", refreshForm(public.refresh), basic(publicID, "")).tokens(t)
	})
	t.Run("row 30: a public client that doesn't say its ID is refused", func(t *testing.T) {
		wantInvalidClient(t, g, g.post("/oauth2/token", refreshForm(public.refresh), nil))
		wantInvalidClient(t, g, g.post("/oauth2/revoke", url.Values{"token": {public.refresh}}, nil))
	})
	t.Run("row 30: a public client that sends a secret is refused", func(t *testing.T) {
		wantInvalidClient(t, g, g.post("/oauth2/token", refreshForm(public.refresh), basic(publicID, "secret")))
	})
	t.Run("row 30: it can revoke its token by its ID", func(t *testing.T) {
		g.post("/oauth2/revoke", url.Values{"token": {public.refresh}, "client_id": {publicID}}, nil).wantStatus(t, http.StatusOK)
		g.call("/api/", public.access).wantStatus(t, http.StatusUnauthorized)
	})
}

func TestRFCClientAuthOneAnswer(t *testing.T) {
	key := newSigningKey(t)
	g := startWith(t, usualOptions+`
		client hashed {
			secret_hash `+hashOf(t, clientSecret, bcrypt.MinCost)+`
			grant_types client_credentials
		}
		client signer {
			public_key_file `+publicKeyFile(t, key.Public())+`
			grant_types client_credentials
		}
		client certified {
			tls_client_subject CN=certified
			grant_types client_credentials
		}`, usualSite)
	assertion := func(id string, key *ecdsa.PrivateKey) url.Values {
		return assertionForm(signES256(t, key, map[string]any{"alg": "ES256"}, assertionClaims(id, g.url)))
	}
	post := func(id, secret string) url.Values { return url.Values{"client_id": {id}, "client_secret": {secret}} }
	cases := []struct {
		name   string
		form   url.Values
		header http.Header
	}{
		{"row 32: an unknown client", nil, basic("nobody", clientSecret)},
		{"row 32: a wrong secret", nil, basic(clientID, "wrong")},
		{"row 32: a wrong secret of a client with a hash", nil, basic("hashed", "wrong")},
		{"row 32: an empty secret", nil, basic(clientID, "")},
		{"row 32: a secret for a client that has a key", nil, basic("signer", "wrong")},
		{"row 32: a secret for a client that has a certificate", nil, basic("certified", "wrong")},
		{"row 32: a secret for a public client", nil, basic(publicID, "wrong")},
		{"row 32: an unknown client in the body", post("nobody", clientSecret), nil},
		{"row 32: a wrong secret in the body", post(clientID, "wrong"), nil},
		{"row 32: an unknown client without a secret", url.Values{"client_id": {"nobody"}}, nil},
		{"row 32: a client without its secret", url.Values{"client_id": {clientID}}, nil},
		{"row 32: a client without its certificate", url.Values{"client_id": {"certified"}}, nil},
		{"row 32: an unknown client's assertion", assertion("nobody", key), nil},
		{"row 32: the assertion of a client that has no key", assertion(clientID, key), nil},
		{"row 32: an assertion by another key", assertion("signer", newSigningKey(t)), nil},
		{"row 31: a secret that is wrong in its first character only", nil, basic(clientID, "b"+clientSecret[1:])},
		{"row 31: a secret that is wrong in its last character only", nil, basic(clientID, clientSecret[:len(clientSecret)-1]+"b")},
		{"row 31: a secret that is one short", nil, basic(clientID, clientSecret[:len(clientSecret)-1])},
		{"row 31: a secret that is one long", nil, basic(clientID, clientSecret+"a")},
		{"row 31: a secret in another case", nil, basic(clientID, strings.ToLower(clientSecret))},
		{"row 31: the secret's digest", nil, basic(clientID, sha256Hex([]byte(clientSecret)))},
		{"row 31: a hashed secret that is one short", nil, basic("hashed", clientSecret[:len(clientSecret)-1])},
	}
	for _, path := range formEndpoints {
		var first answer
		for _, test := range cases {
			t.Run(test.name+" gets the one answer at "+path, func(t *testing.T) {
				form := url.Values{"grant_type": {"client_credentials"}, "token": {"unknown"}}
				maps.Copy(form, test.form)
				a := g.post(path, form, test.header)
				wantInvalidClient(t, g, a)
				a.Header.Del("Date")
				a.Header.Del("X-Request-Id")
				if first.Response == nil {
					first = a
				}
				if !bytes.Equal(a.body, first.body) || fmt.Sprint(a.Header) != fmt.Sprint(first.Header) {
					t.Errorf("got %v %s, but %v %s for the first of them", a.Header, a.body, first.Header, first.body)
				}
			})
		}
	}
}

func TestRFCClientAuthAssertion(t *testing.T) {
	key := newSigningKey(t)
	file := publicKeyFile(t, key.Public())
	options := usualOptions
	for _, id := range []string{"signer", "second"} {
		options += "\nclient " + id + " {\npublic_key_file " + file + "\ngrant_types client_credentials\n}"
	}
	g := startWith(t, options, usualSite)
	ask := func(path string, form url.Values) answer {
		all := url.Values{"grant_type": {"client_credentials"}, "token": {"unknown"}}
		maps.Copy(all, form)
		return g.post(path, all, nil)
	}
	type claims = map[string]any
	in := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	cases := []struct {
		name   string
		change func(claims)
		good   bool
	}{
		{"row 33: iss and sub are the client_id", func(claims) {}, true},
		{"row 33: another iss", func(c claims) { c["iss"] = "second" }, false},
		{"row 33: another sub", func(c claims) { c["sub"] = "second" }, false},
		{"row 33: iss and sub of a client that has no key", func(c claims) { c["iss"], c["sub"] = clientID, clientID }, false},
		{"row 33: iss and sub of nobody", func(c claims) { c["iss"], c["sub"] = "nobody", "nobody" }, false},
		{"row 33: no iss", func(c claims) { delete(c, "iss") }, false},
		{"row 33: no sub", func(c claims) { delete(c, "sub") }, false},
		{"row 33: a sub that is no string", func(c claims) { c["sub"] = []string{"signer"} }, false},
		{"row 34: aud is the issuer", func(c claims) { c["aud"] = g.url }, true},
		{"row 34: aud is the token endpoint", func(c claims) { c["aud"] = g.url + "/oauth2/token" }, true},
		{"row 34: aud is several, one of them right", func(c claims) { c["aud"] = []string{"https://x.example.com", g.url} }, true},
		{"row 34: aud is somebody else", func(c claims) { c["aud"] = "https://x.example.com" }, false},
		{"row 34: aud is the issuer with a slash", func(c claims) { c["aud"] = g.url + "/" }, false},
		{"row 34: aud is the issuer in upper case", func(c claims) { c["aud"] = strings.ToUpper(g.url) }, false},
		{"row 34: aud is empty", func(c claims) { c["aud"] = []string{} }, false},
		{"row 34: no aud", func(c claims) { delete(c, "aud") }, false},
		{"row 35: exp in nine minutes", func(c claims) { c["exp"] = in(9 * time.Minute) }, true},
		{"row 35: exp in eleven minutes", func(c claims) { c["exp"] = in(11 * time.Minute) }, false},
		{"row 35: exp in fifty years", func(c claims) { c["exp"] = in(50 * 365 * 24 * time.Hour) }, false},
		{"row 35: exp a second ago", func(c claims) { c["exp"] = in(-time.Second) }, false},
		{"row 35: exp 0", func(c claims) { c["exp"] = 0 }, false},
		{"row 35: exp a string", func(c claims) { c["exp"] = fmt.Sprint(in(time.Minute)) }, false},
		{"row 35: no exp", func(c claims) { delete(c, "exp") }, false},
		{"row 35: nbf in an hour", func(c claims) { c["nbf"] = in(time.Hour) }, false},
		{"row 36: no jti", func(c claims) { delete(c, "jti") }, false},
		{"row 36: an empty jti", func(c claims) { c["jti"] = "" }, false},
	}
	for _, test := range cases {
		for _, path := range formEndpoints {
			t.Run(fmt.Sprintf("%s at %s: %t", test.name, path, test.good), func(t *testing.T) {
				c := assertionClaims("signer", g.url)
				test.change(c)
				a := ask(path, assertionForm(signES256(t, key, claims{"alg": "ES256"}, c)))
				if test.good {
					a.wantStatus(t, http.StatusOK)
					return
				}
				wantInvalidClient(t, g, a)
			})
		}
	}
	good := func() string { return signES256(t, key, claims{"alg": "ES256"}, assertionClaims("signer", g.url)) }
	t.Run("row 33: the client_id may be sent along, if it is the same", func(t *testing.T) {
		ask("/oauth2/token", with(assertionForm(good()), "client_id", "signer")).wantStatus(t, http.StatusOK)
		wantInvalidClient(t, g, ask("/oauth2/token", with(assertionForm(good()), "client_id", "second")))
		wantInvalidClient(t, g, ask("/oauth2/token", with(assertionForm(good()), "client_id", clientID)))
	})
	t.Run("row 33: the token is the client's that signed", func(t *testing.T) {
		if got := claimsIn(t, ask("/oauth2/token", assertionForm(good())).tokens(t).access)["client_id"]; got != "signer" {
			t.Errorf("got client_id %v", got)
		}
	})
	t.Run("row 36: an assertion is good once, whichever endpoint it went to, also after a restart", func(t *testing.T) {
		form := assertionForm(good())
		ask("/oauth2/token", form).wantStatus(t, http.StatusOK)
		for _, path := range formEndpoints {
			wantInvalidClient(t, g, ask(path, form))
		}
		g.reload(g.caddyfile(options, usualSite))
		for _, path := range formEndpoints {
			wantInvalidClient(t, g, ask(path, form))
		}
	})
	t.Run("row 36: another assertion with the same jti is no better", func(t *testing.T) {
		c := assertionClaims("signer", g.url)
		ask("/oauth2/revoke", assertionForm(signES256(t, key, claims{"alg": "ES256"}, c))).wantStatus(t, http.StatusOK)
		c["exp"] = in(2 * time.Minute)
		wantInvalidClient(t, g, ask("/oauth2/token", assertionForm(signES256(t, key, claims{"alg": "ES256"}, c))))
	})
	t.Run("row 36: clients don't use up each other's jti", func(t *testing.T) {
		first, second := assertionClaims("signer", g.url), assertionClaims("second", g.url)
		second["jti"] = first["jti"]
		ask("/oauth2/token", assertionForm(signES256(t, key, claims{"alg": "ES256"}, first))).wantStatus(t, http.StatusOK)
		ask("/oauth2/token", assertionForm(signES256(t, key, claims{"alg": "ES256"}, second))).wantStatus(t, http.StatusOK)
	})
	types := map[string][]string{
		"none":                        nil,
		"an empty one":                {""},
		"that of SAML":                {"urn:ietf:params:oauth:client-assertion-type:saml2-bearer"},
		"the right one in upper case": {strings.ToUpper(assertionType)},
		"the right one with a space":  {assertionType + " "},
		"the grant type":              {"urn:ietf:params:oauth:grant-type:jwt-bearer"},
	}
	for name, values := range types {
		t.Run("row 38: with "+name+" as its type an assertion is refused", func(t *testing.T) {
			form := assertionForm(good())
			form["client_assertion_type"] = values
			wantInvalidClient(t, g, ask("/oauth2/token", form))
		})
	}
	t.Run("row 38: the type without an assertion is refused", func(t *testing.T) {
		wantInvalidClient(t, g, ask("/oauth2/token", url.Values{"client_assertion_type": {assertionType}, "client_id": {"signer"}}))
	})
	t.Run("row 39: the metadata offer private_key_jwt, with asymmetric algorithms only", func(t *testing.T) {
		document := g.do(g.request(http.MethodGet, "/.well-known/oauth-authorization-server", "", nil)).json(t)
		for _, endpoint := range []string{"token", "revocation"} {
			methods := fmt.Sprint(document[endpoint+"_endpoint_auth_methods_supported"])
			if !strings.Contains(methods, "private_key_jwt") || strings.Contains(methods, "client_secret_jwt") {
				t.Errorf("got methods %s for %s", methods, endpoint)
			}
			algorithms, _ := document[endpoint+"_endpoint_auth_signing_alg_values_supported"].([]any)
			for _, algorithm := range algorithms {
				if name := algorithm.(string); strings.HasPrefix(name, "HS") || strings.EqualFold(name, "none") {
					t.Errorf("got algorithm %s for %s", name, endpoint)
				}
			}
			if !slices.Contains(algorithms, any("ES256")) {
				t.Errorf("got algorithms %v for %s", algorithms, endpoint)
			}
		}
	})
}

func TestRFCClientAuthAssertionAlgorithm(t *testing.T) {
	key, stranger := newSigningKey(t), newSigningKey(t)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	file, rsaFile := publicKeyFile(t, key.Public()), publicKeyFile(t, rsaKey.Public())
	published, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	g := startWith(t, usualOptions+`
		client signer {
			public_key_file `+file+`
			grant_types client_credentials
		}
		client rsa {
			public_key_file `+rsaFile+`
			grant_types client_credentials
		}`, usualSite)
	type header = map[string]any
	ec := func(h header) string { return signES256(t, key, h, assertionClaims("signer", g.url)) }
	signRS256 := func(input []byte) []byte {
		digest := sha256.Sum256(input)
		signature, err := rsa.SignPKCS1v15(rand.Reader, rsaKey, crypto.SHA256, digest[:])
		if err != nil {
			t.Fatal(err)
		}
		return signature
	}
	hs256 := func(secret []byte) string {
		return compactJWS(t, header{"alg": "HS256"}, assertionClaims("signer", g.url), func(input []byte) []byte {
			mac := hmac.New(sha256.New, secret)
			mac.Write(input)
			return mac.Sum(nil)
		})
	}
	unsigned := func(alg string) string {
		return compactJWS(t, header{"alg": alg}, assertionClaims("signer", g.url), func([]byte) []byte { return nil })
	}
	cases := []struct {
		name, assertion string
		good            bool
	}{
		{"ES256", ec(header{"alg": "ES256"}), true},
		{"ES256 with a typ", ec(header{"alg": "ES256", "typ": "JWT"}), true},
		{"RS256", compactJWS(t, header{"alg": "RS256"}, assertionClaims("rsa", g.url), signRS256), true},
		{"RS256 in the name of the client with an EC key",
			compactJWS(t, header{"alg": "RS256"}, assertionClaims("signer", g.url), signRS256), false},
		{"none", unsigned("none"), false},
		{"None", unsigned("None"), false},
		{"no signature under ES256", unsigned("ES256"), false},
		{"none over a true signature", ec(header{"alg": "none"}), false},
		{"HS256 with the public key as the secret", hs256(published), false},
		{"HS256 with the client's ID as the secret", hs256([]byte("signer")), false},
		{"HS256 over a true signature", ec(header{"alg": "HS256"}), false},
		{"es256", ec(header{"alg": "es256"}), false},
		{"ES384 over a signature of ES256", ec(header{"alg": "ES384"}), false},
		{"no alg", ec(header{}), false},
		{"another key", signES256(t, stranger, header{"alg": "ES256"}, assertionClaims("signer", g.url)), false},
		{"a key that it brings along", signES256(t, stranger, header{"alg": "ES256", "jwk": publicMembers(t, stranger)},
			assertionClaims("signer", g.url)), false},
		{"the ID of another key", ec(header{"alg": "ES256", "kid": "other"}), false},
		{"something that is no JWT", "assertion", false},
	}
	for _, test := range cases {
		for _, path := range formEndpoints {
			t.Run(fmt.Sprintf("row 37: an assertion with %s at %s: %t", test.name, path, test.good), func(t *testing.T) {
				form := assertionForm(test.assertion)
				form.Set("grant_type", "client_credentials")
				form.Set("token", "unknown")
				a := g.post(path, form, nil)
				switch {
				case !test.good:
					wantInvalidClient(t, g, a)
				case path == "/oauth2/token": // it can be used once only
					a.wantStatus(t, http.StatusOK)
				}
			})
		}
	}
}

func TestRFCClientAuthCertificate(t *testing.T) {
	directory := t.TempDir()
	authority := newCertificate(t, pkix.Name{CommonName: "Authority"}, nil)
	server := newCertificate(t, pkix.Name{CommonName: "localhost"}, &authority)
	name := pkix.Name{CommonName: "machine", Organization: []string{"Example"}}
	machine := newCertificate(t, name, &authority)
	selfSigned := newCertificate(t, name, nil)
	visitor := newCertificate(t, pkix.Name{CommonName: "visitor", Organization: []string{"Example"}}, &authority)
	longer := newCertificate(t, pkix.Name{CommonName: "machine", Organization: []string{"Example", "Other"}}, &authority)
	authorityFile := pemFile(t, directory, "authority.pem", "CERTIFICATE", authority.Certificate[0])
	serverFile := pemFile(t, directory, "server.pem", "CERTIFICATE", server.Certificate[0])
	serverKey, err := x509.MarshalPKCS8PrivateKey(server.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	serverKeyFile := pemFile(t, directory, "server.key", "PRIVATE KEY", serverKey)

	g := prepare(t)
	g.url = "https://localhost:" + portOf(t, g.url)
	options := usualOptions + `
		client bySubject {
			tls_client_subject "CN=machine,O=Example"
			grant_types client_credentials
		}
		client byKey {
			tls_client_key_sha256 ` + sha256Hex(selfSigned.Leaf.RawSubjectPublicKeyInfo) + `
			grant_types client_credentials
		}`
	site := func(clientAuth string) string {
		return g.caddyfile(options, "oauth_server\ntls "+serverFile+" "+serverKeyFile+" {\nclient_auth {\n"+clientAuth+"\n}\n}")
	}
	roots := x509.NewCertPool()
	roots.AddCert(authority.Leaf)
	// roundTrip asks over a connection of its own, with a client certificate unless that is nil.
	roundTrip := func(certificate *tls.Certificate, path string, form url.Values, header http.Header) (answer, error) {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
		defer transport.CloseIdleConnections()
		if certificate != nil {
			// Whatever the server says that it would accept, this one is sent.
			transport.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				return certificate, nil
			}
		}
		all := url.Values{"grant_type": {"client_credentials"}, "token": {"unknown"}}
		maps.Copy(all, form)
		response, err := transport.RoundTrip(g.request(http.MethodPost, path, all.Encode(), formHeader(header)))
		if err != nil {
			return answer{}, err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		return answer{response, body}, err
	}
	type request struct {
		name        string
		certificate *tls.Certificate
		form        url.Values
		header      http.Header
		good        bool
	}
	empty := http.Header{}
	as := func(id string) url.Values { return url.Values{"client_id": {id}} }
	run := func(cases []request) {
		for _, test := range cases {
			for _, path := range formEndpoints {
				t.Run(fmt.Sprintf("row 40: %s at %s: %t", test.name, path, test.good), func(t *testing.T) {
					a, err := roundTrip(test.certificate, path, test.form, test.header)
					if err != nil {
						t.Fatal(err)
					}
					if test.good {
						a.wantStatus(t, http.StatusOK)
						return
					}
					wantInvalidClient(t, g, a)
				})
			}
		}
	}

	g.load(site("mode verify_if_given\ntrust_pool file " + authorityFile))
	run([]request{
		{"a certificate with the client's subject", &machine, as("bySubject"), empty, true},
		{"the same, by a client that names itself by Basic", &machine, nil, basic("bySubject", ""), true},
		{"a certificate with another subject", &visitor, as("bySubject"), empty, false},
		{"a certificate with a longer subject", &longer, as("bySubject"), empty, false},
		{"no certificate", nil, as("bySubject"), empty, false},
		{"a certificate without a client_id", &machine, nil, empty, false},
		{"a certificate in the name of a client that has a secret", &machine, as(clientID), empty, false},
		{"a certificate in the name of nobody", &machine, as("machine"), empty, false},
		{"a certificate and a secret", &machine, nil, basic("bySubject", "secret"), false},
		{"a trusted certificate of another key", &machine, as("byKey"), empty, false},
		{"a secret, where a certificate may be given", nil, nil, basic(clientID, clientSecret), true},
		{"a secret beside somebody's certificate", &visitor, nil, basic(clientID, clientSecret), true},
	})
	t.Run("row 40: a certificate that is from nobody does not get through the handshake", func(t *testing.T) {
		if a, err := roundTrip(&selfSigned, "/oauth2/token", as("bySubject"), empty); err == nil {
			t.Errorf("got status %d, body %s", a.StatusCode, a.body)
		}
	})

	g.reload(site("mode request"))
	run([]request{
		{"a self-signed certificate with the client's key", &selfSigned, as("byKey"), empty, true},
		{"a certificate with another key", &visitor, as("byKey"), empty, false},
		{"no certificate for the client with a key", nil, as("byKey"), empty, false},
		{"a self-signed certificate with the client's subject", &selfSigned, as("bySubject"), empty, false},
		{"a certificate with the client's subject that nobody has verified", &machine, as("bySubject"), empty, false},
	})
	t.Run("row 40: both ways are in the metadata", func(t *testing.T) {
		request := g.request(http.MethodGet, "/.well-known/oauth-authorization-server", "", nil)
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
		defer transport.CloseIdleConnections()
		response, err := transport.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		var document map[string]any
		if err := json.NewDecoder(response.Body).Decode(&document); err != nil {
			t.Fatal(err)
		}
		methods, _ := document["token_endpoint_auth_methods_supported"].([]any)
		for _, method := range []any{"tls_client_auth", "self_signed_tls_client_auth"} {
			if !slices.Contains(methods, method) {
				t.Errorf("%v is not among %v", method, methods)
			}
		}
	})
}

// wantInvalidClient fails the test unless the answer is invalid_client with the challenge.
func wantInvalidClient(t *testing.T, g *gateway, a answer) {
	t.Helper()
	a.wantError(t, http.StatusUnauthorized, "invalid_client")
	if got := a.Header.Values("WWW-Authenticate"); !slices.Equal(got, []string{`Basic realm="` + g.url + `"`}) {
		t.Errorf("got WWW-Authenticate %q", got)
	}
}

func sha256Hex(content []byte) string {
	digest := sha256.Sum256(content)
	return hex.EncodeToString(digest[:])
}

func newSigningKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// publicKeyFile writes a public key to a file.
func publicKeyFile(t *testing.T, key crypto.PublicKey) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pemFile(t, t.TempDir(), "client.pem", "PUBLIC KEY", der)
}

// pemFile writes a file with one PEM block.
func pemFile(t *testing.T, directory, name, kind string, content []byte) string {
	t.Helper()
	path := filepath.Join(directory, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// publicMembers returns the public half of a key as a JWK.
func publicMembers(t *testing.T, key *ecdsa.PrivateKey) map[string]string {
	t.Helper()
	point, err := key.PublicKey.Bytes() // 4, x, y
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{
		"kty": "EC", "crv": "P-256",
		"x": base64.RawURLEncoding.EncodeToString(point[1:33]), "y": base64.RawURLEncoding.EncodeToString(point[33:]),
	}
}

// assertionClaims are the claims of a good assertion, with a jti of its own.
func assertionClaims(id, audience string) map[string]any {
	return map[string]any{
		"iss": id, "sub": id, "aud": audience, "jti": rand.Text(),
		"iat": time.Now().Unix(), "exp": time.Now().Add(5 * time.Minute).Unix(),
	}
}

func assertionForm(assertion string) url.Values {
	return url.Values{"client_assertion_type": {assertionType}, "client_assertion": {assertion}}
}

// compactJWS makes a JWS in the compact form, whatever its header says of its signature.
func compactJWS(t *testing.T, header, claims map[string]any, sign func(input []byte) []byte) string {
	t.Helper()
	encode := func(value any) string {
		content, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(content)
	}
	input := encode(header) + "." + encode(claims)
	return input + "." + base64.RawURLEncoding.EncodeToString(sign([]byte(input)))
}

// signES256 makes a JWS whose signature is one of ES256.
func signES256(t *testing.T, key *ecdsa.PrivateKey, header, claims map[string]any) string {
	t.Helper()
	return compactJWS(t, header, claims, func(input []byte) []byte {
		digest := sha256.Sum256(input)
		r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
		if err != nil {
			t.Fatal(err)
		}
		signature := make([]byte, 64)
		r.FillBytes(signature[:32])
		s.FillBytes(signature[32:])
		return signature
	})
}

// newCertificate makes a certificate for servers and clients. Without an authority it is self-signed, and one itself.
func newCertificate(t *testing.T, name pkix.Name, authority *tls.Certificate) tls.Certificate {
	t.Helper()
	key := newSigningKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: name, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true, IsCA: authority == nil,
	}
	parent, signer := template, key
	if authority != nil {
		parent, signer = authority.Leaf, authority.PrivateKey.(*ecdsa.PrivateKey)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}
