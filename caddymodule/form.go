package caddymodule

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tokengateway/caddy-token-gateway/grants"
)

const (
	// maxBody is the size of the largest request body that is read.
	maxBody = 64 << 10

	// bodyTimeout is how long a client may take to send it.
	bodyTimeout = 10 * time.Second
)

// form is what a client sent to an endpoint: each parameter that the endpoints know, at most once. The map holds no empty
// values: empty means absent (RFC 6749 §3.2).
type form struct {
	values    map[string]string
	resources []string // the one parameter that may be repeated (RFC 8707 §2)
}

func (f form) get(name string) string { return f.values[name] }

// knownParameters are the ones that count; all others are ignored (RFC 6749 §3.2).
var knownParameters = map[string]bool{
	"grant_type": true, "scope": true, "username": true, "password": true, "refresh_token": true,
	"client_id": true, "client_secret": true, "client_assertion_type": true, "client_assertion": true,
	"token": true, "token_type_hint": true, "resource": true,
}

// readForm reads the form in a request's body. Parameters in the URL are never read.
func readForm(w http.ResponseWriter, r *http.Request) (form, *grants.Error) {
	mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || mediaType != "application/x-www-form-urlencoded" || len(r.Header.Values("Content-Type")) > 1 {
		return form{}, invalidRequest("The Content-Type has to be application/x-www-form-urlencoded.")
	}
	body, err := io.ReadAll(&timedReader{http.MaxBytesReader(w, r.Body, maxBody), time.Now().Add(bodyTimeout)})
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return form{}, invalidRequest("The request body is larger than 64 KiB.")
	}
	if err != nil {
		return form{}, invalidRequest("The request body did not arrive whole and in time.")
	}
	return parseForm(string(body))
}

// timedReader fails when the whole takes too long. A single read that takes too long is Caddy's to end.
type timedReader struct {
	io.Reader
	deadline time.Time
}

func (t *timedReader) Read(p []byte) (int, error) {
	if time.Now().After(t.deadline) {
		return 0, os.ErrDeadlineExceeded
	}
	return t.Reader.Read(p)
}

// parseForm reads the application/x-www-form-urlencoded form of RFC 6749 App. B.
func parseForm(body string) (form, *grants.Error) {
	f := form{values: make(map[string]string)}
	for pair := range strings.SplitSeq(body, "&") {
		rawName, rawValue, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(rawName)
		if err != nil {
			return form{}, invalidRequest("The form has a name that is not percent-encoded as it should be.")
		}
		if !knownParameters[name] {
			continue
		}
		value, err := url.QueryUnescape(rawValue)
		if err != nil || !utf8.ValidString(value) {
			return form{}, invalidRequest("The value of " + name + " is not percent-encoded UTF-8.")
		}
		if value == "" {
			continue
		}
		if name == "resource" {
			f.resources = append(f.resources, value)
			continue
		}
		if _, twice := f.values[name]; twice {
			return form{}, invalidRequest("The parameter " + name + " is there twice.")
		}
		f.values[name] = value
	}
	return f, nil
}

func invalidRequest(description string) *grants.Error {
	return &grants.Error{Code: grants.InvalidRequest, Description: description}
}
