package tokenstore

import (
	"math"
	"sync"
	"time"

	"github.com/google/uuid"
)

// RevocationSet holds every live revocation in memory, so that asking costs a request next to nothing. Its store adds to
// it; everybody else only asks. It may be used from many goroutines.
type RevocationSet struct {
	// Identifiers end in random bits, so they spread evenly over the shards and no lock is asked for by all.
	ids [64]revocationShard[uuid.UUID]

	subjects revocationShard[string]
	clients  revocationShard[string]
}

type revocationShard[K comparable] struct {
	mu      sync.RWMutex
	entries map[K]revocationReach
}

// revocationReach is a revocation without what it is of, in Unix milliseconds.
type revocationReach struct {
	issuedUpTo int64
	expiresAt  int64
}

// NewRevocationSet returns an empty set.
func NewRevocationSet() *RevocationSet {
	s := new(RevocationSet)
	for i := range s.ids {
		s.ids[i].entries = make(map[uuid.UUID]revocationReach)
	}
	s.subjects.entries = make(map[string]revocationReach)
	s.clients.entries = make(map[string]revocationReach)
	return s
}

// Issued describes an access token to ask about.
type Issued struct {
	TokenID  uuid.UUID // jti; a UUIDv7, which tells the moment of issue
	FamilyID uuid.UUID // sid; zero for a token without a family
	Subject  string
	ClientID string
}

// Revoked reports whether any live revocation concerns this access token.
func (s *RevocationSet) Revoked(token Issued) bool {
	at := Moment(token.TokenID)
	return s.shard(token.TokenID).covers(token.TokenID, at) ||
		token.FamilyID != uuid.Nil && s.shard(token.FamilyID).covers(token.FamilyID, at) ||
		s.RevokedSince(token.Subject, token.ClientID, at)
}

// RevokedSince reports whether what a subject or a client was given at this moment (Unix milliseconds) was revoked since.
func (s *RevocationSet) RevokedSince(subject, clientID string, moment int64) bool {
	return s.subjects.covers(subject, moment) || s.clients.covers(clientID, moment)
}

// Add makes the set tell of a revocation from the moment it returns. Stores call it, after the commit.
func (s *RevocationSet) Add(r Revocation) {
	reach := revocationReach{issuedUpTo: math.MaxInt64, expiresAt: r.ExpiresAt.UnixMilli()}
	if !r.IssuedUpTo.IsZero() {
		reach.issuedUpTo = r.IssuedUpTo.UnixMilli()
	}
	switch r.Kind {
	case RevokedToken, RevokedFamily:
		s.shard(r.ID).add(r.ID, reach)
	case RevokedSubject:
		s.subjects.add(r.Name, reach)
	case RevokedClient:
		s.clients.add(r.Name, reach)
	}
}

// Sweep forgets the revocations that expired before now. Stores call it from time to time.
func (s *RevocationSet) Sweep(now time.Time) {
	for i := range s.ids {
		s.ids[i].sweep(now.UnixMilli())
	}
	s.subjects.sweep(now.UnixMilli())
	s.clients.sweep(now.UnixMilli())
}

// Len returns the number of revocations held.
func (s *RevocationSet) Len() int {
	n := s.subjects.len() + s.clients.len()
	for i := range s.ids {
		n += s.ids[i].len()
	}
	return n
}

func (s *RevocationSet) shard(id uuid.UUID) *revocationShard[uuid.UUID] {
	return &s.ids[int(id[15])%len(s.ids)]
}

func (s *revocationShard[K]) covers(key K, moment int64) bool {
	s.mu.RLock()
	reach, ok := s.entries[key]
	s.mu.RUnlock()
	return ok && moment <= reach.issuedUpTo
}

func (s *revocationShard[K]) add(key K, reach revocationReach) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.entries[key]
	s.entries[key] = revocationReach{
		issuedUpTo: max(before.issuedUpTo, reach.issuedUpTo),
		expiresAt:  max(before.expiresAt, reach.expiresAt),
	}
}

func (s *revocationShard[K]) sweep(now int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, reach := range s.entries {
		if reach.expiresAt < now {
			delete(s.entries, key)
		}
	}
}

func (s *revocationShard[K]) len() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.entries)
}

// Moment returns the Unix time in milliseconds that a UUIDv7 carries (RFC 9562 §5.7).
func Moment(id uuid.UUID) int64 {
	return int64(id[0])<<40 | int64(id[1])<<32 | int64(id[2])<<24 | int64(id[3])<<16 | int64(id[4])<<8 | int64(id[5])
}
