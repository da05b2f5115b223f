package grants

import (
	"fmt"
	"time"
)

// Code is an OAuth error code.
type Code string

// The error codes that the endpoints answer with.
const (
	InvalidRequest         Code = "invalid_request"         // RFC 6749 §5.2
	InvalidClient          Code = "invalid_client"          // RFC 6749 §5.2
	InvalidGrant           Code = "invalid_grant"           // RFC 6749 §5.2
	UnauthorizedClient     Code = "unauthorized_client"     // RFC 6749 §5.2
	UnsupportedGrantType   Code = "unsupported_grant_type"  // RFC 6749 §5.2
	InvalidScope           Code = "invalid_scope"           // RFC 6749 §5.2
	InvalidTarget          Code = "invalid_target"          // RFC 8707 §2
	TemporarilyUnavailable Code = "temporarily_unavailable" // RFC 6749 §4.1.2.1
	ServerError            Code = "server_error"            // RFC 6749 §4.1.2.1
)

// Error is why a request was refused.
type Error struct {
	Code Code

	// Description is for the developer of the client. It is plain ASCII without quotes and backslashes (RFC 6749 §5.2),
	// and tells nothing that an attacker could use.
	Description string

	// Cause is for the operator's log and never sent.
	Cause error

	// RetryAfter is how long the client should wait before it tries again; zero if that is of no use.
	RetryAfter time.Duration

	// Throttled says that the request was refused because too many before it failed.
	Throttled bool
}

func (e *Error) Error() string {
	if e.Cause == nil {
		return fmt.Sprintf("%s: %s", e.Code, e.Description)
	}
	return fmt.Sprintf("%s: %s (%v)", e.Code, e.Description, e.Cause)
}

func (e *Error) Unwrap() error { return e.Cause }

func refuse(code Code, description string) *Error {
	return &Error{Code: code, Description: description}
}

func (e *Error) because(format string, args ...any) *Error {
	e.Cause = fmt.Errorf(format, args...)
	return e
}

// refuseToken is the one answer to every refresh token that can't be used: which of the reasons it was is the operator's
// to know, not the presenter's.
func refuseToken(format string, args ...any) *Error {
	return refuse(InvalidGrant, "The refresh token is not valid: it is unknown, expired, used, revoked or another client's.").
		because(format, args...)
}

// Unavailable is the answer when the store, or anything else that a request needs, has failed.
func Unavailable(cause error) *Error {
	return &Error{
		Code:        TemporarilyUnavailable,
		Description: "The request could not be carried out just now. Try again in a moment.",
		Cause:       cause,
		RetryAfter:  time.Second,
	}
}
