package grants

import (
	"slices"

	"github.com/tokengateway/caddy-token-gateway/accesstoken"
)

// CheckAccessToken says whether an access token of this server is good: sound, signed, in time, for one of these audiences,
// and not revoked. Without audiences it takes every one that this server gives tokens for. The error is an
// *accesstoken.Error; on no other condition does it answer with claims.
func (s *Server) CheckAccessToken(token string, audiences []string) (*accesstoken.Claims, error) {
	claims, err := s.verifier.Verify(token, s.PublicKeys(), s.clock())
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(claims.Audience, func(a string) bool {
		return slices.Contains(audiences, a) || len(audiences) == 0 && s.audiences[a]
	}) {
		return nil, &accesstoken.Error{Reason: accesstoken.WrongAudience, Detail: "The token is not meant for this API."}
	}
	issued, ok := issuedToken(claims)
	if !ok {
		return nil, &accesstoken.Error{Reason: accesstoken.BadClaims, Detail: "The token's jti or sid is not a UUID."}
	}
	if s.store.Revocations().Revoked(issued) {
		return nil, &accesstoken.Error{Reason: accesstoken.Revoked, Detail: "The token was revoked."}
	}
	return claims, nil
}
