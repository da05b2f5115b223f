package accesstoken_test

import (
	"strings"
	"testing"
	"time"

	"github.com/tokengateway/caddy-token-gateway/accesstoken"
)

// soundAssertion is what a client authenticates with at now (RFC 7523 §3).
const soundAssertion = `{"iss":"client-1","sub":"client-1","aud":"https://issuer.example","iat":1800000000,"exp":1800000060,"jti":"assertion-1"}`

func assertionHeader(f *forger) string {
	return `{"typ":"JWT","alg":"` + string(f.algorithm) + `","kid":"` + f.key.ID + `"}`
}

func TestVerifyAssertion(t *testing.T) {
	for _, f := range forgers() {
		t.Run("a sound assertion is taken with "+string(f.algorithm), func(t *testing.T) {
			c, err := accesstoken.VerifyAssertion(f.token(assertionHeader(f), soundAssertion), accesstoken.NewKeySet(f.key), now)
			if err != nil {
				t.Fatal(err)
			}
			if c.Issuer != "client-1" || c.Subject != "client-1" || len(c.Audience) != 1 || c.Audience[0] != issuer || c.TokenID != "assertion-1" ||
				!c.Expiry.Equal(now.Add(time.Minute)) {
				t.Fatalf("got %+v", c)
			}
		})
	}
	f, other := newES256(), newES256()
	header := assertionHeader(f)
	keys := accesstoken.NewKeySet(f.key)
	for _, c := range []struct {
		name, token string
		want        accesstoken.Reason // empty: taken
	}{
		{"neither typ nor kid is needed", f.token(`{"alg":"ES256"}`, soundAssertion), ""},
		{"exp a second ahead is taken", f.token(header, change(t, soundAssertion, "1800000060", "1800000001")), ""},
		{"exp ten minutes ahead is taken", f.token(header, change(t, soundAssertion, "1800000060", "1800000600")), ""},
		{"iat is not needed", f.token(header, change(t, soundAssertion, `"iat":1800000000,`, "")), ""},
		{"exp ten minutes and a second ahead", f.token(header, change(t, soundAssertion, "1800000060", "1800000601")), accesstoken.BadClaims},
		{"exp an hour ahead", f.token(header, change(t, soundAssertion, "1800000060", "1800003600")), accesstoken.BadClaims},
		{"exp in the year 9999", f.token(header, change(t, soundAssertion, "1800000060", "253402300799")), accesstoken.BadClaims},
		{"exp a string", f.token(header, change(t, soundAssertion, "1800000060", `"1800000060"`)), accesstoken.BadClaims},
		{"exp missing", f.token(header, change(t, soundAssertion, `"exp":1800000060,`, "")), accesstoken.BadClaims},
		{"exp null", f.token(header, change(t, soundAssertion, "1800000060", "null")), accesstoken.BadClaims},
		{"jti missing", f.token(header, change(t, soundAssertion, `,"jti":"assertion-1"`, "")), accesstoken.BadClaims},
		{"jti empty", f.token(header, change(t, soundAssertion, "assertion-1", "")), accesstoken.BadClaims},
		{"exp == now", f.token(header, change(t, soundAssertion, "1800000060", "1800000000")), accesstoken.Expired},
		{"exp a second ago", f.token(header, change(t, soundAssertion, "1800000060", "1799999999")), accesstoken.Expired},
		{"exp 0", f.token(header, change(t, soundAssertion, "1800000060", "0")), accesstoken.Expired},
		{"nbf 6 seconds ahead", f.token(header, change(t, soundAssertion, `"iat":1800000000`, `"nbf":1800000006`)), accesstoken.NotYetValid},
		{"signed with another key, naming it", other.token(assertionHeader(other), soundAssertion), accesstoken.WrongKey},
		{"signed with another key, naming ours", other.token(header, soundAssertion), accesstoken.BadSignature},
		{"signed with another key, naming none", other.token(`{"alg":"ES256"}`, soundAssertion), accesstoken.BadSignature},
		{"alg of another kind of key", f.token(change(t, header, "ES256", "EdDSA"), soundAssertion), accesstoken.WrongKey},
		{"alg none", encode(`{"alg":"none"}`) + "." + encode(soundAssertion) + ".", accesstoken.Malformed},
		{"a claim twice", f.token(header, change(t, soundAssertion, `"sub"`, `"sub":"client-2","sub"`)), accesstoken.Malformed},
		{"a line break after it", f.token(header, soundAssertion) + "\n", accesstoken.Malformed},
		{"a payload that is an array", f.token(header, "["+soundAssertion+"]"), accesstoken.Malformed},
		{"empty", "", accesstoken.Malformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			claims, err := accesstoken.VerifyAssertion(c.token, keys, now)
			if c.want != "" {
				wantReason(t, err, c.want)
				return
			}
			if err != nil || claims.TokenID != "assertion-1" {
				t.Fatalf("got %+v, %v", claims, err)
			}
		})
	}
	t.Run("a client without keys", func(t *testing.T) {
		_, err := accesstoken.VerifyAssertion(f.token(header, soundAssertion), accesstoken.NewKeySet(), now)
		wantReason(t, err, accesstoken.WrongKey)
	})
}

func TestAssertedSubject(t *testing.T) {
	f := newES256()
	header := assertionHeader(f)
	for name, c := range map[string]struct{ token, want string }{
		"of a sound assertion":                   {f.token(header, soundAssertion), "client-1"},
		"of one whose signature isn't looked at": {encode(header) + "." + encode(soundAssertion) + "." + encode("false"), "client-1"},
		"of one that has expired":                {f.token(header, change(t, soundAssertion, "1800000060", "1")), "client-1"},
		"of one that has none":                   {f.token(header, change(t, soundAssertion, `"sub":"client-1",`, "")), ""},
		"of one with an escape":                  {f.token(header, change(t, soundAssertion, `"sub":"client-1"`, `"sub":"client\u002d1"`)), "client-1"},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := accesstoken.AssertedSubject(c.token); err != nil || got != c.want {
				t.Fatalf("got %q, %v, want %q", got, err, c.want)
			}
		})
	}
	for name, c := range map[string]struct {
		token string
		want  accesstoken.Reason
	}{
		"an empty string":        {"", accesstoken.Malformed},
		"no JWT":                 {"client-1", accesstoken.Malformed},
		"alg none":               {encode(`{"alg":"none"}`) + "." + encode(soundAssertion) + "." + encode("x"), accesstoken.Malformed},
		"no object":              {f.token(header, `"client-1"`), accesstoken.Malformed},
		"sub twice":              {f.token(header, change(t, soundAssertion, `"sub"`, `"sub":"client-2","sub"`)), accesstoken.Malformed},
		"sub a number":           {f.token(header, change(t, soundAssertion, `"sub":"client-1"`, `"sub":1`)), accesstoken.BadClaims},
		"too long to look at it": {f.token(header, soundAssertion) + strings.Repeat("A", accesstoken.MaxLength), accesstoken.Malformed},
	} {
		t.Run("refused: "+name, func(t *testing.T) {
			_, err := accesstoken.AssertedSubject(c.token)
			wantReason(t, err, c.want)
		})
	}
}
