package grants

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
)

// A successor is sealed to its predecessor: only who has the predecessor's secret can read the successor's. So the store
// can hold it for the grace window and still yields no token to who steals the store.

// seal returns the successor's secret, encrypted under a key made of its predecessor.
func seal(predecessor refreshToken, successor [secretSize]byte) ([]byte, error) {
	aead, err := successorCipher(predecessor)
	if err != nil {
		return nil, err
	}
	return aead.Seal(nil, nil, successor[:], nil), nil //nolint:gosec // this AEAD makes its nonces itself
}

// unseal returns what seal sealed; an error if it was sealed to another token.
func unseal(predecessor refreshToken, sealed []byte) (successor [secretSize]byte, err error) {
	aead, err := successorCipher(predecessor)
	if err != nil {
		return successor, err
	}
	opened, err := aead.Open(nil, nil, sealed, nil)
	if err != nil || len(opened) != secretSize {
		return successor, errors.New("the successor was sealed to another token")
	}
	return [secretSize]byte(opened), nil
}

// successorCipher is AES-256-GCM with a random nonce in front of the ciphertext.
func successorCipher(predecessor refreshToken) (cipher.AEAD, error) {
	purpose := fmt.Sprintf("refresh token successor %s %d", predecessor.family, predecessor.generation)
	key, err := hkdf.Key(sha256.New, predecessor.secret[:], nil, purpose, 32)
	if err != nil {
		return nil, fmt.Errorf("deriving the successor's key: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}
