// Package grants is OAuth 2.0 itself: how tokens are given out, renewed, revoked and checked. It knows no HTTP and no
// Caddy: it takes typed requests and answers with typed results or an *Error. There is a file for each grant type; what
// happens when a refresh token arrives is in refresh.go.
package grants

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/tokengateway/caddy-token-gateway/accesstoken"
	"github.com/tokengateway/caddy-token-gateway/tokenstore"
)

// Config is how an authorization server behaves. Who fills it in has checked it.
type Config struct {
	// Issuer is the iss of access tokens (RFC 8414 §2).
	Issuer string

	// TokenEndpoints are the URLs of the token endpoint; client assertions may name one as their audience.
	TokenEndpoints []string

	Clients []*Client
	Users   []*User

	// DisabledGrantTypes are off for every client.
	DisabledGrantTypes []string

	// MaxLifetime is how long after its beginning a token family ends whatever happens. Zero means never.
	MaxLifetime time.Duration

	// ReuseGrace is how long after a refresh the token that it used is still answered, with the same successor. Zero
	// means that refresh tokens are strictly for single use.
	ReuseGrace time.Duration

	// RevokePreviousAccessToken says that a refresh revokes the family's earlier access tokens.
	RevokePreviousAccessToken bool

	Keyring KeyringConfig

	// Observe is told of events; nil for nobody.
	Observe Observer

	// Clock tells the time; nil for the machine's.
	Clock func() time.Time

	// Random is where secrets and identifiers come from; nil for crypto/rand.
	Random io.Reader
}

// Server is an authorization server: a configuration at work on a store. It may be used from many goroutines.
type Server struct {
	config Config
	store  tokenstore.Store
	clock  func() time.Time
	random io.Reader

	clients map[string]*Client
	users   map[string]*User

	keyring           *Keyring
	verifier          accesstoken.Verifier
	audiences         map[string]bool
	assertionAudience []string

	credentials *credentialChecker
	throttle    *throttle
	clientDecoy *Credential
	userDecoy   *Credential
}

// New starts a server on a store. It reads the keys, and makes them if the store is new.
func New(ctx context.Context, config Config, store tokenstore.Store) (*Server, error) {
	s := &Server{
		config:      config,
		store:       store,
		clock:       config.Clock,
		random:      config.Random,
		clients:     make(map[string]*Client, len(config.Clients)),
		users:       make(map[string]*User, len(config.Users)),
		verifier:    accesstoken.Verifier{Issuer: config.Issuer},
		audiences:   make(map[string]bool),
		credentials: newCredentialChecker(),
	}
	if s.clock == nil {
		s.clock = time.Now
	}
	if s.random == nil {
		s.random = rand.Reader
	}
	s.assertionAudience = append([]string{config.Issuer}, config.TokenEndpoints...)
	s.throttle = newThrottle(s.clock)
	for _, client := range config.Clients {
		s.clients[client.ID] = client
		for _, audience := range client.Audience {
			s.audiences[audience] = true
		}
		if client.Secret != nil && client.Secret.hash != nil && s.clientDecoy == nil {
			s.clientDecoy = client.Secret
		}
	}
	for _, user := range config.Users {
		s.users[user.Name] = user
		if s.userDecoy == nil {
			s.userDecoy = user.Password
		}
	}
	s.keyring = &Keyring{config: config.Keyring, store: store, clock: s.clock}
	return s, s.RefreshKeys(ctx)
}

// RefreshKeys brings the keys up to date: it makes, takes into use and retires signing keys as they are due, and learns
// of those that other gateways made. It is to be called about every minute.
func (s *Server) RefreshKeys(ctx context.Context) error {
	created, err := s.keyring.refresh(ctx)
	for _, id := range created {
		s.observe(ctx, Event{Kind: SigningKeyCreated, KeyID: id})
	}
	return err
}

// PublicKeys are the keys that access tokens can be verified with.
func (s *Server) PublicKeys() *accesstoken.KeySet { return s.keyring.keys.Load().public }

// GrantTypeEnabled reports whether the token endpoint serves a grant type.
func (c *Config) GrantTypeEnabled(grantType string) bool {
	return slices.Contains(served, grantType) && !slices.Contains(c.DisabledGrantTypes, grantType)
}

func (s *Server) observe(ctx context.Context, event Event) {
	if s.config.Observe != nil {
		s.config.Observe(ctx, event)
	}
}

// newID returns a UUIDv7 (RFC 9562 §5.7) that carries the moment.
func (s *Server) newID(moment time.Time) (id uuid.UUID, err error) {
	if _, err := io.ReadFull(s.random, id[6:]); err != nil {
		return id, fmt.Errorf("reading random bytes: %w", err)
	}
	ms := moment.UnixMilli()
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	id[6] = 0x70 | id[6]&0x0f
	id[8] = 0x80 | id[8]&0x3f
	return id, nil
}

func (s *Server) newSecret() (secret [secretSize]byte, err error) {
	if _, err := io.ReadFull(s.random, secret[:]); err != nil {
		return secret, fmt.Errorf("reading random bytes: %w", err)
	}
	return secret, nil
}
