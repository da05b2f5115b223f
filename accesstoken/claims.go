package accesstoken

import (
	"bytes"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// Claims is what an access token says (RFC 9068 §2.2).
type Claims struct {
	Issuer   string    // iss
	Subject  string    // sub
	Audience []string  // aud; a single one is written as a string
	ClientID string    // client_id, and azp in tokens that are minted
	UserType string    // aut: "APPLICATION" or "APPLICATION_USER"; empty if there is none
	Scopes   []string  // scope
	TokenID  string    // jti
	FamilyID string    // sid; empty for a token without a family
	IssuedAt time.Time // iat, to the second
	// NotBefore is nbf, to the second; zero if there is none.
	NotBefore time.Time
	Expiry    time.Time // exp, to the second

	payload []byte
}

// parseClaims reads a token's payload and checks that every claim it knows is of the right type. Whether required claims
// are there, is not its business.
func parseClaims(payload []byte) (*Claims, *Error) {
	c := &Claims{payload: payload}
	var wrong string
	err := eachMember(payload, func(name string, value jsontext.Value) error {
		if !c.set(name, value) {
			wrong = name
		}
		return nil
	})
	if err != nil {
		return nil, refuse(Malformed, "The token's payload is not a sound JSON object.")
	}
	if wrong != "" {
		return nil, refuse(BadClaims, "The token's claim "+wrong+" is not acceptable.")
	}
	return c, nil
}

func (c *Claims) set(name string, value jsontext.Value) (ok bool) {
	switch name {
	case "iss":
		c.Issuer, ok = text(value)
	case "sub":
		c.Subject, ok = text(value)
	case "client_id":
		c.ClientID, ok = text(value)
	case "aut":
		c.UserType, ok = text(value)
	case "jti":
		c.TokenID, ok = text(value)
	case "sid":
		c.FamilyID, ok = text(value)
	case "scope":
		var scope string
		if scope, ok = text(value); ok {
			c.Scopes = strings.FieldsFunc(scope, func(r rune) bool { return r == ' ' }) // RFC 6749 §3.3: no other white space
		}
	case "aud":
		if value.Kind() == jsontext.KindString {
			var audience string
			audience, ok = text(value)
			c.Audience = []string{audience}
		} else {
			c.Audience, ok = texts(value)
		}
	case "iat":
		c.IssuedAt, ok = date(value)
	case "nbf":
		c.NotBefore, ok = date(value)
	case "exp":
		c.Expiry, ok = date(value)
	default:
		ok = true
	}
	return ok
}

func date(value jsontext.Value) (time.Time, bool) {
	seconds, ok := numericDate(value)
	return time.Unix(seconds, 0), ok
}

// Lookup returns the claim of exactly this name as text: a string as it is, a number, true or false as JSON has it, an
// array of strings joined by commas. ok is false if there is no such claim or if it is anything else.
func (c *Claims) Lookup(name string) (value string, ok bool) {
	// An error can't be: parseClaims has read the payload.
	_ = eachMember(c.payload, func(member string, v jsontext.Value) error {
		if member != name {
			return nil
		}
		switch v.Kind() {
		case jsontext.KindString:
			value, ok = text(v)
		case jsontext.KindNumber, jsontext.KindTrue, jsontext.KindFalse:
			value, ok = string(bytes.Clone(v)), true
		case jsontext.KindBeginArray:
			var all []string
			if all, ok = texts(v); ok {
				value = strings.Join(all, ",")
			}
		}
		return nil
	})
	return value, ok
}
