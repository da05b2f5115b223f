package caddymodule

import "github.com/caddyserver/caddy/v2"

// Signing says how access tokens are signed.
type Signing struct {
	// The JWS algorithm: ES256, ES384, RS256, PS256 or EdDSA. Default: ES256, or what fits the key file.
	Algorithm string `json:"algorithm,omitempty"`

	// The age at which a generated key gets a successor; 0 means never. Default: 90d.
	RotateEvery *caddy.Duration `json:"rotate_every,omitempty"`

	// A file with the private key to sign with instead of generated ones: PEM, JWK or JWK set. Of several keys the first
	// signs and all are published.
	KeyFile string `json:"key_file,omitempty"`
}

// AccessToken says what access tokens are like.
type AccessToken struct {
	// How long they are good, in whole seconds. Default: 1h.
	Lifetime caddy.Duration `json:"lifetime,omitempty"`

	// What they are meant for (the aud claim). Default: the client's ID.
	Audience []string `json:"audience,omitempty"`
}

// RefreshToken says what refresh tokens are like.
type RefreshToken struct {
	// How long one is good if it isn't used; each refresh starts it anew. Default: 24h.
	Lifetime caddy.Duration `json:"lifetime,omitempty"`

	// How long a session lasts whatever happens; 0 means for ever. Default: 30d.
	MaxLifetime *caddy.Duration `json:"max_lifetime,omitempty"`

	// How long after a refresh the used token is still answered, with the same successor, at most 60s. Default: 0, strictly
	// single use.
	ReuseGrace caddy.Duration `json:"reuse_grace,omitempty"`
}

// Client is who may ask for tokens. A client that isn't public has exactly one of secret, secret_sha256, secret_hash,
// public_key_file, tls_client_subject and tls_client_key_sha256.
type Client struct {
	// The client_id. Required.
	ID string `json:"id"`

	// Whether the client can't keep a secret (an app in a browser or on a phone) and only says its ID. Default: false.
	Public bool `json:"public,omitempty"`

	// The client's secret, as a placeholder such as {env.CLIENT_SECRET}. Only a digest of it stays in memory.
	Secret string `json:"secret,omitempty"`

	// The SHA-256 of the client's secret, in hexadecimal. The Caddyfile puts it here for a secret that is written out.
	SecretSHA256 string `json:"secret_sha256,omitempty"`

	// The hash of the client's secret that caddy hash-password makes (bcrypt or argon2id).
	SecretHash string `json:"secret_hash,omitempty"`

	// A file with the public keys that the client's assertions are verified with (private_key_jwt, RFC 7523): PEM, JWK or
	// JWK set.
	PublicKeyFile string `json:"public_key_file,omitempty"`

	// The subject of the TLS client certificate that the client presents (tls_client_auth, RFC 8705 §2.1), in the form of
	// RFC 2253. Needs client_auth in the site's tls directive.
	TLSClientSubject string `json:"tls_client_subject,omitempty"`

	// The SHA-256 of the public key (SubjectPublicKeyInfo) of the TLS client certificate that the client presents, in
	// hexadecimal (self_signed_tls_client_auth, RFC 8705 §2.2). Needs client_auth in the site's tls directive.
	TLSClientKeySHA256 string `json:"tls_client_key_sha256,omitempty"`

	// What the client may do at the token endpoint: password, refresh_token, client_credentials, authorization_code (the
	// last is reserved: no endpoint serves it yet). Required.
	GrantTypes []string `json:"grant_types,omitempty"`

	// All that the client may ask for; the first is given when it asks for none. Default: default.
	Scopes []string `json:"scopes,omitempty"`

	// Where users may be sent back to. Reserved for authorization_code.
	RedirectURIs []string `json:"redirect_uris,omitempty"`

	// The origins of the web pages whose scripts may call the endpoints as this client.
	CORSOrigins []string `json:"cors_origins,omitempty"`

	// How long the client's access tokens are good. Default: that of access_token.
	AccessTokenLifetime caddy.Duration `json:"access_token_lifetime,omitempty"`

	// How long an unused refresh token of the client is good. Default: that of refresh_token.
	RefreshTokenLifetime caddy.Duration `json:"refresh_token_lifetime,omitempty"`

	// What the client's access tokens are meant for. Default: that of access_token.
	Audience []string `json:"audience,omitempty"`
}

// User is who may sign in with a password.
type User struct {
	// The name, which is the sub of the user's tokens. Required.
	Name string `json:"name"`

	// The hash of the password that caddy hash-password makes (bcrypt or argon2id), or a placeholder for it. Required.
	PasswordHash string `json:"password_hash"`
}
