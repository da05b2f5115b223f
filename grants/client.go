package grants

import (
	"slices"
	"time"

	"github.com/tokengateway/caddy-token-gateway/accesstoken"
)

// The grant types (RFC 6749 §4, §6). AuthorizationCode may be listed for a client, but no endpoint serves it yet.
const (
	Password          = "password"
	ClientCredentials = "client_credentials"
	RefreshToken      = "refresh_token"
	AuthorizationCode = "authorization_code"
)

// GrantTypes are all that a client may list.
var GrantTypes = []string{AuthorizationCode, ClientCredentials, Password, RefreshToken}

// served are those that the token endpoint knows.
var served = []string{ClientCredentials, Password, RefreshToken}

// Client is an OAuth client (RFC 6749 §2).
type Client struct {
	ID string

	// Public says that the client has no way to keep a secret and only identifies itself.
	Public bool

	// A confidential client has at least one of these.
	Secret      *Credential         // client_secret_basic, client_secret_post
	Keys        *accesstoken.KeySet // private_key_jwt (RFC 7523)
	Certificate *CertificateRule    // tls_client_auth, self_signed_tls_client_auth (RFC 8705)

	GrantTypes []string

	// Scopes are all that the client may ask for. There is at least one: the first is given when none is asked for.
	Scopes []string

	// Audience is what the client's access tokens are for. There is at least one.
	Audience []string

	// CORSOrigins are the origins of web pages whose scripts may read the endpoints' answers.
	CORSOrigins []string

	AccessTokenLifetime  time.Duration // whole seconds
	RefreshTokenLifetime time.Duration // until an unused refresh token expires
}

func (c *Client) mayUse(grantType string) bool { return slices.Contains(c.GrantTypes, grantType) }

// AllowsOrigin reports whether scripts of this origin may read what the client is answered.
func (c *Client) AllowsOrigin(origin string) bool { return slices.Contains(c.CORSOrigins, origin) }

// User is somebody who may sign in with a password.
type User struct {
	Name     string
	Password *Credential
}
