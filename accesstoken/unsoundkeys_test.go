package accesstoken_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/tokengateway/caddy-token-gateway/accesstoken"
)

func TestEd25519KeysOfTheWrongLengthAreRefused(t *testing.T) {
	for _, length := range []int{0, 1, 31, 33} {
		if _, err := accesstoken.NewPublicKey(make(ed25519.PublicKey, length), ""); err == nil {
			t.Errorf("a key of %d bytes was taken", length)
		}
		x := base64.RawURLEncoding.EncodeToString(make([]byte, length))
		if _, err := accesstoken.ParsePublicKeys([]byte(object{"kty": "OKP", "crv": "Ed25519", "x": x}.String())); err == nil {
			t.Errorf("a JWK of %d bytes was taken", length)
		}
	}
}

func TestKeyFilesThatAreNotWhatTheySeemAreRefused(t *testing.T) {
	private := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	other := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	sound := ecJWK(private)
	twice := strings.Replace(sound.String(), `"kty":`, `"kty":"EC","kty":`, 1)
	for _, test := range []struct{ name, content string }{
		{"a JWK with another key's private half", sound.with("d", ecJWK(other)["d"]).String()},
		{"a JWK with an empty private half", sound.with("d", "").String()},
		{"a JWK that says another algorithm than its curve's", sound.with("alg", "ES384").String()},
		{"a JWK for encryption", sound.with("use", "enc").String()},
		{"a JWK with a member twice", twice},
		{"a JWK with another one behind it", sound.String() + ecJWK(other).String()},
		{"a PEM file whose second block is cut off", sec1(private) + sec1(other)[:60]},
	} {
		t.Run(test.name, func(t *testing.T) {
			if keys, err := accesstoken.ParsePrivateKeys([]byte(test.content), ""); err == nil {
				t.Errorf("got %d keys", len(keys))
			}
		})
	}
}

func TestTheAlgorithmOfAJWKCounts(t *testing.T) {
	jwk := rsaJWK(rsaPrivate()).with("alg", "PS256").String()
	keys := must(accesstoken.ParsePrivateKeys([]byte(jwk), ""))
	if keys[0].Algorithm != accesstoken.PS256 {
		t.Errorf("got %s, want PS256", keys[0].Algorithm)
	}
	if _, err := accesstoken.ParsePrivateKeys([]byte(jwk), accesstoken.RS256); err == nil {
		t.Error("a key for PS256 was taken for RS256")
	}
	public := must(accesstoken.ParsePublicKeys([]byte(jwk)))
	if public[0].Algorithm != accesstoken.PS256 {
		t.Errorf("got %s for the public half, want PS256", public[0].Algorithm)
	}
}

func TestScopesAreSeparatedBySpacesOnly(t *testing.T) {
	f := newES256()
	claims := f.accepts(t, f.token(f.header(), change(t, soundPayload, "read write", "read\u00a0write\u2003x  y")))
	if got := strings.Join(claims.Scopes, "|"); got != "read\u00a0write\u2003x|y" {
		t.Errorf("got %q", got)
	}
}

func TestMintLeavesOutWhatIsNotSet(t *testing.T) {
	key := must(accesstoken.GenerateKey(accesstoken.ES256))
	claims := accesstoken.Claims{
		Issuer: "https://issuer.example", Subject: "s", Audience: []string{"a"}, ClientID: "c", TokenID: "j",
		IssuedAt: now, Expiry: now.Add(60e9),
	}
	token := must(key.Mint(&claims))
	payload := decodeLeniently(strings.Split(token, ".")[1])
	for _, name := range []string{"nbf", "aut", "sid"} {
		if strings.Contains(string(payload), `"`+name+`"`) {
			t.Errorf("%s is in %s", name, payload)
		}
	}
	claims.Subject = strings.Repeat("x", accesstoken.MaxLength)
	if _, err := key.Mint(&claims); err == nil {
		t.Error("a token was made that is too long to be verified")
	}
}
