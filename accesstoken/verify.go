package accesstoken

import (
	"slices"
	"time"
)

// MaxLifetime is the longest life that a token may have left. A token with more wasn't made by a sound issuer.
const MaxLifetime = 366 * 24 * time.Hour

// clockSkew is how far the clock of whoever made a token may be ahead of this one. It lengthens no token's life.
const clockSkew = 5 * time.Second

// Verifier checks access tokens of one issuer.
type Verifier struct {
	// Issuer is what iss has to be, to the letter.
	Issuer string
}

// Verify checks a token as RFC 9068 §4 asks: that it is Authentic, and that this is its time. It is not told what the token
// is wanted for: audience and scope are for the caller to check, and whether it was revoked. The error is an *Error.
func (v Verifier) Verify(token string, keys *KeySet, now time.Time) (*Claims, error) {
	c, err := v.Authentic(token, keys)
	if err != nil {
		return nil, err
	}
	if refused := c.checkTimes(now); refused != nil {
		return nil, refused
	}
	return c, nil
}

// Authentic checks a token's form, type, key, signature, issuer and claims, but not its times: it may have expired long
// ago. The error is an *Error.
func (v Verifier) Authentic(token string, keys *KeySet) (*Claims, error) {
	s, refused := open(token)
	if refused != nil {
		return nil, refused
	}
	if !s.header.isType("at+jwt") {
		return nil, refuse(WrongType, "The token's typ is not at+jwt: it is not an access token.")
	}
	if refused := s.verify(keys); refused != nil {
		return nil, refused
	}
	c, refused := parseClaims(s.payload)
	if refused != nil {
		return nil, refused
	}
	if c.Issuer != v.Issuer {
		return nil, refuse(WrongIssuer, "The token is from another issuer.")
	}
	if c.Subject == "" || c.ClientID == "" || c.TokenID == "" || len(c.Audience) == 0 || slices.Contains(c.Audience, "") ||
		c.IssuedAt.IsZero() || c.Expiry.IsZero() {
		return nil, refuse(BadClaims, "The token lacks a required claim.")
	}
	return c, nil
}

// checkTimes checks exp, nbf and iat: a token is good from nbf on and until just before exp (RFC 7519 §4.1.4, §4.1.5), and
// wasn't made in the future.
func (c *Claims) checkTimes(now time.Time) *Error {
	switch {
	case !now.Before(c.Expiry):
		return refuse(Expired, "The token has expired.")
	case c.Expiry.Sub(now) > MaxLifetime:
		return refuse(BadClaims, "The token's exp is too far away.")
	case c.NotBefore.After(now.Add(clockSkew)), c.IssuedAt.After(now.Add(clockSkew)):
		return refuse(NotYetValid, "The token is not valid yet.")
	}
	return nil
}
