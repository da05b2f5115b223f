package accesstoken_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tokengateway/caddy-token-gateway/accesstoken"
)

func soundClaims() *accesstoken.Claims {
	return &accesstoken.Claims{
		Issuer: issuer, Subject: "alice", Audience: []string{"client-1"}, ClientID: "client-1", UserType: "APPLICATION_USER",
		Scopes: []string{"read", "write"}, TokenID: "token-1", FamilyID: "family-1",
		IssuedAt: now, NotBefore: now, Expiry: now.Add(time.Hour),
	}
}

// newKey is a key that can mint; RSA keys share one private key.
func newKey(t *testing.T, algorithm accesstoken.Algorithm) *accesstoken.Key {
	t.Helper()
	var key *accesstoken.Key
	var err error
	if algorithm == accesstoken.RS256 || algorithm == accesstoken.PS256 {
		key, err = accesstoken.NewKey(rsaPrivate(), algorithm)
	} else {
		key, err = accesstoken.GenerateKey(algorithm)
	}
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func mint(t *testing.T, key *accesstoken.Key, c *accesstoken.Claims) string {
	t.Helper()
	token, err := key.Mint(c)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// parts are the decoded header and payload of a token.
func parts(t *testing.T, token string) (header, payload string) {
	t.Helper()
	segments := strings.Split(token, ".")
	if len(segments) != 3 {
		t.Fatalf("%d segments", len(segments))
	}
	return string(decodeLeniently(segments[0])), string(decodeLeniently(segments[1]))
}

func TestMintedTokensVerify(t *testing.T) {
	for _, algorithm := range accesstoken.Algorithms {
		t.Run("with "+string(algorithm), func(t *testing.T) {
			key, want := newKey(t, algorithm), soundClaims()
			got, err := accesstoken.Verifier{Issuer: issuer}.Verify(mint(t, key, want), accesstoken.NewKeySet(key), now)
			if err != nil {
				t.Fatal(err)
			}
			if got.Issuer != want.Issuer || got.Subject != want.Subject || !slices.Equal(got.Audience, want.Audience) ||
				got.ClientID != want.ClientID || got.UserType != want.UserType || !slices.Equal(got.Scopes, want.Scopes) ||
				got.TokenID != want.TokenID || got.FamilyID != want.FamilyID || !got.IssuedAt.Equal(want.IssuedAt) ||
				!got.NotBefore.Equal(want.NotBefore) || !got.Expiry.Equal(want.Expiry) {
				t.Fatalf("got %+v, want %+v", got, want)
			}
		})
	}
}

func TestMintedBytes(t *testing.T) {
	key := newKey(t, accesstoken.ES256)
	for name, c := range map[string]struct {
		edit func(c *accesstoken.Claims)
		want string
	}{
		"all members stand in their order": {
			func(*accesstoken.Claims) {},
			`{"iss":"https://issuer.example","sub":"alice","aud":"client-1","client_id":"client-1","azp":"client-1",` +
				`"aut":"APPLICATION_USER","iat":1800000000,"nbf":1800000000,"exp":1800003600,"jti":"token-1","scope":"read write","sid":"family-1"}`,
		},
		"there is no sid without a family": {
			func(c *accesstoken.Claims) { c.FamilyID = "" },
			`{"iss":"https://issuer.example","sub":"alice","aud":"client-1","client_id":"client-1","azp":"client-1",` +
				`"aut":"APPLICATION_USER","iat":1800000000,"nbf":1800000000,"exp":1800003600,"jti":"token-1","scope":"read write"}`,
		},
		"several audiences are an array": {
			func(c *accesstoken.Claims) { c.Audience = []string{"a", "b", "c"}; c.Scopes = []string{"read"} },
			`{"iss":"https://issuer.example","sub":"alice","aud":["a","b","c"],"client_id":"client-1","azp":"client-1",` +
				`"aut":"APPLICATION_USER","iat":1800000000,"nbf":1800000000,"exp":1800003600,"jti":"token-1","scope":"read","sid":"family-1"}`,
		},
		"no scope is an empty string": {
			func(c *accesstoken.Claims) { c.Scopes = nil },
			`{"iss":"https://issuer.example","sub":"alice","aud":"client-1","client_id":"client-1","azp":"client-1",` +
				`"aut":"APPLICATION_USER","iat":1800000000,"nbf":1800000000,"exp":1800003600,"jti":"token-1","scope":"","sid":"family-1"}`,
		},
		"quotes, backslashes and control characters are escaped": {
			func(c *accesstoken.Claims) {
				c.Subject, c.ClientID, c.Audience = "a\"b\\c\n\x00", `","sub":"admin`, []string{`x"`, "é☃😀"}
			},
			`{"iss":"https://issuer.example","sub":"a\"b\\c\n\u0000","aud":["x\"","é☃😀"],"client_id":"\",\"sub\":\"admin","azp":"\",\"sub\":\"admin",` +
				`"aut":"APPLICATION_USER","iat":1800000000,"nbf":1800000000,"exp":1800003600,"jti":"token-1","scope":"read write","sid":"family-1"}`,
		},
		"times are whole seconds, rounded down, in whatever zone": {
			func(c *accesstoken.Claims) {
				c.IssuedAt = now.Add(999 * time.Millisecond).In(time.FixedZone("east", 3*60*60))
				c.NotBefore = now.Add(time.Nanosecond).UTC()
				c.Expiry = now.Add(time.Hour + time.Second - 1)
			},
			`{"iss":"https://issuer.example","sub":"alice","aud":"client-1","client_id":"client-1","azp":"client-1",` +
				`"aut":"APPLICATION_USER","iat":1800000000,"nbf":1800000000,"exp":1800003600,"jti":"token-1","scope":"read write","sid":"family-1"}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			claims := soundClaims()
			c.edit(claims)
			token := mint(t, key, claims)
			header, payload := parts(t, token)
			if want := `{"typ":"at+jwt","alg":"ES256","kid":"` + key.ID + `"}`; header != want {
				t.Errorf("header\n%s, want\n%s", header, want)
			}
			if payload != c.want {
				t.Errorf("payload\n%s, want\n%s", payload, c.want)
			}
			got, err := accesstoken.Verifier{Issuer: issuer}.Verify(token, accesstoken.NewKeySet(key), now.Add(time.Second))
			if err != nil {
				t.Fatal(err)
			}
			if got.Subject != claims.Subject || got.ClientID != claims.ClientID || !slices.Equal(got.Audience, claims.Audience) {
				t.Errorf("read back as %q, %q, %q", got.Subject, got.ClientID, got.Audience)
			}
		})
	}
}

func TestMintedHeaders(t *testing.T) {
	for _, algorithm := range accesstoken.Algorithms {
		t.Run("with "+string(algorithm), func(t *testing.T) {
			key := newKey(t, algorithm)
			header, _ := parts(t, mint(t, key, soundClaims()))
			if want := `{"typ":"at+jwt","alg":"` + string(algorithm) + `","kid":"` + key.ID + `"}`; header != want {
				t.Fatalf("header %s, want %s", header, want)
			}
		})
	}
}

func TestMintRefuses(t *testing.T) {
	t.Run("a key of which only the public half is known", func(t *testing.T) {
		if token, err := newES256().key.Mint(soundClaims()); err == nil || token != "" {
			t.Fatalf("got %q, %v", token, err)
		}
	})
	for name, edit := range map[string]func(c *accesstoken.Claims){
		"a subject that is not UTF-8":   func(c *accesstoken.Claims) { c.Subject = "alice\xff" },
		"a client that is not UTF-8":    func(c *accesstoken.Claims) { c.ClientID = "\xc0\xaf" },
		"an audience that is not UTF-8": func(c *accesstoken.Claims) { c.Audience = []string{"a", "\xff"} },
	} {
		t.Run(name, func(t *testing.T) {
			claims := soundClaims()
			edit(claims)
			if token, err := newKey(t, accesstoken.ES256).Mint(claims); err == nil || token != "" {
				t.Fatalf("got %q, %v", token, err)
			}
		})
	}
}
