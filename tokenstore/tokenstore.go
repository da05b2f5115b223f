// Package tokenstore says what the gateway has to remember, and what it asks of whatever remembers it.
//
// It knows no OAuth grant, no HTTP and no particular database. The stores are in packages below this one; what they all
// share, the set of live revocations in memory and the binary form of the records, is here.
package tokenstore

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
)

// The errors that callers tell apart. A store wraps whatever else went wrong in an error that names what failed; every
// such error means that nothing was changed, or that it can't be known: it is never to be answered as a success.
var (
	// ErrNotFound says that there is no such record, or that there is none any more.
	ErrNotFound = errors.New("not found")

	// ErrConflict says that a compare-and-swap lost: the record is no longer the one that the caller read, or a record
	// that was to be new exists already.
	ErrConflict = errors.New("changed by somebody else in the meantime")

	// ErrClosed says that the store was closed before the call could do anything.
	ErrClosed = errors.New("store is closed")
)

// Store remembers token families, revocations, keys and the identifiers that may be used once.
//
// Whoever implements it promises: when a call returns nil, the change survives a crash and a loss of power; of any number
// of racers for one compare-and-swap exactly one wins; a call that fails has done nothing by halves. Every method may be
// called from many goroutines.
type Store interface {
	// CreateFamily records a new family. ErrConflict if its ID is taken.
	CreateFamily(ctx context.Context, family *Family) error

	// Family returns the family with this ID, expired or not. ErrNotFound if there is none (any more).
	// The caller may keep and change what it gets.
	Family(ctx context.Context, id uuid.UUID) (*Family, error)

	// RotateFamily replaces the family from by to (the same ID) if it still has the generation and the secret hash that
	// from has, and records the revocations given in the same commit. ErrConflict if it has not, ErrNotFound if the
	// family is gone.
	RotateFamily(ctx context.Context, from, to *Family, revocations ...Revocation) error

	// Revoke records a revocation; one of a family also deletes the family, in the same commit. When it returns nil,
	// Revocations tells of it. Revoking again is no error: the longer of the two reaches stays.
	Revoke(ctx context.Context, revocation Revocation) error

	// Revocations is the set of all live revocations in memory. It is the same for the life of the store.
	Revocations() *RevocationSet

	// UseOnce marks an identifier as used until the moment given. ErrConflict if it was used before.
	UseOnce(ctx context.Context, id [32]byte, until time.Time) error

	// Keys returns every key of this use, lowest number first.
	Keys(ctx context.Context, use KeyUse) ([]Key, error)

	// AddKey records a new key. ErrConflict if there is one with the same use and number: of several gateways that
	// rotate at once, one wins.
	AddKey(ctx context.Context, key Key) error

	// DeleteKey forgets a key. It is no error if there is none.
	DeleteKey(ctx context.Context, use KeyUse, number uint32) error

	// Close waits for the calls under way, releases everything and ends every goroutine of the store. Calls that come
	// later return ErrClosed.
	Close() error
}
