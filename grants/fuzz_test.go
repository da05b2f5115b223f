package grants

import (
	"encoding/base64"
	"slices"
	"strings"
	"testing"
)

// FuzzParseRefreshToken: there is one spelling of a token that is accepted, the one that it is formatted as.
func FuzzParseRefreshToken(f *testing.F) {
	good := sampleKey.formatRefreshToken(sampleToken)
	for _, seed := range []string{
		"", "rt_", good, good + "=", good + "\n", good[:len(good)-1] + "\n", good[:40] + "\r\n" + good[42:],
		strings.NewReplacer("-", "+").Replace(good), strings.ToLower(good), good[3:], sampleKeys()[2].formatRefreshToken(refreshToken{}),
	} {
		f.Add(seed)
	}
	keys := sampleKeys()
	formats := func(token refreshToken) []string {
		return []string{keys[1].formatRefreshToken(token), keys[2].formatRefreshToken(token)}
	}
	f.Fuzz(func(t *testing.T, text string) {
		if token, ok := parseRefreshToken(text, keys); ok && !slices.Contains(formats(token), text) {
			t.Errorf("%q is accepted and formatted as %q", text, formats(token))
		}
		// The same bytes with their tag put right: no guess gets past the tag.
		raw, _ := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(text, refreshTokenPrefix))
		if len(raw) < taggedSize {
			return
		}
		raw = raw[:taggedSize]
		key, known := keys[raw[1]]
		tagged := refreshTokenPrefix + base64.RawURLEncoding.EncodeToString(append(raw, key.tag(raw)...))
		token, ok := parseRefreshToken(tagged, keys)
		if want := known && raw[0] == refreshTokenVersion; ok != want {
			t.Errorf("%q: accepted %v, want %v", tagged, ok, want)
		}
		if ok && key.formatRefreshToken(token) != tagged {
			t.Errorf("%q is accepted and formatted as %q", tagged, key.formatRefreshToken(token))
		}
	})
}

// FuzzParseScope: what is accepted is a list of valid scopes, each once, that is written and read back as it is.
func FuzzParseScope(f *testing.F) {
	for _, seed := range []string{"", "read", "read write", "read  write", " read", "read ", "a\"b", `a\b`, "läs", "a\x00", "a a a", "\t"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, parameter string) {
		scopes, refused := parseScope(parameter)
		if refused != nil {
			if scopes != nil || refused.Code != InvalidScope {
				t.Fatalf("%q: %q and %v", parameter, scopes, refused)
			}
			if !slices.ContainsFunc(strings.Split(parameter, " "), func(s string) bool { return !ValidScope(s) }) {
				t.Errorf("%q is refused, though all its scopes are valid", parameter)
			}
			return
		}
		if (scopes == nil) != (parameter == "") {
			t.Errorf("%q gives %q", parameter, scopes)
		}
		for i, scope := range scopes {
			if !ValidScope(scope) || slices.Contains(scopes[:i], scope) {
				t.Errorf("%q gives %q", parameter, scopes)
			}
		}
		if again, refused := parseScope(strings.Join(scopes, " ")); refused != nil || !slices.Equal(again, scopes) {
			t.Errorf("%q gives %q and then %q, %v", parameter, scopes, again, refused)
		}
		asked := strings.Fields(parameter)
		if subset(asked, scopes) != subset(scopes, asked) || !subset(asked, scopes) {
			t.Errorf("%q gives %q", parameter, scopes)
		}
	})
}
