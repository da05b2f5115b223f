package accesstoken_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/asn1"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/tokengateway/caddy-token-gateway/accesstoken"
)

func TestSignatures(t *testing.T) {
	f := newES256()
	input := encode(f.header()) + "." + encode(soundPayload)
	sum := sha256.Sum256([]byte(input))
	r, s, err := ecdsa.Sign(rand.Reader, f.private.(*ecdsa.PrivateKey), sum[:])
	if err != nil {
		t.Fatal(err)
	}
	n := elliptic.P256().Params().N
	zero, one := new(big.Int), big.NewInt(1)
	f.accepts(t, input+"."+encode(string(join(r, s, 32))))

	der, err := asn1.Marshal(struct{ R, S *big.Int }{r, s})
	if err != nil {
		t.Fatal(err)
	}
	for name, signature := range map[string][]byte{
		"row 10: r = s = 0":                 join(zero, zero, 32),
		"row 10: r = 0":                     join(zero, s, 32),
		"row 10: s = 0":                     join(r, zero, 32),
		"row 10: r = s = n":                 join(n, n, 32),
		"row 10: r = s = 1":                 join(one, one, 32),
		"row 10: r and s changed about":     join(s, r, 32),
		"row 11: DER":                       der,
		"row 11: DER filled up to 64 bytes": append(der, make([]byte, max(0, 64-len(der)))...)[:64],
		"row 11: 128 bytes":                 join(r, s, 64),
		"row 11: 96 bytes":                  join(r, s, 48),
		"row 11: 65 bytes":                  append(join(r, s, 32), 0),
		"row 11: 63 bytes":                  join(r, s, 32)[:63],
		"row 11: the signature twice":       append(join(r, s, 32), join(r, s, 32)...),
		"one byte":                          {0},
		"64 bytes without meaning":          []byte(strings.Repeat("x", 64)),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := f.verify(input + "." + encode(string(signature)))
			wantReason(t, err, accesstoken.BadSignature)
		})
	}
	t.Run("row 12: (r, n−s) is a valid signature, and the claims are the same", func(t *testing.T) {
		twin := f.accepts(t, input+"."+encode(string(join(r, new(big.Int).Sub(n, s), 32))))
		if twin.TokenID != "token-1" || twin.FamilyID != "family-1" {
			t.Fatalf("jti %q, sid %q", twin.TokenID, twin.FamilyID)
		}
	})
}

func TestTypes(t *testing.T) {
	f := newES256()
	with := func(t *testing.T, typ string) string {
		t.Helper()
		return f.token(change(t, f.header(), `"at+jwt"`, typ), soundPayload)
	}
	for _, typ := range []string{
		`"at+jwt"`, `"AT+JWT"`, `"At+Jwt"`, `"application/at+jwt"`, `"Application/at+jwt"`, `"APPLICATION/AT+JWT"`, `"at\u002bjwt"`,
	} {
		t.Run("row 53: taken is the typ "+typ, func(t *testing.T) {
			f.accepts(t, with(t, typ))
		})
	}
	for _, typ := range []string{
		`"JWT"`, `"jwt"`, `"logout+jwt"`, `"dpop+jwt"`, `"application/jwt"`, `"application/"`, `"application/application/at+jwt"`,
		`"at+jwt "`, `" at+jwt"`, `"at jwt"`, `"at+jwt;x=y"`, `"text/at+jwt"`, `"rt+jwt"`, `"at+jwt\u0000"`, `""`,
	} {
		t.Run("row 53: refused is the typ "+typ, func(t *testing.T) {
			f.refuses(t, with(t, typ), accesstoken.WrongType)
		})
	}
	t.Run("row 53: typ missing", func(t *testing.T) {
		f.refuses(t, f.token(change(t, f.header(), `"typ":"at+jwt",`, ""), soundPayload), accesstoken.WrongType)
	})
	t.Run("row 53: TYP for typ", func(t *testing.T) {
		f.refuses(t, f.token(change(t, f.header(), `"typ"`, `"TYP"`), soundPayload), accesstoken.WrongType)
	})
	t.Run("row 53: cty for typ", func(t *testing.T) {
		f.refuses(t, f.token(change(t, f.header(), `"typ"`, `"cty"`), soundPayload), accesstoken.WrongType)
	})
}

func TestIssuers(t *testing.T) {
	f := newES256()
	for name, iss := range map[string]string{
		"row 51: a slash at the end": "https://issuer.example/",
		"row 51: a capital":          "https://Issuer.example",
		"row 51: capitals in https":  "HTTPS://issuer.example",
		"row 51: a homoglyph":        "https://\u0456ssuer.example",
		"row 51: a port":             "https://issuer.example:443",
		"row 51: a space":            "https://issuer.example ",
		"row 51: NUL":                `https://issuer.example\u0000`,
		"row 51: a longer name":      "https://issuer.example.attacker.example",
		"row 51: http":               "http://issuer.example",
		"row 51: empty":              "",
	} {
		t.Run(name, func(t *testing.T) {
			f.refuses(t, f.token(f.header(), change(t, soundPayload, issuer, iss)), accesstoken.WrongIssuer)
		})
	}
	a, b := newES256(), newES256()
	payloadOfA, payloadOfB := change(t, soundPayload, issuer, "https://a.example"), change(t, soundPayload, issuer, "https://b.example")
	verifierOfB := accesstoken.Verifier{Issuer: "https://b.example"}
	for name, c := range map[string]struct {
		token string
		want  accesstoken.Reason
	}{
		"row 52: claims of A under the key of B":              {b.token(b.header(), payloadOfA), accesstoken.WrongIssuer},
		"row 52: claims of B under the key of A":              {a.token(a.header(), payloadOfB), accesstoken.WrongKey},
		"row 52: claims of B under the key of A with B's kid": {a.token(b.header(), payloadOfB), accesstoken.BadSignature},
		"row 52: claims of A under the key of A":              {a.token(a.header(), payloadOfA), accesstoken.WrongKey},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := verifierOfB.Verify(c.token, accesstoken.NewKeySet(b.key), now)
			wantReason(t, err, c.want)
		})
	}
}

func TestTimes(t *testing.T) {
	f := newES256()
	const day = 24 * time.Hour
	at := func(d time.Duration) string { return fmt.Sprint(now.Add(d).Unix()) }
	for _, c := range []struct {
		name, claim, value string
		want               accesstoken.Reason // empty: taken
	}{
		{"row 48: exp a second ahead is taken", "exp", at(time.Second), ""},
		{"row 48: exp == now", "exp", at(0), accesstoken.Expired},
		{"row 48: exp a second ago", "exp", at(-time.Second), accesstoken.Expired},
		{"row 42: exp 0", "exp", "0", accesstoken.Expired},
		{"row 42: exp 0.0", "exp", "0.0", accesstoken.Expired},
		{"row 42: exp -0", "exp", "-0", accesstoken.Expired},
		{"row 47: exp 366 days ahead is taken", "exp", at(366 * day), ""},
		{"row 47: exp 366 days and a second ahead", "exp", at(366*day + time.Second), accesstoken.BadClaims},
		{"row 47: exp 50 years ahead", "exp", at(50 * 365 * day), accesstoken.BadClaims},
		{"row 47: exp in the year 9999", "exp", "253402300799", accesstoken.BadClaims},
		{"row 49: iat 5 seconds ahead is taken", "iat", at(5 * time.Second), ""},
		{"row 49: iat 6 seconds ahead", "iat", at(6 * time.Second), accesstoken.NotYetValid},
		{"nbf == now is taken", "nbf", at(0), ""},
		{"nbf 5 seconds ahead is taken", "nbf", at(5 * time.Second), ""},
		{"nbf 6 seconds ahead", "nbf", at(6 * time.Second), accesstoken.NotYetValid},
		{"nbf in the year 9999", "nbf", "253402300799", accesstoken.NotYetValid},
		{"nbf 0 is taken", "nbf", "0", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			sound := map[string]string{"iat": "1799999990", "nbf": "1799999990", "exp": "1800003600"}[c.claim]
			token := f.token(f.header(), change(t, soundPayload, `"`+c.claim+`":`+sound, `"`+c.claim+`":`+c.value))
			if c.want == "" {
				f.accepts(t, token)
				return
			}
			f.refuses(t, token, c.want)
		})
	}
	t.Run("a nanosecond before exp is before exp", func(t *testing.T) {
		token := f.token(f.header(), change(t, soundPayload, "1800003600", at(time.Second)))
		_, err := accesstoken.Verifier{Issuer: issuer}.Verify(token, accesstoken.NewKeySet(f.key), now.Add(time.Second-1))
		if err != nil {
			t.Fatal(err)
		}
	})
}

func TestAuthenticLeavesTimesAlone(t *testing.T) {
	f := newES256()
	verifier, keys := accesstoken.Verifier{Issuer: issuer}, accesstoken.NewKeySet(f.key)
	for name, exp := range map[string]string{"expired long ago": "1", "expires in the year 9999": "253402300799"} {
		t.Run(name, func(t *testing.T) {
			token := f.token(f.header(), change(t, soundPayload, `"exp":1800003600`, `"exp":`+exp))
			if c, err := verifier.Authentic(token, keys); err != nil || c.TokenID != "token-1" {
				t.Fatalf("got %+v, %v", c, err)
			}
		})
	}
	for name, c := range map[string]struct {
		payload string
		want    accesstoken.Reason
	}{
		"but not exp missing":    {change(t, soundPayload, `"exp":1800003600,`, ""), accesstoken.BadClaims},
		"but not exp a string":   {change(t, soundPayload, `1800003600`, `"1800003600"`), accesstoken.BadClaims},
		"but not another issuer": {change(t, soundPayload, issuer, "https://other.example"), accesstoken.WrongIssuer},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := verifier.Authentic(f.token(f.header(), c.payload), keys)
			wantReason(t, err, c.want)
		})
	}
	t.Run("but not a false signature", func(t *testing.T) {
		_, err := verifier.Authentic(newES256().token(f.header(), soundPayload), keys)
		wantReason(t, err, accesstoken.BadSignature)
	})
}
