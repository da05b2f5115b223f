package caddymodule

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/caddyauth"
	"go.uber.org/zap"

	"github.com/tokengateway/caddy-token-gateway/accesstoken"
	"github.com/tokengateway/caddy-token-gateway/grants"
)

// The defaults of the settings.
const (
	defaultAccessTokenLifetime  = time.Hour
	defaultRefreshTokenLifetime = 24 * time.Hour
	defaultMaxLifetime          = 30 * 24 * time.Hour
	defaultRotateEvery          = 90 * 24 * time.Hour
	defaultScope                = "default"
)

// resolver turns settings as they are written into what they stand for.
type resolver struct {
	ctx  caddy.Context
	repl *caddy.Replacer
}

// text resolves the placeholders in a value. What they stand for never gets into the error.
func (r resolver) text(what, value string) (string, error) {
	if !symbolic(value) {
		return value, nil
	}
	resolved, err := r.repl.ReplaceOrErr(value, true, true)
	if err != nil {
		return "", fmt.Errorf("%s: %w; set what it stands for before Caddy starts", what, err)
	}
	return resolved, nil
}

// maxValues is how many scopes or audiences there may be: they are in every session's record.
const maxValues = 1000

// texts resolves several values and checks each.
func (r resolver) texts(what string, values []string, check func(string) error) ([]string, error) {
	if len(values) > maxValues {
		return nil, fmt.Errorf("%s: there are %d, more than %d", what, len(values), maxValues)
	}
	resolved := make([]string, 0, len(values))
	for _, value := range values {
		value, err := r.text(what, value)
		if err != nil {
			return nil, err
		}
		if err := check(value); err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		resolved = append(resolved, value)
	}
	return resolved, nil
}

// file resolves a path and reads the file. The error names the path.
func (r resolver) file(what, path string) ([]byte, string, error) {
	path, err := r.text(what, path)
	if err != nil {
		return nil, "", err
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", what, err)
	}
	return content, path, nil
}

// hash makes a credential of a hash by Caddy's own hash module.
func (r resolver) hash(what, value string) (*grants.Credential, error) {
	value, err := r.text(what, value)
	if err != nil {
		return nil, err
	}
	value = strings.TrimSpace(value) // a file's last line break
	if err := checkHash(value); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	module := "http.authentication.hashes.bcrypt"
	if strings.HasPrefix(value, "$argon2id$") {
		module = "http.authentication.hashes.argon2id"
	}
	loaded, err := r.ctx.LoadModuleByID(module, nil)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return grants.HashCredential([]byte(value), loaded.(caddyauth.Comparer)), nil
}

// provisionConfig checks every setting and returns what the authorization server works with.
func (a *App) provisionConfig(ctx caddy.Context) (grants.Config, error) {
	r := resolver{ctx: ctx, repl: caddy.NewReplacer()}
	config := grants.Config{
		RevokePreviousAccessToken: a.RevokePreviousAccessToken,
		DisabledGrantTypes:        a.DisableGrantTypes,
		Observe:                   a.observe,
	}
	if a.Issuer == "" {
		return config, errors.New("there is no issuer; set one in the global option oauth: issuer https://…")
	}
	if err := a.contradictions(); err != nil {
		return config, err
	}
	for _, grantType := range a.DisableGrantTypes {
		if err := checkGrantType(grantType); err != nil {
			return config, fmt.Errorf("disable_grant_types: %w", err)
		}
	}
	var err error
	if config.Issuer, err = r.text("issuer", a.Issuer); err != nil {
		return config, err
	}
	if err := checkIssuer(config.Issuer); err != nil {
		return config, err
	}
	if err := a.provisionLifetimes(&config); err != nil {
		return config, err
	}
	if a.AccessToken.Audience, err = r.texts("access_token: audience", a.AccessToken.Audience, checkAudience); err != nil {
		return config, err
	}
	if config.Keyring, err = a.provisionSigning(r); err != nil {
		return config, fmt.Errorf("signing: %w", err)
	}
	for _, c := range a.Clients {
		client, err := a.provisionClient(r, c)
		if err != nil {
			return config, fmt.Errorf("client %q: %w", c.ID, err)
		}
		config.Clients = append(config.Clients, client)
		config.Keyring.LongestToken = max(config.Keyring.LongestToken, client.AccessTokenLifetime)
	}
	for _, u := range a.Users {
		user := &grants.User{Name: u.Name}
		if err := checkUserName(u.Name); err != nil {
			return config, err
		}
		if user.Password, err = r.hash("password hash", u.PasswordHash); err != nil {
			return config, fmt.Errorf("user %q: %w", u.Name, err)
		}
		config.Users = append(config.Users, user)
	}
	return config, nil
}

func (a *App) provisionLifetimes(config *grants.Config) error {
	if a.AccessToken == nil {
		a.AccessToken = new(AccessToken)
	}
	if a.RefreshToken == nil {
		a.RefreshToken = new(RefreshToken)
	}
	config.MaxLifetime = optional(a.RefreshToken.MaxLifetime, defaultMaxLifetime)
	config.ReuseGrace = time.Duration(a.RefreshToken.ReuseGrace)
	return errors.Join(
		prefixed("access_token", checkAccessTokenLifetime(firstDuration(0, a.AccessToken.Lifetime, defaultAccessTokenLifetime))),
		prefixed("refresh_token", checkRefreshTokenLifetime(firstDuration(0, a.RefreshToken.Lifetime, defaultRefreshTokenLifetime))),
		prefixed("refresh_token", checkMaxLifetime(config.MaxLifetime)),
		prefixed("refresh_token", checkReuseGrace(config.ReuseGrace)),
	)
}

// prefixed says where an error is from; nil stays nil.
func prefixed(where string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", where, err)
}

func (a *App) provisionSigning(r resolver) (grants.KeyringConfig, error) {
	signing := a.Signing
	if signing == nil {
		signing = new(Signing)
	}
	config := grants.KeyringConfig{
		Algorithm:   accesstoken.Algorithm(signing.Algorithm),
		RotateEvery: optional(signing.RotateEvery, defaultRotateEvery),
	}
	if signing.Algorithm != "" {
		if err := checkAlgorithm(signing.Algorithm); err != nil {
			return config, err
		}
	}
	if err := checkRotateEvery(config.RotateEvery); err != nil {
		return config, err
	}
	if signing.KeyFile != "" {
		content, path, err := r.file("key_file", signing.KeyFile)
		if err != nil {
			return config, err
		}
		if config.FileKeys, err = accesstoken.ParsePrivateKeys(content, config.Algorithm); err != nil {
			return config, fmt.Errorf("key_file %s: %w", path, err)
		}
	}
	config.Algorithm = cmp.Or(config.Algorithm, accesstoken.ES256)
	return config, nil
}

func (a *App) provisionClient(r resolver, c *Client) (client *grants.Client, err error) {
	client = &grants.Client{
		ID:                   c.ID,
		Public:               c.Public,
		GrantTypes:           c.GrantTypes,
		AccessTokenLifetime:  firstDuration(c.AccessTokenLifetime, a.AccessToken.Lifetime, defaultAccessTokenLifetime),
		RefreshTokenLifetime: firstDuration(c.RefreshTokenLifetime, a.RefreshToken.Lifetime, defaultRefreshTokenLifetime),
	}
	for _, grantType := range c.GrantTypes {
		if err := checkGrantType(grantType); err != nil {
			return nil, err
		}
	}
	if slices.Contains(c.GrantTypes, grants.AuthorizationCode) {
		r.ctx.Logger().Warn("the grant type authorization_code is reserved: no endpoint serves it yet", zap.String("client", c.ID))
	}
	if client.Scopes, err = r.texts("scopes", c.Scopes, checkScope); err != nil {
		return nil, err
	}
	if len(client.Scopes) == 0 {
		client.Scopes = []string{defaultScope}
	}
	audience := c.Audience
	if len(audience) == 0 {
		audience = a.AccessToken.Audience
	}
	if client.Audience, err = r.texts("audience", audience, checkAudience); err != nil {
		return nil, err
	}
	if len(client.Audience) == 0 {
		client.Audience = []string{c.ID}
	}
	if client.CORSOrigins, err = r.texts("cors_origins", c.CORSOrigins, checkOrigin); err != nil {
		return nil, err
	}
	if _, err = r.texts("redirect_uris", c.RedirectURIs, checkRedirectURI); err != nil {
		return nil, err
	}
	return client, errors.Join(
		checkClientID(c.ID),
		checkAccessTokenLifetime(client.AccessTokenLifetime),
		checkRefreshTokenLifetime(client.RefreshTokenLifetime),
		c.provisionProof(r, client),
	)
}

// provisionProof takes over how the client proves who it is. contradictions has seen to it that there is one way.
func (c *Client) provisionProof(r resolver, client *grants.Client) (err error) {
	switch {
	case c.Secret != "":
		secret, err := r.text("secret", c.Secret)
		if err != nil {
			return err
		}
		// A file that holds a secret usually ends in a line break.
		secret = strings.TrimRight(secret, "\r\n")
		if secret == "" {
			return errors.New("secret: there is nothing but line breaks in it")
		}
		client.Secret = grants.DigestCredential(sha256.Sum256([]byte(secret)))
	case c.SecretSHA256 != "":
		digest, err := parseSHA256("secret_sha256", c.SecretSHA256)
		if err != nil {
			return err
		}
		client.Secret = grants.DigestCredential(digest)
	case c.SecretHash != "":
		client.Secret, err = r.hash("secret_hash", c.SecretHash)
	case c.PublicKeyFile != "":
		content, path, err := r.file("public_key_file", c.PublicKeyFile)
		if err != nil {
			return err
		}
		keys, err := accesstoken.ParsePublicKeys(content)
		if err != nil {
			return fmt.Errorf("public_key_file %s: %w", path, err)
		}
		client.Keys = accesstoken.NewKeySet(keys...)
	case c.TLSClientSubject != "":
		subject, err := r.text("tls_client_subject", c.TLSClientSubject)
		if err != nil {
			return err
		}
		client.Certificate = &grants.CertificateRule{Subject: subject}
	case c.TLSClientKeySHA256 != "":
		digest, err := parseSHA256("tls_client_key_sha256", c.TLSClientKeySHA256)
		if err != nil {
			return err
		}
		client.Certificate = &grants.CertificateRule{KeySHA256: digest}
	}
	return err
}

func parseSHA256(what, text string) (digest [sha256.Size]byte, err error) {
	n, err := hex.Decode(digest[:], []byte(text[:min(len(text), 2*sha256.Size)]))
	if err != nil || n != sha256.Size || len(text) != 2*sha256.Size {
		return digest, fmt.Errorf("%s is not a SHA-256 in hexadecimal (%d digits)", what, 2*sha256.Size)
	}
	return digest, nil
}

// optional returns a setting whose zero has a meaning of its own.
func optional(d *caddy.Duration, otherwise time.Duration) time.Duration {
	if d == nil {
		return otherwise
	}
	return time.Duration(*d)
}

func firstDuration(own, general caddy.Duration, otherwise time.Duration) time.Duration {
	return cmp.Or(time.Duration(own), time.Duration(general), otherwise)
}
