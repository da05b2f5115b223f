package caddymodule

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/tokengateway/caddy-token-gateway/grants"
)

func init() { caddy.RegisterModule(new(OAuthServer)) }

// The endpoints, below the base path.
const (
	defaultBasePath = "/oauth2"
	tokenPath       = "/token"
	revokePath      = "/revoke"
	jwksPath        = "/jwks"
)

const revokedRefreshTokenHeader = "RevokedRefreshToken"

// OAuthServer serves the endpoints of the oauth app: token, revoke and jwks below its path, and the metadata document at
// its well-known place. Whatever else is below its path is answered 404; every other request passes through.
type OAuthServer struct {
	// The path that the endpoints are below. Default: /oauth2.
	Path string `json:"path,omitempty"`

	// Whether a proxy in front of Caddy ends TLS, so that the token and revocation endpoints may be called over plain HTTP.
	// Default: false: over plain HTTP they answer on a loopback address only.
	BehindTLSProxy bool `json:"behind_tls_proxy,omitempty"`

	app       *App
	logger    *zap.Logger
	metadata  []byte
	endpoints map[string]func(http.ResponseWriter, *http.Request)
	base      string // the path without a slash at the end, empty for the site's root
}

// CaddyModule returns the Caddy module information.
func (*OAuthServer) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.oauth_server", New: func() caddy.Module { return new(OAuthServer) }}
}

// Provision sets up the handler.
func (h *OAuthServer) Provision(ctx caddy.Context) error {
	app, err := loadApp(ctx)
	if err != nil {
		return err
	}
	h.app = app
	h.logger = ctx.Logger()
	if h.Path == "" {
		h.Path = defaultBasePath
	}
	if err := checkBasePath(h.Path); err != nil {
		return err
	}
	base := strings.TrimSuffix(h.Path, "/")
	issuer := h.app.config.Issuer
	h.app.config.TokenEndpoints = append(h.app.config.TokenEndpoints, endpointURL(issuer, base+tokenPath))
	if h.metadata, err = metadataDocument(&h.app.config, base); err != nil {
		return fmt.Errorf("making the metadata document: %w", err)
	}
	h.base = base
	h.endpoints = map[string]func(http.ResponseWriter, *http.Request){
		base + tokenPath:     h.serveForm(h.token),
		base + revokePath:    h.serveForm(h.revoke),
		base + jwksPath:      h.serveDocument(h.jwks),
		metadataPath(issuer): h.serveDocument(h.metadataDocument),
	}
	return nil
}

func (h *OAuthServer) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	serve, ok := h.endpoints[r.URL.Path]
	if !ok && !h.owns(r.URL.Path) {
		return next.ServeHTTP(w, r)
	}
	if !ok {
		serve = h.noEndpoint
	}
	repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	requestID := newRequestID(repl)
	setCommonHeaders(w.Header(), requestID)
	serve(w, r.WithContext(context.WithValue(r.Context(), requestIDKey{}, requestID)))
	return nil
}

// owns reports whether a path is below the handler's own. The site's root it shares with others.
func (h *OAuthServer) owns(path string) bool {
	rest, ok := strings.CutPrefix(path, h.base)
	return ok && h.base != "" && strings.HasPrefix(rest, "/")
}

// noEndpoint answers for what is below the base path and isn't there. Without it, Caddy would answer with an empty 200.
func (h *OAuthServer) noEndpoint(w http.ResponseWriter, r *http.Request) {
	h.refuse(w, r, http.StatusNotFound, invalidRequest("There is no such endpoint."))
}

// formEndpoint serves a request whose form was read. It answers unless it returns an error.
type formEndpoint func(*exchange) *grants.Error

// exchange is one request to an endpoint that takes a form, and its answer.
type exchange struct {
	w      http.ResponseWriter
	r      *http.Request
	server *grants.Server
	form   form
	auth   grants.ClientAuthentication
}

// serveForm is what the token and the revocation endpoint have in common.
func (h *OAuthServer) serveForm(endpoint formEndpoint) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, r *http.Request) {
		origin := r.Header.Get("Origin")
		w.Header().Add("Vary", "Origin")
		if origin != "" && h.app.allowsOrigin(origin) {
			if isPreflight(r) {
				allowPreflight(w.Header(), origin, http.MethodPost)
				writeNoContent(w)
				return
			}
			allowOrigin(w.Header(), origin)
		}
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			h.refuse(w, r, http.StatusMethodNotAllowed, invalidRequest("Send a POST request."))
			return
		}
		if refused := h.exchange(w, r, endpoint); refused != nil {
			h.refuse(w, r, statusOf(refused), refused)
		}
	}
}

func (h *OAuthServer) exchange(w http.ResponseWriter, r *http.Request, endpoint formEndpoint) *grants.Error {
	if !h.secure(r) {
		return invalidRequest("This endpoint is served over HTTPS only.")
	}
	f, refused := readForm(w, r)
	if refused != nil {
		return refused
	}
	auth, refused := clientAuthentication(r, f)
	if refused != nil {
		return refused
	}
	release, err := h.app.store.Hold()
	if err != nil {
		return grants.Unavailable(err)
	}
	defer release()
	server, err := h.app.Server(r.Context())
	if err != nil {
		return grants.Unavailable(err)
	}
	return endpoint(&exchange{w: w, r: r, server: server, form: f, auth: auth})
}

// token is the token endpoint (RFC 6749 §3.2).
func (h *OAuthServer) token(x *exchange) *grants.Error {
	response, client, refused := x.server.Token(x.r.Context(), grants.TokenRequest{
		Client:       x.auth,
		GrantType:    x.form.get("grant_type"),
		Scope:        x.form.get("scope"),
		Resources:    x.form.resources,
		Username:     x.form.get("username"),
		Password:     x.form.get("password"),
		RefreshToken: x.form.get("refresh_token"),
	})
	x.narrowOrigin(client)
	if refused != nil {
		return refused
	}
	writeToken(x.w, response)
	return nil
}

// revoke is the revocation endpoint (RFC 7009 §2).
func (h *OAuthServer) revoke(x *exchange) *grants.Error {
	result, client, refused := x.server.Revoke(x.r.Context(), grants.RevocationRequest{
		Client: x.auth,
		Token:  x.form.get("token"),
		Hint:   x.form.get("token_type_hint"),
	})
	x.narrowOrigin(client)
	if refused != nil {
		return refused
	}
	header := x.w.Header()
	if h.app.revocationHeaders() {
		setUnlessEmpty(header, "RevokedAccessToken", result.AccessToken)
		setUnlessEmpty(header, revokedRefreshTokenHeader, result.RefreshToken)
		setUnlessEmpty(header, "AuthorizedUser", result.Subject)
	}
	header.Set("Content-Length", "0")
	x.w.WriteHeader(http.StatusOK)
	// The access log lists an answer's headers after the fact; no token, not even a dead one, is to stand there.
	_ = http.NewResponseController(x.w).Flush()
	delete(header, revokedRefreshTokenHeader)
	return nil
}

// narrowOrigin takes back what a cross-origin request was allowed if the client that it came as doesn't know its origin.
func (x *exchange) narrowOrigin(client *grants.Client) {
	if client != nil && !client.AllowsOrigin(x.r.Header.Get("Origin")) {
		x.w.Header().Del("Access-Control-Allow-Origin")
		x.w.Header().Del("Access-Control-Expose-Headers")
	}
}

func setUnlessEmpty(h http.Header, name, value string) {
	if value != "" {
		// The source system's spelling, not Go's canonical one; HTTP/1 clients that compare exactly exist.
		h[name] = []string{value}
	}
}

// serveDocument serves a document that everybody may read.
func (h *OAuthServer) serveDocument(document func(*http.Request) ([]byte, error)) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, r *http.Request) {
		if isPreflight(r) {
			allowPreflight(w.Header(), "*", http.MethodGet)
			writeNoContent(w)
			return
		}
		allowOrigin(w.Header(), "*")
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			h.refuse(w, r, http.StatusMethodNotAllowed, invalidRequest("Send a GET request."))
			return
		}
		body, err := document(r)
		if err != nil {
			refused := grants.Unavailable(err)
			h.refuse(w, r, statusOf(refused), refused)
			return
		}
		w.Header().Set("Cache-Control", "public, max-age=300")
		w.Header().Del("Pragma")
		writeJSON(w, http.StatusOK, body)
	}
}

func (h *OAuthServer) jwks(r *http.Request) ([]byte, error) {
	server, err := h.app.Server(r.Context())
	if err != nil {
		return nil, err
	}
	return server.PublicKeys().JWKS(), nil
}

func (h *OAuthServer) metadataDocument(*http.Request) ([]byte, error) { return h.metadata, nil }

// refuse answers with an error, and logs why: what a client did wrong for who looks for it, what we failed at for
// everybody.
func (h *OAuthServer) refuse(w http.ResponseWriter, r *http.Request, status int, refused *grants.Error) {
	level := zap.DebugLevel
	if status >= http.StatusInternalServerError && refused.Cause != nil && r.Context().Err() == nil { // not one who hung up
		level = zap.ErrorLevel
	}
	if entry := h.logger.Check(level, "request refused"); entry != nil {
		entry.Write(
			zap.String("request_id", requestIDOf(r.Context())),
			zap.String("path", r.URL.Path),
			zap.String("error", string(refused.Code)),
			zap.String("description", refused.Description),
			zap.NamedError("cause", refused.Cause),
		)
	}
	writeError(w, status, refused, h.app.config.Issuer)
}

// secure reports whether a request may carry secrets: it came over TLS, or didn't leave the machine (RFC 6749 §3.2).
func (h *OAuthServer) secure(r *http.Request) bool {
	if r.TLS != nil || h.BehindTLSProxy {
		return true
	}
	switch address := r.Context().Value(http.LocalAddrContextKey).(type) {
	case *net.TCPAddr:
		local, ok := netip.AddrFromSlice(address.IP)
		return ok && local.Unmap().IsLoopback()
	case *net.UnixAddr:
		return true
	default:
		return false
	}
}

// UnmarshalCaddyfile sets up the handler from Caddyfile tokens. Syntax:
//
//	oauth_server [<path>] {
//	    behind_tls_proxy
//	}
func (h *OAuthServer) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive's name
	if d.NextArg() {
		h.Path = d.Val()
		if strings.HasPrefix(h.Path, "@") {
			return d.Errf("oauth_server takes no matcher, only the path of its endpoints; put it into a handle block")
		}
		if err := checkBasePath(h.Path); err != nil {
			return d.WrapErr(err)
		}
	}
	if d.NextArg() {
		return d.Errf("oauth_server takes one path")
	}
	return eachOption(d, func(name string) (err error) {
		if name != "behind_tls_proxy" {
			return unknownOption(d, name, "behind_tls_proxy")
		}
		h.BehindTLSProxy, err = flag(d)
		return err
	})
}

// parseOAuthServer takes the path for the endpoints' own: a handler directive would make a request matcher of it.
func parseOAuthServer(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	server := new(OAuthServer)
	if err := server.UnmarshalCaddyfile(h.Dispenser); err != nil {
		return nil, err
	}
	return h.NewRoute(nil, server), nil
}

// Interface guards
var (
	_ caddy.Provisioner           = (*OAuthServer)(nil)
	_ caddyhttp.MiddlewareHandler = (*OAuthServer)(nil)
	_ caddyfile.Unmarshaler       = (*OAuthServer)(nil)
)
