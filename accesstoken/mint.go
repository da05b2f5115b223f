package accesstoken

import (
	"encoding/base64"
	"fmt"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// Mint writes and signs an access token. Members stand in one fixed order. A token of a usual size costs its signature
// and a handful of allocations.
func (k *Key) Mint(c *Claims) (string, error) {
	if k.signer == nil {
		return "", fmt.Errorf("key %s can only verify", k.ID)
	}
	payload, err := appendClaims(make([]byte, 0, 512), c)
	if err != nil {
		return "", fmt.Errorf("writing the token's claims: %w", err)
	}
	size := len(k.header) + base64.RawURLEncoding.EncodedLen(len(payload)) + 1 + base64.RawURLEncoding.EncodedLen(k.signatureSize)
	if size > MaxLength {
		return "", fmt.Errorf("the token would have %d bytes, more than %d", size, MaxLength)
	}
	token := make([]byte, 0, size)
	token = append(token, k.header...)
	token = base64.RawURLEncoding.AppendEncode(token, payload)
	signature, err := k.sign(token)
	if err != nil {
		return "", fmt.Errorf("signing the token: %w", err)
	}
	token = append(token, '.')
	return string(base64.RawURLEncoding.AppendEncode(token, signature)), nil
}

func appendClaims(b []byte, c *Claims) ([]byte, error) {
	w := claimWriter{b: append(b, '{')}
	w.text("iss", c.Issuer)
	w.text("sub", c.Subject)
	w.audience(c.Audience)
	w.text("client_id", c.ClientID)
	w.text("azp", c.ClientID)
	w.optionalText("aut", c.UserType)
	w.seconds("iat", c.IssuedAt.Unix())
	if !c.NotBefore.IsZero() {
		w.seconds("nbf", c.NotBefore.Unix())
	}
	w.seconds("exp", c.Expiry.Unix())
	w.text("jti", c.TokenID)
	w.scope(c.Scopes)
	w.optionalText("sid", c.FamilyID)
	return append(w.b, '}'), w.err
}

// claimWriter appends members to a JSON object and keeps the first error.
type claimWriter struct {
	b   []byte
	err error
}

func (w *claimWriter) name(name string) {
	if w.b[len(w.b)-1] != '{' {
		w.b = append(w.b, ',')
	}
	w.b = append(w.b, '"')
	w.b = append(w.b, name...)
	w.b = append(w.b, '"', ':')
}

func (w *claimWriter) quote(value string) {
	var err error
	if w.b, err = jsontext.AppendQuote(w.b, value); err != nil && w.err == nil {
		w.err = err
	}
}

func (w *claimWriter) text(name, value string) {
	w.name(name)
	w.quote(value)
}

func (w *claimWriter) optionalText(name, value string) {
	if value != "" {
		w.text(name, value)
	}
}

func (w *claimWriter) seconds(name string, value int64) {
	w.name(name)
	w.b = strconv.AppendInt(w.b, value, 10)
}

func (w *claimWriter) audience(audience []string) {
	w.name("aud")
	if len(audience) == 1 {
		w.quote(audience[0])
		return
	}
	w.b = append(w.b, '[')
	for i, a := range audience {
		if i > 0 {
			w.b = append(w.b, ',')
		}
		w.quote(a)
	}
	w.b = append(w.b, ']')
}

// scope writes the scopes, separated by spaces. They hold no character that JSON escapes (RFC 6749 §3.3).
func (w *claimWriter) scope(scopes []string) {
	w.name("scope")
	w.b = append(w.b, '"')
	for i, s := range scopes {
		if i > 0 {
			w.b = append(w.b, ' ')
		}
		w.b = append(w.b, s...)
	}
	w.b = append(w.b, '"')
}
