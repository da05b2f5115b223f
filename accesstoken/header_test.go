package accesstoken_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tokengateway/caddy-token-gateway/accesstoken"
)

// nested is an array in an array, so many of them.
func nested(depth int) string { return strings.Repeat("[", depth) + strings.Repeat("]", depth) }

func TestHeadersThatAreRefused(t *testing.T) {
	f := newRS256()
	kid := f.key.ID
	member := func(text string) string { return strings.TrimSuffix(f.header(), "}") + "," + text + "}" }
	withAlg := func(alg string) string { return fmt.Sprintf(`{"typ":"at+jwt","alg":%s,"kid":"%s"}`, alg, kid) }
	for name, header := range map[string]string{
		"row 2: alg none over a true RS256 signature":       withAlg(`"none"`),
		"row 2: alg None over a true RS256 signature":       withAlg(`"None"`),
		"row 2: alg NONE over a true RS256 signature":       withAlg(`"NONE"`),
		"row 2: alg nOnE over a true RS256 signature":       withAlg(`"nOnE"`),
		"row 2: alg HS256 over a true RS256 signature":      withAlg(`"HS256"`),
		"row 2: alg garbage over a true RS256 signature":    withAlg(`"garbage"`),
		"row 2: an empty alg over a true RS256 signature":   withAlg(`""`),
		"row 3: alg missing":                                fmt.Sprintf(`{"typ":"at+jwt","kid":"%s"}`, kid),
		"row 3: alg in small letters":                       withAlg(`"rs256"`),
		"row 3: alg with a space":                           withAlg(`"RS256 "`),
		"row 3: alg under another name":                     fmt.Sprintf(`{"typ":"at+jwt","ALG":"RS256","kid":"%s"}`, kid),
		"row 3: alg null":                                   withAlg(`null`),
		"row 3: alg a number":                               withAlg(`256`),
		"row 3: alg an array":                               withAlg(`["RS256"]`),
		"an algorithm that is not used here":                withAlg(`"RS512"`),
		"row 18: zip":                                       member(`"zip":"DEF"`),
		"row 18: enc":                                       member(`"enc":"A256GCM"`),
		"row 20: b64 false without crit":                    member(`"b64":false`),
		"row 20: b64 false with crit":                       member(`"b64":false,"crit":["b64"]`),
		"row 20: b64 true":                                  member(`"b64":true`),
		"row 21: crit with an unknown name":                 member(`"crit":["exp"],"exp":1`),
		"row 21: crit empty":                                member(`"crit":[]`),
		"row 21: crit naming an absent member":              member(`"crit":["absent"]`),
		"row 21: crit naming a known member":                member(`"crit":["alg"]`),
		"row 21: crit null":                                 member(`"crit":null`),
		"row 22: alg twice, the good one last":              fmt.Sprintf(`{"typ":"at+jwt","alg":"none","alg":"RS256","kid":"%s"}`, kid),
		"row 22: alg twice, the good one first":             fmt.Sprintf(`{"typ":"at+jwt","alg":"RS256","alg":"none","kid":"%s"}`, kid),
		"row 22: alg twice, once with an escape":            fmt.Sprintf(`{"typ":"at+jwt","alg":"RS256","\u0061lg":"none","kid":"%s"}`, kid),
		"row 22: alg twice, both the same":                  member(`"alg":"RS256"`),
		"row 22: typ twice":                                 member(`"typ":"at+jwt"`),
		"row 22: kid twice":                                 member(`"kid":"other"`),
		"row 22: an unknown member twice":                   member(`"x":1,"x":1`),
		"row 22: a member twice within a member":            member(`"x":{"y":1,"y":2}`),
		"row 25: a brace after the header":                  f.header() + "}",
		"row 25: a second object after the header":          f.header() + f.header(),
		"row 25: NUL after the header":                      f.header() + "\x00",
		"row 26: invalid UTF-8 in the header's values":      member("\"x\":\"\xff\""),
		"row 26: invalid UTF-8 in the header's names":       member("\"\xff\":1"),
		"row 26: an overlong slash in the header":           member("\"x\":\"\xc0\xaf\""),
		"row 26: half a surrogate pair in the header":       member(`"x":"\ud800"`),
		"row 26: a byte order mark before the header":       "\ufeff" + f.header(),
		"row 27: the header is an array":                    `["alg","RS256"]`,
		"row 27: the header is a string":                    `"RS256"`,
		"row 27: the header is null":                        `null`,
		"row 29: the header is nested deeper than 32":       member(`"x":` + nested(32)),
		"row 29: the header is nested as deep as it can be": member(`"x":` + nested(5000)),
		"row 32: an empty kid":                              `{"typ":"at+jwt","alg":"RS256","kid":""}`,
		"row 32: a kid that is a number":                    `{"typ":"at+jwt","alg":"RS256","kid":1}`,
		"row 32: a kid that is null":                        `{"typ":"at+jwt","alg":"RS256","kid":null}`,
		"row 32: a kid that is an array":                    fmt.Sprintf(`{"typ":"at+jwt","alg":"RS256","kid":["%s"]}`, kid),
		"row 32: a kid of 257 bytes":                        fmt.Sprintf(`{"typ":"at+jwt","alg":"RS256","kid":"%s"}`, strings.Repeat("k", 257)),
		"row 32: a kid of 10 KB":                            fmt.Sprintf(`{"typ":"at+jwt","alg":"RS256","kid":"%s"}`, strings.Repeat("k", 10<<10)),
		"typ is a number":                                   fmt.Sprintf(`{"typ":1,"alg":"RS256","kid":"%s"}`, kid),
		"typ is null":                                       fmt.Sprintf(`{"typ":null,"alg":"RS256","kid":"%s"}`, kid),
		"the header is cut off":                             strings.TrimSuffix(f.header(), "}"),
		"the header has a comma too many":                   strings.TrimSuffix(f.header(), "}") + ",}",
		"the header has a comment":                          member(`/* c */"x":1`),
	} {
		t.Run(name, func(t *testing.T) {
			f.refuses(t, f.token(header, soundPayload), accesstoken.Malformed)
		})
	}
}

func TestHeadersThatAreAccepted(t *testing.T) {
	f := newES256()
	member := func(text string) string { return strings.TrimSuffix(f.header(), "}") + "," + text + "}" }
	for name, header := range map[string]string{
		"unknown members":                            member(`"x":1,"y":[true,null,{}]`),
		"members that differ in case":                member(`"ALG":"none","Kid":"x","CRIT":["x"]`),
		"white space that JSON allows":               " " + change(t, f.header(), ",", "\r\n,\t") + "\n",
		"escapes in names and values":                change(t, change(t, f.header(), `"alg"`, `"\u0061lg"`), `"ES256"`, `"\u0045S256"`),
		"row 29: nested 32 deep":                     member(`"x":` + nested(31)),
		"row 29: many brackets in a string":          member(`"x":"` + strings.Repeat(`[{\"`, 100) + `"`),
		"row 29: many arrays beside each other":      member(`"x":[` + strings.Repeat("[],", 100) + `[]]`),
		"row 31: jku to an address that has no host": member(`"jku":"https://attacker.invalid/jwks"`),
		"row 31: x5u to an address that has no host": member(`"x5u":"https://attacker.invalid/chain"`),
		"row 31: x5c with garbage":                   member(`"x5c":["garbage"]`),
		"row 31: jwk with garbage":                   member(`"jwk":{"kty":"oct","k":"AAAA"}`),
	} {
		t.Run(name, func(t *testing.T) {
			f.accepts(t, f.token(header, soundPayload))
		})
	}
}

func TestAlgNoneWithoutSignature(t *testing.T) {
	f := newES256()
	for _, alg := range []string{"none", "None", "NONE", "nOnE"} {
		t.Run("row 1: alg "+alg+", empty signature", func(t *testing.T) {
			header := change(t, f.header(), "ES256", alg)
			for _, token := range []string{
				encode(header) + "." + encode(soundPayload) + ".",
				encode(header) + "." + encode(soundPayload),
				encode(header) + "." + encode(soundPayload) + ".AA",
			} {
				_, err := f.verify(token)
				wantReason(t, err, accesstoken.Malformed)
			}
		})
	}
}

func TestHMACWithThePublicKey(t *testing.T) {
	f := newRS256()
	der, err := x509.MarshalPKIXPublicKey(f.private.Public())
	if err != nil {
		t.Fatal(err)
	}
	secrets := map[string][]byte{
		"PEM": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}),
		"DER": der,
	}
	for name, secret := range secrets {
		forge := func(alg string) string {
			input := encode(fmt.Sprintf(`{"typ":"at+jwt","alg":"%s","kid":"%s"}`, alg, f.key.ID)) + "." + encode(soundPayload)
			mac := hmac.New(sha256.New, secret)
			mac.Write([]byte(input))
			return input + "." + encode(string(mac.Sum(nil)))
		}
		t.Run("row 4: HS256 keyed with the RSA public "+name, func(t *testing.T) {
			_, err := f.verify(forge("HS256"))
			wantReason(t, err, accesstoken.Malformed)
		})
		t.Run("row 4: an HMAC keyed with the RSA public "+name+" under alg RS256", func(t *testing.T) {
			_, err := f.verify(forge("RS256"))
			wantReason(t, err, accesstoken.BadSignature)
		})
	}
}

func TestKeysInTheHeaderAreNotTrusted(t *testing.T) {
	f, attacker := newES256(), newES256()
	jwks := string(accesstoken.NewKeySet(attacker.key).JWKS())
	jwk := strings.TrimSuffix(strings.TrimPrefix(jwks, `{"keys":[`), "]}")
	der, err := x509.MarshalPKIXPublicKey(attacker.private.Public())
	if err != nil {
		t.Fatal(err)
	}
	for name, extra := range map[string]string{
		"row 31: jwk": `"jwk":` + jwk,
		"row 31: jku": `"jku":"https://attacker.invalid/jwks"`,
		"row 31: x5u": `"x5u":"https://attacker.invalid/chain"`,
		"row 31: x5c": `"x5c":["` + encode(string(der)) + `"]`,
	} {
		t.Run(name+" with the attacker's kid", func(t *testing.T) {
			_, err := f.verify(attacker.token(strings.TrimSuffix(attacker.header(), "}")+","+extra+"}", soundPayload))
			wantReason(t, err, accesstoken.WrongKey)
		})
		t.Run(name+" with our kid", func(t *testing.T) {
			_, err := f.verify(attacker.token(strings.TrimSuffix(f.header(), "}")+","+extra+"}", soundPayload))
			wantReason(t, err, accesstoken.BadSignature)
		})
		t.Run(name+" without a kid", func(t *testing.T) {
			_, err := f.verify(attacker.token(`{"typ":"at+jwt","alg":"ES256",`+extra+"}", soundPayload))
			wantReason(t, err, accesstoken.BadSignature)
		})
	}
}

func TestHostileKeyIDs(t *testing.T) {
	f := newES256()
	for name, kid := range map[string]string{
		"row 32: a kid with ../":           `../../../../etc/passwd`,
		"row 32: a kid with SQL":           `' OR 1=1; DROP TABLE keys; --`,
		"row 32: a kid with NUL":           `\u0000` + f.key.ID,
		"row 32: our kid and NUL":          f.key.ID + `\u0000`,
		"row 32: a kid with line breaks":   `x\r\nlevel=error msg=forged`,
		"row 32: our kid in other letters": strings.ToUpper(f.key.ID),
		"row 32: a kid of 256 bytes":       strings.Repeat("k", 256),
	} {
		t.Run(name, func(t *testing.T) {
			header := fmt.Sprintf(`{"typ":"at+jwt","alg":"ES256","kid":"%s"}`, kid)
			f.refuses(t, f.token(header, soundPayload), accesstoken.WrongKey)
		})
	}
}

func TestRefusalsAreSafeToLog(t *testing.T) {
	f := newES256()
	const marker = "marker-of-the-attacker"
	for name, token := range map[string]string{
		"row 32: an unknown kid":       f.token(`{"typ":"at+jwt","alg":"ES256","kid":"`+marker+`"}`, soundPayload),
		"an unknown alg":               f.token(`{"typ":"at+jwt","alg":"`+marker+`"}`, soundPayload),
		"another typ":                  f.token(`{"typ":"`+marker+`","alg":"ES256"}`, soundPayload),
		"an unknown crit":              f.token(`{"typ":"at+jwt","alg":"ES256","crit":["`+marker+`"]}`, soundPayload),
		"a broken header":              f.token(`{"`+marker+`":"`+marker+`"`, soundPayload),
		"a member twice in the header": f.token(`{"`+marker+`":1,"`+marker+`":1}`, soundPayload),
		"a broken payload":             f.token(f.header(), `{"`+marker+`":"`+marker+`"`),
		"a claim twice":                f.token(f.header(), `{"`+marker+`":1,"`+marker+`":1}`),
		"another issuer":               f.token(f.header(), change(t, soundPayload, "issuer.example", marker)),
		"exp a string":                 f.token(f.header(), change(t, soundPayload, "1800003600", `"`+marker+`"`)),
		"no token at all":              marker,
		"three odd parts":              marker + "." + marker + "." + marker,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := f.verify(token)
			var refused *accesstoken.Error
			if !errors.As(err, &refused) {
				t.Fatalf("got %v, want an *accesstoken.Error", err)
			}
			if strings.Contains(refused.Detail, marker) || strings.ContainsAny(refused.Detail, "\r\n\x00\"\\") {
				t.Fatalf("the detail isn't safe to log: %q", refused.Detail)
			}
		})
	}
}
