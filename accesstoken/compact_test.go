package accesstoken_test

import (
	"runtime"
	"strings"
	"testing"

	"github.com/tokengateway/caddy-token-gateway/accesstoken"
)

// stray sets bits of a segment's last character that no byte is made of.
func stray(segment string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, segment[len(segment)-1])
	return segment[:len(segment)-1] + string(alphabet[last|1])
}

// sized appends a member to a JSON object so that its length modulo three is as wanted: with 1 or 2 the base64 of it has
// stray bits, with 0 it has none.
func sized(object string, remainder int) string {
	for filler := ""; ; filler += "x" {
		padded := strings.TrimSuffix(object, "}") + `,"filler":"` + filler + `"}`
		if len(padded)%3 == remainder {
			return padded
		}
	}
}

func TestOneSpellingOfEachToken(t *testing.T) {
	f := newES256()
	header, payload := sized(f.header(), 1), sized(soundPayload, 2)
	h, p := encode(header), encode(payload)
	sound := f.overInput(h + "." + p)
	signature := sound[strings.LastIndexByte(sound, '.')+1:]
	f.accepts(t, sound)

	// The ÿ and the ~ make sure that both characters in which the two alphabets differ are in the segment.
	other := encode(change(t, change(t, soundPayload, "alice", "ÿ~~?>ÿ~~"), "client-1", "~~~ÿ?ÿ??"))
	f.accepts(t, f.overInput(h+"."+other))
	standard := strings.NewReplacer("-", "+", "_", "/").Replace(other)
	if !strings.Contains(standard, "+") || !strings.Contains(standard, "/") {
		t.Fatalf("the alphabets differ too little in %s", standard)
	}

	for name, token := range map[string]string{
		"row 13: changed trailing bits in the header":            f.overInput(stray(h) + "." + p),
		"row 13: changed trailing bits in the payload":           f.overInput(h + "." + stray(p)),
		"row 13: changed trailing bits in the signature":         h + "." + p + "." + stray(signature),
		"row 14: padding of the header":                          f.overInput(h + "==." + p),
		"row 14: padding of the payload":                         f.overInput(h + "." + p + "="),
		"row 14: padding of the signature":                       sound + "==",
		"row 15: the standard alphabet in the payload":           f.overInput(h + "." + standard),
		"row 16: a line feed in the header":                      f.overInput(h[:4] + "\n" + h[4:] + "." + p),
		"row 16: a line feed in the payload":                     f.overInput(h + "." + p[:4] + "\n" + p[4:]),
		"row 16: a carriage return in the payload":               f.overInput(h + "." + p[:4] + "\r" + p[4:]),
		"row 16: a line feed in the signature":                   h + "." + p + "." + signature[:4] + "\n" + signature[4:],
		"row 16: a line feed before the token":                   f.overInput("\n" + h + "." + p),
		"row 16: a line feed after the token":                    sound + "\n",
		"row 16: CRLF after the token":                           sound + "\r\n",
		"row 16: a space in the header":                          f.overInput(h[:4] + " " + h[4:] + "." + p),
		"row 16: a space in the payload":                         f.overInput(h + "." + p[:4] + " " + p[4:]),
		"row 16: a space before the token":                       f.overInput(" " + h + "." + p),
		"row 16: a space after the token":                        sound + " ",
		"row 16: a tab after the token":                          sound + "\t",
		"row 17: four segments, the third of them empty":         f.overInput(h + "." + p + "."),
		"row 17: four segments":                                  f.overInput(h + "." + p + "." + p),
		"row 17: two segments":                                   f.overInput(h),
		"row 17: a leading dot before a sound token":             f.overInput("." + h + "." + p),
		"row 17: an empty header":                                f.overInput("." + p),
		"row 17: an empty payload":                               f.overInput(h + "."),
		"row 18: five parts":                                     f.overInput(h + "." + p + "." + p + "." + p),
		"row 30: a sound object in a token of more than the cap": f.token(header, strings.TrimSuffix(payload, "}")+`,"a":"`+strings.Repeat("a", accesstoken.MaxLength)+`"}`),
		"a character outside of both alphabets":                  f.overInput(h + "." + p[:4] + "$$$$" + p[4:]),
		"a character outside of ASCII":                           f.overInput(h + "." + p[:4] + "é" + p[4:]),
		"a segment of a length that base64 can't have":           f.overInput(h[:len(h)-1] + "." + p),
	} {
		t.Run(name, func(t *testing.T) {
			f.refuses(t, token, accesstoken.Malformed)
		})
	}
}

func TestFormsThatAreNoCompactJWS(t *testing.T) {
	f := newES256()
	h, p := encode(f.header()), encode(soundPayload)
	sound := f.overInput(h + "." + p)
	signature := sound[strings.LastIndexByte(sound, '.')+1:]
	for name, token := range map[string]string{
		"row 1: an empty signature":                      h + "." + p + ".",
		"row 10: an empty signature":                     h + "." + p + ".",
		"row 17: an empty string":                        "",
		"row 17: one segment":                            h,
		"row 17: a dot":                                  ".",
		"row 17: two dots":                               "..",
		"row 17: two segments, header and payload":       h + "." + p,
		"row 17: a trailing dot":                         sound + ".",
		"row 18: a JWE":                                  encode(`{"alg":"dir","enc":"A256GCM"}`) + ".." + encode("iv") + "." + encode("text") + "." + encode("tag"),
		"row 19: the flattened JSON serialization":       `{"payload":"` + p + `","protected":"` + h + `","signature":"` + signature + `"}`,
		"row 19: the general JSON serialization":         `{"payload":"` + p + `","signatures":[{"protected":"` + h + `","signature":"` + signature + `"}]}`,
		"row 19: a JSON serialization with two dots":     `{"payload":"` + p + `","protected":"` + h + `","header":{"a":".","b":"."},"signature":"` + signature + `"}`,
		"row 19: the JSON serialization in the segments": encode(`{"payload":"`+p+`"}`) + "." + encode(`{"protected":"`+h+`"}`) + "." + signature,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := f.verify(token)
			wantReason(t, err, accesstoken.Malformed)
		})
	}
}

// ofLength is a sound token of exactly so many bytes.
func ofLength(t *testing.T, f *forger, length int) string {
	t.Helper()
	for inHeader := range 8 {
		header := strings.TrimSuffix(f.header(), "}") + `,"filler":"` + strings.Repeat("x", inHeader) + `"}`
		room := length - len(encode(header)) - len("..") - len(encode(strings.Repeat("s", 64)))
		open := strings.TrimSuffix(soundPayload, "}") + `,"filler":"`
		payload := open + strings.Repeat("x", room*3/4-len(open)-len(`"}`)) + `"}`
		if token := f.token(header, payload); len(token) == length {
			return token
		}
	}
	t.Fatalf("no token has %d bytes", length)
	return ""
}

func TestLongestToken(t *testing.T) {
	f := newES256()
	t.Run("row 30: the longest token that is looked at is accepted", func(t *testing.T) {
		f.accepts(t, ofLength(t, f, accesstoken.MaxLength))
	})
	t.Run("row 30: a sound token one byte longer is refused", func(t *testing.T) {
		f.refuses(t, ofLength(t, f, accesstoken.MaxLength+1), accesstoken.Malformed)
	})
}

func TestHugeTokenCostsNothing(t *testing.T) {
	t.Run("row 30: a token of 8 MiB is refused without an allocation of its size", func(t *testing.T) {
		f := newES256()
		keys := accesstoken.NewKeySet(f.key)
		token := f.token(f.header(), soundPayload) + strings.Repeat("A", 8<<20)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := accesstoken.Verifier{Issuer: issuer}.Verify(token, keys, now)
		runtime.ReadMemStats(&after)
		wantReason(t, err, accesstoken.Malformed)
		if got := after.TotalAlloc - before.TotalAlloc; got > 1<<20 {
			t.Fatalf("%d bytes were allocated", got)
		}
	})
}
