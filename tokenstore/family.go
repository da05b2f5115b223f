package tokenstore

import (
	"time"

	"github.com/google/uuid"
)

//go:generate go tool msgp -file family.go -o family_gen.go -tests=false -io=false

// Times are kept to the millisecond, as Unix time; the zero time is kept as 0.
// A damaged record can't make the reader ask for more memory than there is.
//msgp:limit arrays:4096 maps:64

//msgp:shim time.Time as:int64 using:toMillis/fromMillis
//msgp:replace uuid.UUID with:[16]byte

// Family is everything that descends from one authorization: one refresh token at a time and the access tokens minted
// with it. It stays one record, however often it rotates. Users of the gateway see it as a session.
type Family struct {
	// ID is a UUIDv7. Access tokens of the family carry it as sid.
	ID uuid.UUID `msg:"i"`

	// ClientID names the client that the family was given to. Nobody else may use it.
	ClientID string `msg:"c"`

	// Subject is who the tokens speak for.
	Subject string `msg:"s"`

	// GrantType is the grant that the family began with.
	GrantType string `msg:"t"`

	// Scopes is the full granted scope; no refresh can widen or narrow it for good (RFC 6749 §6).
	Scopes []string `msg:"o"`

	// Audience is what the access tokens may be meant for (RFC 8707).
	Audience []string `msg:"a"`

	// CredentialDigest identifies the password that the family was begun with, so that a new password ends it. Empty
	// where there was none.
	CredentialDigest []byte `msg:"v,omitempty"`

	// Generation says how many times the family has rotated.
	Generation uint32 `msg:"g"`

	// SecretHash is the SHA-256 of the current refresh token's secret.
	SecretHash [32]byte `msg:"h"`

	// SealedSuccessor holds the current refresh token's secret, sealed under a key that only the holder of its
	// predecessor has. Empty where there is no grace window.
	SealedSuccessor []byte `msg:"n,omitempty"`

	// AccessTokenID is the jti of the access token that the newest rotation minted.
	AccessTokenID uuid.UUID `msg:"j"`

	// AccessExpiry is when the last access token of the family will have expired.
	AccessExpiry time.Time `msg:"x"`

	// CreatedAt and RotatedAt are when the family began and when it last rotated.
	CreatedAt time.Time `msg:"b"`
	RotatedAt time.Time `msg:"r"`

	// IdleExpiry is when the current refresh token expires if it isn't used; every rotation moves it.
	IdleExpiry time.Time `msg:"e"`

	// AbsoluteExpiry is when the family ends whatever happens; nothing moves it. Zero means never.
	AbsoluteExpiry time.Time `msg:"m"`
}

// Expired reports whether the family's refresh token has expired, be it idle or absolutely.
func (f *Family) Expired(now time.Time) bool {
	return !now.Before(f.IdleExpiry) || !f.AbsoluteExpiry.IsZero() && !now.Before(f.AbsoluteExpiry)
}

// KeepUntil is when the family may be forgotten: nothing that was given out under it is good any more. A store may keep
// it longer.
func (f *Family) KeepUntil() time.Time {
	if f.AccessExpiry.After(f.IdleExpiry) {
		return f.AccessExpiry
	}
	return f.IdleExpiry
}

// Encode returns the family's binary form: a MessagePack map with names of one letter, so that a later version can add a
// field and still read what this one wrote.
func (f *Family) Encode() ([]byte, error) { return f.MarshalMsg(make([]byte, 0, f.Msgsize())) }

// DecodeFamily reads what Encode wrote. The error says what is wrong with the bytes.
func DecodeFamily(encoded []byte) (*Family, error) {
	family := new(Family)
	rest, err := family.UnmarshalMsg(encoded)
	if err != nil {
		return nil, err
	}
	return family, trailing(rest)
}
