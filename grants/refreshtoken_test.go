package grants

import (
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// sampleKey and sampleToken make a token whose text has every character that the two alphabets of base64 write differently.
var (
	sampleKey   = macKey{id: 1, key: []byte("0123456789abcdef0123456789abcdef")}
	sampleToken = refreshToken{
		family:     uuid.MustParse("0195523c-1c00-7abc-8def-0123456789ab"),
		generation: 0x01020304,
		secret:     [secretSize]byte{0xff, 0xff, 0xfb, 0xff, 0xbf, 0xfb, 0xef, 0xbe, 0xff, 23: 0xfe},
	}
)

func sampleKeys() map[byte]macKey {
	return map[byte]macKey{1: sampleKey, 2: {id: 2, key: []byte("another key of thirty-two bytes.")}}
}

func TestARefreshTokensBytes(t *testing.T) {
	text := sampleKey.formatRefreshToken(sampleToken)
	body, found := strings.CutPrefix(text, "rt_")
	if !found {
		t.Fatalf("token %q doesn't begin with rt_", text)
	}
	raw, err := base64.RawURLEncoding.DecodeString(body)
	if err != nil {
		t.Fatal(err)
	}
	wantEqual(t, "size", len(raw), 1+1+16+4+24+16)
	wantEqual(t, "tagged bytes", hex.EncodeToString(raw[:46]),
		"01"+"01"+"0195523c1c007abc8def0123456789ab"+"01020304"+"fffffbffbffbefbeff0000000000000000000000000000fe")
	for i := range len(text) {
		if text[i] < 0x21 || text[i] > 0x7e { // RFC 6749 App. A.17
			t.Errorf("character %q", text[i])
		}
	}
}

func TestParseTellsWhatWasFormatted(t *testing.T) {
	for id, key := range sampleKeys() {
		for _, generation := range []uint32{0, 1, 255, 256, 1 << 31, 1<<32 - 1} {
			token := sampleToken
			token.generation = generation
			got, ok := parseRefreshToken(key.formatRefreshToken(token), sampleKeys())
			if !ok || got != token {
				t.Errorf("key %d, generation %d: %v %v, want %v", id, generation, got, ok, token)
			}
		}
	}
}

func TestEverySingleFlippedBitIsRefused(t *testing.T) {
	text := sampleKey.formatRefreshToken(sampleToken)
	raw, err := base64.RawURLEncoding.DecodeString(text[len("rt_"):])
	if err != nil {
		t.Fatal(err)
	}
	for i := range len(raw) * 8 {
		raw[i/8] ^= 1 << (i % 8)
		if _, ok := parseRefreshToken("rt_"+base64.RawURLEncoding.EncodeToString(raw), sampleKeys()); ok {
			t.Errorf("accepted with bit %d of byte %d flipped", i%8, i/8)
		}
		raw[i/8] ^= 1 << (i % 8)
	}
}

func TestEveryOtherCharacterIsRefused(t *testing.T) {
	text := sampleKey.formatRefreshToken(sampleToken)
	for i := range len(text) {
		for c := range 256 {
			changed := text[:i] + string([]byte{byte(c)}) + text[i+1:]
			_, ok := parseRefreshToken(changed, sampleKeys())
			if ok != (changed == text) {
				t.Errorf("%q in place %d: accepted %v", byte(c), i, ok)
			}
		}
	}
}

func TestEveryOtherLengthIsRefused(t *testing.T) {
	text := sampleKey.formatRefreshToken(sampleToken)
	for n := range len(text) {
		for _, s := range []string{text[:n], text[len(text)-n:], text + text[:n+1]} {
			if _, ok := parseRefreshToken(s, sampleKeys()); ok {
				t.Errorf("accepted %q", s)
			}
		}
	}
}

func TestNothingMayBePutIntoARefreshToken(t *testing.T) {
	text := sampleKey.formatRefreshToken(sampleToken)
	for _, extra := range []string{"=", "==", "\n", "\r", "\r\n", " ", "\x00", ".", "A"} {
		for i := range len(text) + 1 {
			inserted := text[:i] + extra + text[i:]
			if _, ok := parseRefreshToken(inserted, sampleKeys()); ok && inserted != text {
				t.Errorf("accepted with %q in place %d", extra, i)
			}
			// of the right length, with the last characters cut off
			if _, ok := parseRefreshToken(inserted[:len(text)], sampleKeys()); ok && inserted[:len(text)] != text {
				t.Errorf("accepted with %q in place %d and its end cut off", extra, i)
			}
		}
	}
}

func TestOtherSpellingsOfARefreshTokenAreRefused(t *testing.T) {
	text := sampleKey.formatRefreshToken(sampleToken)
	if !strings.Contains(text, "-") || !strings.Contains(text[3:], "_") {
		t.Fatalf("the sample %q doesn't tell the alphabets apart", text)
	}
	body := text[len("rt_"):]
	for name, spelling := range map[string]string{
		"the other alphabet": "rt_" + strings.NewReplacer("-", "+", "_", "/").Replace(body),
		"padding":            text + "=",
		"the prefix's case":  "RT_" + body,
		"no prefix":          body,
		"the prefix twice":   "rt_" + text,
		"percent encoding":   strings.Replace(text, "_", "%5F", 1),
		"hexadecimal":        "rt_" + hex.EncodeToString([]byte(body)),
	} {
		if _, ok := parseRefreshToken(spelling, sampleKeys()); ok {
			t.Errorf("%s: accepted %q", name, spelling)
		}
	}
}

func TestARefreshTokenNeedsTheKeyThatItNames(t *testing.T) {
	text := sampleKey.formatRefreshToken(sampleToken)
	otherKey := macKey{id: 1, key: []byte("fedcba9876543210fedcba9876543210")}
	for name, keys := range map[string]map[byte]macKey{
		"no keys":                    nil,
		"another key of this number": {1: otherKey},
		"the key by another number":  {2: sampleKey},
	} {
		if _, ok := parseRefreshToken(text, keys); ok {
			t.Errorf("%s: accepted", name)
		}
	}
	wrongVersion := func() string {
		raw, _ := base64.RawURLEncoding.DecodeString(text[len("rt_"):])
		raw[0] = 2
		raw = append(raw[:taggedSize], sampleKey.tag(raw[:taggedSize])...)
		return "rt_" + base64.RawURLEncoding.EncodeToString(raw)
	}()
	if _, ok := parseRefreshToken(wrongVersion, sampleKeys()); ok {
		t.Error("a token of another version is accepted, though its tag is right")
	}
}

func TestATagThatEndsInAZeroByteHasNoSecondSpelling(t *testing.T) {
	token := sampleToken
	text := sampleKey.formatRefreshToken(token)
	for !zeroAtTheEnd(t, text) {
		token.generation++
		text = sampleKey.formatRefreshToken(token)
	}
	for _, lineBreak := range []string{"\n", "\r"} { // the decoder skips them, and leaves the last byte as it was: zero
		if _, ok := parseRefreshToken(text[:len(text)-1]+lineBreak, sampleKeys()); ok {
			t.Errorf("accepted with %q in place of its last character", lineBreak)
		}
	}
}

func zeroAtTheEnd(t *testing.T, text string) bool {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(text[len("rt_"):])
	if err != nil {
		t.Fatal(err)
	}
	return raw[len(raw)-1] == 0
}
