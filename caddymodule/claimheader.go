package caddymodule

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"unicode"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"golang.org/x/net/http/httpguts"

	"github.com/tokengateway/caddy-token-gateway/accesstoken"
)

// maxClaimHeader is the length of the longest claim that is put into a header, in bytes.
const maxClaimHeader = 8 << 10

// ClaimHeader tells the upstream a claim of the token in a request header.
type ClaimHeader struct {
	// The header's name. What the client sent under it never gets through, in whatever spelling.
	Name string `json:"name"`

	// The claim's name, exactly. An array of strings is joined by commas; without the claim there is no header.
	Claim string `json:"claim"`
}

// notForClaims are headers that mean something to proxies and servers.
var notForClaims = []string{
	"Authorization", "Connection", "Content-Length", "Content-Type", "Cookie", "Expect", "Host", "Keep-Alive",
	"Proxy-Authorization", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

func checkHeaderName(name string) error {
	if !httpguts.ValidHeaderFieldName(name) {
		return fmt.Errorf("header %q is not a valid header name", name)
	}
	if slices.Contains(notForClaims, textproto.CanonicalMIMEHeaderKey(name)) {
		return fmt.Errorf("header %s has a meaning of its own; choose another, such as X-User-Id", name)
	}
	return nil
}

func checkClaimName(claim string) error {
	if claim == "" || strings.ContainsAny(claim, `"\`) || strings.ContainsFunc(claim, unicode.IsControl) {
		return fmt.Errorf("claim %q is empty, or has quotes, backslashes or control characters", claim)
	}
	return nil
}

// drop removes what the client sent under the header's name. Many upstreams take an underscore for a hyphen, so that
// spelling goes, too. A Connection header that names it would make the proxy drop what is set here.
func (h *ClaimHeader) drop(r *http.Request) {
	for name := range r.Header {
		if h.isSpelt(name) {
			delete(r.Header, name)
		}
	}
	if r.Trailer != nil {
		h.dropTrailer(r.Trailer)
		r.Body = &trailerFilter{r.Body, h, r.Trailer}
	}
	connection := r.Header["Connection"]
	for i, value := range connection {
		options := slices.DeleteFunc(strings.Split(value, ","), func(o string) bool { return h.isSpelt(strings.TrimSpace(o)) })
		connection[i] = strings.Join(options, ",")
	}
}

func (h *ClaimHeader) dropTrailer(trailer http.Header) {
	for name := range trailer {
		if h.isSpelt(name) {
			delete(trailer, name)
		}
	}
}

// trailerFilter is the body of a request with trailers: those arrive when it ends, also ones that were not announced.
type trailerFilter struct {
	io.ReadCloser
	header  *ClaimHeader
	trailer http.Header
}

func (f *trailerFilter) Read(p []byte) (int, error) {
	n, err := f.ReadCloser.Read(p)
	if err != nil {
		f.header.dropTrailer(f.trailer)
	}
	return n, err
}

func (h *ClaimHeader) isSpelt(name string) bool {
	if len(name) != len(h.Name) {
		return false
	}
	return strings.EqualFold(strings.ReplaceAll(name, "_", "-"), strings.ReplaceAll(h.Name, "_", "-"))
}

// set puts the claim into the header.
func (h *ClaimHeader) set(r *http.Request, claims *accesstoken.Claims) error {
	value, ok := claims.Lookup(h.Claim)
	if !ok {
		return nil
	}
	if len(value) > maxClaimHeader || !httpguts.ValidHeaderFieldValue(value) {
		return &accesstoken.Error{Reason: accesstoken.BadClaims, Detail: "A claim of the token can't be passed on in a header."}
	}
	r.Header.Set(h.Name, value)
	return nil
}

func (h *ClaimHeader) unmarshal(d *caddyfile.Dispenser) error {
	arguments := d.RemainingArgs()
	if len(arguments) != 2 {
		return d.Errf("header takes the name of a header and the name of a claim, such as: header X-User-Id sub")
	}
	h.Name, h.Claim = arguments[0], arguments[1]
	if err := errors.Join(checkHeaderName(h.Name), checkClaimName(h.Claim)); err != nil {
		return d.WrapErr(err)
	}
	return nil
}
