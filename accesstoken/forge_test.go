package accesstoken_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tokengateway/caddy-token-gateway/accesstoken"
)

// now is the instant at which the tests verify.
var now = time.Unix(1_800_000_000, 0)

const issuer = "https://issuer.example"

// soundPayload is accepted at now.
const soundPayload = `{"iss":"https://issuer.example","sub":"alice","aud":"client-1","client_id":"client-1","azp":"client-1",` +
	`"aut":"APPLICATION_USER","iat":1799999990,"nbf":1799999990,"exp":1800003600,"jti":"token-1","scope":"read write","sid":"family-1"}`

// forger signs any bytes with nothing but the standard library, so that tokens may have headers and payloads that Mint
// would never write.
type forger struct {
	algorithm accesstoken.Algorithm
	private   crypto.Signer
	key       *accesstoken.Key // the public half only
}

func newForger(algorithm accesstoken.Algorithm, private crypto.Signer, err error) *forger {
	if err != nil {
		panic(err)
	}
	key, err := accesstoken.NewPublicKey(private.Public(), algorithm)
	if err != nil {
		panic(err)
	}
	return &forger{algorithm: algorithm, private: private, key: key}
}

func ecKey(curve elliptic.Curve) (crypto.Signer, error) { return ecdsa.GenerateKey(curve, rand.Reader) }

func edKey() (crypto.Signer, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	return private, err
}

// rsaPrivate is the one RSA key of 2048 bits that all tests share, because making one takes long.
var rsaPrivate = sync.OnceValue(func() *rsa.PrivateKey {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return private
})

func newES256() *forger {
	private, err := ecKey(elliptic.P256())
	return newForger(accesstoken.ES256, private, err)
}

func newRS256() *forger { return newForger(accesstoken.RS256, rsaPrivate(), nil) }

func forgers() []*forger {
	p384, err384 := ecKey(elliptic.P384())
	ed, errEd := edKey()
	return []*forger{
		newES256(),
		newForger(accesstoken.ES384, p384, err384),
		newRS256(),
		newForger(accesstoken.PS256, rsaPrivate(), nil),
		newForger(accesstoken.EdDSA, ed, errEd),
	}
}

func (f *forger) header() string {
	return fmt.Sprintf(`{"typ":"at+jwt","alg":"%s","kid":"%s"}`, f.algorithm, f.key.ID)
}

// token is a compact JWS over exactly these bytes.
func (f *forger) token(header, payload string) string {
	return f.overInput(encode(header) + "." + encode(payload))
}

// overInput signs a signing input as it is, however it is spelt.
func (f *forger) overInput(input string) string { return input + "." + encode(string(f.sign(input))) }

func (f *forger) sign(input string) []byte {
	sum := sha256.Sum256([]byte(input))
	var signature []byte
	var err error
	switch f.algorithm {
	case accesstoken.ES256:
		signature, err = f.signEC(sum[:], 32)
	case accesstoken.ES384:
		sum := sha512.Sum384([]byte(input))
		signature, err = f.signEC(sum[:], 48)
	case accesstoken.RS256:
		signature, err = rsa.SignPKCS1v15(rand.Reader, f.private.(*rsa.PrivateKey), crypto.SHA256, sum[:])
	case accesstoken.PS256:
		options := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}
		signature, err = rsa.SignPSS(rand.Reader, f.private.(*rsa.PrivateKey), crypto.SHA256, sum[:], options)
	case accesstoken.EdDSA:
		signature = ed25519.Sign(f.private.(ed25519.PrivateKey), []byte(input))
	}
	if err != nil {
		panic(err)
	}
	return signature
}

func (f *forger) signEC(sum []byte, size int) ([]byte, error) {
	r, s, err := ecdsa.Sign(rand.Reader, f.private.(*ecdsa.PrivateKey), sum)
	if err != nil {
		return nil, err
	}
	return join(r, s, size), nil
}

// join writes r and s as RFC 7518 §3.4 has them.
func join(r, s *big.Int, size int) []byte {
	signature := make([]byte, 2*size)
	r.FillBytes(signature[:size])
	s.FillBytes(signature[size:])
	return signature
}

// signedAsReceived reports whether a lenient reader would find the token's signature to be sound over the bytes that
// stand before its last dot. For such a token nothing but the gate before the signature check can be what refuses it.
func (f *forger) signedAsReceived(token string) bool {
	last := strings.LastIndexByte(token, '.')
	signature := decodeLeniently(token[last+1:])
	sum := sha256.Sum256([]byte(token[:last]))
	switch f.algorithm {
	case accesstoken.ES256:
		r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
		return len(signature) == 64 && ecdsa.Verify(f.private.Public().(*ecdsa.PublicKey), sum[:], r, s)
	case accesstoken.RS256:
		return rsa.VerifyPKCS1v15(f.private.Public().(*rsa.PublicKey), crypto.SHA256, sum[:], signature) == nil
	default:
		panic("not needed for " + f.algorithm)
	}
}

// decodeLeniently reads base64 in whichever alphabet, with padding or without, with stray white space and stray bits.
func decodeLeniently(segment string) []byte {
	canonical := strings.NewReplacer("\r", "", "\n", "", " ", "", "\t", "", "=", "", "+", "-", "/", "_").Replace(segment)
	decoded, err := base64.RawURLEncoding.DecodeString(canonical)
	if err != nil {
		panic(err)
	}
	return decoded
}

func encode(raw string) string { return base64.RawURLEncoding.EncodeToString([]byte(raw)) }

// change replaces a part that must be there.
func change(t *testing.T, s, old, replacement string) string {
	t.Helper()
	if !strings.Contains(s, old) {
		t.Fatalf("%q doesn't hold %q", s, old)
	}
	return strings.Replace(s, old, replacement, 1)
}

func (f *forger) verify(token string) (*accesstoken.Claims, error) {
	return accesstoken.Verifier{Issuer: issuer}.Verify(token, accesstoken.NewKeySet(f.key), now)
}

func (f *forger) accepts(t *testing.T, token string) *accesstoken.Claims {
	t.Helper()
	claims, err := f.verify(token)
	if err != nil {
		t.Fatalf("refused: %v", err)
	}
	return claims
}

// refuses checks that a token is refused for this reason although its signature is sound.
func (f *forger) refuses(t *testing.T, token string, reason accesstoken.Reason) {
	t.Helper()
	if !f.signedAsReceived(token) {
		t.Fatal("the forged token isn't soundly signed, so that its refusal would prove nothing")
	}
	_, err := f.verify(token)
	wantReason(t, err, reason)
}

func wantReason(t *testing.T, err error, reason accesstoken.Reason) {
	t.Helper()
	var refused *accesstoken.Error
	if !errors.As(err, &refused) {
		t.Fatalf("got %v (%T), want an *accesstoken.Error", err, err)
	}
	if refused.Reason != reason {
		t.Fatalf("refused as %s (%s), want %s", refused.Reason, refused.Detail, reason)
	}
	if refused.Detail == "" || refused.Error() != refused.Detail {
		t.Fatalf("Error() is %q, Detail %q", refused.Error(), refused.Detail)
	}
}

func TestForgedTokensAreSound(t *testing.T) {
	for _, f := range forgers() {
		t.Run("an ordinary forged token is accepted with "+string(f.algorithm), func(t *testing.T) {
			claims := f.accepts(t, f.token(f.header(), soundPayload))
			if claims.Subject != "alice" {
				t.Fatalf("subject %q", claims.Subject)
			}
		})
		t.Run("a changed bit of the signature is refused with "+string(f.algorithm), func(t *testing.T) {
			input := encode(f.header()) + "." + encode(soundPayload)
			signature := f.sign(input)
			signature[len(signature)-1] ^= 1
			_, err := f.verify(input + "." + encode(string(signature)))
			wantReason(t, err, accesstoken.BadSignature)
		})
		t.Run("a changed payload is refused with "+string(f.algorithm), func(t *testing.T) {
			parts := strings.Split(f.token(f.header(), soundPayload), ".")
			parts[1] = encode(change(t, soundPayload, "alice", "admin"))
			_, err := f.verify(strings.Join(parts, "."))
			wantReason(t, err, accesstoken.BadSignature)
		})
		t.Run("a changed header is refused with "+string(f.algorithm), func(t *testing.T) {
			parts := strings.Split(f.token(f.header(), soundPayload), ".")
			parts[0] = encode(change(t, f.header(), "at+jwt", "AT+JWT"))
			_, err := f.verify(strings.Join(parts, "."))
			wantReason(t, err, accesstoken.BadSignature)
		})
		t.Run("a signature of another length is refused with "+string(f.algorithm), func(t *testing.T) {
			input := encode(f.header()) + "." + encode(soundPayload)
			signature := f.sign(input)
			for _, wrong := range [][]byte{signature[:1], signature[:len(signature)-1], append(bytes.Clone(signature), 0)} {
				_, err := f.verify(input + "." + encode(string(wrong)))
				wantReason(t, err, accesstoken.BadSignature)
			}
		})
	}
}
