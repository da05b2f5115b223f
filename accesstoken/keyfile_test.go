package accesstoken_test

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tokengateway/caddy-token-gateway/accesstoken"
)

// must unwraps what can't fail in these tests.
func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func block(typ string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: der}))
}

func pkcs8(private any) string {
	return block("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(private)))
}

func spki(public any) string { return block("PUBLIC KEY", must(x509.MarshalPKIXPublicKey(public))) }

func sec1(private *ecdsa.PrivateKey) string {
	return block("EC PRIVATE KEY", must(x509.MarshalECPrivateKey(private)))
}

// curveParameters is the block that openssl ecparam -genkey writes before a P-256 key.
var curveParameters = block("EC PARAMETERS", []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07})

func certificate(private crypto.Signer) string {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: now, NotAfter: now.Add(time.Hour),
	}
	return block("CERTIFICATE", must(x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)))
}

// object is a JWK in the making.
type object map[string]any

func (o object) String() string { return string(must(json.Marshal(o))) }

func (o object) with(name string, value any) object {
	changed := object{name: value}
	for member, v := range o {
		if member != name {
			changed[member] = v
		}
	}
	return changed
}

func (o object) without(name string) object {
	changed := o.with(name, nil)
	delete(changed, name)
	return changed
}

func ecJWK(private *ecdsa.PrivateKey) object {
	point := must(private.PublicKey.Bytes())
	size := len(point) / 2
	return object{
		"kty": "EC", "crv": private.Curve.Params().Name, "x": encode(string(point[1 : 1+size])), "y": encode(string(point[1+size:])),
		"d": encode(string(must(private.Bytes()))),
	}
}

func rsaJWK(private *rsa.PrivateKey) object {
	b := func(n *big.Int) string { return encode(string(n.Bytes())) }
	return object{
		"kty": "RSA", "n": b(private.N), "e": b(big.NewInt(int64(private.E))), "d": b(private.D),
		"p": b(private.Primes[0]), "q": b(private.Primes[1]),
		"dp": b(private.Precomputed.Dp), "dq": b(private.Precomputed.Dq), "qi": b(private.Precomputed.Qinv),
	}
}

func edJWK(private ed25519.PrivateKey) object {
	return object{"kty": "OKP", "crv": "Ed25519", "x": encode(string(private[32:])), "d": encode(string(private.Seed()))}
}

func set(keys ...object) string { return object{"keys": keys}.String() }

// keys of each kind that the tests of files use.
type fileKeys struct {
	p256, p256b, p384, p224, p521 *ecdsa.PrivateKey
	rsa, rsa1024                  *rsa.PrivateKey
	ed, edB                       ed25519.PrivateKey
}

func newFileKeys() *fileKeys {
	ec := func(curve elliptic.Curve) *ecdsa.PrivateKey { return must(ecKey(curve)).(*ecdsa.PrivateKey) }
	return &fileKeys{
		p256: ec(elliptic.P256()), p256b: ec(elliptic.P256()), p384: ec(elliptic.P384()), p224: ec(elliptic.P224()), p521: ec(elliptic.P521()),
		rsa: rsaPrivate(), rsa1024: must(rsa.GenerateKey(rand.Reader, 1024)),
		ed: must(edKey()).(ed25519.PrivateKey), edB: must(edKey()).(ed25519.PrivateKey),
	}
}

func id(private crypto.Signer) string { return must(accesstoken.NewPublicKey(private.Public(), "")).ID }

func TestPrivateKeyFiles(t *testing.T) {
	k := newFileKeys()
	for name, c := range map[string]struct {
		content   string
		algorithm accesstoken.Algorithm
		want      []crypto.Signer
	}{
		"PKCS #8, P-256":                       {pkcs8(k.p256), "", []crypto.Signer{k.p256}},
		"PKCS #8, P-256 for ES256":             {pkcs8(k.p256), accesstoken.ES256, []crypto.Signer{k.p256}},
		"PKCS #8, P-384":                       {pkcs8(k.p384), "", []crypto.Signer{k.p384}},
		"PKCS #8, RSA":                         {pkcs8(k.rsa), "", []crypto.Signer{k.rsa}},
		"PKCS #8, RSA for RS256":               {pkcs8(k.rsa), accesstoken.RS256, []crypto.Signer{k.rsa}},
		"PKCS #8, RSA for PS256":               {pkcs8(k.rsa), accesstoken.PS256, []crypto.Signer{k.rsa}},
		"PKCS #8, Ed25519":                     {pkcs8(k.ed), "", []crypto.Signer{k.ed}},
		"SEC 1":                                {sec1(k.p256), "", []crypto.Signer{k.p256}},
		"SEC 1 after its curve's parameters":   {curveParameters + sec1(k.p256), "", []crypto.Signer{k.p256}},
		"PKCS #1":                              {block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(k.rsa)), "", []crypto.Signer{k.rsa}},
		"several PEM blocks":                   {pkcs8(k.p256) + sec1(k.p384) + pkcs8(k.ed), "", []crypto.Signer{k.p256, k.p384, k.ed}},
		"a certificate before the key":         {certificate(k.p256) + pkcs8(k.p256), "", []crypto.Signer{k.p256}},
		"a certificate between the keys":       {pkcs8(k.p256) + certificate(k.p256) + pkcs8(k.p256b), "", []crypto.Signer{k.p256, k.p256b}},
		"text between the keys":                {pkcs8(k.p256) + "# the next one\n" + pkcs8(k.p256b), "", []crypto.Signer{k.p256, k.p256b}},
		"white space around PEM":               {" \r\n\t" + pkcs8(k.p256) + "\n\n", "", []crypto.Signer{k.p256}},
		"lines that end in CRLF":               {strings.ReplaceAll(pkcs8(k.p256), "\n", "\r\n"), "", []crypto.Signer{k.p256}},
		"JWK, P-256":                           {ecJWK(k.p256).String(), "", []crypto.Signer{k.p256}},
		"JWK, P-384":                           {ecJWK(k.p384).String(), accesstoken.ES384, []crypto.Signer{k.p384}},
		"JWK, RSA":                             {rsaJWK(k.rsa).String(), "", []crypto.Signer{k.rsa}},
		"JWK, RSA for PS256":                   {rsaJWK(k.rsa).String(), accesstoken.PS256, []crypto.Signer{k.rsa}},
		"JWK, Ed25519":                         {edJWK(k.ed).String(), "", []crypto.Signer{k.ed}},
		"JWK with members that are not needed": {ecJWK(k.p256).with("kid", "mine").with("use", "sig").with("alg", "ES256").String(), "", []crypto.Signer{k.p256}},
		"white space around a JWK":             {"\n " + ecJWK(k.p256).String() + " \n", "", []crypto.Signer{k.p256}},
		"JWKS with one key":                    {set(ecJWK(k.p256)), "", []crypto.Signer{k.p256}},
		"JWKS with keys of several kinds":      {set(edJWK(k.ed), rsaJWK(k.rsa), ecJWK(k.p256)), "", []crypto.Signer{k.ed, k.rsa, k.p256}},
	} {
		t.Run(name, func(t *testing.T) {
			keys, err := accesstoken.ParsePrivateKeys([]byte(c.content), c.algorithm)
			if err != nil {
				t.Fatal(err)
			}
			if len(keys) != len(c.want) {
				t.Fatalf("%d keys, want %d", len(keys), len(c.want))
			}
			for i, key := range keys {
				if key.ID != id(c.want[i]) {
					t.Errorf("key %d is %s, want %s", i, key.ID, id(c.want[i]))
				}
				if c.algorithm != "" && key.Algorithm != c.algorithm {
					t.Errorf("key %d is for %s, want %s", i, key.Algorithm, c.algorithm)
				}
				verify(t, accesstoken.NewKeySet(key), mint(t, key, soundClaims()), "")
			}
		})
	}
}

// long finds what may be encoded key material.
var long = regexp.MustCompile(`[A-Za-z0-9+/_=-]{20,}`)

// leaks returns a part of a file that a text quotes.
func leaks(text, content string) string {
	for _, secret := range long.FindAllString(content, -1) {
		for i := 0; i+8 <= len(secret); i++ {
			if strings.Contains(text, secret[i:i+8]) {
				return secret[i : i+8]
			}
		}
	}
	return ""
}

// numbers are the ways to print the bytes of a private key.
func numbers(secret []byte) []string {
	return []string{
		hex.EncodeToString(secret)[:16], strings.ToUpper(hex.EncodeToString(secret)[:16]), new(big.Int).SetBytes(secret).String()[:16],
		base64.StdEncoding.EncodeToString(secret)[:16], strings.Join(strings.Fields(fmt.Sprintf("%d", secret[:8]))[1:7], " "),
	}
}

func TestPrivateKeyFilesThatAreRefused(t *testing.T) {
	k := newFileKeys()
	x25519 := must(ecdh.X25519().GenerateKey(rand.Reader))
	ec, ed, rs := ecJWK(k.p256), edJWK(k.ed), rsaJWK(k.rsa)
	y := decodeLeniently(ec["y"].(string))
	y[31] ^= 1
	offCurve := ec.with("y", encode(string(y)))
	legacy := string(pem.EncodeToMemory(&pem.Block{
		Type: "EC PRIVATE KEY", Bytes: bytes.Repeat([]byte{0x5a}, 128),
		Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-256-CBC,00112233445566778899AABBCCDDEEFF"},
	}))
	for name, c := range map[string]struct {
		content   string
		algorithm accesstoken.Algorithm
	}{
		"empty":                                           {"", ""},
		"white space":                                     {" \n\t", ""},
		"garbage":                                         {"garbage", ""},
		"DER":                                             {string(must(x509.MarshalPKCS8PrivateKey(k.p256))), ""},
		"a secret":                                        {"c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA", ""},
		"an array of JWKs":                                {"[" + ec.String() + "]", ""},
		"a certificate only":                              {certificate(k.p256), ""},
		"curve parameters only":                           {curveParameters, ""},
		"a first line only":                               {"-----BEGIN PRIVATE KEY-----", ""},
		"PEM that is cut off":                             {pkcs8(k.p256)[:80], ""},
		"PEM around garbage":                              {block("PRIVATE KEY", []byte("garbage garbage garbage")), ""},
		"SEC 1 around garbage":                            {block("EC PRIVATE KEY", []byte("garbage garbage garbage")), ""},
		"PKCS #1 around garbage":                          {block("RSA PRIVATE KEY", []byte("garbage garbage garbage")), ""},
		"PKCS #8 under the name of SEC 1":                 {block("EC PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(k.p256))), ""},
		"SEC 1 under the name of PKCS #8":                 {block("PRIVATE KEY", must(x509.MarshalECPrivateKey(k.p256))), ""},
		"PKCS #8 that is cut off within":                  {block("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(k.p256))[:60]), ""},
		"a good key and a broken one":                     {pkcs8(k.p256) + block("PRIVATE KEY", []byte("garbage garbage garbage")), ""},
		"an encrypted key":                                {block("ENCRYPTED PRIVATE KEY", bytes.Repeat([]byte{0x5a}, 128)), ""},
		"an encrypted key after a good one":               {pkcs8(k.p256) + block("ENCRYPTED PRIVATE KEY", bytes.Repeat([]byte{0x5a}, 128)), ""},
		"an encrypted key in the old form":                {legacy, ""},
		"a public key":                                    {spki(k.p256.Public()), ""},
		"a public key after a private one":                {pkcs8(k.p256) + spki(k.p256b.Public()), ""},
		"a public JWK":                                    {ec.without("d").String(), ""},
		"a public JWK in a set with a private one":        {set(ed, ec.without("d")), ""},
		"X25519":                                          {pkcs8(x25519), ""},
		"a JWK of X25519":                                 {ed.with("crv", "X25519").String(), ""},
		"row 5: an oct JWK":                               {`{"kty":"oct","k":"c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA"}`, ""},
		"row 5: an oct JWK for HS256":                     {`{"kty":"oct","alg":"HS256","k":"c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA"}`, "HS256"},
		"row 6: an oct JWK in a set with a good key":      {set(ec, object{"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA"}), ""},
		"row 7: P-224":                                    {pkcs8(k.p224), ""},
		"row 7: P-521":                                    {pkcs8(k.p521), ""},
		"row 7: a JWK of P-521":                           {ecJWK(k.p521).String(), ""},
		"row 7: a JWK of P-256 said to be P-384":          {ec.with("crv", "P-384").String(), ""},
		"row 7: a JWK of a curve that there isn't":        {ec.with("crv", "P-257").String(), ""},
		"row 7: P-384 for ES256":                          {pkcs8(k.p384), accesstoken.ES256},
		"row 7: P-256 for ES384":                          {pkcs8(k.p256), accesstoken.ES384},
		"row 7: Ed25519 for ES256":                        {pkcs8(k.ed), accesstoken.ES256},
		"row 7: RSA for ES256":                            {pkcs8(k.rsa), accesstoken.ES256},
		"row 7: P-256 for RS256":                          {pkcs8(k.p256), accesstoken.RS256},
		"row 7: one of two keys doesn't fit":              {pkcs8(k.p256) + pkcs8(k.p384), accesstoken.ES256},
		"row 5: P-256 for none":                           {pkcs8(k.p256), "none"},
		"row 5: RSA for HS256":                            {pkcs8(k.rsa), "HS256"},
		"row 8: RSA with 1024 bits":                       {pkcs8(k.rsa1024), ""},
		"row 8: RSA with 1024 bits in PKCS #1":            {block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(k.rsa1024)), ""},
		"row 8: a JWK of RSA with 1024 bits":              {rsaJWK(k.rsa1024).String(), ""},
		"row 9: a JWK whose point is off its curve":       {offCurve.String(), ""},
		"row 9: a JWK whose point is (0, 0)":              {ec.with("x", encode(strings.Repeat("\x00", 32))).with("y", encode(strings.Repeat("\x00", 32))).String(), ""},
		"row 9: a JWK whose x is longer than its curve":   {ec.with("x", encode(strings.Repeat("\xff", 64))).String(), ""},
		"row 38: a JWK of an unknown kty":                 {ec.with("kty", "XYZ").String(), ""},
		"a JWK without kty":                               {ec.without("kty").String(), ""},
		"a JWK without x":                                 {ec.without("x").String(), ""},
		"a JWK without crv":                               {ec.without("crv").String(), ""},
		"a JWK whose d is not base64":                     {ec.with("d", ec["d"].(string)[:40]+"!!!").String(), ""},
		"a JWK whose d is a number":                       {strings.Replace(ec.String(), `"d":"`+ec["d"].(string)+`"`, `"d":123456789012345678901234567890`, 1), ""},
		"a JWK that is cut off":                           {ec.String()[:len(ec.String())-20], ""},
		"a JWK of Ed25519 with a short d":                 {ed.with("d", encode(string(k.ed.Seed()[1:]))).String(), ""},
		"a JWK of Ed25519 with a short x":                 {ed.with("x", encode(string(k.ed[33:]))).String(), ""},
		"a JWK of Ed25519 with another key's x":           {ed.with("x", encode(string(k.edB[32:]))).String(), ""},
		"a JWK of RSA with an empty n":                    {rs.with("n", "").String(), ""},
		"row 8: a JWK of RSA with an exponent of 9 bytes": {rs.with("e", encode("\x01\x00\x00\x00\x00\x00\x00\x00\x01")).String(), ""},
		"an empty JWK":                                    {"{}", ""},
		"an empty JWKS":                                   {`{"keys":[]}`, ""},
		"a JWKS whose keys are null":                      {`{"keys":null}`, ""},
		"a JWKS whose keys are an object":                 {`{"keys":{}}`, ""},
		"a JWKS with a broken key":                        {set(ec, ed.without("x")), ""},
		"a JWK in an encrypted form":                      {`{"protected":"eyJhbGciOiJkaXIifQ","ciphertext":"c2VjcmV0LXNlY3JldC1zZWNyZXQ"}`, ""},
		"many braces":                                     {strings.Repeat("{", 1000), ""},
	} {
		t.Run(name, func(t *testing.T) {
			keys, err := accesstoken.ParsePrivateKeys([]byte(c.content), c.algorithm)
			if err == nil || keys != nil {
				t.Fatalf("got %d keys, %v", len(keys), err)
			}
			if quoted := leaks(err.Error(), c.content); quoted != "" {
				t.Errorf("the error quotes %q: %v", quoted, err)
			}
			secrets := slices.Concat(
				numbers(must(k.p256.Bytes())), numbers(must(k.p256b.Bytes())), numbers(must(k.p384.Bytes())), numbers(must(k.p521.Bytes())),
				numbers(k.ed.Seed()), numbers(k.rsa.D.Bytes()), numbers(k.rsa1024.D.Bytes()), numbers([]byte("secret-secret-secret-secret-secret")),
			)
			for _, secret := range secrets {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("the error prints a private key: %v", err)
				}
			}
		})
	}
	t.Run("an encrypted key's refusal tells what to do", func(t *testing.T) {
		_, err := accesstoken.ParsePrivateKeys([]byte(block("ENCRYPTED PRIVATE KEY", make([]byte, 64))), "")
		if err == nil || !strings.Contains(err.Error(), "decrypt it first") {
			t.Fatalf("got %v", err)
		}
	})
}

func TestPublicKeyFiles(t *testing.T) {
	k := newFileKeys()
	for name, c := range map[string]struct {
		content string
		want    []crypto.Signer
	}{
		"PKIX, P-256":                      {spki(k.p256.Public()), []crypto.Signer{k.p256}},
		"PKIX, RSA":                        {spki(k.rsa.Public()), []crypto.Signer{k.rsa}},
		"PKIX, Ed25519":                    {spki(k.ed.Public()), []crypto.Signer{k.ed}},
		"several PEM blocks":               {spki(k.p256.Public()) + spki(k.p384.Public()), []crypto.Signer{k.p256, k.p384}},
		"a certificate between":            {spki(k.p256.Public()) + certificate(k.p256) + spki(k.ed.Public()), []crypto.Signer{k.p256, k.ed}},
		"a private key's public half":      {pkcs8(k.p256), []crypto.Signer{k.p256}},
		"a private JWK's public half":      {ecJWK(k.p256).String(), []crypto.Signer{k.p256}},
		"a public JWK":                     {ecJWK(k.p384).without("d").String(), []crypto.Signer{k.p384}},
		"a JWKS of several kinds":          {set(ecJWK(k.p256).without("d"), edJWK(k.ed).without("d")), []crypto.Signer{k.p256, k.ed}},
		"what a key set publishes is read": {string(accesstoken.NewKeySet(must(accesstoken.NewKey(k.rsa, ""))).JWKS()), []crypto.Signer{k.rsa}},
	} {
		t.Run(name, func(t *testing.T) {
			keys, err := accesstoken.ParsePublicKeys([]byte(c.content))
			if err != nil {
				t.Fatal(err)
			}
			if len(keys) != len(c.want) {
				t.Fatalf("%d keys, want %d", len(keys), len(c.want))
			}
			for i, private := range c.want {
				if keys[i].ID != id(private) {
					t.Errorf("key %d is %s, want %s", i, keys[i].ID, id(private))
				}
				if _, err := keys[i].Mint(soundClaims()); err == nil {
					t.Errorf("key %d can mint", i)
				}
				signer := must(accesstoken.NewKey(private, ""))
				verify(t, accesstoken.NewKeySet(keys[i]), mint(t, signer, soundClaims()), "")
			}
		})
	}
	ec := ecJWK(k.p256).without("d")
	y := decodeLeniently(ec["y"].(string))
	y[31] ^= 1
	big8192 := new(big.Int).Lsh(big.NewInt(1), 8191)
	big8192.SetBit(big8192, 0, 1)
	for name, content := range map[string]string{
		"empty":               "",
		"garbage":             "garbage",
		"a certificate only":  certificate(k.p256),
		"PKIX around garbage": block("PUBLIC KEY", []byte("garbage garbage garbage")),
		"row 5: an oct JWK":   `{"kty":"oct","k":"c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA"}`,
		"row 6: an oct JWK in a set with a good key": set(ec, object{"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA"}),
		"row 7: P-224":                                   spki(k.p224.Public()),
		"row 7: P-521":                                   spki(k.p521.Public()),
		"row 8: RSA with 1024 bits":                      spki(k.rsa1024.Public()),
		"row 8: RSA with 8192 bits":                      spki(&rsa.PublicKey{N: big8192, E: 65537}),
		"row 8: a JWK of RSA with 8192 bits":             object{"kty": "RSA", "n": encode(string(big8192.Bytes())), "e": "AQAB"}.String(),
		"row 8: a JWK of RSA with an exponent over 2^32": rsaJWK(k.rsa).without("d").with("e", encode("\x01\x00\x00\x00\x01")).String(),
		"row 9: a JWK whose point is off its curve":      ec.with("y", encode(string(y))).String(),
		"a JWK of X25519":                                edJWK(k.ed).without("d").with("crv", "X25519").String(),
	} {
		t.Run("refused: "+name, func(t *testing.T) {
			keys, err := accesstoken.ParsePublicKeys([]byte(content))
			if err == nil || keys != nil {
				t.Fatalf("got %d keys, %v", len(keys), err)
			}
			if quoted := leaks(err.Error(), content); quoted != "" {
				t.Errorf("the error quotes %q: %v", quoted, err)
			}
		})
	}
}
