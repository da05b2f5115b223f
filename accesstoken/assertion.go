package accesstoken

import "time"

// maxAssertionLifetime is how far away the expiry of a client's assertion may be, so that the record of its one use is
// short-lived.
const maxAssertionLifetime = 10 * time.Minute

// AssertedSubject returns the sub of a client's assertion before anything about it is verified: it says which client's
// keys to verify it with. The error is an *Error.
func AssertedSubject(assertion string) (string, error) {
	s, refused := open(assertion)
	if refused != nil {
		return "", refused
	}
	c, refused := parseClaims(s.payload)
	if refused != nil {
		return "", refused
	}
	return c.Subject, nil
}

// VerifyAssertion checks the signature, the form and the times of a JWT that a client authenticates with (RFC 7523 §3).
// Issuer, subject, audience and single use are for the caller to check. The error is an *Error.
func VerifyAssertion(assertion string, keys *KeySet, now time.Time) (*Claims, error) {
	s, refused := open(assertion)
	if refused != nil {
		return nil, refused
	}
	if refused := s.verify(keys); refused != nil {
		return nil, refused
	}
	c, refused := parseClaims(s.payload)
	if refused != nil {
		return nil, refused
	}
	if c.TokenID == "" || c.Expiry.IsZero() {
		return nil, refuse(BadClaims, "The assertion lacks its jti or its exp.")
	}
	if c.Expiry.Sub(now) > maxAssertionLifetime {
		return nil, refuse(BadClaims, "The assertion's exp is too far away.")
	}
	if refused := c.checkTimes(now); refused != nil {
		return nil, refused
	}
	return c, nil
}
