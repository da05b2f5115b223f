package grants

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/tokengateway/caddy-token-gateway/accesstoken"
	"github.com/tokengateway/caddy-token-gateway/tokenstore"
)

// The values of the aut claim: for whom a token speaks.
const (
	application     = "APPLICATION"
	applicationUser = "APPLICATION_USER"
)

// TokenRequest is a request to the token endpoint. Empty means absent (RFC 6749 §3.2).
type TokenRequest struct {
	Client    ClientAuthentication
	GrantType string
	Scope     string
	Resources []string // RFC 8707

	Username, Password string // grant type password
	RefreshToken       string // grant type refresh_token
}

// TokenResponse is what a client gets (RFC 6749 §5.1).
type TokenResponse struct {
	AccessToken  string
	RefreshToken string // empty if there is none
	Scopes       []string
	ExpiresIn    time.Duration // whole seconds
}

// Token serves a request to the token endpoint. The client is the one that asked, nil if it isn't known.
func (s *Server) Token(ctx context.Context, r TokenRequest) (*TokenResponse, *Client, *Error) {
	if r.GrantType == "" {
		return nil, nil, refuse(InvalidRequest, "The parameter grant_type is missing.")
	}
	if !s.config.GrantTypeEnabled(r.GrantType) {
		return nil, nil, refuse(UnsupportedGrantType, "The server does not support this grant_type.")
	}
	client, refused := s.authenticate(ctx, r.Client)
	if refused != nil {
		return nil, nil, refused
	}
	if !client.mayUse(r.GrantType) {
		return nil, client, refuse(UnauthorizedClient, "The client may not use this grant_type.")
	}
	var response *TokenResponse
	switch r.GrantType {
	case Password:
		response, refused = s.password(ctx, client, r)
	case ClientCredentials:
		response, refused = s.clientCredentials(client, r)
	case RefreshToken:
		response, refused = s.refresh(ctx, client, r)
	}
	return response, client, refused
}

// begin starts a token family for what a client was granted, and gives out its first tokens. Where the client may not
// refresh there is no family: only an access token.
func (s *Server) begin(ctx context.Context, client *Client, family tokenstore.Family, audience []string) (*TokenResponse, *Error) {
	now := s.clock()
	if !client.mayUse(RefreshToken) || !s.config.GrantTypeEnabled(RefreshToken) {
		access, err := s.mint(client, &family, family.Scopes, audience, now, now.Add(client.AccessTokenLifetime))
		if err != nil {
			return nil, internal(err)
		}
		return access.response(""), nil
	}
	id, err := s.newID(now)
	if err != nil {
		return nil, internal(err)
	}
	family.ID = id
	family.ClientID = client.ID
	family.CreatedAt = now
	if s.config.MaxLifetime > 0 {
		// To the second, as the access tokens that end with it.
		family.AbsoluteExpiry = now.Add(s.config.MaxLifetime).Truncate(time.Second)
	}
	access, err := s.mint(client, &family, family.Scopes, audience, now, s.accessExpiry(client, &family, now))
	if err != nil {
		return nil, internal(err)
	}
	token, err := s.advance(client, &family, 0, access, now)
	if err != nil {
		return nil, internal(err)
	}
	if err := s.store.CreateFamily(ctx, &family); err != nil {
		return nil, Unavailable(fmt.Errorf("recording a new token family: %w", err))
	}
	return access.response(s.keyring.keys.Load().mac.formatRefreshToken(token)), nil
}

// advance gives a family its refresh token of a generation, and notes the access token that goes with it. The family is
// changed in memory only.
func (s *Server) advance(client *Client, family *tokenstore.Family, generation uint32, access minted, now time.Time) (refreshToken, error) {
	secret, err := s.newSecret()
	if err != nil {
		return refreshToken{}, err
	}
	token := refreshToken{family: family.ID, generation: generation, secret: secret}
	family.Generation = generation
	family.SecretHash = token.secretHash()
	family.RotatedAt = now
	family.IdleExpiry = now.Add(client.RefreshTokenLifetime)
	family.AccessTokenID = access.id
	// A replay in the grace window mints another access token and records nothing: the record has to cover it now.
	family.AccessExpiry = later(family.AccessExpiry, access.expiry.Add(s.config.ReuseGrace))
	return token, nil
}

// accessExpiry is when an access token minted now expires. It doesn't outlive its family's absolute expiry.
func (s *Server) accessExpiry(client *Client, family *tokenstore.Family, now time.Time) time.Time {
	expiry := now.Add(client.AccessTokenLifetime)
	if !family.AbsoluteExpiry.IsZero() && family.AbsoluteExpiry.Before(expiry) {
		return family.AbsoluteExpiry
	}
	return expiry
}

// minted is an access token that was made and not yet given out.
type minted struct {
	id     uuid.UUID
	token  string
	scopes []string
	life   time.Duration
	expiry time.Time
}

func (m minted) response(refreshToken string) *TokenResponse {
	return &TokenResponse{AccessToken: m.token, RefreshToken: refreshToken, Scopes: m.scopes, ExpiresIn: m.life}
}

// mint makes an access token for what a family was granted; the family has no ID where no refresh token goes with it.
// issued is the moment of issue that the token's ID carries, to the millisecond; the claims have whole seconds.
func (s *Server) mint(client *Client, family *tokenstore.Family, scopes, audience []string, issued, expiry time.Time) (minted, error) {
	id, err := s.newID(issued)
	if err != nil {
		return minted{}, err
	}
	issuedAt := s.clock().Truncate(time.Second)
	claims := accesstoken.Claims{
		Issuer:    s.config.Issuer,
		Subject:   family.Subject,
		Audience:  audience,
		ClientID:  client.ID,
		UserType:  applicationUser,
		Scopes:    scopes,
		TokenID:   id.String(),
		IssuedAt:  issuedAt,
		NotBefore: issuedAt,
		Expiry:    expiry.Truncate(time.Second),
	}
	if family.GrantType == ClientCredentials {
		claims.UserType = application
	}
	if family.ID != uuid.Nil {
		claims.FamilyID = family.ID.String()
	}
	token, err := s.keyring.keys.Load().signer.Mint(&claims)
	return minted{
		id: id, token: token, scopes: slices.Clone(scopes), life: claims.Expiry.Sub(issuedAt), expiry: claims.Expiry,
	}, err
}

func internal(err error) *Error {
	return refuse(ServerError, "The server could not make a token.").because("%w", err)
}
