package grants

import "github.com/tokengateway/caddy-token-gateway/tokenstore"

// clientCredentials is the client credentials grant (RFC 6749 §4.4). The client speaks for itself, gets no refresh token
// (§4.4.3), and nothing is recorded.
func (s *Server) clientCredentials(client *Client, r TokenRequest) (*TokenResponse, *Error) {
	if client.Public {
		return nil, refuse(UnauthorizedClient, "The client may not use this grant_type.").
			because("client %q is public (RFC 6749 §4.4)", client.ID)
	}
	scopes, refused := grantScopes(client, r.Scope)
	if refused != nil {
		return nil, refused
	}
	audience, refused := narrowAudience(client.Audience, r.Resources)
	if refused != nil {
		return nil, refused
	}
	now := s.clock()
	granted := &tokenstore.Family{Subject: client.ID, GrantType: ClientCredentials}
	access, err := s.mint(client, granted, scopes, audience, now, now.Add(client.AccessTokenLifetime))
	if err != nil {
		return nil, internal(err)
	}
	return access.response(""), nil
}
