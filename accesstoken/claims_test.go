package accesstoken_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tokengateway/caddy-token-gateway/accesstoken"
)

func TestClaimsAreRead(t *testing.T) {
	f := newES256()
	c := f.accepts(t, f.token(f.header(), soundPayload))
	for _, field := range []struct{ name, got, want string }{
		{"iss", c.Issuer, issuer},
		{"sub", c.Subject, "alice"},
		{"client_id", c.ClientID, "client-1"},
		{"aut", c.UserType, "APPLICATION_USER"},
		{"jti", c.TokenID, "token-1"},
		{"sid", c.FamilyID, "family-1"},
		{"aud", strings.Join(c.Audience, "|"), "client-1"},
		{"scope", strings.Join(c.Scopes, "|"), "read|write"},
	} {
		if field.got != field.want {
			t.Errorf("%s is %q, want %q", field.name, field.got, field.want)
		}
	}
	if !c.IssuedAt.Equal(now.Add(-10*time.Second)) || !c.NotBefore.Equal(now.Add(-10*time.Second)) || !c.Expiry.Equal(now.Add(time.Hour)) {
		t.Errorf("iat %v, nbf %v, exp %v", c.IssuedAt, c.NotBefore, c.Expiry)
	}
}

func TestOptionalClaimsMayBeMissing(t *testing.T) {
	f := newES256()
	c := f.accepts(t, f.token(f.header(), `{"iss":"https://issuer.example","sub":"s","aud":"a","client_id":"c","iat":0,"exp":1800000001,"jti":"j"}`))
	if c.UserType != "" || c.FamilyID != "" || c.Scopes != nil || !c.NotBefore.IsZero() {
		t.Fatalf("claims that are not in the token are %q, %q, %q, %v", c.UserType, c.FamilyID, c.Scopes, c.NotBefore)
	}
}

func TestPayloadsThatAreNoSoundObject(t *testing.T) {
	f := newES256()
	member := func(text string) string { return strings.TrimSuffix(soundPayload, "}") + "," + text + "}" }
	for name, payload := range map[string]string{
		"row 23: exp twice, the good one last":             change(t, soundPayload, `"exp"`, `"exp":1,"exp"`),
		"row 23: exp twice, the good one first":            member(`"exp":9999999999`),
		"row 23: sub twice":                                member(`"sub":"admin"`),
		"row 23: sub twice, once with an escape":           member(`"s\u0075b":"admin"`),
		"row 23: an unknown claim twice":                   member(`"x":1,"x":1`),
		"row 23: a member twice within a claim":            member(`"x":{"y":1,"y":1}`),
		"row 23: a member twice in an array of objects":    member(`"x":[{"y":1,"y":1}]`),
		"row 25: a brace after the claims":                 soundPayload + "}",
		"row 25: a second object after the claims":         soundPayload + soundPayload,
		"row 25: garbage after the claims":                 soundPayload + "garbage",
		"row 25: NUL after the claims":                     soundPayload + "\x00",
		"row 25: garbage before the claims":                "x" + soundPayload,
		"row 26: invalid UTF-8 in a claim that is read":    change(t, soundPayload, "alice", "alice\xff"),
		"row 26: invalid UTF-8 in a claim that isn't read": member("\"x\":\"\xff\""),
		"row 26: invalid UTF-8 in a name":                  member("\"\xff\":1"),
		"row 26: an overlong slash":                        change(t, soundPayload, "alice", "\xc0\xaf"),
		"row 26: a surrogate in UTF-8":                     change(t, soundPayload, "alice", "\xed\xa0\x80"),
		"row 26: half a surrogate pair as an escape":       change(t, soundPayload, "alice", `\ud800`),
		"row 26: a byte order mark":                        "\ufeff" + soundPayload,
		"row 26: UTF-16":                                   "\xff\xfe{\x00}\x00",
		"row 27: an array":                                 "[" + soundPayload + "]",
		"row 27: an empty array":                           `[]`,
		"row 27: a string":                                 `"alice"`,
		"row 27: a number":                                 `1`,
		"row 27: true":                                     `true`,
		"row 27: null":                                     `null`,
		"row 27: white space":                              ` `,
		"row 29: nested deeper than 32":                    member(`"x":` + nested(32)),
		"row 29: nested deeper than 32 in objects":         member(`"x":` + strings.Repeat(`{"x":`, 32) + "1" + strings.Repeat("}", 32)),
		"row 29: nested as deep as it can be":              member(`"x":` + nested(5000)),
		"row 29: nested without an end":                    member(`"x":` + strings.Repeat("[", 10000)),
		"row 46: exp NaN":                                  change(t, soundPayload, "1800003600", "NaN"),
		"row 46: exp Infinity":                             change(t, soundPayload, "1800003600", "Infinity"),
		"exp with leading zeros":                           change(t, soundPayload, "1800003600", "01800003600"),
		"exp in hexadecimal":                               change(t, soundPayload, "1800003600", "0x6b49d200"),
		"exp with a plus":                                  change(t, soundPayload, "1800003600", "+1800003600"),
		"a control character in a string":                  change(t, soundPayload, "alice", "al\nice"),
		"an unknown escape":                                change(t, soundPayload, "alice", `al\xice`),
		"a name without quotes":                            member(`x:1`),
		"single quotes":                                    member(`'x':1`),
		"a comma too many":                                 strings.TrimSuffix(soundPayload, "}") + ",}",
		"cut off":                                          strings.TrimSuffix(soundPayload, "}"),
	} {
		t.Run(name, func(t *testing.T) {
			f.refuses(t, f.token(f.header(), payload), accesstoken.Malformed)
		})
	}
}

func TestNestedJWT(t *testing.T) {
	f := newES256()
	inner := f.token(f.header(), soundPayload)
	f.accepts(t, inner)
	outer := strings.TrimSuffix(f.header(), "}") + `,"cty":"JWT"}`
	for name, payload := range map[string]string{
		"row 28: a nested JWT":                  inner,
		"row 28: a nested JWT as a JSON string": `"` + inner + `"`,
	} {
		t.Run(name, func(t *testing.T) {
			f.refuses(t, f.token(outer, payload), accesstoken.Malformed)
		})
	}
}

func TestDepthThatIsAccepted(t *testing.T) {
	f := newES256()
	t.Run("row 29: nested 32 deep", func(t *testing.T) {
		f.accepts(t, f.token(f.header(), strings.TrimSuffix(soundPayload, "}")+`,"x":`+nested(31)+"}"))
	})
}

func TestClaimsOfTheWrongType(t *testing.T) {
	f := newES256()
	for claim, sound := range map[string]string{
		"iss": `"https://issuer.example"`, "sub": `"alice"`, "client_id": `"client-1"`, "aut": `"APPLICATION_USER"`,
		"jti": `"token-1"`, "scope": `"read write"`, "sid": `"family-1"`,
	} {
		row := ""
		if claim == "sub" || claim == "client_id" {
			row = "row 55: "
		}
		for _, wrong := range []string{"null", "true", "1", "{}", "[]", `["alice"]`} {
			t.Run(row+claim+" is "+wrong, func(t *testing.T) {
				payload := change(t, soundPayload, `"`+claim+`":`+sound, `"`+claim+`":`+wrong)
				f.refuses(t, f.token(f.header(), payload), accesstoken.BadClaims)
			})
		}
	}
}

func TestRequiredClaims(t *testing.T) {
	f := newES256()
	for name, without := range map[string]string{
		"row 55: sub missing":       `"sub":"alice",`,
		"row 55: client_id missing": `"client_id":"client-1",`,
		"row 42: exp missing":       `"exp":1800003600,`,
		"jti missing":               `"jti":"token-1",`,
		"iat missing":               `"iat":1799999990,`,
		"aud missing":               `"aud":"client-1",`,
	} {
		t.Run(name, func(t *testing.T) {
			f.refuses(t, f.token(f.header(), change(t, soundPayload, without, "")), accesstoken.BadClaims)
		})
	}
	for name, edit := range map[string][2]string{
		"row 55: sub empty":       {`"sub":"alice"`, `"sub":""`},
		"row 55: client_id empty": {`"client_id":"client-1"`, `"client_id":""`},
		"jti empty":               {`"jti":"token-1"`, `"jti":""`},
		"row 24: EXP for exp":     {`"exp"`, `"EXP"`},
		"row 24: Exp for exp":     {`"exp"`, `"Exp"`},
		"row 24: Sub for sub":     {`"sub"`, `"Sub"`},
		"row 24: clientId":        {`"client_id"`, `"clientId"`},
		"row 24: exp and a space": {`"exp"`, `"exp "`},
		"row 24: exp and NUL":     {`"exp"`, `"exp\u0000"`},
	} {
		t.Run(name, func(t *testing.T) {
			f.refuses(t, f.token(f.header(), change(t, soundPayload, edit[0], edit[1])), accesstoken.BadClaims)
		})
	}
	t.Run("iss missing", func(t *testing.T) {
		f.refuses(t, f.token(f.header(), change(t, soundPayload, `"iss":"https://issuer.example",`, "")), accesstoken.WrongIssuer)
	})
	t.Run("an empty object", func(t *testing.T) {
		f.refuses(t, f.token(f.header(), "{}"), accesstoken.WrongIssuer)
	})
}

func TestNamesOfClaimsAreExact(t *testing.T) {
	f := newES256()
	t.Run("row 24: EXP doesn't put off exp", func(t *testing.T) {
		f.refuses(t, f.token(f.header(), change(t, soundPayload, `"exp":1800003600`, `"exp":1799999999,"EXP":1800003600,"Exp":1800003600`)), accesstoken.Expired)
	})
	t.Run("row 24: a SUB of any type doesn't stand in for sub", func(t *testing.T) {
		c := f.accepts(t, f.token(f.header(), strings.TrimSuffix(soundPayload, "}")+`,"SUB":{},"Sub":"admin","EXP":"never"}`))
		if c.Subject != "alice" {
			t.Fatalf("sub is %q", c.Subject)
		}
	})
	t.Run("an escaped name is the name that it spells", func(t *testing.T) {
		c := f.accepts(t, f.token(f.header(), change(t, soundPayload, `"sub":"alice"`, `"\u0073ub":"\u0061lice"`)))
		if c.Subject != "alice" {
			t.Fatalf("sub is %q", c.Subject)
		}
	})
}

func TestAudience(t *testing.T) {
	f := newES256()
	with := func(t *testing.T, aud string) string {
		t.Helper()
		return f.token(f.header(), change(t, soundPayload, `"aud":"client-1"`, `"aud":`+aud))
	}
	for name, c := range map[string]struct {
		aud  string
		want []string
	}{
		"row 50: a string":                   {`"a"`, []string{"a"}},
		"row 50: an array of one":            {`["a"]`, []string{"a"}},
		"row 50: an array of three":          {`["a","b","a"]`, []string{"a", "b", "a"}},
		"row 51: a slash at the end is kept": {`"https://api.example/"`, []string{"https://api.example/"}},
		"row 51: capitals are kept":          {`"https://API.example"`, []string{"https://API.example"}},
		"row 51: a homoglyph is kept":        {`"https://\u0430pi.example"`, []string{"https://\u0430pi.example"}},
		"an escape is undone":                {`["\"\\\u00e9"]`, []string{"\"\\é"}},
		"a comma doesn't part audiences":     {`"a,b"`, []string{"a,b"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := f.accepts(t, with(t, c.aud)).Audience; !slices.Equal(got, c.want) {
				t.Fatalf("audience %q, want %q", got, c.want)
			}
		})
	}
	for _, aud := range []string{
		`1`, `null`, `true`, `{}`, `{"a":"b"}`, `[]`, `""`, `[""]`, `["a",""]`, `["a",1]`, `[1]`, `[null]`, `["a",["b"]]`, `[["a"]]`, `["a",{}]`,
	} {
		t.Run("row 50: refused is "+aud, func(t *testing.T) {
			f.refuses(t, with(t, aud), accesstoken.BadClaims)
		})
	}
}

func TestScopes(t *testing.T) {
	f := newES256()
	for name, c := range map[string]struct {
		scope string
		want  []string
	}{
		"one":                             {`"read"`, []string{"read"}},
		"row 54: read is not readonly":    {`"readonly"`, []string{"readonly"}},
		"row 54: two spaces":              {`"read  write"`, []string{"read", "write"}},
		"row 54: spaces before and after": {`" read "`, []string{"read"}},
		"row 54: a comma doesn't part":    {`"read,write"`, []string{"read,write"}},
		"none":                            {`""`, nil},
		"nothing but spaces":              {`"   "`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got := f.accepts(t, f.token(f.header(), change(t, soundPayload, `"read write"`, c.scope))).Scopes
			if !slices.Equal(got, c.want) {
				t.Fatalf("scopes %q, want %q", got, c.want)
			}
		})
	}
}

func TestLookup(t *testing.T) {
	f := newES256()
	extra := `,"text":"t\"x\\y\u00e9","empty":"","number":-12.50e+3,"big":123456789012345678901234567890,"yes":true,"no":false,` +
		`"nothing":null,"list":["a","b","c"],"one":["a"],"none":[],"mixed":["a",1],"deep":[["a"]],"object":{"text":"inner"},` +
		`"https://claims.example/tenant.id":"url","a.b":"dots","a":{"b":"nested"},"tex\u0074s":"escaped"}`
	c := f.accepts(t, f.token(f.header(), strings.TrimSuffix(soundPayload, "}")+extra))
	for name, want := range map[string]string{
		"sub": "alice", "aud": "client-1", "exp": "1800003600", "scope": "read write", "azp": "client-1",
		"text": `t"x\yé`, "empty": "", "number": "-12.50e+3", "big": "123456789012345678901234567890",
		"yes": "true", "no": "false", "list": "a,b,c", "one": "a", "none": "",
		"https://claims.example/tenant.id": "url", "a.b": "dots", "texts": "escaped",
	} {
		t.Run("finds "+name, func(t *testing.T) {
			if got, ok := c.Lookup(name); !ok || got != want {
				t.Fatalf("got %q, %t, want %q", got, ok, want)
			}
		})
	}
	for _, name := range []string{"", "missing", "Text", "TEXT", "nothing", "mixed", "deep", "object", "a", "object.text", "b", "inner", "sub "} {
		t.Run("doesn't find "+name, func(t *testing.T) {
			if got, ok := c.Lookup(name); ok || got != "" {
				t.Fatalf("got %q, %t, want nothing", got, ok)
			}
		})
	}
	t.Run("finds nothing in claims that were not read from a token", func(t *testing.T) {
		if got, ok := (&accesstoken.Claims{Subject: "alice"}).Lookup("sub"); ok {
			t.Fatalf("got %q", got)
		}
	})
}

func TestDates(t *testing.T) {
	f := newES256()
	with := func(t *testing.T, claim, value string) string {
		t.Helper()
		sound := map[string]string{"iat": "1799999990", "nbf": "1799999990", "exp": "1800003600"}[claim]
		return f.token(f.header(), change(t, soundPayload, `"`+claim+`":`+sound, `"`+claim+`":`+value))
	}
	for _, claim := range []string{"iat", "nbf", "exp"} {
		for _, c := range []struct{ row, value string }{
			{"row 43: ", "null"}, {"row 43: ", "true"}, {"row 43: ", "false"}, {"row 43: ", "{}"}, {"row 43: ", "[1800003600]"},
			{"row 43: ", "-1"}, {"row 43: ", "-0.5"}, {"row 43: ", "-1800003600"},
			{"row 44: ", `"1800003600"`}, {"row 44: ", `"2030-01-01T00:00:00Z"`}, {"row 44: ", `""`},
			{"row 46: ", "1e400"}, {"row 46: ", "-1e400"}, {"row 46: ", "9223372036854775807"}, {"row 46: ", "9223372036854775808"},
			{"row 46: ", "18446744073709551615"}, {"row 46: ", "18446744073709551616"}, {"row 46: ", "1e308"}, {"row 46: ", "253402300800"},
			{"row 46: ", "1" + strings.Repeat("0", 1000)},
		} {
			t.Run(c.row+claim+" is "+c.value[:min(len(c.value), 30)], func(t *testing.T) {
				f.refuses(t, with(t, claim, c.value), accesstoken.BadClaims)
			})
		}
	}
	for value, want := range map[string]int64{
		"1800003600.0": 1800003600, "1800003600.999": 1800003600, "1.8000036e9": 1800003600, "18000036000e-1": 1800003600,
		"1800000001.5": 1800000001, "1.8000036005e9": 1800003600,
	} {
		t.Run("row 45: exp is "+value, func(t *testing.T) {
			if got := f.accepts(t, with(t, "exp", value)).Expiry.Unix(); got != want {
				t.Fatalf("exp is %d, want %d", got, want)
			}
		})
	}
	t.Run("row 45: a fraction of a second is no reprieve", func(t *testing.T) {
		f.refuses(t, with(t, "exp", "1800000000.999"), accesstoken.Expired)
	})
}
