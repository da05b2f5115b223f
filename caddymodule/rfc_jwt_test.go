package caddymodule_test

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

// RFC 9068, by the rows of the checklist.
func TestRFCJWTAccessToken(t *testing.T) {
	g, f := startForging(t, newForgingKey(t))
	session := g.token(with(passwordForm(), "scope", "default read"))
	access := session.tokens(t).access

	t.Run("row 117: the typ is at+jwt", func(t *testing.T) {
		if got := headerOf(t, access)["typ"]; got != "at+jwt" {
			t.Fatalf("got typ %v", got)
		}
	})
	t.Run("row 117: application/at+jwt is taken, too", func(t *testing.T) {
		g.wantGood(t, f.sign(`{"typ":"application/at+jwt","alg":"ES256","kid":"`+f.kid+`"}`, f.claims(nil)))
	})

	t.Run("row 118: iss, exp, aud, sub, client_id, iat and jti are there", func(t *testing.T) {
		claims := claimsOf(t, access)
		for name, want := range map[string]any{"iss": g.url, "aud": clientID, "sub": userName, "client_id": clientID} {
			if claims[name] != want {
				t.Errorf("got %s %v, want %v", name, claims[name], want)
			}
		}
		issued, expires := claims["iat"].(float64), claims["exp"].(float64)
		if now := float64(time.Now().Unix()); issued > now || issued < now-60 || expires != issued+3600 {
			t.Errorf("issued at %v, expires at %v, and now it is %v", issued, expires, now)
		}
		id, err := uuid.Parse(claims["jti"].(string))
		if err != nil || id.Version() != 7 {
			t.Errorf("got jti %v, want a UUIDv7", claims["jti"])
		}
	})
	t.Run("row 118: no two tokens have the same jti", func(t *testing.T) {
		seen := make(map[any]bool)
		for range 20 {
			jti := claimsOf(t, g.signIn().access)["jti"]
			if seen[jti] {
				t.Fatalf("jti %v is there twice", jti)
			}
			seen[jti] = true
		}
	})
	for _, name := range []string{"iss", "exp", "aud", "sub", "client_id", "iat", "jti"} {
		t.Run("row 118: a token without "+name+" is refused", func(t *testing.T) {
			g.wantInvalidToken(t, f.token(claimChanges{name: absent}))
		})
	}

	t.Run("row 119: alg none is refused", func(t *testing.T) {
		g.wantInvalidToken(t, encodeSegment(`{"typ":"at+jwt","alg":"none"}`)+"."+encodeSegment(f.claims(nil))+".")
		g.wantInvalidToken(t, f.sign(`{"typ":"at+jwt","alg":"none"}`, f.claims(nil)))
	})

	t.Run("row 120: iss is this gateway, to the letter", func(t *testing.T) {
		g.wantGood(t, f.token(claimChanges{"iss": g.url}))
		for _, issuer := range []string{g.url + "/", strings.ToUpper(g.url), strings.Replace(g.url, "http:", "https:", 1), "", "https://idp.example.com"} {
			g.wantInvalidToken(t, f.token(claimChanges{"iss": issuer}))
		}
	})

	t.Run("row 122: an expired token is refused", func(t *testing.T) {
		now := time.Now().Unix()
		for _, expiry := range []int64{now, now - 1, now - 3600} {
			g.wantInvalidToken(t, f.token(claimChanges{"exp": expiry}))
		}
		g.wantGood(t, f.token(claimChanges{"exp": now + 60}))
	})
	t.Run("row 122: expires_in says when", func(t *testing.T) {
		claims := claimsOf(t, access)
		if got, want := session.json(t)["expires_in"], claims["exp"].(float64)-claims["iat"].(float64); got != want {
			t.Fatalf("got expires_in %v, want %v", got, want)
		}
	})

	t.Run("row 123: an ID token is refused for its typ", func(t *testing.T) {
		for _, header := range []string{`{"typ":"JWT","alg":"ES256","kid":"` + f.kid + `"}`, `{"alg":"ES256","kid":"` + f.kid + `"}`} {
			g.wantInvalidToken(t, f.sign(header, f.claims(claimChanges{"nonce": "n", "auth_time": time.Now().Unix()})))
		}
	})

	t.Run("row 125: the scope claim holds what was granted", func(t *testing.T) {
		if got := claimsOf(t, access)["scope"]; got != "default read" || session.text(t, "scope") != got {
			t.Fatalf("got scope claim %v, and the answer says %q", got, session.text(t, "scope"))
		}
		if got := claimsOf(t, g.signIn().access)["scope"]; got != "default" {
			t.Fatalf("got scope %v where none was asked for", got)
		}
	})

	t.Run("row 126: a member that is there twice is refused", func(t *testing.T) {
		plain := strings.TrimSuffix(f.claims(nil), "}")
		g.wantInvalidToken(t, f.sign(f.header(""), plain+`,"scope":"read"}`))
		g.wantInvalidToken(t, f.sign(f.header(""), plain+`,"a":{"b":1,"b":1}}`))
		g.wantInvalidToken(t, f.sign(f.header(`"typ":"at+jwt"`), plain+"}"))
	})
}

func TestRFCJWTAlgorithms(t *testing.T) {
	t.Run("row 119a: RS256 works from end to end", func(t *testing.T) {
		g := startWith(t, usualOptions+"\nsigning {\nalgorithm RS256\n}\n", usualSite)
		session := g.signIn()
		g.wantGood(t, session.access)
		header, payload, signature := segmentsOf(t, session.access)
		if got := headerOf(t, session.access)["alg"]; got != "RS256" {
			t.Fatalf("got alg %v", got)
		}
		digest := sha256.Sum256([]byte(header + "." + payload))
		key := publishedRSAKey(t, g, headerOf(t, session.access)["kid"])
		if err := rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], decodeSegment(t, signature)); err != nil {
			t.Fatal(err)
		}
		renewed := g.refresh(session.refresh).tokens(t)
		g.wantGood(t, renewed.access)
		g.revoke(renewed.refresh).wantStatus(t, http.StatusOK)
		g.wantInvalidToken(t, session.access)
		g.wantInvalidToken(t, renewed.access)
	})
	for _, algorithm := range []string{"ES256", "ES384", "PS256", "EdDSA"} {
		t.Run("row 119a: so does "+algorithm, func(t *testing.T) {
			g := startWith(t, usualOptions+"\nsigning {\nalgorithm "+algorithm+"\n}\n", usualSite)
			access := g.signIn().access
			if got := headerOf(t, access)["alg"]; got != algorithm {
				t.Fatalf("got alg %v", got)
			}
			g.wantGood(t, access)
			g.revoke(access).wantStatus(t, http.StatusOK)
			g.wantInvalidToken(t, access)
		})
	}
}

// publishedRSAKey makes the public key with a kid from what the gateway publishes.
func publishedRSAKey(t *testing.T, g *gateway, kid any) *rsa.PublicKey {
	t.Helper()
	var set struct {
		Keys []map[string]string `json:"keys"`
	}
	a := g.do(g.request(http.MethodGet, "/oauth2/jwks", "", nil))
	if err := json.Unmarshal(a.body, &set); err != nil {
		t.Fatalf("%s: %v", a.body, err)
	}
	i := slices.IndexFunc(set.Keys, func(key map[string]string) bool { return key["kid"] == kid })
	if i < 0 || set.Keys[i]["kty"] != "RSA" || set.Keys[i]["alg"] != "RS256" || set.Keys[i]["use"] != "sig" || set.Keys[i]["d"] != "" {
		t.Fatalf("got key set %s", a.body)
	}
	return &rsa.PublicKey{
		N: new(big.Int).SetBytes(decodeSegment(t, set.Keys[i]["n"])),
		E: int(new(big.Int).SetBytes(decodeSegment(t, set.Keys[i]["e"])).Int64()),
	}
}

func TestRFCJWTAudience(t *testing.T) {
	const first, second, own = "https://first.example.com", "https://second.example.com", "https://own.example.com"
	general := usualOptions + "\naccess_token {\naudience " + first + " " + second + "\n}\n"
	clients := strings.Replace(general, "secret "+clientSecret, "secret "+clientSecret+"\naudience "+own, 1)
	for _, c := range []struct {
		name, options, resource string
		want                    any
	}{
		{"without a setting it is the client's ID", usualOptions, "", clientID},
		{"it is what is set for all", general, "", []any{first, second}},
		{"it is what is set for the client", clients, "", own},
		{"it is the one resource that was asked for", general, second, second},
	} {
		t.Run("row 121: aud holds the resource: "+c.name, func(t *testing.T) {
			g := startWith(t, c.options, usualSite)
			form := passwordForm()
			if c.resource != "" {
				form = with(form, "resource", c.resource)
			}
			session := g.token(form).tokens(t)
			if got := claimsOf(t, session.access)["aud"]; fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Fatalf("got audience %v, want %v", got, c.want)
			}
			g.wantGood(t, session.access)
			if got := claimsOf(t, g.token(url.Values{"grant_type": {"client_credentials"}}).tokens(t).access)["aud"]; c.resource == "" && fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Fatalf("client_credentials: got audience %v, want %v", got, c.want)
			}
		})
	}
	t.Run("row 121: a token for another resource is refused", func(t *testing.T) {
		g, f := startForging(t, newForgingKey(t))
		g.wantGood(t, f.token(nil))
		for _, audience := range []any{first, []string{first, second}, publicID + "x"} {
			g.wantInvalidToken(t, f.token(claimChanges{"aud": audience}))
		}
	})
}
