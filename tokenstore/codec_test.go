package tokenstore_test

import (
	"bytes"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/tinylib/msgp/msgp"

	"github.com/tokengateway/caddy-token-gateway/tokenstore"
)

// noon is a moment of whole milliseconds, as the records keep it.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 250e6, time.UTC)

// usualFamily has every field set, with values as long as they usually are.
func usualFamily() *tokenstore.Family {
	return &tokenstore.Family{
		ID:               uuid.MustParse("0195512f-5c3a-7b41-9d06-5a2f7c11e0aa"),
		ClientID:         "webshop-frontend",
		Subject:          "alice@example.com",
		GrantType:        "password",
		Scopes:           []string{"openid", "orders:read", "orders:write"},
		Audience:         []string{"https://api.example.com"},
		CredentialDigest: bytes.Repeat([]byte{0xc1}, 16),
		Generation:       4711,
		SecretHash:       [32]byte{1, 2, 3, 31: 32},
		SealedSuccessor:  bytes.Repeat([]byte{0x5e}, 52),
		AccessTokenID:    uuid.MustParse("0195512f-5c3b-7000-8000-0000000000ff"),
		AccessExpiry:     noon.Add(15 * time.Minute),
		CreatedAt:        noon.Add(-24 * time.Hour),
		RotatedAt:        noon,
		IdleExpiry:       noon.Add(7 * 24 * time.Hour),
		AbsoluteExpiry:   noon.Add(90 * 24 * time.Hour),
	}
}

func usualKey() *tokenstore.Key {
	return &tokenstore.Key{
		Use: tokenstore.SigningKey, Number: 3, Algorithm: "ES256", Material: bytes.Repeat([]byte{0x30}, 138),
		CreatedAt: noon, ActiveFrom: noon.Add(time.Hour),
	}
}

func usualRevocation() *tokenstore.Revocation {
	return &tokenstore.Revocation{
		Kind: tokenstore.RevokedSubject, ID: uuid.MustParse("0195512f-5c3a-7b41-9d06-5a2f7c11e0aa"), Name: "alice@example.com",
		IssuedUpTo: noon, ExpiresAt: noon.Add(time.Hour),
	}
}

func TestFamilyRoundTrip(t *testing.T) {
	tests := []struct {
		name   string
		change func(f *tokenstore.Family)
		want   func(f *tokenstore.Family) // what differs after the round trip; nil for nothing
	}{
		{name: "every field set", change: func(*tokenstore.Family) {}},
		{name: "no field set", change: func(f *tokenstore.Family) { *f = tokenstore.Family{} }},
		{
			name: "zero times stay zero",
			change: func(f *tokenstore.Family) {
				f.AccessExpiry, f.CreatedAt, f.RotatedAt = time.Time{}, time.Time{}, time.Time{}
				f.IdleExpiry, f.AbsoluteExpiry = time.Time{}, time.Time{}
			},
		},
		{
			name: "nil slices stay nil",
			change: func(f *tokenstore.Family) {
				f.Scopes, f.Audience, f.CredentialDigest, f.SealedSuccessor = nil, nil, nil, nil
			},
		},
		{name: "an empty scope among others", change: func(f *tokenstore.Family) { f.Scopes = []string{"a", "", "b"} }},
		{name: "more scopes than the shortest array header counts", change: func(f *tokenstore.Family) {
			f.Scopes = strings.Split(strings.Repeat("read ", 1_000), " ")
		}},
		{name: "names that are not ASCII or not even UTF-8", change: func(f *tokenstore.Family) {
			f.Subject, f.ClientID = "Åsa\x00Müller", "\xff\xfe"
		}},
		{name: "the highest generation", change: func(f *tokenstore.Family) { f.Generation = math.MaxUint32 }},
		{name: "a moment before 1970", change: func(f *tokenstore.Family) { f.CreatedAt = time.UnixMilli(-1).UTC() }},
		{
			name:   "what is less than a millisecond is cut off",
			change: func(f *tokenstore.Family) { f.RotatedAt = noon.Add(999_999 * time.Nanosecond) },
			want:   func(f *tokenstore.Family) { f.RotatedAt = noon },
		},
		{
			name:   "another time zone becomes UTC",
			change: func(f *tokenstore.Family) { f.RotatedAt = noon.In(time.FixedZone("east", 3600)) },
			want:   func(f *tokenstore.Family) { f.RotatedAt = noon },
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			family, want := usualFamily(), usualFamily()
			test.change(family)
			test.change(want)
			if test.want != nil {
				test.want(want)
			}
			got, err := tokenstore.DecodeFamily(encode(t, family))
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

func TestKeyRoundTrip(t *testing.T) {
	tests := []struct {
		name   string
		change func(k *tokenstore.Key)
		want   func(k *tokenstore.Key) // what differs after the round trip; nil for nothing
	}{
		{name: "every field set", change: func(*tokenstore.Key) {}},
		{name: "no field set", change: func(k *tokenstore.Key) { *k = tokenstore.Key{} }},
		{name: "a MAC key without an algorithm", change: func(k *tokenstore.Key) {
			k.Use, k.Algorithm, k.Material = tokenstore.MACKey, "", make([]byte, 32)
		}},
		{name: "the highest number", change: func(k *tokenstore.Key) { k.Number = math.MaxUint32 }},
		{name: "zero times stay zero", change: func(k *tokenstore.Key) { k.CreatedAt, k.ActiveFrom = time.Time{}, time.Time{} }},
		{
			name:   "empty material becomes nil",
			change: func(k *tokenstore.Key) { k.Material = []byte{} },
			want:   func(k *tokenstore.Key) { k.Material = nil },
		},
		{
			name:   "what is less than a millisecond is cut off",
			change: func(k *tokenstore.Key) { k.ActiveFrom = noon.Add(999_999 * time.Nanosecond) },
			want:   func(k *tokenstore.Key) { k.ActiveFrom = noon },
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			key, want := usualKey(), usualKey()
			test.change(key)
			test.change(want)
			if test.want != nil {
				test.want(want)
			}
			got, err := tokenstore.DecodeKey(encode(t, key))
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(&got, want) {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

func TestRevocationRoundTrip(t *testing.T) {
	tests := []struct {
		name   string
		change func(r *tokenstore.Revocation)
		want   func(r *tokenstore.Revocation) // what differs after the round trip; nil for nothing
	}{
		{name: "every field set", change: func(*tokenstore.Revocation) {}},
		{name: "nothing but a kind", change: func(r *tokenstore.Revocation) { *r = tokenstore.Revocation{Kind: tokenstore.RevokedClient} }},
		{name: "a token without a name", change: func(r *tokenstore.Revocation) { r.Kind, r.Name = tokenstore.RevokedToken, "" }},
		{name: "zero times stay zero", change: func(r *tokenstore.Revocation) { r.IssuedUpTo, r.ExpiresAt = time.Time{}, time.Time{} }},
		{
			name:   "what is less than a millisecond is cut off",
			change: func(r *tokenstore.Revocation) { r.IssuedUpTo = noon.Add(999_999 * time.Nanosecond) },
			want:   func(r *tokenstore.Revocation) { r.IssuedUpTo = noon },
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			revocation, want := usualRevocation(), usualRevocation()
			test.change(revocation)
			test.change(want)
			if test.want != nil {
				test.want(want)
			}
			got, err := tokenstore.DecodeRevocation(encode(t, revocation))
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(&got, want) {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

// records are one of each kind, with what reads them back.
var records = []struct {
	name   string
	record encoder
	decode func([]byte) (any, error)
}{
	{"a family", usualFamily(), func(b []byte) (any, error) { return tokenstore.DecodeFamily(b) }},
	{"a key", usualKey(), func(b []byte) (any, error) { k, err := tokenstore.DecodeKey(b); return &k, err }},
	{"a revocation", usualRevocation(), func(b []byte) (any, error) { r, err := tokenstore.DecodeRevocation(b); return &r, err }},
}

func TestBytesAfterARecordAreRefused(t *testing.T) {
	for _, test := range records {
		t.Run(test.name, func(t *testing.T) {
			if _, err := test.decode(append(encode(t, test.record), 0xc0)); err == nil {
				t.Error("decoded a record with a byte after it")
			}
		})
	}
}

func TestATruncatedRecordIsRefused(t *testing.T) {
	for _, test := range records {
		t.Run(test.name, func(t *testing.T) {
			encoded := encode(t, test.record)
			for n := range encoded {
				if _, err := test.decode(encoded[:n:n]); err == nil {
					t.Errorf("decoded the first %d of %d bytes", n, len(encoded))
				}
			}
		})
	}
}

// A later version's fields have names that this one doesn't know.
func TestUnknownFieldsAreSkipped(t *testing.T) {
	extras := []struct {
		name  string
		value func(b []byte) []byte
	}{
		{"a number", func(b []byte) []byte { return msgp.AppendInt64(b, -1) }},
		{"a text", func(b []byte) []byte { return msgp.AppendString(b, "later") }},
		{"nothing", msgp.AppendNil},
		{"a map of arrays", func(b []byte) []byte {
			b = msgp.AppendMapHeader(b, 1)
			b = msgp.AppendString(b, "g")
			b = msgp.AppendArrayHeader(b, 2)
			return msgp.AppendTime(msgp.AppendBytes(b, []byte{1}), noon)
		}},
	}
	for _, test := range records {
		for _, extra := range extras {
			t.Run(test.name+" with "+extra.name, func(t *testing.T) {
				fields, body, err := msgp.ReadMapHeaderBytes(encode(t, test.record))
				if err != nil {
					t.Fatal(err)
				}
				extended := msgp.AppendMapHeader(nil, fields+2)
				extended = extra.value(msgp.AppendString(extended, "zz"))
				extended = append(extended, body...)
				extended = extra.value(msgp.AppendString(extended, "q"))
				got, err := test.decode(extended)
				if err != nil {
					t.Fatal(err)
				}
				if !reflect.DeepEqual(got, test.record) {
					t.Errorf("got %+v, want %+v", got, test.record)
				}
			})
		}
	}
}

func TestHostileRecordsAreRefused(t *testing.T) {
	tests := []struct{ name, encoded string }{
		{"nothing at all", ""},
		{"not a map", "\x93\x01\x02\x03"},
		{"a map said to have four billion fields", "\xdf\xff\xff\xff\xff"},
		{"scopes said to be four billion", "\x81\xa1o\xdd\xff\xff\xff\xff"},
		{"audiences said to be many millions", "\x81\xa1a\xdd\x0f\xff\xff\xff"},
		{"an identifier that is too short", "\x81\xa1i\xc4\x0f0123456789abcde"},
		{"an identifier that is too long", "\x81\xa1i\xc4\x110123456789abcdefg"},
		{"an unknown field said to hold four billion bytes", "\x81\xa1?\xc6\xff\xff\xff\xff"},
		{"an unknown field said to hold four billion values", "\x81\xa1?\xdd\xff\xff\xff\xff"},
		{"an unknown field nested a million deep", "\x81\xa1?" + strings.Repeat("\x91", 1_000_000)},
		{"a field name that isn't a text", "\x81\x07\x07"},
		{"a kind or use above 255", "\x82\xa1k\xcd\x01\x00\xa1u\xcd\x01\x00"},
	}
	// Where the bytes happen to be a good record of one kind, they aren't asked about as that.
	good := map[string]string{
		"an identifier that is too short": "a key",
		"an identifier that is too long":  "a key",
		"a kind or use above 255":         "a family",
	}
	for _, test := range tests {
		for _, as := range records {
			if good[test.name] == as.name {
				continue
			}
			t.Run(test.name+" as "+as.name, func(t *testing.T) {
				if got, err := as.decode([]byte(test.encoded)); err == nil {
					t.Errorf("decoded as %+v", got)
				}
			})
		}
	}
}

// Every rotation writes the whole record, so that its size is a part of what a refresh costs.
func TestAUsualFamilyIsSmall(t *testing.T) {
	size := len(encode(t, usualFamily()))
	t.Logf("a usual family takes %d bytes", size)
	if size > 400 {
		t.Errorf("a usual family takes %d bytes, want at most 400", size)
	}
}

func TestExpired(t *testing.T) {
	family := &tokenstore.Family{IdleExpiry: noon, AbsoluteExpiry: noon.Add(time.Hour)}
	endless := &tokenstore.Family{IdleExpiry: noon}
	used := &tokenstore.Family{IdleExpiry: noon.Add(2 * time.Hour), AbsoluteExpiry: noon.Add(time.Hour)}
	tests := []struct {
		name   string
		family *tokenstore.Family
		now    time.Time
		want   bool
	}{
		{"before both expiries", family, noon.Add(-1), false},
		{"at the idle expiry", family, noon, true},
		{"before the idle expiry, without an absolute one", endless, noon.Add(-1), false},
		{"at the idle expiry, without an absolute one", endless, noon, true},
		{"before the absolute expiry, when the idle one is later", used, noon.Add(time.Hour - 1), false},
		{"at the absolute expiry, when the idle one is later", used, noon.Add(time.Hour), true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := test.family.Expired(test.now); got != test.want {
				t.Errorf("got %t, want %t", got, test.want)
			}
		})
	}
}

func TestKeepUntilIsTheLaterExpiry(t *testing.T) {
	tests := []struct {
		name         string
		access, idle time.Time
	}{
		{"the refresh token lives longer", noon.Add(-time.Hour), noon},
		{"the access token lives longer", noon, noon.Add(-time.Hour)},
		{"there is no access token", time.Time{}, noon},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			family := &tokenstore.Family{AccessExpiry: test.access, IdleExpiry: test.idle}
			if got := family.KeepUntil(); !got.Equal(noon) {
				t.Errorf("got %s, want %s", got, noon)
			}
		})
	}
}

type encoder interface{ Encode() ([]byte, error) }

func encode(tb testing.TB, record encoder) []byte {
	tb.Helper()
	encoded, err := record.Encode()
	if err != nil {
		tb.Fatal(err)
	}
	return encoded
}

func TestARevocationOfNoKnownKindIsRefused(t *testing.T) {
	for _, kind := range []tokenstore.RevocationKind{0, tokenstore.RevokedClient + 1, math.MaxUint8} {
		revocation := usualRevocation()
		revocation.Kind = kind
		if encoded, err := revocation.Encode(); err == nil {
			t.Errorf("kind %d was encoded as %x", kind, encoded)
		}
	}
}
