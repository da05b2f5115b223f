package caddymodule_test

import (
	"bufio"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
)

// Tokens of the gateway's own key, each wrong in one way. The rows are those of the list of attacks.

// namedToken is a token and what is odd about it.
type namedToken struct{ name, token string }

func TestAttacksOnTheFormOfATokenSignedWithECDSA(t *testing.T) {
	g, f := startForging(t, newForgingKey(t))
	good := f.token(nil)
	g.wantGood(t, good)
	head, payload, signature := segmentsOf(t, good)
	signedOver := func(encodedHeader, encodedPayload string) string {
		return f.signed(encodedHeader + "." + encodedPayload)
	}
	withHeader := func(members string) string { return f.sign(f.header(members), f.claims(nil)) }
	withPayload := func(payload string) string { return f.sign(f.header(""), payload) }
	plain := f.claims(nil)
	inObject := func(members string) string { return strings.TrimSuffix(plain, "}") + "," + members + "}" }
	half := new(big.Int).SetBytes(decodeSegment(t, signature)[:32])
	der, err := asn1.Marshal(struct{ R, S *big.Int }{half, new(big.Int).SetBytes(decodeSegment(t, signature)[32:])})
	if err != nil {
		t.Fatal(err)
	}
	kid, alg := f.kid, f.alg

	for _, c := range []namedToken{
		{"row 1: alg none with an empty signature", encodeSegment(`{"typ":"at+jwt","alg":"none"}`) + "." + payload + "."},
		{"row 1: alg none with a signature", f.sign(`{"typ":"at+jwt","alg":"none"}`, plain)},
		{"row 1: alg NONE with a signature", f.sign(`{"typ":"at+jwt","alg":"NONE","kid":"`+kid+`"}`, plain)},
		{"row 1: alg nOnE with an empty signature", encodeSegment(`{"typ":"at+jwt","alg":"nOnE","kid":"`+kid+`"}`) + "." + payload + "."},
		{"row 3: alg missing", f.sign(`{"typ":"at+jwt","kid":"`+kid+`"}`, plain)},
		{"row 3: alg in lower case", f.sign(`{"typ":"at+jwt","alg":"es256","kid":"`+kid+`"}`, plain)},
		{"row 3: alg null", f.sign(`{"typ":"at+jwt","alg":null,"kid":"`+kid+`"}`, plain)},
		{"row 10: r and s are zero", head + "." + payload + "." + encodeSegment(string(make([]byte, 64)))},
		{"row 10: the signature is empty", head + "." + payload + "."},
		{"row 11: the signature is in DER", head + "." + payload + "." + encodeSegment(string(der))},
		{"row 11: the signature has 128 bytes", head + "." + payload + "." + encodeSegment(string(append(decodeSegment(t, signature), make([]byte, 64)...)))},
		{"row 13: the trailing bits of the signature are set", head + "." + payload + "." + otherTrailingBits(t, signature)},
		{"row 13: the trailing bits of the header are set", signedOver(otherTrailingBits(t, encodeSegment(f.header("")+strings.Repeat(" ", padding(f.header(""))))), payload)},
		{"row 13: the trailing bits of the payload are set", signedOver(head, otherTrailingBits(t, encodeSegment(plain+strings.Repeat(" ", padding(plain)))))},
		{"row 14: the signature is padded", good + "=="},
		{"row 14: the payload is padded", signedOver(head, base64.URLEncoding.EncodeToString([]byte(plain+strings.Repeat(" ", padding(plain)))))},
		{"row 15: the signature is in the other alphabet", f.signedInOtherAlphabet(head + "." + payload)},
		{"row 16: a space inside", good[:40] + " " + good[40:]},
		{"row 16: a tab inside", good[:40] + "\t" + good[40:]},
		{"row 16: a space in front", " " + good},
		{"row 16: a space before the signature", head + "." + payload + ". " + signature},
		{"row 17: two segments", head + "." + payload},
		{"row 17: two segments with a signature over them", strings.ReplaceAll(signedOver(head, payload), payload+".", "")},
		{"row 17: four segments", good + "." + signature},
		{"row 17: an empty header", "." + payload + "." + signature},
		{"row 17: an empty payload", signedOver(head, "")},
		{"row 17: a leading dot", "." + good},
		{"row 17: a trailing dot", good + "."},
		{"row 17: dots only", ".."},
		{"row 18: five segments", head + ".." + payload + "." + payload + "." + signature},
		{"row 18: a header that says zip", withHeader(`"zip":"DEF"`)},
		{"row 18: a header that says enc", withHeader(`"enc":"A256GCM"`)},
		{"row 20: b64 is false", withHeader(`"b64":false`)},
		{"row 20: b64 is false, and critical", withHeader(`"b64":false,"crit":["b64"]`)},
		{"row 21: crit names something unknown", withHeader(`"crit":["x"],"x":1`)},
		{"row 21: crit is empty", withHeader(`"crit":[]`)},
		{"row 21: crit names an absent member", withHeader(`"crit":["exp"]`)},
		{"row 22: alg twice", withHeader(`"alg":"` + alg + `"`)},
		{"row 22: kid twice", withHeader(`"kid":"` + kid + `"`)},
		{"row 22: an unknown member twice", withHeader(`"x":1,"x":1`)},
		{"row 22: a member twice, once escaped", withHeader(`"\u0061lg":"` + alg + `"`)},
		{"row 23: sub twice", withPayload(inObject(`"sub":"other"`))},
		{"row 23: exp twice", withPayload(inObject(`"exp":9999999999`))},
		{"row 23: an unknown claim twice", withPayload(inObject(`"x":1,"x":2`))},
		{"row 23: a member of a nested object twice", withPayload(inObject(`"x":{"y":1,"y":2}`))},
		{"row 24: EXP instead of exp", f.token(claimChanges{"exp": absent, "EXP": time.Now().Add(time.Hour).Unix()})},
		{"row 24: Exp instead of exp", f.token(claimChanges{"exp": absent, "Exp": time.Now().Add(time.Hour).Unix()})},
		{"row 25: bytes after the payload's object", withPayload(plain + "x")},
		{"row 25: a second object after the payload", withPayload(plain + plain)},
		{"row 25: bytes after the header's object", f.sign(f.header("")+"{}", plain)},
		{"row 26: invalid UTF-8 in the payload", withPayload(inObject("\"x\":\"\xff\""))},
		{"row 26: invalid UTF-8 in the header", withHeader("\"x\":\"\xff\"")},
		{"row 26: a byte order mark before the payload", withPayload("\ufeff" + plain)},
		{"row 26: half a surrogate pair", withPayload(inObject(`"x":"\ud800"`))},
		{"row 27: the payload is an array", withPayload("[" + plain + "]")},
		{"row 27: the payload is a number", withPayload("1")},
		{"row 27: the payload is null", withPayload("null")},
		{"row 27: the header is an array", f.sign("["+f.header("")+"]", plain)},
		{"row 28: the payload is a good token", f.sign(f.header(`"cty":"JWT"`), good)},
		{"row 28: the payload is a good token as a JSON string", f.sign(f.header(`"cty":"JWT"`), `"`+good+`"`)},
		{"row 29: nested deeper than 32", withPayload(inObject(`"x":` + strings.Repeat("[", 33) + strings.Repeat("]", 33)))},
		{"row 29: a header nested deeper than 32", withHeader(`"x":` + strings.Repeat("[", 33) + strings.Repeat("]", 33))},
		{"row 30: longer than a token may be", f.token(claimChanges{"x": strings.Repeat("x", 16<<10)})},
	} {
		t.Run(c.name, func(t *testing.T) { g.wantInvalidToken(t, c.token) })
	}

	t.Run("row 12: the other signature of the same message is good, and still hit by revocation", func(t *testing.T) {
		session := g.signIn()
		head, payload, signature := segmentsOf(t, session.access)
		raw := decodeSegment(t, signature)
		s := new(big.Int).SetBytes(raw[32:])
		s.Sub(elliptic.P256().Params().N, s).FillBytes(raw[32:])
		respelled := head + "." + payload + "." + encodeSegment(string(raw))
		g.wantGood(t, respelled)
		g.revoke(session.refresh).wantStatus(t, http.StatusOK)
		g.wantInvalidToken(t, respelled)
	})

	t.Run("row 16: folded lines inside", func(t *testing.T) {
		before := g.backend.requests()
		answer := g.sendRaw(t, "GET /api/x HTTP/1.1\r\nHost: "+g.host()+"\r\nAuthorization: Bearer "+good[:40]+"\r\n "+good[40:]+"\r\n\r\n")
		answer.wantStatus(t, http.StatusUnauthorized)
		wantNothingThrough(t, g, before)
	})

	for name, between := range map[string]string{"a carriage return": "\r", "a line feed": "\n", "a NUL": "\x00"} {
		t.Run("row 16: "+name+" inside is no HTTP", func(t *testing.T) {
			before := g.backend.requests()
			answer := g.sendRaw(t, "GET /api/x HTTP/1.1\r\nHost: "+g.host()+"\r\nAuthorization: Bearer "+good[:40]+between+good[40:]+"\r\n\r\n")
			answer.wantStatus(t, http.StatusBadRequest)
			wantNothingThrough(t, g, before)
		})
	}

	t.Run("row 19: the JSON serialization has commas, so it counts as more than one token", func(t *testing.T) {
		for _, token := range []string{
			`{"payload":"` + payload + `","protected":"` + head + `","signature":"` + signature + `"}`,
			`{"payload":"` + payload + `","signatures":[{"protected":"` + head + `","signature":"` + signature + `"}]}`,
		} {
			before := g.backend.requests()
			g.call("/api/x", token).wantChallenge(t, http.StatusBadRequest, "invalid_request")
			wantNothingThrough(t, g, before)
		}
	})

	t.Run("row 72: a revoked token is denied in every other spelling", func(t *testing.T) {
		session := g.signIn()
		g.revoke(session.access).wantStatus(t, http.StatusOK)
		head, payload, signature := segmentsOf(t, session.access)
		for _, spelling := range []string{
			session.access,
			head + "." + payload + "." + otherTrailingBits(t, signature),
			session.access + "==",
			strings.NewReplacer("-", "+", "_", "/").Replace(session.access),
			head + " ." + payload + "." + signature,
			f.signed(head + "." + payload),
		} {
			g.wantInvalidToken(t, spelling)
		}
	})
}

func TestAttacksOnATokenSignedWithRSA(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	g, f := startForging(t, key)
	g.wantGood(t, f.token(nil))
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	asHMAC := func(secret []byte) string {
		input := encodeSegment(`{"typ":"at+jwt","alg":"HS256","kid":"`+f.kid+`"}`) + "." + encodeSegment(f.claims(nil))
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(input))
		return input + "." + encodeSegment(string(mac.Sum(nil)))
	}
	withAlg := func(alg string) string {
		return f.sign(`{"typ":"at+jwt","alg":"`+alg+`","kid":"`+f.kid+`"}`, f.claims(nil))
	}
	for _, c := range []namedToken{
		{"row 2: alg none over a true signature", withAlg("none")},
		{"row 2: alg HS256 over a true signature", withAlg("HS256")},
		{"row 2: alg garbage over a true signature", withAlg("garbage")},
		{"row 2: alg PS256 over a true RS256 signature", withAlg("PS256")},
		{"row 2: alg ES256 over a true RS256 signature", withAlg("ES256")},
		{"row 3: alg in lower case", withAlg("rs256")},
		{"row 3: alg missing", f.sign(`{"typ":"at+jwt","kid":"`+f.kid+`"}`, f.claims(nil))},
		{"row 4: HS256 keyed with the public key's PEM", asHMAC(public)},
		{"row 4: HS256 keyed with the public key's DER", asHMAC(der)},
		{"row 4: HS256 keyed with nothing", asHMAC(nil)},
	} {
		t.Run(c.name, func(t *testing.T) { g.wantInvalidToken(t, c.token) })
	}
}

func TestAttackWithATokenOfEightMebibytes(t *testing.T) {
	g := prepare(t)
	caddyfile := g.caddyfile(usualOptions, usualSite)
	t.Run("row 30: it is refused before it is decoded", func(t *testing.T) {
		g.load(strings.Replace(caddyfile, "auto_https off", "auto_https off\n\tservers {\n\t\tmax_header_size 16MB\n\t}", 1))
		g.wantInvalidToken(t, strings.Repeat("A", 8<<20))
	})
	t.Run("row 30: with Caddy's own limit it doesn't get that far", func(t *testing.T) {
		g.restartLive(caddyfile)
		before := g.backend.requests()
		answer := g.sendRaw(t, "GET /api/x HTTP/1.1\r\nHost: "+g.host()+"\r\nAuthorization: Bearer "+strings.Repeat("A", 2<<20)+"\r\n\r\n")
		answer.wantStatus(t, http.StatusRequestHeaderFieldsTooLarge)
		wantNothingThrough(t, g, before)
	})
}

func TestAttacksOnTheChoiceOfTheKey(t *testing.T) {
	t.Run("with one key", func(t *testing.T) {
		own, stranger := newForgingKey(t), newForgingKey(t)
		g, f := startForging(t, own)
		var fetched atomic.Int64
		trap := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { fetched.Add(1) }))
		t.Cleanup(trap.Close)
		strangers := f
		strangers.key = stranger
		point, err := stranger.PublicKey.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		jwk := `{"kty":"EC","crv":"P-256","x":"` + encodeSegment(string(point[1:33])) + `","y":"` + encodeSegment(string(point[33:])) + `"}`
		for name, member := range map[string]string{
			"jku": `"jku":"` + trap.URL + `"`,
			"x5u": `"x5u":"` + trap.URL + `"`,
			"jwk": `"jwk":` + jwk,
			"x5c": `"x5c":["` + base64.StdEncoding.EncodeToString(point) + `"]`,
		} {
			t.Run("row 31: a stranger's key isn't trusted for being named by "+name, func(t *testing.T) {
				g.wantInvalidToken(t, strangers.sign(strangers.header(member), strangers.claims(nil)))
				g.wantInvalidToken(t, strangers.sign(`{"typ":"at+jwt","alg":"ES256",`+member+`}`, strangers.claims(nil)))
				if n := fetched.Load(); n != 0 {
					t.Fatalf("the address in the header was asked %d times", n)
				}
			})
		}
		t.Run("row 52: the issuer's claims under a stranger's key", func(t *testing.T) {
			g.wantInvalidToken(t, strangers.token(nil))
		})
		for name, kid := range map[string]string{
			"a path":               `"../../MARKER"`,
			"SQL":                  `"' OR 1=1; -- MARKER"`,
			"a NUL":                `"MARKER\u0000"`,
			"line breaks":          `"\r\nMARKER\r\n"`,
			"ten kilobytes":        `"` + strings.Repeat("MARKER", 10<<10/6) + `"`,
			"a number":             `1234567`,
			"nothing":              `""`,
			"null":                 `null`,
			"the key's, with more": `"` + f.kid + `MARKER"`,
		} {
			t.Run("row 32: a kid that is "+name, func(t *testing.T) {
				g.wantInvalidToken(t, f.sign(`{"typ":"at+jwt","alg":"ES256","kid":`+kid+`}`, f.claims(nil)))
				if strings.Contains(g.logs(), "MARKER") {
					t.Fatal("the kid is in the log")
				}
			})
		}
		t.Run("row 34: no kid is good where one key fits", func(t *testing.T) {
			g.wantGood(t, f.sign(`{"typ":"at+jwt","alg":"ES256"}`, f.claims(nil)))
		})
	})
	t.Run("with two keys", func(t *testing.T) {
		first, second := newForgingKey(t), newForgingKey(t)
		g, f := startForging(t, first, second)
		kids := g.publishedKeyIDs(t)
		if len(kids) != 2 {
			t.Fatalf("published were %q, want both keys", kids)
		}
		other := f
		other.key, other.kid = second, kids[1]
		g.wantGood(t, f.token(nil))
		g.wantGood(t, other.token(nil))
		t.Run("row 33: the kid of the other key", func(t *testing.T) {
			confused := f
			confused.kid = kids[1]
			g.wantInvalidToken(t, confused.token(nil))
		})
		t.Run("row 34: no kid where two keys fit", func(t *testing.T) {
			g.wantInvalidToken(t, f.sign(`{"typ":"at+jwt","alg":"ES256"}`, f.claims(nil)))
		})
	})
}

func TestAttacksOnClaims(t *testing.T) {
	g, f := startForging(t, newForgingKey(t))
	now := time.Now().Unix()
	inAnHour := now + 3600
	for _, c := range []struct {
		name    string
		changes claimChanges
	}{
		{"row 42: exp missing", claimChanges{"exp": absent}},
		{"row 42: exp zero", claimChanges{"exp": 0}},
		{"row 43: exp null", claimChanges{"exp": nil}},
		{"row 43: exp true", claimChanges{"exp": true}},
		{"row 43: exp an object", claimChanges{"exp": map[string]any{}}},
		{"row 43: exp negative", claimChanges{"exp": -1}},
		{"row 44: exp a string", claimChanges{"exp": fmt.Sprint(inAnHour)}},
		{"row 45: exp a float, which is rounded down to now", claimChanges{"exp": float64(now) + 0.9}},
		{"row 46: exp 1e400", claimChanges{"exp": json.RawMessage("1e400")}},
		{"row 46: exp 2^63", claimChanges{"exp": json.RawMessage("9223372036854775808")}},
		{"row 46: exp 2^64", claimChanges{"exp": json.RawMessage("18446744073709551616")}},
		{"row 46: exp 2^64 and an hour from now", claimChanges{"exp": json.RawMessage(fmt.Sprint(new(big.Int).Add(new(big.Int).Lsh(big.NewInt(1), 64), big.NewInt(inAnHour))))}},
		{"row 47: exp in 50 years", claimChanges{"exp": now + 50*365*86400}},
		{"row 48: exp is now", claimChanges{"exp": now}},
		{"row 50: aud an array that holds a number", claimChanges{"aud": []any{clientID, 1}}},
		{"row 50: aud a number", claimChanges{"aud": 1}},
		{"row 50: aud an empty array", claimChanges{"aud": []any{}}},
		{"row 50: aud an object", claimChanges{"aud": map[string]any{clientID: clientID}}},
		{"row 51: aud with a slash more", claimChanges{"aud": clientID + "/"}},
		{"row 51: aud in another case", claimChanges{"aud": strings.ToLower(clientID)}},
		{"row 51: aud with a letter that looks the same", claimChanges{"aud": strings.ReplaceAll(clientID, "a", "а")}},
		{"row 51: iss with a slash more", claimChanges{"iss": g.url + "/"}},
		{"row 51: iss in another case", claimChanges{"iss": strings.ToUpper(g.url)}},
		{"row 51: iss with a letter that looks the same", claimChanges{"iss": strings.ReplaceAll(g.url, "p", "р")}},
		{"row 51: iss missing", claimChanges{"iss": absent}},
		{"row 51: iss an array", claimChanges{"iss": []any{g.url}}},
		{"row 55: sub missing", claimChanges{"sub": absent}},
		{"row 55: sub a number", claimChanges{"sub": 1}},
		{"row 55: sub empty", claimChanges{"sub": ""}},
		{"row 55: client_id missing", claimChanges{"client_id": absent}},
		{"row 55: client_id an array", claimChanges{"client_id": []any{clientID}}},
	} {
		t.Run(c.name, func(t *testing.T) { g.wantInvalidToken(t, f.token(c.changes)) })
	}
	t.Run("row 46: exp NaN", func(t *testing.T) {
		claims := strings.Replace(f.claims(claimChanges{"exp": "NaN"}), `"NaN"`, "NaN", 1)
		g.wantInvalidToken(t, f.sign(f.header(""), claims))
	})

	for _, c := range []struct {
		name    string
		changes claimChanges
	}{
		{"row 45: exp a float in the future is taken", claimChanges{"exp": float64(inAnHour) + 0.5}},
		{"row 49: iat five seconds ahead is taken", claimChanges{"iat": now + 5}},
		{"row 50: aud a string is taken", claimChanges{"aud": clientID}},
		{"row 50: aud an array of strings is taken", claimChanges{"aud": []any{"https://elsewhere.example.com", clientID}}},
	} {
		t.Run(c.name, func(t *testing.T) { g.wantGood(t, f.token(c.changes)) })
	}

	for _, typ := range []string{"JWT", "logout+jwt", "dpop+jwt", "application/jwt", "application/application/at+jwt", "at+jwt ", ""} {
		t.Run(fmt.Sprintf("row 53: the typ %q isn't an access token's", typ), func(t *testing.T) {
			g.wantInvalidToken(t, f.sign(`{"typ":"`+typ+`","alg":"ES256","kid":"`+f.kid+`"}`, f.claims(nil)))
		})
	}
	t.Run("row 53: no typ", func(t *testing.T) {
		g.wantInvalidToken(t, f.sign(`{"alg":"ES256","kid":"`+f.kid+`"}`, f.claims(nil)))
	})
	for _, typ := range []string{"AT+JWT", "application/at+jwt", "Application/At+Jwt"} {
		t.Run("row 53: the typ "+typ+" is taken", func(t *testing.T) {
			g.wantGood(t, f.sign(`{"typ":"`+typ+`","alg":"ES256","kid":"`+f.kid+`"}`, f.claims(nil)))
		})
	}

	for scope, status := range map[string]int{
		"read":              http.StatusOK,
		"default  read":     http.StatusOK,
		"default read":      http.StatusOK,
		"readonly":          http.StatusForbidden,
		"xread":             http.StatusForbidden,
		"READ":              http.StatusForbidden,
		"default,read":      http.StatusForbidden,
		"default\tread":     http.StatusForbidden,
		"default\nread":     http.StatusForbidden,
		"default\u00a0read": http.StatusForbidden,
		"":                  http.StatusForbidden,
	} {
		t.Run(fmt.Sprintf("row 54: the scope %q", scope), func(t *testing.T) {
			g.call("/read/x", f.token(claimChanges{"scope": scope})).wantStatus(t, status)
		})
	}
	t.Run("row 54: no scope", func(t *testing.T) {
		g.call("/read/x", f.token(claimChanges{"scope": absent})).wantChallenge(t, http.StatusForbidden, "insufficient_scope")
	})

	t.Run("row 70: nothing of the token is in the answer", func(t *testing.T) {
		for _, token := range []string{
			f.token(claimChanges{"sub": "MARKER", "exp": now}),
			f.token(claimChanges{"iss": "MARKER"}),
			f.token(claimChanges{"aud": "MARKER"}),
			f.sign(f.header(`"MARKER":1,"MARKER":2`), f.claims(nil)),
			"MARKER",
		} {
			answer := g.call("/api/x", token)
			answer.wantStatus(t, http.StatusUnauthorized)
			if strings.Contains(fmt.Sprint(answer.Header, string(answer.body)), "MARKER") {
				t.Fatalf("the answer to %s holds a part of it: %v %s", token, answer.Header, answer.body)
			}
		}
	})
}

func TestAttackOnTheRealm(t *testing.T) {
	t.Run("row 70: an issuer with quotes is escaped in the challenge", func(t *testing.T) {
		g := prepare(t)
		issuer := g.url + `/a"b`
		g.load(strings.Replace(g.caddyfile(usualOptions, usualSite), "issuer "+g.url, "issuer `"+issuer+"`", 1))
		answer := g.do(g.request(http.MethodGet, "/api/x", "", nil))
		answer.wantStatus(t, http.StatusUnauthorized)
		if got, want := answer.Header.Get("WWW-Authenticate"), `Bearer realm="`+g.url+`/a\"b"`; got != want {
			t.Fatalf("got challenge %s, want %s", got, want)
		}
	})
}

func TestAttacksOnTheRequestWithAToken(t *testing.T) {
	g := start(t)
	good := g.signIn().access
	get := func(header http.Header) answer { return g.do(g.request(http.MethodGet, "/api/x", "", header)) }

	t.Run("row 58: two Authorization headers", func(t *testing.T) {
		for _, second := range []string{"Bearer " + good, "Basic eDp5", ""} {
			before := g.backend.requests()
			get(http.Header{"Authorization": {"Bearer " + good, second}}).wantChallenge(t, http.StatusBadRequest, "invalid_request")
			wantNothingThrough(t, g, before)
		}
	})
	for _, scheme := range []string{"bearer", "BEARER", "bEaReR"} {
		t.Run("row 59: the scheme "+scheme, func(t *testing.T) {
			get(http.Header{"Authorization": {scheme + " " + good}}).wantStatus(t, http.StatusOK)
		})
	}
	for _, header := range []string{good, "Bearer", "Bearer ", "Basic " + good, "BearerX " + good, "Bearer\t" + good, ""} {
		t.Run(fmt.Sprintf("row 60: %.12q is no bearer token", header), func(t *testing.T) {
			before := g.backend.requests()
			get(http.Header{"Authorization": {header}}).wantChallenge(t, http.StatusUnauthorized, "")
			wantNothingThrough(t, g, before)
		})
	}
	t.Run("row 60: a token and another scheme in one header", func(t *testing.T) {
		before := g.backend.requests()
		get(http.Header{"Authorization": {"Bearer " + good + ", Basic eDp5"}}).wantChallenge(t, http.StatusBadRequest, "invalid_request")
		wantNothingThrough(t, g, before)
	})
	t.Run("row 62: a token in the query isn't read", func(t *testing.T) {
		before := g.backend.requests()
		answer := g.do(g.request(http.MethodGet, "/api/x?access_token="+good, "", nil))
		answer.wantChallenge(t, http.StatusUnauthorized, "")
		wantNothingThrough(t, g, before)
	})
	t.Run("row 67: OPTIONS without Origin and Access-Control-Request-Method is no preflight", func(t *testing.T) {
		before := g.backend.requests()
		for _, header := range []http.Header{nil, {"Origin": {"https://app.example.com"}}, {"Access-Control-Request-Method": {"GET"}}} {
			g.do(g.request(http.MethodOptions, "/api/x", "", header)).wantStatus(t, http.StatusUnauthorized)
			g.do(g.request(http.MethodOptions, "/oauth2/token", "", header)).wantStatus(t, http.StatusMethodNotAllowed)
		}
		wantNothingThrough(t, g, before)
	})
	t.Run("row 68: X-Forwarded headers decide nothing", func(t *testing.T) {
		spoofed := http.Header{
			"X-Forwarded-Host": {"evil.example.com"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-For": {"192.0.2.1"},
			"X-Forwarded-Prefix": {"/evil"}, "Forwarded": {"host=evil.example.com;proto=https"},
		}
		get(spoofed).wantChallenge(t, http.StatusUnauthorized, "")
		for _, path := range []string{"/.well-known/oauth-authorization-server", "/oauth2/jwks"} {
			plain, told := g.do(g.request(http.MethodGet, path, "", nil)), g.do(g.request(http.MethodGet, path, "", spoofed))
			if plain.StatusCode != http.StatusOK || string(plain.body) != string(told.body) {
				t.Fatalf("%s: got %s, want %s", path, told.body, plain.body)
			}
		}
		header := basic(clientID, clientSecret)
		maps.Copy(header, spoofed)
		access := g.post("/oauth2/token", passwordForm(), header).tokens(t).access
		if iss := claimsOf(t, access)["iss"]; iss != g.url {
			t.Fatalf("got issuer %v, want %s", iss, g.url)
		}
	})
	t.Run("row 68: a new X-Forwarded-For each time doesn't escape the throttle", func(t *testing.T) {
		for i := range 40 {
			header := basic(clientID, "wrong")
			header.Set("X-Forwarded-For", fmt.Sprintf("192.0.2.%d", i))
			if g.post("/oauth2/token", passwordForm(), header).StatusCode == http.StatusTooManyRequests {
				return
			}
		}
		t.Fatal("40 wrong secrets were all looked at")
	})
}

func TestAttacksOnIdentityHeaders(t *testing.T) {
	g := start(t)
	access := g.signIn().access
	for _, name := range []string{"X-User-Id", "x-user-id", "X-USER-ID", "X_User_Id", "x_user_id", "X-User_Id", "X_USER-ID"} {
		t.Run("row 63: the client's own "+name+" is removed", func(t *testing.T) {
			answer := g.sendRaw(t, "GET /api/x HTTP/1.1\r\nHost: "+g.host()+"\r\nAuthorization: Bearer "+access+"\r\n"+name+": mallory\r\n\r\n")
			answer.wantStatus(t, http.StatusOK)
			wantIdentity(t, g)
		})
	}
	t.Run("row 63: many of them at once are removed", func(t *testing.T) {
		answer := g.sendRaw(t, "GET /api/x HTTP/1.1\r\nHost: "+g.host()+"\r\nX-User-Id: mallory\r\nX_User_Id: mallory\r\n"+
			"Authorization: Bearer "+access+"\r\nx-user-id: mallory\r\n\r\n")
		answer.wantStatus(t, http.StatusOK)
		wantIdentity(t, g)
	})
	for _, connection := range []string{"X-User-Id", "x-user-id", "close, X-User-Id", "X-User-Id\r\nConnection: x-user-id", "X_User_Id,x-user-id ,keep-alive"} {
		t.Run(fmt.Sprintf("row 64: Connection: %q doesn't drop the header that is set", connection), func(t *testing.T) {
			answer := g.sendRaw(t, "GET /api/x HTTP/1.1\r\nHost: "+g.host()+"\r\nAuthorization: Bearer "+access+"\r\nConnection: "+connection+"\r\n\r\n")
			answer.wantStatus(t, http.StatusOK)
			wantIdentity(t, g)
		})
	}
	for _, name := range []string{"X-User-Id", "x_user_id"} {
		t.Run("row 65: "+name+" as a trailer that nobody announced is dropped", func(t *testing.T) {
			answer := g.sendRaw(t, "POST /api/x HTTP/1.1\r\nHost: "+g.host()+"\r\nAuthorization: Bearer "+access+"\r\n"+
				"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n"+name+": mallory\r\n\r\n")
			answer.wantStatus(t, http.StatusOK)
			wantIdentity(t, g)
		})
		for _, announced := range []string{name, "X-Other", "X-Other, " + name} {
			t.Run("row 65: "+name+" as a trailer is dropped where "+announced+" is announced", func(t *testing.T) {
				answer := g.sendRaw(t, "POST /api/x HTTP/1.1\r\nHost: "+g.host()+"\r\nAuthorization: Bearer "+access+"\r\n"+
					"Trailer: "+announced+"\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n"+
					"X-Other: kept\r\n"+name+": mallory\r\n\r\n")
				answer.wantStatus(t, http.StatusOK)
				wantIdentity(t, g)
			})
		}
	}
}

// wantIdentity fails the test unless the last request that reached the backend names the user of the token, once and in
// one spelling.
func wantIdentity(t *testing.T, g *gateway) {
	t.Helper()
	got := g.backend.last()
	for _, header := range []http.Header{got.Header, got.Trailer} {
		for name, values := range header {
			own := strings.EqualFold(strings.ReplaceAll(name, "_", "-"), "X-User-Id")
			if own && (name != "X-User-Id" || len(values) != 1 || values[0] != userName) {
				t.Fatalf("the backend got %s: %q", name, values)
			}
		}
	}
	if got.Header.Get("X-User-Id") != userName {
		t.Fatalf("the backend got no X-User-Id: %v", got.Header)
	}
}

func TestAttacksOnRevocation(t *testing.T) {
	g, f := startForging(t, newForgingKey(t))
	for _, c := range []struct {
		name string
		pick func(tokens) string
	}{
		{"the refresh token", func(s tokens) string { return s.refresh }},
		{"the access token", func(s tokens) string { return s.access }},
	} {
		t.Run("row 71: after "+c.name+" is revoked, none of 1,000 parallel uses passes", func(t *testing.T) {
			session := g.signIn()
			g.wantGood(t, session.access)
			g.revoke(c.pick(session)).wantStatus(t, http.StatusOK)
			before := g.backend.requests()
			var uses sync.WaitGroup
			var passed atomic.Int64
			for range 20 {
				uses.Go(func() {
					for range 50 {
						if g.call("/api/x", session.access).StatusCode != http.StatusUnauthorized {
							passed.Add(1)
						}
					}
				})
			}
			uses.Wait()
			if passed.Load() != 0 {
				t.Fatalf("%d of 1,000 uses passed", passed.Load())
			}
			wantNothingThrough(t, g, before)
		})
	}
	t.Run("row 71: of uses that race with the revocation, none passes that begins after the answer", func(t *testing.T) {
		session := g.signIn()
		var revoked atomic.Bool
		var late atomic.Int64
		var uses sync.WaitGroup
		for range 8 {
			uses.Go(func() {
				for after := 0; after < 25; {
					begunAfter := revoked.Load()
					status := g.call("/api/x", session.access).StatusCode
					if begunAfter {
						after++
						if status != http.StatusUnauthorized {
							late.Add(1)
						}
					}
				}
			})
		}
		answer := g.revoke(session.refresh)
		revoked.Store(true)
		uses.Wait()
		answer.wantStatus(t, http.StatusOK)
		if late.Load() != 0 {
			t.Fatalf("%d uses that began after the answer passed", late.Load())
		}
	})
	t.Run("row 76: a revoked token stays dead until it has expired, and after", func(t *testing.T) {
		expiry := time.Now().Unix() + 2
		token := f.token(claimChanges{"exp": expiry})
		g.wantGood(t, token)
		g.revoke(token).wantStatus(t, http.StatusOK)
		for time.Now().Unix() <= expiry {
			g.wantInvalidToken(t, token)
		}
		g.wantInvalidToken(t, token)
	})
}

func TestAttackOfRacers(t *testing.T) {
	race := func(g *gateway, refreshToken string) map[int][]answer {
		answers := make(chan answer, 100)
		begin := make(chan struct{})
		var racers sync.WaitGroup
		for range cap(answers) {
			racers.Go(func() {
				<-begin
				answers <- g.refresh(refreshToken)
			})
		}
		close(begin)
		racers.Wait()
		close(answers)
		byStatus := make(map[int][]answer)
		for a := range answers {
			byStatus[a.StatusCode] = append(byStatus[a.StatusCode], a)
		}
		return byStatus
	}
	t.Run("row 85: of 100 racers with one refresh token one wins", func(t *testing.T) {
		g := start(t)
		byStatus := race(g, g.signIn().refresh)
		if len(byStatus[http.StatusOK]) != 1 || len(byStatus[http.StatusBadRequest]) != 99 {
			t.Fatalf("%d won and %d were refused, want 1 and 99", len(byStatus[http.StatusOK]), len(byStatus[http.StatusBadRequest]))
		}
		for _, loser := range byStatus[http.StatusBadRequest] {
			loser.wantError(t, http.StatusBadRequest, "invalid_grant")
		}
		// One of the two that held the token may have stolen it: the session has ended for both.
		winner := byStatus[http.StatusOK][0].tokens(t)
		g.wantInvalidToken(t, winner.access)
		g.refresh(winner.refresh).wantError(t, http.StatusBadRequest, "invalid_grant")
	})
	t.Run("row 85: with a grace window all 100 get the same successor", func(t *testing.T) {
		g := startWith(t, usualOptions+"\nrefresh_token {\nreuse_grace 60s\n}\n", usualSite)
		byStatus := race(g, g.signIn().refresh)
		if len(byStatus[http.StatusOK]) != 100 {
			t.Fatalf("%d of 100 were answered", len(byStatus[http.StatusOK]))
		}
		successor := byStatus[http.StatusOK][0].tokens(t).refresh
		for _, a := range byStatus[http.StatusOK] {
			got := a.tokens(t)
			if got.refresh != successor {
				t.Fatal("the racers got different successors")
			}
			g.wantGood(t, got.access)
		}
		g.refresh(successor).wantStatus(t, http.StatusOK)
	})
}

// forger makes tokens with a private key of the gateway, so that the signature is right and only the odd thing is wrong.
type forger struct {
	t        *testing.T
	issuer   string
	key      crypto.Signer
	kid, alg string
}

// startForging runs Caddy with the usual configuration and these signing keys, of which the forger has the first.
func startForging(t *testing.T, keys ...crypto.Signer) (*gateway, forger) {
	t.Helper()
	g := startWith(t, usualOptions+"\nsigning {\nkey_file "+writeKeys(t, keys...)+"\n}\n", usualSite)
	f := forger{t: t, issuer: g.url, key: keys[0], kid: g.publishedKeyIDs(t)[0], alg: "ES256"}
	if _, ok := keys[0].(*rsa.PrivateKey); ok {
		f.alg = "RS256"
	}
	return g, f
}

// writeKeys writes private keys to a file and returns its path.
func writeKeys(t *testing.T, keys ...crypto.Signer) string {
	t.Helper()
	var content []byte
	for _, key := range keys {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		content = append(content, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})...)
	}
	path := filepath.Join(t.TempDir(), "keys.pem")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func newForgingKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// header returns a good header with these members after the usual ones.
func (f forger) header(members string) string {
	if members != "" {
		members = "," + members
	}
	return `{"typ":"at+jwt","alg":"` + f.alg + `","kid":"` + f.kid + `"` + members + "}"
}

// claimChanges are claims to set instead of the usual ones.
type claimChanges map[string]any

// absent is for claims that are to be left out.
var absent = new(struct{ _ byte })

// claims returns a good payload with some claims changed.
func (f forger) claims(changes claimChanges) string {
	f.t.Helper()
	id, err := uuid.NewV7()
	if err != nil {
		f.t.Fatal(err)
	}
	now := time.Now().Unix()
	claims := map[string]any{
		"iss": f.issuer, "sub": userName, "aud": clientID, "client_id": clientID, "iat": now, "nbf": now, "exp": now + 3600,
		"jti": id.String(), "scope": "default",
	}
	for name, value := range changes {
		if claims[name] = value; value == any(absent) {
			delete(claims, name)
		}
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		f.t.Fatal(err)
	}
	return string(payload)
}

// token returns a token with some claims changed.
func (f forger) token(changes claimChanges) string {
	f.t.Helper()
	return f.sign(f.header(""), f.claims(changes))
}

// sign makes a token of a header and a payload as they are.
func (f forger) sign(header, payload string) string {
	f.t.Helper()
	return f.signed(encodeSegment(header) + "." + encodeSegment(payload))
}

// signed adds the signature to an encoded header and payload.
func (f forger) signed(input string) string {
	f.t.Helper()
	digest := sha256.Sum256([]byte(input))
	signature := make([]byte, 64)
	switch key := f.key.(type) {
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
		if err != nil {
			f.t.Fatal(err)
		}
		r.FillBytes(signature[:32])
		s.FillBytes(signature[32:])
	default:
		var err error
		if signature, err = key.Sign(rand.Reader, digest[:], crypto.SHA256); err != nil {
			f.t.Fatal(err)
		}
	}
	return input + "." + encodeSegment(string(signature))
}

// signedInOtherAlphabet signs until the signature has letters that differ between the two alphabets of base64.
func (f forger) signedInOtherAlphabet(input string) string {
	f.t.Helper()
	for {
		signature := strings.TrimPrefix(f.signed(input), input+".")
		if strings.ContainsAny(signature, "-_") {
			return input + "." + strings.NewReplacer("-", "+", "_", "/").Replace(signature)
		}
	}
}

func encodeSegment(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func decodeSegment(t *testing.T, encoded string) []byte {
	t.Helper()
	decoded, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		t.Fatal(err)
	}
	return decoded
}

// padding returns how many spaces make the base64url form of s have bits left over.
func padding(s string) int {
	if len(s)%3 == 0 {
		return 1
	}
	return 0
}

// otherTrailingBits changes the bits that are left over in the last letter of a base64url text.
func otherTrailingBits(t *testing.T, encoded string) string {
	t.Helper()
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	if len(encoded)%4 == 0 {
		t.Fatalf("%q has no bits left over", encoded)
	}
	last := strings.IndexByte(alphabet, encoded[len(encoded)-1])
	return encoded[:len(encoded)-1] + string(alphabet[last|1])
}

// parts takes a token apart, without decoding it.
func segmentsOf(t *testing.T, token string) (header, payload, signature string) {
	t.Helper()
	all := strings.Split(token, ".")
	if len(all) != 3 {
		t.Fatalf("%q is no compact JWS", token)
	}
	return all[0], all[1], all[2]
}

// headerOf returns the members of a token's header.
func headerOf(t *testing.T, token string) map[string]any {
	t.Helper()
	header, _, _ := segmentsOf(t, token)
	return membersOf(t, decodeSegment(t, header))
}

// claimsOf returns the claims of a token.
func claimsOf(t *testing.T, token string) map[string]any {
	t.Helper()
	_, payload, _ := segmentsOf(t, token)
	return membersOf(t, decodeSegment(t, payload))
}

func membersOf(t *testing.T, object []byte) map[string]any {
	t.Helper()
	all := make(map[string]any)
	if err := json.Unmarshal(object, &all); err != nil {
		t.Fatalf("%s: %v", object, err)
	}
	return all
}

// publishedKeyIDs returns the kid of each key that the gateway publishes.
func (g *gateway) publishedKeyIDs(t *testing.T) []string {
	t.Helper()
	var set struct {
		Keys []struct {
			ID string `json:"kid"`
		} `json:"keys"`
	}
	answer := g.do(g.request(http.MethodGet, "/oauth2/jwks", "", nil))
	if err := json.Unmarshal(answer.body, &set); err != nil || len(set.Keys) == 0 {
		t.Fatalf("status %d, key set %s: %v", answer.StatusCode, answer.body, err)
	}
	ids := make([]string, len(set.Keys))
	for i, key := range set.Keys {
		ids[i] = key.ID
	}
	return ids
}

// wantGood fails the test unless the API takes the token.
func (g *gateway) wantGood(t *testing.T, token string) {
	t.Helper()
	g.call("/api/x", token).wantStatus(t, http.StatusOK)
}

// wantInvalidToken fails the test unless the token is refused as such, and the backend sees nothing.
func (g *gateway) wantInvalidToken(t *testing.T, token string) {
	t.Helper()
	before := g.backend.requests()
	g.call("/api/x", token).wantChallenge(t, http.StatusUnauthorized, "invalid_token")
	wantNothingThrough(t, g, before)
}

func wantNothingThrough(t *testing.T, g *gateway, before int) {
	t.Helper()
	if after := g.backend.requests(); after != before {
		t.Fatalf("%d requests got through to the backend", after-before)
	}
}

// wantChallenge fails the test unless the answer has this status, no body, and a bearer challenge with this error code,
// empty for none.
func (a answer) wantChallenge(t *testing.T, status int, code string) {
	t.Helper()
	a.wantStatus(t, status)
	challenges := a.Header.Values("WWW-Authenticate")
	if len(challenges) != 1 || !strings.HasPrefix(challenges[0], `Bearer realm="`) || len(a.body) != 0 {
		t.Fatalf("got challenges %q and body %q, want one for Bearer, and no body", challenges, a.body)
	}
	got := ""
	if _, after, found := strings.Cut(challenges[0], ` error="`); found {
		got, _, _ = strings.Cut(after, `"`)
	}
	if got != code {
		t.Fatalf("got challenge %s, want the error code %q", challenges[0], code)
	}
}

// host is the site's host and port.
func (g *gateway) host() string {
	u, err := url.Parse(g.url)
	if err != nil {
		g.t.Fatal(err)
	}
	return u.Host
}

// sendRaw sends a request as it is written, where an HTTP client would tidy it up, and reads the answer.
func (g *gateway) sendRaw(t *testing.T, request string) answer {
	t.Helper()
	connection, err := net.Dial("tcp", g.host())
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	// An error here means that the gateway didn't want to read it all; what it says about that is read below.
	_, _ = io.WriteString(connection, request)
	return readAnswer(t, connection)
}

func readAnswer(t *testing.T, from io.Reader) answer {
	t.Helper()
	response, err := http.ReadResponse(bufio.NewReader(from), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{response, body}
}
