package caddymodule

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
)

func init() {
	httpcaddyfile.RegisterGlobalOption("oauth", parseOAuthOption)
	httpcaddyfile.RegisterDirective("oauth_server", parseOAuthServer)
	httpcaddyfile.RegisterHandlerDirective("bearer_auth", parseBearerAuth)
	// Each goes right before basic_auth. So the token endpoint comes before a bearer_auth for the whole site, which would
	// ask for a token where tokens are given out.
	httpcaddyfile.RegisterDirectiveOrder("oauth_server", httpcaddyfile.Before, "basic_auth")
	httpcaddyfile.RegisterDirectiveOrder("bearer_auth", httpcaddyfile.Before, "basic_auth")
}

// parseOAuthOption reads the global option oauth.
func parseOAuthOption(d *caddyfile.Dispenser, existing any) (any, error) {
	if existing != nil {
		d.Next()
		return nil, d.Err("the global option oauth is given twice; put everything into one block")
	}
	app := new(App)
	if err := app.UnmarshalCaddyfile(d); err != nil {
		return nil, err
	}
	return httpcaddyfile.App{Name: "oauth", Value: caddyconfig.JSON(app, nil)}, nil
}

// UnmarshalCaddyfile sets up the app from Caddyfile tokens. Syntax:
//
//	oauth {
//	    issuer <url>
//	    store <name> [<arguments...>]
//	    signing {
//	        algorithm ES256|ES384|RS256|PS256|EdDSA
//	        rotate_every <duration>
//	        key_file <path>
//	    }
//	    access_token {
//	        lifetime <duration>
//	        audience <audiences...>
//	    }
//	    refresh_token {
//	        lifetime <duration>
//	        max_lifetime <duration>
//	        reuse_grace <duration>
//	    }
//	    revocation_headers on|off
//	    revoke_previous_access_token on|off
//	    disable_grant_types <grant_types...>
//	    client <id> {
//	        ...
//	    }
//	    user <name> <password_hash>
//	}
func (a *App) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the option's name
	if d.NextArg() {
		return d.Errf("oauth takes a block and no value; begin it with { and put each option on a line of its own")
	}
	option := func(name string) (err error) {
		switch name {
		case "issuer":
			a.Issuer, err = checkedValue(d, unlessSymbolic(checkIssuer))
		case "store":
			err = a.unmarshalStore(d)
		case "signing":
			a.Signing = new(Signing)
			err = a.Signing.unmarshal(d)
		case "access_token":
			a.AccessToken = new(AccessToken)
			err = a.AccessToken.unmarshal(d)
		case "refresh_token":
			a.RefreshToken = new(RefreshToken)
			err = a.RefreshToken.unmarshal(d)
		case "revocation_headers":
			var on bool
			on, err = onOff(d)
			a.RevocationHeaders = &on
		case "revoke_previous_access_token":
			a.RevokePreviousAccessToken, err = onOff(d)
		case "disable_grant_types":
			a.DisableGrantTypes, err = checkedValues(d, checkGrantType)
		case "client":
			client := new(Client)
			a.Clients = append(a.Clients, client)
			err = client.unmarshal(d, a.ambiguousNames)
		case "user":
			user := new(User)
			a.Users = append(a.Users, user)
			err = user.unmarshal(d, a.ambiguousNames)
		default:
			err = unknownOption(d, name, "issuer", "store", "signing", "access_token", "refresh_token", "revocation_headers",
				"revoke_previous_access_token", "disable_grant_types", "client", "user")
		}
		return err
	}
	if err := eachOption(d, option, "client", "user"); err != nil {
		return err
	}
	if a.Issuer == "" {
		return d.Errf("oauth has no issuer; add one: issuer https://…")
	}
	if err := a.contradictions(); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

func (a *App) unmarshalStore(d *caddyfile.Dispenser) error {
	if !d.NextArg() {
		return d.Errf("store takes the name of a store, such as badger, and what it needs")
	}
	name := d.Val()
	if _, err := caddy.GetModule("oauth.stores." + name); err != nil {
		var known []string
		for _, module := range caddy.GetModules("oauth.stores") {
			known = append(known, module.ID.Name())
		}
		return d.Errf("there is no store %s in this build of Caddy; known: %s", name, strings.Join(known, ", "))
	}
	module, err := caddyfile.UnmarshalModule(d, "oauth.stores."+name)
	if err != nil {
		return err
	}
	a.StoreRaw = caddyconfig.JSONModuleObject(module, "name", name, nil)
	return nil
}

func (s *Signing) unmarshal(d *caddyfile.Dispenser) error {
	if err := blockOnly(d); err != nil {
		return err
	}
	return eachOption(d, func(name string) (err error) {
		switch name {
		case "algorithm":
			s.Algorithm, err = checkedValue(d, checkAlgorithm)
		case "rotate_every":
			var every caddy.Duration
			every, err = duration(d, checkRotateEvery)
			s.RotateEvery = &every
		case "key_file":
			s.KeyFile, err = oneValue(d)
		default:
			err = unknownOption(d, name, "algorithm", "rotate_every", "key_file")
		}
		return err
	})
}

func (a *AccessToken) unmarshal(d *caddyfile.Dispenser) error {
	if err := blockOnly(d); err != nil {
		return err
	}
	return eachOption(d, func(name string) (err error) {
		switch name {
		case "lifetime":
			a.Lifetime, err = duration(d, checkAccessTokenLifetime)
		case "audience":
			a.Audience, err = checkedValues(d, unlessSymbolic(checkAudience))
		default:
			err = unknownOption(d, name, "lifetime", "audience")
		}
		return err
	})
}

func (r *RefreshToken) unmarshal(d *caddyfile.Dispenser) error {
	if err := blockOnly(d); err != nil {
		return err
	}
	return eachOption(d, func(name string) (err error) {
		switch name {
		case "lifetime":
			r.Lifetime, err = duration(d, checkRefreshTokenLifetime)
		case "max_lifetime":
			var lifetime caddy.Duration
			lifetime, err = duration(d, checkMaxLifetime)
			r.MaxLifetime = &lifetime
		case "reuse_grace":
			r.ReuseGrace, err = duration(d, checkReuseGrace)
		default:
			err = unknownOption(d, name, "lifetime", "max_lifetime", "reuse_grace")
		}
		return err
	})
}

// unmarshal reads one client. Syntax:
//
//	client <id> {
//	    public
//	    secret <secret>
//	    secret_hash <hash>
//	    public_key_file <path>
//	    tls_client_subject <distinguished_name>
//	    tls_client_key_sha256 <hexadecimal>
//	    grant_types <grant_types...>
//	    scopes <scopes...>
//	    redirect_uris <uris...>
//	    cors_origins <origins...>
//	    access_token_lifetime <duration>
//	    refresh_token_lifetime <duration>
//	    audience <audiences...>
//	}
//
// ambiguous says whether the ID is taken.
func (c *Client) unmarshal(d *caddyfile.Dispenser, ambiguous func() error) error {
	arguments := d.RemainingArgs()
	if len(arguments) != 1 {
		return d.Errf("client takes an ID and a block")
	}
	c.ID = arguments[0]
	if err := errors.Join(checkClientID(c.ID), ambiguous()); err != nil {
		return d.WrapErr(err)
	}
	err := eachOption(d, func(name string) (err error) {
		switch name {
		case "public":
			c.Public, err = flag(d)
		case "secret":
			err = c.unmarshalSecret(d)
		case "secret_hash":
			c.SecretHash, err = checkedValue(d, unlessSymbolic(func(value string) error { return prefixed(name, checkHash(value)) }))
		case "public_key_file":
			c.PublicKeyFile, err = oneValue(d)
		case "tls_client_subject":
			c.TLSClientSubject, err = oneValue(d)
		case "tls_client_key_sha256":
			c.TLSClientKeySHA256, err = checkedValue(d, func(value string) error {
				_, err := parseSHA256(name, value)
				return err
			})
		case "grant_types":
			c.GrantTypes, err = checkedValues(d, checkGrantType)
		case "scopes":
			c.Scopes, err = checkedValues(d, unlessSymbolic(checkScope))
		case "redirect_uris":
			c.RedirectURIs, err = checkedValues(d, unlessSymbolic(checkRedirectURI))
		case "cors_origins":
			c.CORSOrigins, err = checkedValues(d, unlessSymbolic(checkOrigin))
		case "access_token_lifetime":
			c.AccessTokenLifetime, err = duration(d, checkAccessTokenLifetime)
		case "refresh_token_lifetime":
			c.RefreshTokenLifetime, err = duration(d, checkRefreshTokenLifetime)
		case "audience":
			c.Audience, err = checkedValues(d, unlessSymbolic(checkAudience))
		default:
			err = unknownOption(d, name, "public", "secret", "secret_hash", "public_key_file", "tls_client_subject",
				"tls_client_key_sha256", "grant_types", "scopes", "redirect_uris", "cors_origins", "access_token_lifetime",
				"refresh_token_lifetime", "audience")
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := c.contradictions(); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

// unmarshalSecret keeps a secret that is written out from getting into the adapted configuration, which Caddy saves: only
// its digest does. A placeholder stays as it is.
func (c *Client) unmarshalSecret(d *caddyfile.Dispenser) error {
	secret, err := oneValue(d)
	if err != nil {
		return err
	}
	if symbolic(secret) {
		c.Secret = secret
		return nil
	}
	digest := sha256.Sum256([]byte(secret))
	c.SecretSHA256 = hex.EncodeToString(digest[:])
	return nil
}

// unmarshal reads one user. Syntax:
//
//	user <name> <password_hash>
//
// ambiguous says whether the name is taken.
func (u *User) unmarshal(d *caddyfile.Dispenser, ambiguous func() error) error {
	arguments := d.RemainingArgs()
	if len(arguments) != 2 {
		return d.Errf("user takes a name and the hash of a password, made with: caddy hash-password")
	}
	u.Name, u.PasswordHash = arguments[0], arguments[1]
	if err := errors.Join(checkUserName(u.Name), ambiguous()); err != nil {
		return d.WrapErr(err)
	}
	if symbolic(u.PasswordHash) {
		return nil
	}
	if err := checkHash(u.PasswordHash); err != nil {
		return d.Errf("user %s: %w", u.Name, err)
	}
	return nil
}

// Interface guard
var _ caddyfile.Unmarshaler = (*App)(nil)
