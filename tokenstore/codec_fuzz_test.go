package tokenstore_test

import (
	"bytes"
	"testing"

	"github.com/tokengateway/caddy-token-gateway/tokenstore"
)

// The fuzzers ask the same of every record: whatever the bytes, decoding doesn't panic, and what was decoded is the same
// after it was encoded and decoded again. The same means the same encoding: it tells all values apart, save a nil slice
// from an empty one.

func FuzzDecodeFamily(f *testing.F) {
	addSeeds(f, usualFamily(), new(tokenstore.Family))
	f.Fuzz(func(t *testing.T, encoded []byte) {
		decoded, err := tokenstore.DecodeFamily(encoded)
		if err != nil {
			return
		}
		first := withoutEmptySlices(decoded)
		again, err := tokenstore.DecodeFamily(encode(t, first))
		if err != nil {
			t.Fatalf("decoding what was encoded: %v", err)
		}
		if second := withoutEmptySlices(again); !bytes.Equal(encode(t, second), encode(t, first)) {
			t.Errorf("got %+v, want %+v", second, first)
		}
	})
}

func FuzzDecodeKey(f *testing.F) {
	addSeeds(f, usualKey(), new(tokenstore.Key))
	f.Fuzz(func(t *testing.T, encoded []byte) {
		decoded, err := tokenstore.DecodeKey(encoded)
		if err != nil {
			return
		}
		again, err := tokenstore.DecodeKey(encode(t, &decoded))
		if err != nil {
			t.Fatalf("decoding what was encoded: %v", err)
		}
		if !bytes.Equal(encode(t, &again), encode(t, &decoded)) {
			t.Errorf("got %+v, want %+v", again, decoded)
		}
	})
}

func FuzzDecodeRevocation(f *testing.F) {
	addSeeds(f, usualRevocation(), &tokenstore.Revocation{Kind: tokenstore.RevokedToken})
	f.Fuzz(func(t *testing.T, encoded []byte) {
		decoded, err := tokenstore.DecodeRevocation(encoded)
		if err != nil {
			return
		}
		again, err := tokenstore.DecodeRevocation(encode(t, &decoded))
		if err != nil {
			t.Fatalf("decoding what was encoded: %v", err)
		}
		if again != decoded {
			t.Errorf("got %+v, want %+v", again, decoded)
		}
	})
}

func addSeeds(f *testing.F, records ...encoder) {
	for _, record := range records {
		encoded := encode(f, record)
		f.Add(encoded)
		f.Add(encoded[:len(encoded)/2])
		f.Add(append(encoded, 0xc0))
	}
	f.Add([]byte{})
	f.Add([]byte("\x80"))
	f.Add([]byte("\x81\xa1o\xdd\xff\xff\xff\xff"))
}

// withoutEmptySlices returns the family with nil for the empty slices that are left out of the encoding when they are nil.
func withoutEmptySlices(family *tokenstore.Family) *tokenstore.Family {
	if len(family.CredentialDigest) == 0 {
		family.CredentialDigest = nil
	}
	if len(family.SealedSuccessor) == 0 {
		family.SealedSuccessor = nil
	}
	return family
}
