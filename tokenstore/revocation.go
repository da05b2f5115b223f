package tokenstore

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
)

//go:generate go tool msgp -file revocation.go -o revocation_gen.go -tests=false -io=false

//msgp:shim time.Time as:int64 using:toMillis/fromMillis
//msgp:replace uuid.UUID with:[16]byte

// RevocationKind says what a revocation is of.
type RevocationKind uint8

// The kinds of revocation.
const (
	RevokedToken   RevocationKind = 1 // one access token, by its jti
	RevokedFamily  RevocationKind = 2 // a token family, by its ID
	RevokedSubject RevocationKind = 3 // all of a subject
	RevokedClient  RevocationKind = 4 // all of a client
)

// Revocation says that a token, a family, a subject or a client is no longer good for access tokens issued up to a
// moment.
type Revocation struct {
	Kind RevocationKind `msg:"k"`

	// ID is what is revoked, for RevokedToken and RevokedFamily.
	ID uuid.UUID `msg:"i"`

	// Name is what is revoked, for RevokedSubject and RevokedClient.
	Name string `msg:"s,omitempty"`

	// IssuedUpTo is the moment of issue, to the millisecond, of the last token concerned. Zero means all of them,
	// whenever they are issued.
	IssuedUpTo time.Time `msg:"u"`

	// ExpiresAt is when the last token concerned will have expired everywhere; the revocation is forgotten then.
	ExpiresAt time.Time `msg:"x"`
}

// Merge returns the revocation that reaches as far as either of two revocations of the same thing does.
func (r Revocation) Merge(other Revocation) Revocation {
	if !r.IssuedUpTo.IsZero() && (other.IssuedUpTo.IsZero() || other.IssuedUpTo.After(r.IssuedUpTo)) {
		r.IssuedUpTo = other.IssuedUpTo
	}
	if other.ExpiresAt.After(r.ExpiresAt) {
		r.ExpiresAt = other.ExpiresAt
	}
	return r
}

// Encode returns the revocation's binary form, see Family.Encode. A revocation of no known kind is an error: nobody would
// heed it.
func (r *Revocation) Encode() ([]byte, error) {
	if err := r.checkKind(); err != nil {
		return nil, err
	}
	return r.MarshalMsg(nil)
}

func (r *Revocation) checkKind() error {
	if r.Kind < RevokedToken || r.Kind > RevokedClient {
		return fmt.Errorf("unknown kind of revocation %d", r.Kind)
	}
	return nil
}

// DecodeRevocation reads what Encode wrote.
func DecodeRevocation(encoded []byte) (Revocation, error) {
	var revocation Revocation
	rest, err := revocation.UnmarshalMsg(encoded)
	if err != nil {
		return Revocation{}, err
	}
	if err := errors.Join(revocation.checkKind(), trailing(rest)); err != nil {
		return Revocation{}, err
	}
	return revocation, nil
}
