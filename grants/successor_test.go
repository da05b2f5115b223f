package grants

import (
	"bytes"
	"testing"

	"github.com/google/uuid"
)

func TestASealedSuccessorOpensForItsPredecessorOnly(t *testing.T) {
	successor := [secretSize]byte{1, 2, 3, 23: 4}
	sealed, err := seal(sampleToken, successor)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := unseal(sampleToken, sealed)
	if err != nil {
		t.Fatal(err)
	}
	wantEqual(t, "successor", opened, successor)

	otherFamily, otherGeneration, otherSecret := sampleToken, sampleToken, sampleToken
	otherFamily.family = uuid.Must(uuid.NewV7())
	otherGeneration.generation++
	otherSecret.secret[0] ^= 1
	for name, token := range map[string]refreshToken{
		"a token of another family": otherFamily, "a token of another generation": otherGeneration,
		"a token with another secret": otherSecret, "the successor itself": {family: sampleToken.family, secret: successor},
	} {
		if opened, err := unseal(token, sealed); err == nil {
			t.Errorf("%s opens it: %x", name, opened)
		}
	}
}

func TestADamagedSealedSuccessorIsRefused(t *testing.T) {
	sealed, err := seal(sampleToken, [secretSize]byte{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range sealed {
		damaged := bytes.Clone(sealed)
		damaged[i] ^= 0x80
		if _, err := unseal(sampleToken, damaged); err == nil {
			t.Errorf("opened with byte %d changed", i)
		}
		if _, err := unseal(sampleToken, sealed[:i]); err == nil {
			t.Errorf("opened with %d of %d bytes", i, len(sealed))
		}
	}
	if _, err := unseal(sampleToken, append(sealed, 0)); err == nil {
		t.Error("opened with a byte more")
	}
	if _, err := unseal(sampleToken, nil); err == nil {
		t.Error("opened where there is none")
	}
}

func TestASealedSecretOfAnotherSizeIsNoSuccessor(t *testing.T) {
	aead, err := successorCipher(sampleToken)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{0, secretSize - 1, secretSize + 1} {
		if _, err := unseal(sampleToken, aead.Seal(nil, nil, make([]byte, size), nil)); err == nil {
			t.Errorf("opened %d bytes", size)
		}
	}
}

func TestNoTwoSealsAreAlike(t *testing.T) {
	successor := [secretSize]byte{1, 2, 3}
	seen := map[string]bool{}
	for range 100 {
		sealed, err := seal(sampleToken, successor)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(sealed, successor[:]) {
			t.Fatal("the secret is there to be read")
		}
		seen[string(sealed)] = true
	}
	wantEqual(t, "different seals", len(seen), 100)
}
