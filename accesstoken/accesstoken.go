// Package accesstoken makes and checks the gateway's access tokens: JWTs in the profile of RFC 9068.
//
// It is the only package that imports jwx, and it asks jwx for three things only: to read and write JSON Web Keys, to
// sign bytes and to verify the signature of bytes. Whatever arrives from outside passes the canonical-form gate of this
// package first (compact.go, header.go, claims.go), so that no token that a stricter reader would refuse ever reaches
// the library, and what is verified is exactly what was received.
package accesstoken

// Algorithm is a JWS signature algorithm (RFC 7518 §3.1, RFC 8037 §3.1).
type Algorithm string

// The algorithms that the gateway signs and verifies with. There is no "none" and no HMAC.
const (
	ES256 Algorithm = "ES256"
	ES384 Algorithm = "ES384"
	RS256 Algorithm = "RS256"
	PS256 Algorithm = "PS256"
	EdDSA Algorithm = "EdDSA"
)

// Algorithms are all of them, the default first.
var Algorithms = []Algorithm{ES256, ES384, RS256, PS256, EdDSA}

// Reason says in a word why a token was refused. It is fit for a metric's label.
type Reason string

// The reasons for refusing a token.
const (
	Malformed     Reason = "malformed"
	WrongType     Reason = "wrong_type"
	WrongKey      Reason = "wrong_key"
	BadSignature  Reason = "bad_signature"
	WrongIssuer   Reason = "wrong_issuer"
	WrongAudience Reason = "wrong_audience"
	BadClaims     Reason = "bad_claims"
	Expired       Reason = "expired"
	NotYetValid   Reason = "not_yet_valid"
	Revoked       Reason = "revoked"
)

// Error says that a token is not acceptable. It holds nothing of the token but names of claims and of header members, so
// that it may be logged and shown to the client.
type Error struct {
	Reason Reason
	Detail string // a sentence fit for an error_description
}

func (e *Error) Error() string { return e.Detail }

func refuse(reason Reason, detail string) *Error { return &Error{Reason: reason, Detail: detail} }
