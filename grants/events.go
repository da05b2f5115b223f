package grants

import (
	"context"

	"github.com/google/uuid"
)

// EventKind says what happened.
type EventKind string

// What an operator may want to hear of.
const (
	// RefreshTokenReused: a refresh token that was used before was presented again, and its family was revoked. Somebody
	// may have stolen it.
	RefreshTokenReused EventKind = "refresh_token_reused"

	// RefreshTokenReplayed: a client that lost the answer to its refresh asked again within the grace window and got the
	// same successor.
	RefreshTokenReplayed EventKind = "refresh_token_replayed"

	// StoreRolledBack: a refresh token was presented that is newer than what the store remembers of its family. The store
	// was restored from a backup, or failed over to a replica that was behind.
	StoreRolledBack EventKind = "store_rolled_back"

	// SigningKeyCreated: a new signing key was made; it is published now, and used from its time on.
	SigningKeyCreated EventKind = "signing_key_created"
)

// Event is something that happened. It holds no secret.
type Event struct {
	Kind     EventKind
	ClientID string
	Subject  string
	FamilyID uuid.UUID // of the token family concerned; zero if there is none
	KeyID    string    // of the signing key concerned; empty if there is none
}

// Observer is told of events, in the goroutine in which they happen.
type Observer func(ctx context.Context, event Event)
