package grants

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/tokengateway/caddy-token-gateway/accesstoken"
	"github.com/tokengateway/caddy-token-gateway/tokenstore"
)

// revocationMargin is how much longer than the tokens it concerns a revocation is kept, so that no clock that is behind
// and no leeway lets a token outlive its revocation.
const revocationMargin = 5 * time.Minute

// RevocationRequest is a request to the revocation endpoint (RFC 7009 §2.1).
type RevocationRequest struct {
	Client ClientAuthentication
	Token  string

	// Hint is the token_type_hint. "refresh_token" makes refresh tokens be tried first, anything else access tokens; both
	// are tried whatever it says.
	Hint string
}

// RevocationResult says what was revoked. It is empty if nothing was: the token was unknown, expired, revoked already or
// another client's.
type RevocationResult struct {
	AccessToken  string // jti of the newest access token concerned
	RefreshToken string // the refresh token presented, or the family's ID when an access token was presented
	Subject      string
}

// Revoke serves a request to the revocation endpoint. When it returns without an error, nothing that the token stood for
// passes any more: a refresh token ends its family with its access tokens, an access token ends its family too, or, where
// it has none, itself. The client is the one that asked, nil if it isn't known.
func (s *Server) Revoke(ctx context.Context, r RevocationRequest) (RevocationResult, *Client, *Error) {
	client, refused := s.authenticate(ctx, r.Client)
	if refused != nil {
		return RevocationResult{}, nil, refused
	}
	if r.Token == "" {
		return RevocationResult{}, client, refuse(InvalidRequest, "The parameter token is missing.")
	}
	ctx = context.WithoutCancel(ctx) // who signs out while leaving is signed out
	kinds := []func(context.Context, *Client, string) (RevocationResult, bool, *Error){
		s.revokeAccessToken, s.revokeRefreshToken,
	}
	if r.Hint == RefreshToken {
		kinds[0], kinds[1] = kinds[1], kinds[0]
	}
	for _, revoke := range kinds {
		if result, found, refused := revoke(ctx, client, r.Token); found {
			return result, client, refused
		}
	}
	return RevocationResult{}, client, nil // RFC 7009 §2.2: an unknown token is no error
}

// revokeRefreshToken revokes the family of a refresh token, of whatever generation. Found says that it was a refresh token
// of ours.
func (s *Server) revokeRefreshToken(ctx context.Context, client *Client, token string) (RevocationResult, bool, *Error) {
	presented, ok := parseRefreshToken(token, s.keyring.keys.Load().macs)
	if !ok {
		return RevocationResult{}, false, nil
	}
	family, err := s.store.Family(ctx, presented.family)
	if errors.Is(err, tokenstore.ErrNotFound) {
		return RevocationResult{}, true, nil
	}
	if err != nil {
		return RevocationResult{}, true, Unavailable(fmt.Errorf("reading token family %s: %w", presented.family, err))
	}
	if family.ClientID != client.ID {
		return RevocationResult{}, true, nil
	}
	return s.revokeFamily(ctx, family, token)
}

// revokeAccessToken revokes the family of an access token; where it has none, the token. An access token that has expired
// still ends its family: who signs out late is signed out too. Found says that it was an access token of ours.
func (s *Server) revokeAccessToken(ctx context.Context, client *Client, token string) (RevocationResult, bool, *Error) {
	claims, err := s.verifier.Authentic(token, s.PublicKeys())
	if err != nil {
		return RevocationResult{}, false, nil //nolint:nilerr // it is none of ours, and may be of another kind
	}
	issued, ok := issuedToken(claims)
	if !ok || claims.ClientID != client.ID {
		return RevocationResult{}, true, nil
	}
	if issued.FamilyID != uuid.Nil {
		family, err := s.store.Family(ctx, issued.FamilyID)
		if err == nil {
			return s.revokeFamily(ctx, family, family.ID.String())
		}
		if !errors.Is(err, tokenstore.ErrNotFound) {
			return RevocationResult{}, true, Unavailable(fmt.Errorf("reading token family %s: %w", issued.FamilyID, err))
		}
	}
	if !s.clock().Before(claims.Expiry) || s.store.Revocations().Revoked(issued) {
		return RevocationResult{}, true, nil
	}
	err = s.store.Revoke(ctx, tokenstore.Revocation{
		Kind: tokenstore.RevokedToken, ID: issued.TokenID, ExpiresAt: claims.Expiry.Add(revocationMargin),
	})
	if err != nil {
		return RevocationResult{}, true, Unavailable(fmt.Errorf("revoking access token %s: %w", issued.TokenID, err))
	}
	return RevocationResult{AccessToken: claims.TokenID, Subject: claims.Subject}, true, nil
}

func (s *Server) revokeFamily(ctx context.Context, family *tokenstore.Family, presented string) (RevocationResult, bool, *Error) {
	if err := s.store.Revoke(ctx, s.familyRevocation(family)); err != nil {
		return RevocationResult{}, true, Unavailable(fmt.Errorf("revoking token family %s: %w", family.ID, err))
	}
	return RevocationResult{
		AccessToken:  family.AccessTokenID.String(),
		RefreshToken: presented,
		Subject:      family.Subject,
	}, true, nil
}

// familyRevocation ends a family: its refresh token and every access token that it was given. If the store was rolled
// back, those may be newer than it remembers; so the revocation lasts at least as long as a token made now.
func (s *Server) familyRevocation(family *tokenstore.Family) tokenstore.Revocation {
	lastExpiry := later(family.AccessExpiry, s.clock().Add(s.config.Keyring.LongestToken))
	return tokenstore.Revocation{
		Kind: tokenstore.RevokedFamily, ID: family.ID, ExpiresAt: lastExpiry.Add(revocationMargin),
	}
}

// uuidLength is that of a UUID's text form (RFC 9562 §4).
const uuidLength = 36

// issuedToken returns what the revocation set is asked about. False means that the token isn't one that we could have
// made.
func issuedToken(claims *accesstoken.Claims) (tokenstore.Issued, bool) {
	if len(claims.TokenID) != uuidLength || claims.FamilyID != "" && len(claims.FamilyID) != uuidLength {
		return tokenstore.Issued{}, false // the parser takes longer spellings, too
	}
	id, err := uuid.Parse(claims.TokenID)
	issued := tokenstore.Issued{TokenID: id, Subject: claims.Subject, ClientID: claims.ClientID}
	if err == nil && claims.FamilyID != "" {
		issued.FamilyID, err = uuid.Parse(claims.FamilyID)
	}
	return issued, err == nil
}
