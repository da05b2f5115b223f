package grants

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/tokengateway/caddy-token-gateway/tokenstore"
)

// maxRaces is how often a refresh that lost to another one looks again. Losing once moves the family on, and then its
// token is an old one, which is decided without another race.
const maxRaces = 3

// refresh is the refresh token grant (RFC 6749 §6). The order of its steps is what protects sessions: everything that can
// fail because of who asks, or how, fails before the token's generation is looked at, and without any effect. Only then
// does a token that was used before end its family (RFC 9700 §4.14.2).
func (s *Server) refresh(ctx context.Context, client *Client, r TokenRequest) (*TokenResponse, *Error) {
	if r.RefreshToken == "" {
		return nil, refuse(InvalidRequest, "The parameter refresh_token is missing.")
	}
	presented, ok := parseRefreshToken(r.RefreshToken, s.keyring.keys.Load().macs)
	if !ok {
		return nil, refuseToken("refresh token was not made by this gateway")
	}
	if presented.generation == math.MaxUint32 {
		return nil, refuseToken("token family %s has rotated as often as it can", presented.family)
	}
	for range maxRaces {
		response, refused := s.refreshOnce(ctx, client, presented, r)
		if refused == nil || !errors.Is(refused, tokenstore.ErrConflict) {
			return response, refused
		}
	}
	return nil, Unavailable(fmt.Errorf("refreshing family %s: %w", presented.family, tokenstore.ErrConflict))
}

// refreshOnce refuses with tokenstore.ErrConflict as the cause if another refresh came between.
func (s *Server) refreshOnce(ctx context.Context, client *Client, presented refreshToken, r TokenRequest) (*TokenResponse, *Error) {
	family, err := s.store.Family(ctx, presented.family)
	if errors.Is(err, tokenstore.ErrNotFound) {
		return nil, refuseToken("token family %s has ended", presented.family)
	}
	if err != nil {
		return nil, Unavailable(fmt.Errorf("reading token family %s: %w", presented.family, err))
	}
	now := s.clock()
	if refused := s.checkFamily(client, family, now); refused != nil {
		return nil, refused
	}
	scopes, refused := narrowScopes(family.Scopes, r.Scope)
	if refused != nil {
		return nil, refused
	}
	audience, refused := narrowAudience(family.Audience, r.Resources)
	if refused != nil {
		return nil, refused
	}
	asked := refreshRequest{client: client, presented: presented, scopes: scopes, audience: audience, now: now}

	sameSecret := presented.secretHash() == family.SecretHash
	switch {
	case presented.generation == family.Generation && sameSecret:
		return s.rotate(ctx, family, asked)
	case presented.generation > family.Generation:
		// The tag proves that we made this token, so it is the store that is behind: it was rolled back. A restored
		// backup logs nobody out.
		response, refused := s.rotate(ctx, family, asked)
		if refused == nil {
			s.observe(ctx, familyEvent(StoreRolledBack, family))
		}
		return response, refused
	case presented.generation+1 == family.Generation && now.Sub(family.RotatedAt) < s.config.ReuseGrace:
		if successor, err := unseal(presented, family.SealedSuccessor); err == nil {
			return s.replay(ctx, family, asked, successor)
		}
	}
	return nil, s.punishReuse(ctx, family)
}

// refreshRequest is a refresh whose every check but that of the generation has passed.
type refreshRequest struct {
	client    *Client
	presented refreshToken
	scopes    []string // of the access token; the family keeps all of its own (RFC 6749 §6)
	audience  []string
	now       time.Time
}

// checkFamily says whether a family is still good and the client's own. It has no effect.
func (s *Server) checkFamily(client *Client, family *tokenstore.Family, now time.Time) *Error {
	switch {
	case family.ClientID != client.ID:
		return refuseToken("token family %s is not client %q's", family.ID, client.ID)
	case s.store.Revocations().RevokedSince(family.Subject, family.ClientID, family.CreatedAt.UnixMilli()):
		return refuseToken("the subject or the client of token family %s was revoked", family.ID)
	case family.Expired(now):
		return refuseToken("token family %s has expired", family.ID)
	}
	return s.checkSubject(family)
}

// checkSubject says whether the user that a family speaks for may still sign in: one who is gone from the configuration
// may not, nor one whose password has changed since.
func (s *Server) checkSubject(family *tokenstore.Family) *Error {
	if family.GrantType != Password {
		return nil
	}
	user := s.users[family.Subject]
	if user == nil {
		return refuseToken("the user of token family %s is gone", family.ID)
	}
	if !bytes.Equal(user.Password.Fingerprint(), family.CredentialDigest) {
		return refuseToken("the user of token family %s has another password now", family.ID)
	}
	return nil
}

// rotate replaces the family's refresh token by its successor. The access token is made before the swap and both are given
// out after it, so that neither is lost and none is there for nothing.
func (s *Server) rotate(ctx context.Context, family *tokenstore.Family, r refreshRequest) (*TokenResponse, *Error) {
	issued := r.now
	var revocations []tokenstore.Revocation
	if s.config.RevokePreviousAccessToken {
		var previous tokenstore.Revocation
		previous, issued = s.revokeEarlier(family, r.now)
		revocations = append(revocations, previous)
	}
	access, err := s.mint(r.client, family, r.scopes, r.audience, issued, s.accessExpiry(r.client, family, r.now))
	if err != nil {
		return nil, internal(err)
	}
	next := *family
	token, err := s.advance(r.client, &next, r.presented.generation+1, access, r.now)
	if err != nil {
		return nil, internal(err)
	}
	next.SealedSuccessor = nil
	if s.config.ReuseGrace > 0 {
		if next.SealedSuccessor, err = seal(r.presented, token.secret); err != nil {
			return nil, internal(err)
		}
	}
	if err := s.store.RotateFamily(ctx, family, &next, revocations...); err != nil {
		return nil, rotationFailed(family, err)
	}
	return access.response(s.keyring.keys.Load().mac.formatRefreshToken(token)), nil
}

// rotationFailed keeps a lost race apart from a failed store. A family that is gone lost to a revocation: looking again
// finds that out.
func rotationFailed(family *tokenstore.Family, err error) *Error {
	if errors.Is(err, tokenstore.ErrNotFound) {
		err = tokenstore.ErrConflict
	}
	return Unavailable(fmt.Errorf("rotating token family %s: %w", family.ID, err))
}

// revokeEarlier returns the revocation of every access token that the family was given so far, and the moment of issue
// that puts a new one behind it.
func (s *Server) revokeEarlier(family *tokenstore.Family, now time.Time) (tokenstore.Revocation, time.Time) {
	revocation := s.familyRevocation(family)
	revocation.IssuedUpTo = later(now, accessTokenMoment(family))
	return revocation, revocation.IssuedUpTo.Add(time.Millisecond)
}

// accessTokenMoment is the moment of issue that the ID of the family's newest access token carries.
func accessTokenMoment(family *tokenstore.Family) time.Time {
	return time.UnixMilli(tokenstore.Moment(family.AccessTokenID))
}

// replay answers a client that asks again because the answer to its refresh was lost: with the same successor, so that
// the family doesn't fork, and without recording anything, so that the window doesn't grow.
func (s *Server) replay(ctx context.Context, family *tokenstore.Family, r refreshRequest, successor [secretSize]byte) (*TokenResponse, *Error) {
	expiry := s.accessExpiry(r.client, family, r.now)
	if expiry.After(family.AccessExpiry) {
		expiry = family.AccessExpiry
	}
	// Issued at the moment of the rotation's own access token: not before, for the rotation may have revoked what was issued
	// up to then, and not after, for the next rotation may revoke what was issued up to that one.
	issued := accessTokenMoment(family)
	access, err := s.mint(r.client, family, r.scopes, r.audience, issued, expiry)
	if err != nil {
		return nil, internal(err)
	}
	s.observe(ctx, familyEvent(RefreshTokenReplayed, family))
	token := refreshToken{family: family.ID, generation: family.Generation, secret: successor}
	return access.response(s.keyring.keys.Load().mac.formatRefreshToken(token)), nil
}

// punishReuse ends a family because a refresh token of it was presented again: either that one is stolen or the one that
// is current (RFC 9700 §4.14.2).
func (s *Server) punishReuse(ctx context.Context, family *tokenstore.Family) *Error {
	// Who presents a used token can't call that off by hanging up.
	if err := s.store.Revoke(context.WithoutCancel(ctx), s.familyRevocation(family)); err != nil {
		return Unavailable(fmt.Errorf("revoking token family %s after a reuse: %w", family.ID, err))
	}
	s.observe(ctx, familyEvent(RefreshTokenReused, family))
	return refuseToken("a used refresh token of token family %s was presented again", family.ID)
}

func familyEvent(kind EventKind, family *tokenstore.Family) Event {
	return Event{Kind: kind, ClientID: family.ClientID, Subject: family.Subject, FamilyID: family.ID}
}
