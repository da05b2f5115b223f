package grants

import (
	"context"

	"github.com/tokengateway/caddy-token-gateway/tokenstore"
)

// password is the resource owner password credentials grant (RFC 6749 §4.3). RFC 9700 §2.4 advises against it; it is there
// for clients that list it, because the source system's users have such clients.
func (s *Server) password(ctx context.Context, client *Client, r TokenRequest) (*TokenResponse, *Error) {
	if r.Username == "" || r.Password == "" {
		return nil, refuse(InvalidRequest, "The parameters username and password are both needed.")
	}
	scopes, refused := grantScopes(client, r.Scope)
	if refused != nil {
		return nil, refused
	}
	audience, refused := narrowAudience(client.Audience, r.Resources)
	if refused != nil {
		return nil, refused
	}
	user, refused := s.signIn(r)
	if refused != nil {
		return nil, refused
	}
	return s.begin(ctx, client, tokenstore.Family{
		Subject:          user.Name,
		GrantType:        Password,
		Scopes:           scopes,
		Audience:         client.Audience,
		CredentialDigest: user.Password.Fingerprint(),
	}, audience)
}

func (s *Server) signIn(r TokenRequest) (*User, *Error) {
	if refused := s.throttle.admit(userPrefix+r.Username, r.Client.Address); refused != nil {
		return nil, refused
	}
	user := s.users[r.Username]
	var password *Credential
	if user != nil {
		password = user.Password
	}
	ok, refused := s.credentials.check(password, s.userDecoy, r.Password)
	if refused != nil {
		return nil, refused
	}
	if !ok {
		s.throttle.failed(userPrefix+r.Username, r.Client.Address)
		return nil, refuse(InvalidGrant, "The user name or the password is not right.").
			because("a sign-in at client %.64q", r.Client.ClientID)
	}
	s.throttle.succeeded(userPrefix+r.Username, r.Client.Address)
	return user, nil
}
