package tokenstore

import "time"

//go:generate go tool msgp -file key.go -o key_gen.go -tests=false -io=false

//msgp:shim time.Time as:int64 using:toMillis/fromMillis

// KeyUse says what a key is for.
type KeyUse uint8

// The uses of keys.
const (
	// SigningKey signs access tokens; its material is PKCS #8 DER.
	SigningKey KeyUse = 1
	// MACKey authenticates refresh tokens; its material is 32 random bytes, its number at most 255.
	MACKey KeyUse = 2
)

// Key is a secret key of the gateway.
type Key struct {
	Use KeyUse `msg:"u"`

	// Number orders the keys of one use; 1 is the first.
	Number uint32 `msg:"n"`

	// Algorithm is the JWS algorithm of a signing key (RFC 7518 §3.1), empty for others.
	Algorithm string `msg:"l,omitempty"`

	// Material is the secret itself.
	Material []byte `msg:"k"`

	// CreatedAt is when the key was made; from then on it is published.
	CreatedAt time.Time `msg:"b"`

	// ActiveFrom is when it may first be used. It is later than CreatedAt where others have to learn of the key first.
	ActiveFrom time.Time `msg:"f"`
}

// Encode returns the key's binary form, see Family.Encode.
func (k *Key) Encode() ([]byte, error) { return k.MarshalMsg(nil) }

// DecodeKey reads what Encode wrote.
func DecodeKey(encoded []byte) (Key, error) {
	var key Key
	rest, err := key.UnmarshalMsg(encoded)
	if err != nil {
		return Key{}, err
	}
	return key, trailing(rest)
}
