package accesstoken

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// exampleJWK is the private key that RFC 8037 appendix A.1 publishes. The tokens among the seeds are signed with it, so
// that they stay good.
const exampleJWK = `{"kty":"OKP","crv":"Ed25519","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`

const (
	fuzzIssuer  = "https://issuer.example"
	fuzzHeader  = `{"typ":"at+jwt","alg":"EdDSA","kid":"kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"}`
	fuzzPayload = `{"iss":"https://issuer.example","sub":"s","aud":["a","b"],"client_id":"c","iat":1,"nbf":2.5,"exp":1800000001,"jti":"j","scope":"x y"}`
)

var fuzzNow = time.Unix(1_800_000_000, 0)

func exampleKey(f *testing.F) (*Key, ed25519.PrivateKey) {
	f.Helper()
	keys, err := ParsePrivateKeys([]byte(exampleJWK), EdDSA)
	if err != nil {
		f.Fatal(err)
	}
	return keys[0], keys[0].private.(ed25519.PrivateKey)
}

func signEd25519(private ed25519.PrivateKey, header, payload string) string {
	input := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(payload))
	return input + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(private, []byte(input)))
}

// checkRefusal checks what an error has to be for the caller and the log.
func checkRefusal(t *testing.T, err error) {
	t.Helper()
	var refused *Error
	if !errors.As(err, &refused) {
		t.Fatalf("got %v (%T), want an *Error", err, err)
	}
	if refused.Reason == "" || refused.Detail == "" {
		t.Fatalf("an empty refusal: %+v", refused)
	}
	for _, c := range refused.Detail {
		if c < ' ' || c > '~' || c == '"' || c == '\\' {
			t.Fatalf("the detail isn't fit for an error_description: %q", refused.Detail)
		}
	}
}

// FuzzVerify holds that any string is refused or is the one canonical spelling of a token that the standard library
// finds to be signed over exactly those bytes.
func FuzzVerify(f *testing.F) {
	key, private := exampleKey(f)
	keys := NewKeySet(key)
	sound := signEd25519(private, fuzzHeader, fuzzPayload)
	for _, seed := range []string{
		"", ".", "..", "a.b.c", sound, sound + "=", sound + "\n", " " + sound, sound[:len(sound)-1], sound + "." + sound,
		signEd25519(private, `{"alg":"EdDSA","typ":"application/at+jwt"}`, fuzzPayload),
		signEd25519(private, `{"alg":"none"}`, fuzzPayload),
		signEd25519(private, fuzzHeader, `{}`),
		signEd25519(private, fuzzHeader, strings.Repeat("[", 100)),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		if s, refused := open(token); refused == nil {
			checkSpelling(t, token, s)
		}
		c, err := Verifier{Issuer: fuzzIssuer}.Verify(token, keys, fuzzNow)
		if err != nil {
			checkRefusal(t, err)
			return
		}
		last := strings.LastIndexByte(token, '.')
		signature, err := base64.RawURLEncoding.DecodeString(token[last+1:])
		if err != nil || !ed25519.Verify(private.Public().(ed25519.PublicKey), []byte(token[:last]), signature) {
			t.Fatalf("accepted with a false signature: %q", token)
		}
		if c.Issuer != fuzzIssuer || c.Subject == "" || !c.Expiry.After(fuzzNow) {
			t.Fatalf("accepted with the claims %+v", c)
		}
	})
}

// checkSpelling checks that a token whose form is sound is what its decoded parts are encoded to.
func checkSpelling(t *testing.T, token string, s signed) {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("%d parts in %q", len(parts), token)
	}
	for i, part := range parts {
		decoded, err := base64.RawURLEncoding.DecodeString(part)
		if err != nil || len(decoded) == 0 || base64.RawURLEncoding.EncodeToString(decoded) != part {
			t.Fatalf("part %d of %q isn't canonical", i, token)
		}
		if i == 1 && !bytes.Equal(decoded, s.payload) || i == 2 && !bytes.Equal(decoded, s.signature) {
			t.Fatalf("part %d of %q was decoded to something else", i, token)
		}
	}
	if string(s.input) != parts[0]+"."+parts[1] {
		t.Fatalf("the signing input of %q is %q", token, s.input)
	}
}

// asObject reads an object with encoding/json, whose understanding a token must not differ from.
func asObject(t *testing.T, raw []byte) map[string]json.RawMessage {
	t.Helper()
	var members map[string]json.RawMessage
	if err := json.Unmarshal(raw, &members); err != nil || members == nil {
		t.Fatalf("encoding/json finds no object in %q: %v", raw, err)
	}
	if !utf8.Valid(raw) {
		t.Fatalf("%q isn't UTF-8", raw)
	}
	return members
}

// checkString checks that encoding/json reads the same string; a missing member is the empty string.
func checkString(t *testing.T, members map[string]json.RawMessage, name, got string) {
	t.Helper()
	var want string
	if raw, there := members[name]; there {
		if err := json.Unmarshal(raw, &want); err != nil || raw[0] != '"' {
			t.Fatalf("%s is %s to encoding/json, %q here", name, raw, got)
		}
	}
	if got != want {
		t.Fatalf("%s is %q to encoding/json, %q here", name, want, got)
	}
}

func FuzzParseHeader(f *testing.F) {
	for _, seed := range []string{
		"", "{", "{}", "[]", "null", fuzzHeader, fuzzHeader + "}", "\ufeff" + fuzzHeader, `{"alg":"none"}`, `{"alg":"ES256"}`,
		`{"alg":"ES256","alg":"ES256"}`, `{"alg":"RS256","crit":[]}`, `{"\u0061lg":"\u0045S256","ALG":"none"}`,
		`{"alg":"ES256","kid":""}`, `{"alg":"ES256","x":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`,
		"{\"alg\":\"ES256\",\"x\":\"\xff\"}", `{"alg":"ES256","x":"\ud800"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		h, refused := parseHeader(raw)
		if refused != nil {
			checkRefusal(t, refused)
			return
		}
		members := asObject(t, raw)
		checkString(t, members, "alg", string(h.algorithm))
		checkString(t, members, "typ", h.typ)
		checkString(t, members, "kid", h.keyID)
		if !slices.Contains(Algorithms, h.algorithm) {
			t.Fatalf("the algorithm %q was accepted", h.algorithm)
		}
		if _, there := members["kid"]; there != h.hasKeyID || there && h.keyID == "" {
			t.Fatalf("kid: %t to encoding/json, %t and %q here", there, h.hasKeyID, h.keyID)
		}
		for _, name := range []string{"crit", "b64", "zip", "enc"} {
			if _, there := members[name]; there {
				t.Fatalf("%s was accepted", name)
			}
		}
	})
}

func FuzzParseClaims(f *testing.F) {
	for _, seed := range []string{
		"", "{", "{}", "[]", "null", fuzzPayload, fuzzPayload + " ", fuzzPayload + "x", "\ufeff" + fuzzPayload,
		`{"iss":"a","iss":"b"}`, `{"iss":"a","ISS":"b","\u0073ub":"\u0061"}`, `{"sub":"\ud83d\ude00"}`, `{"sub":"\ud83d"}`, "{\"sub\":\"\xff\"}",
		`{"exp":1e400}`, `{"exp":9223372036854775808}`, `{"exp":-1}`, `{"exp":1.5}`, `{"exp":253402300799}`, `{"exp":"1"}`, `{"exp":-0}`,
		`{"aud":"a"}`, `{"aud":["a",1]}`, `{"aud":[]}`, `{"scope":" a  b "}`, `{"x":` + strings.Repeat("[", 32) + strings.Repeat("]", 32) + `}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		c, refused := parseClaims(payload)
		if refused != nil {
			checkRefusal(t, refused)
			return
		}
		members := asObject(t, payload)
		checkString(t, members, "iss", c.Issuer)
		checkString(t, members, "sub", c.Subject)
		checkString(t, members, "client_id", c.ClientID)
		checkString(t, members, "aut", c.UserType)
		checkString(t, members, "jti", c.TokenID)
		checkString(t, members, "sid", c.FamilyID)
		checkAudience(t, members["aud"], c.Audience)
		checkDate(t, members["iat"], c.IssuedAt)
		checkDate(t, members["nbf"], c.NotBefore)
		checkDate(t, members["exp"], c.Expiry)
		for name, raw := range members {
			value, ok := c.Lookup(name)
			if isText := raw[0] == '"'; isText && !ok {
				t.Fatalf("Lookup doesn't find %q", name)
			} else if isText {
				checkString(t, members, name, value)
			}
		}
	})
}

func checkAudience(t *testing.T, raw json.RawMessage, got []string) {
	t.Helper()
	var want []string
	var err error
	switch {
	case raw == nil:
	case raw[0] == '"':
		want = make([]string, 1)
		err = json.Unmarshal(raw, &want[0])
	default:
		err = json.Unmarshal(raw, &want)
	}
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("aud is %s to encoding/json (%v), %q here", raw, err, got)
	}
}

// checkDate compares with exact arithmetic.
func checkDate(t *testing.T, raw json.RawMessage, got time.Time) {
	t.Helper()
	if raw == nil {
		if !got.IsZero() {
			t.Fatalf("got %v where there is no date", got)
		}
		return
	}
	if got.Unix() < 0 || got.Unix() > maxNumericDate || got.Nanosecond() != 0 {
		t.Fatalf("%s was read as %v", raw, got)
	}
	want, _, err := big.ParseFloat(string(raw), 10, 200, big.ToZero)
	if err != nil {
		t.Fatalf("%s is no number: %v", raw, err)
	}
	// The nearest float64 is less than a ten-thousandth of a second away, which counts only beside a whole second.
	difference := new(big.Float).Sub(want, new(big.Float).SetInt64(got.Unix()))
	if d, _ := difference.Float64(); d < -0.0001 || d >= 1 {
		t.Fatalf("%s was read as %d", raw, got.Unix())
	}
}

// FuzzParsePrivateKeys holds that any file is refused or yields keys that are fit to be named and published, and that
// neither reading nor signing panics.
func FuzzParsePrivateKeys(f *testing.F) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		f.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range [][]byte{
		nil, []byte("{"), []byte("{}"), []byte(`{"keys":[]}`), []byte(exampleJWK), []byte(`{"keys":[` + exampleJWK + `]}`),
		[]byte(`{"kty":"oct","k":"AAAA"}`), []byte(`{"kty":"RSA","n":"","e":""}`), []byte("-----BEGIN PRIVATE KEY-----"),
		pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: sec1}),
		pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: pkcs8}),
	} {
		f.Add(seed)
	}
	claims := &Claims{
		Issuer: fuzzIssuer, Subject: "s", Audience: []string{"a"}, ClientID: "c", TokenID: "j",
		IssuedAt: fuzzNow, NotBefore: fuzzNow, Expiry: fuzzNow.Add(time.Hour),
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		keys, err := ParsePrivateKeys(content, "")
		if err != nil {
			if keys != nil || err.Error() == "" {
				t.Fatalf("%d keys and the error %q", len(keys), err)
			}
			return
		}
		if len(keys) == 0 {
			t.Fatal("neither a key nor an error")
		}
		for _, key := range keys {
			if id, err := segment.DecodeString(key.ID); err != nil || len(id) != 32 {
				t.Fatalf("the key's ID is %q", key.ID)
			}
			if !slices.Contains(Algorithms, key.Algorithm) {
				t.Fatalf("the key is for %q", key.Algorithm)
			}
			if members := asObject(t, key.jwk); members["d"] != nil || members["k"] != nil {
				t.Fatal("the private key would be published")
			}
			token, err := key.Mint(claims)
			if err != nil {
				t.Fatalf("it can't mint: %v", err)
			}
			if _, err := (Verifier{Issuer: fuzzIssuer}).Verify(token, NewKeySet(key), fuzzNow); err != nil {
				t.Fatalf("it mints what doesn't verify: %v", err)
			}
		}
	})
}
