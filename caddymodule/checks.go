package caddymodule

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/caddyauth"
	"golang.org/x/crypto/bcrypt"

	"github.com/tokengateway/caddy-token-gateway/accesstoken"
	"github.com/tokengateway/caddy-token-gateway/grants"
)

// What a setting may be. The Caddyfile asks these as soon as a value is written out, so that the error names its line;
// provisioning asks them again, for JSON and for what placeholders stand for.

// The bounds of settings.
const (
	maxAccessTokenLifetime = accesstoken.MaxLifetime
	maxReuseGrace          = 60 * time.Second
	minRotateEvery         = time.Hour
)

// placeholder is the form of those that Caddy knows outside of a request, {env.…}, {file.…} and the like; one that is
// misspelt is to be an error and no value. Other braces are what they are: secrets may have them.
var placeholder = regexp.MustCompile(`\{[A-Za-z_][A-Za-z0-9_]*\.[^{}]+\}`)

// symbolic reports whether a value holds a placeholder, so that it isn't known before provisioning.
func symbolic(value string) bool { return placeholder.MatchString(value) }

func checkIssuer(issuer string) error {
	u, err := url.Parse(issuer)
	if strings.Contains(issuer, "@") { // not repeated: a password may be in it
		return errors.New("the issuer is not a URL of the form https://host[:port][/path]: it has an @")
	}
	if err != nil || u.Host == "" || u.RawQuery != "" || u.ForceQuery || strings.Contains(issuer, "#") {
		return fmt.Errorf("issuer %q is not a URL of the form https://host[:port][/path]", issuer)
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname())) {
		return fmt.Errorf("issuer %q has to begin with https://; http:// is taken for localhost only", issuer)
	}
	return nil
}

func isLoopback(host string) bool {
	address, err := netip.ParseAddr(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || err == nil && address.IsLoopback()
}

func checkAlgorithm(algorithm string) error {
	if !slices.Contains(accesstoken.Algorithms, accesstoken.Algorithm(algorithm)) {
		return fmt.Errorf("algorithm %q is not one of %v", algorithm, accesstoken.Algorithms)
	}
	return nil
}

func checkRotateEvery(d time.Duration) error {
	if d != 0 && d < minRotateEvery {
		return fmt.Errorf("rotate_every %s is shorter than %s (0 means never)", readable(d), readable(minRotateEvery))
	}
	return nil
}

func checkAccessTokenLifetime(d time.Duration) error {
	if d < time.Second || d > maxAccessTokenLifetime || d%time.Second != 0 {
		return fmt.Errorf("an access token's lifetime has to be whole seconds, from 1s to %s, not %s",
			readable(maxAccessTokenLifetime), readable(d))
	}
	return nil
}

func checkRefreshTokenLifetime(d time.Duration) error {
	if d < time.Second {
		return fmt.Errorf("a refresh token's lifetime has to be at least 1s, not %s", readable(d))
	}
	return nil
}

func checkMaxLifetime(d time.Duration) error {
	if d != 0 && d < time.Second {
		return fmt.Errorf("max_lifetime has to be at least 1s, or 0 for no limit, not %s", readable(d))
	}
	return nil
}

func checkReuseGrace(d time.Duration) error {
	if d < 0 || d > maxReuseGrace || d%time.Second != 0 {
		return fmt.Errorf("reuse_grace has to be whole seconds, from 0s to %s, not %s", readable(maxReuseGrace), readable(d))
	}
	return nil
}

// readable writes a duration as one would write it in a Caddyfile.
func readable(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= day && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func checkGrantType(grantType string) error {
	if !slices.Contains(grants.GrantTypes, grantType) {
		return fmt.Errorf("grant type %q is not one of %s", grantType, strings.Join(grants.GrantTypes, ", "))
	}
	return nil
}

func checkScope(scope string) error {
	if !grants.ValidScope(scope) {
		return fmt.Errorf("scope %q has characters other than visible ASCII, or a quote or a backslash (RFC 6749 §3.3)", scope)
	}
	return nil
}

func checkAudience(audience string) error {
	if audience == "" || !printable(audience) {
		return fmt.Errorf("audience %q is empty or has control characters", audience)
	}
	return nil
}

// checkClientID allows what RFC 6749 App. A.1 does.
func checkClientID(id string) error {
	if symbolic(id) {
		return fmt.Errorf("client ID %q: placeholders aren't taken here; write the ID out", id)
	}
	for i := range len(id) {
		if id[i] < 0x20 || id[i] > 0x7e {
			return fmt.Errorf("client ID %q has characters other than printable ASCII", id)
		}
	}
	if id == "" {
		return errors.New("a client has no ID")
	}
	return nil
}

func checkUserName(name string) error {
	if symbolic(name) {
		return fmt.Errorf("user name %q: placeholders aren't taken here; write the name out", name)
	}
	if name == "" || !printable(name) {
		return fmt.Errorf("user name %q is empty or has control characters", name)
	}
	return nil
}

// checkHash tells nothing of the value: it may be the password itself, put there by mistake.
func checkHash(hash string) error {
	_, _, notArgon2 := caddyauth.DecodeHash([]byte(hash))
	_, notBcrypt := bcrypt.Cost([]byte(hash))
	if notArgon2 != nil && notBcrypt != nil {
		return errors.New("the value is not a bcrypt or argon2id hash; make one with: caddy hash-password")
	}
	return nil
}

func checkOrigin(origin string) error {
	u, err := url.Parse(origin)
	if err != nil || u.Scheme == "" || u.Host == "" || u.Scheme+"://"+u.Host != origin || strings.ToLower(origin) != origin {
		return fmt.Errorf("origin %q is not of the form https://host[:port], in lower case and without a path", origin)
	}
	return nil
}

func checkRedirectURI(uri string) error {
	u, err := url.Parse(uri)
	if err != nil || !u.IsAbs() || strings.Contains(uri, "#") {
		return fmt.Errorf("redirect URI %q is not an absolute URI without a fragment", uri)
	}
	return nil
}

func checkBasePath(path string) error {
	if !strings.HasPrefix(path, "/") || path != "/" && strings.HasSuffix(path, "/") || strings.ContainsAny(path, "*?#{}% ") ||
		strings.Contains(path, "//") {
		return fmt.Errorf("path %q has to begin with a slash, must not end with one, and is taken literally", path)
	}
	return nil
}

func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// contradictions says what of a client's settings doesn't go together. Values are looked at elsewhere.
func (c *Client) contradictions() error {
	var proofs []string
	for name, value := range map[string]string{
		"secret": c.Secret + c.SecretSHA256, "secret_hash": c.SecretHash, "public_key_file": c.PublicKeyFile,
		"tls_client_subject": c.TLSClientSubject, "tls_client_key_sha256": c.TLSClientKeySHA256,
	} {
		if value != "" {
			proofs = append(proofs, name)
		}
	}
	slices.Sort(proofs)
	switch {
	case c.Secret != "" && c.SecretSHA256 != "":
		return fmt.Errorf("client %q has both secret and secret_sha256; keep one", c.ID)
	case c.Public && len(proofs) > 0:
		return fmt.Errorf("client %q is public and has a %s; remove one of the two", c.ID, proofs[0])
	case !c.Public && len(proofs) == 0:
		return fmt.Errorf("client %q has no secret; give it a secret or a secret_hash, or mark it public", c.ID)
	case len(proofs) > 1:
		return fmt.Errorf("client %q has more than one of %s; keep one", c.ID, strings.Join(proofs, ", "))
	case len(c.GrantTypes) == 0:
		return fmt.Errorf("client %q has no grant_types; list what it may use: %s", c.ID, strings.Join(grants.GrantTypes, ", "))
	case c.Public && slices.Contains(c.GrantTypes, grants.ClientCredentials):
		return fmt.Errorf("client %q is public and lists client_credentials, which is for clients with a secret (RFC 6749 §4.4)", c.ID)
	}
	return nil
}

// contradictions says what of the app's settings doesn't go together.
func (a *App) contradictions() error {
	if slices.Contains(a.Clients, nil) || slices.Contains(a.Users, nil) {
		return errors.New("a client or a user is null; remove it")
	}
	if err := a.ambiguousNames(); err != nil {
		return err
	}
	for _, client := range a.Clients {
		if err := client.contradictions(); err != nil {
			return err
		}
		if slices.Contains(client.GrantTypes, grants.Password) && len(a.Users) == 0 {
			return fmt.Errorf("client %q lists the grant type password, and there is no user; add one: user <name> <hash>", client.ID)
		}
	}
	return nil
}

// ambiguousNames says which name stands for more than one client or user.
func (a *App) ambiguousNames() error {
	subjects := make(map[string]string)
	for _, client := range a.Clients {
		if _, twice := subjects[client.ID]; twice {
			return fmt.Errorf("client %q is there twice; keep one of them", client.ID)
		}
		subjects[client.ID] = "client"
	}
	for _, user := range a.Users {
		switch subjects[user.Name] {
		case "client":
			return fmt.Errorf("user %q has the name of a client; the client could pose as the user, so rename one of them", user.Name)
		case "user":
			return fmt.Errorf("user %q is there twice; keep one of them", user.Name)
		}
		subjects[user.Name] = "user"
	}
	return nil
}
