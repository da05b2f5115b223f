package grants

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strings"

	"github.com/google/uuid"
)

// The parts of a refresh token, in bytes: version, key ID, family, generation, secret, tag.
const (
	refreshTokenPrefix  = "rt_"
	refreshTokenVersion = 1

	secretSize = 24
	tagSize    = 16
	taggedSize = 1 + 1 + 16 + 4 + secretSize
)

var refreshTokenEncoding = base64.RawURLEncoding.Strict()

var refreshTokenLength = len(refreshTokenPrefix) + refreshTokenEncoding.EncodedLen(taggedSize+tagSize)

// refreshToken is what a refresh token says. Its tag proves that the gateway made it, whatever the store remembers.
type refreshToken struct {
	family     uuid.UUID
	generation uint32
	secret     [secretSize]byte
}

// secretHash is what the store keeps of the secret. Having 192 random bits it needs no slow hash.
func (t refreshToken) secretHash() [sha256.Size]byte { return sha256.Sum256(t.secret[:]) }

// macKey authenticates refresh tokens.
type macKey struct {
	id  byte
	key []byte
}

func (k macKey) tag(tagged []byte) []byte {
	mac := hmac.New(sha256.New, k.key)
	mac.Write(tagged)
	return mac.Sum(nil)[:tagSize]
}

// formatRefreshToken writes a refresh token as clients get it.
func (k macKey) formatRefreshToken(t refreshToken) string {
	b := make([]byte, 0, taggedSize+tagSize)
	b = append(b, refreshTokenVersion, k.id)
	b = append(b, t.family[:]...)
	b = binary.BigEndian.AppendUint32(b, t.generation)
	b = append(b, t.secret[:]...)
	b = append(b, k.tag(b)...)
	return refreshTokenPrefix + refreshTokenEncoding.EncodeToString(b)
}

// parseRefreshToken reads a refresh token and checks its tag. False means that the gateway never made it.
func parseRefreshToken(s string, keys map[byte]macKey) (t refreshToken, ok bool) {
	if len(s) != refreshTokenLength || !strings.HasPrefix(s, refreshTokenPrefix) {
		return t, false
	}
	var buffer [taggedSize + tagSize]byte
	// The decoder skips line breaks; with one, a token of this length has too few bytes.
	n, err := refreshTokenEncoding.Decode(buffer[:], []byte(s[len(refreshTokenPrefix):]))
	if err != nil || n != len(buffer) || buffer[0] != refreshTokenVersion {
		return t, false
	}
	key, ok := keys[buffer[1]]
	if !ok || !hmac.Equal(key.tag(buffer[:taggedSize]), buffer[taggedSize:]) {
		return t, false
	}
	copy(t.family[:], buffer[2:])
	t.generation = binary.BigEndian.Uint32(buffer[18:])
	copy(t.secret[:], buffer[22:])
	return t, true
}
