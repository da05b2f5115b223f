package caddymodule

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tokengateway/caddy-token-gateway/grants"
)

// setCommonHeaders sets what every answer of the endpoints carries.
func setCommonHeaders(h http.Header, requestID string) {
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("Pragma", "no-cache")
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Request-Id", requestID)
}

func writeJSON(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // who doesn't take the answer has gone
}

// tokenJSON is a success of the token endpoint (RFC 6749 §5.1).
type tokenJSON struct {
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token,omitempty"`
	Scope        string `json:"scope"`
	TokenType    string `json:"token_type"`
	ExpiresIn    int64  `json:"expires_in"`
}

func writeToken(w http.ResponseWriter, response *grants.TokenResponse) {
	body, _ := json.Marshal(tokenJSON{ // can't fail: strings and a number
		AccessToken:  response.AccessToken,
		RefreshToken: response.RefreshToken,
		Scope:        strings.Join(response.Scopes, " "),
		TokenType:    "Bearer",
		ExpiresIn:    int64(response.ExpiresIn / time.Second),
	})
	writeJSON(w, http.StatusOK, body)
}

// errorJSON is an error of the endpoints (RFC 6749 §5.2).
type errorJSON struct {
	Code        grants.Code `json:"error"`
	Description string      `json:"error_description"`
}

// writeError answers with an error. realm names the gateway in the challenge of a 401.
func writeError(w http.ResponseWriter, status int, refused *grants.Error, realm string) {
	body, _ := json.Marshal(errorJSON{refused.Code, refused.Description}) // can't fail: strings
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Basic realm="+quoted(realm))
	}
	if refused.RetryAfter > 0 {
		seconds := (refused.RetryAfter + time.Second - 1) / time.Second
		w.Header().Set("Retry-After", strconv.Itoa(int(seconds)))
	}
	writeJSON(w, status, body)
}

// statusOf is 400 unless something else is said (RFC 6749 §5.2).
func statusOf(refused *grants.Error) int {
	switch {
	case refused.Throttled:
		return http.StatusTooManyRequests
	case refused.Code == grants.InvalidClient:
		return http.StatusUnauthorized
	case refused.Code == grants.TemporarilyUnavailable:
		return http.StatusServiceUnavailable
	case refused.Code == grants.ServerError:
		return http.StatusInternalServerError
	default:
		return http.StatusBadRequest
	}
}

// quoted makes a quoted-string of RFC 9110 §5.6.4. Control characters and whatever isn't ASCII become question marks.
func quoted(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteRune(c)
		case c < 0x20 || c > 0x7e:
			b.WriteByte('?')
		default:
			b.WriteRune(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}
