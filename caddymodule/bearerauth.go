package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/tokengateway/caddy-token-gateway/accesstoken"
	"github.com/tokengateway/caddy-token-gateway/grants"
)

func init() { caddy.RegisterModule(new(BearerAuth)) }

// BearerAuth lets a request through if it carries a good access token of the oauth app (RFC 6750). A token that was revoked
// is refused from the moment the revocation is answered.
type BearerAuth struct {
	// The scopes that the token has to have, all of them. Default: none.
	Scopes []string `json:"scopes,omitempty"`

	// The audiences of which the token has to name one. Default: every audience that the app gives tokens for.
	Audience []string `json:"audience,omitempty"`

	// Claims to tell the upstream, each in a header. Whatever the client sent under such a name is dropped.
	Headers []*ClaimHeader `json:"headers,omitempty"`

	// Whether the upstream gets the bearer token, too. Default: false.
	ForwardToken bool `json:"forward_token,omitempty"`

	app    *App
	logger *zap.Logger
}

// CaddyModule returns the Caddy module information.
func (*BearerAuth) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.bearer_auth", New: func() caddy.Module { return new(BearerAuth) }}
}

// Provision sets up the handler.
func (h *BearerAuth) Provision(ctx caddy.Context) error {
	app, err := loadApp(ctx)
	if err != nil {
		return err
	}
	h.app = app
	h.logger = ctx.Logger()
	r := resolver{ctx: ctx, repl: caddy.NewReplacer()}
	if h.Audience, err = r.texts("audience", h.Audience, checkAudience); err != nil {
		return err
	}
	if h.Scopes, err = r.texts("scopes", h.Scopes, checkScope); err != nil {
		return err
	}
	for _, header := range h.Headers {
		if header == nil {
			return errors.New("a header is null; remove it")
		}
		if err := errors.Join(checkHeaderName(header.Name), checkClaimName(header.Claim)); err != nil {
			return err
		}
	}
	return nil
}

func (h *BearerAuth) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	for _, header := range h.Headers {
		header.drop(r)
	}
	token, refused := bearerToken(r)
	if refused != nil {
		return h.refuse(w, r, refused)
	}
	claims, refused := h.authenticate(r, token)
	if refused == nil {
		refused = h.tellUpstream(r, claims)
	}
	if refused != nil {
		return h.refuse(w, r, refused)
	}
	r = h.passOn(r, token)
	setUser(r, claims)
	return next.ServeHTTP(w, r)
}

// checkedTokenKey is where a request's context has a token that was taken out of its header.
type checkedTokenKey struct{}

// passOn lets the upstream have the token or not. A bearer_auth further down the route, which asks for more than this one,
// finds it in any case.
func (h *BearerAuth) passOn(r *http.Request, token string) *http.Request {
	if h.ForwardToken {
		r.Header.Set("Authorization", "Bearer "+token)
		return r
	}
	r.Header.Del("Authorization")
	return r.WithContext(context.WithValue(r.Context(), checkedTokenKey{}, token))
}

// authenticate checks the request's token.
func (h *BearerAuth) authenticate(r *http.Request, token string) (*accesstoken.Claims, *refusal) {
	server, err := h.app.Server(r.Context())
	if err != nil {
		return nil, &refusal{status: http.StatusServiceUnavailable, reason: "unavailable", cause: err}
	}
	claims, err := server.CheckAccessToken(token, h.Audience)
	if err != nil {
		return nil, invalidToken(err)
	}
	for _, scope := range h.Scopes {
		if !slices.Contains(claims.Scopes, scope) {
			return nil, &refusal{
				status: http.StatusForbidden, reason: "insufficient_scope", code: "insufficient_scope",
				description: "The token lacks a scope that is needed here.", scope: strings.Join(h.Scopes, " "),
			}
		}
	}
	return claims, nil
}

// bearerToken returns the token in the Authorization header (RFC 6750 §2.1). Tokens in the URL or in a form are not read.
func bearerToken(r *http.Request) (string, *refusal) {
	authorization := r.Header.Values("Authorization")
	if len(authorization) > 1 {
		return "", malformedRequest("The request has more than one Authorization header.")
	}
	if len(authorization) == 0 {
		if token, ok := r.Context().Value(checkedTokenKey{}).(string); ok {
			return token, nil
		}
		return "", &refusal{status: http.StatusUnauthorized, reason: "missing"}
	}
	scheme, token, _ := strings.Cut(authorization[0], " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return "", &refusal{status: http.StatusUnauthorized, reason: "missing"}
	}
	if strings.Contains(token, ",") {
		return "", malformedRequest("The Authorization header holds more than one token.")
	}
	return token, nil
}

func (h *BearerAuth) tellUpstream(r *http.Request, claims *accesstoken.Claims) *refusal {
	for _, header := range h.Headers {
		if err := header.set(r, claims); err != nil {
			return invalidToken(err)
		}
	}
	return nil
}

// setUser sets the placeholders that Caddy's own authentication sets.
func setUser(r *http.Request, claims *accesstoken.Claims) {
	repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	repl.Set("http.auth.user.id", claims.Subject)
	repl.Map(func(placeholder string) (any, bool) {
		claim, ok := strings.CutPrefix(placeholder, "http.auth.user.")
		if !ok {
			return nil, false
		}
		value, _ := claims.Lookup(claim)
		return value, true // empty for a claim that isn't there
	})
}

// refuse answers with a challenge and leaves the rest to the site's error routes. A bad token is nothing that an operator
// has to hear of.
func (h *BearerAuth) refuse(w http.ResponseWriter, r *http.Request, refused *refusal) error {
	repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	repl.Set("http.auth.bearer.error", refused.reason)
	requestID := newRequestID(repl)
	if entry := h.logger.Check(zap.DebugLevel, "bearer token refused"); entry != nil {
		entry.Write(zap.String("request_id", requestID), zap.String("reason", refused.reason), zap.Error(refused.cause))
	}
	w.Header().Set("X-Request-Id", requestID)
	w.Header().Set("Cache-Control", "no-store")
	if refused.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
		return caddyhttp.Error(refused.status, fmt.Errorf("access tokens can't be checked: %w", refused.cause))
	}
	w.Header().Set("WWW-Authenticate", refused.challenge(h.app.config.Issuer))
	return caddyhttp.Error(refused.status, fmt.Errorf("bearer token refused: %s", refused.reason))
}

// UnmarshalCaddyfile sets up the handler from Caddyfile tokens. Syntax:
//
//	bearer_auth [<matcher>] {
//	    scopes <scopes...>
//	    audience <audiences...>
//	    header <name> <claim>
//	    forward_token on|off
//	}
func (h *BearerAuth) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive's name
	if d.NextArg() {
		return d.Errf("bearer_auth takes a matcher and a block; %q is neither", d.Val())
	}
	return eachOption(d, func(name string) (err error) {
		switch name {
		case "scopes":
			h.Scopes, err = checkedValues(d, unlessSymbolic(checkScope))
		case "audience":
			h.Audience, err = checkedValues(d, unlessSymbolic(checkAudience))
		case "header":
			header := new(ClaimHeader)
			err = header.unmarshal(d)
			h.Headers = append(h.Headers, header)
		case "forward_token":
			h.ForwardToken, err = onOff(d)
		default:
			err = unknownOption(d, name, "scopes", "audience", "header", "forward_token")
		}
		return err
	}, "header")
}

func parseBearerAuth(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	auth := new(BearerAuth)
	return auth, auth.UnmarshalCaddyfile(h.Dispenser)
}

// refusal is why a request isn't let through (RFC 6750 §3).
type refusal struct {
	status      int
	reason      string // for the log and for {http.auth.bearer.error}
	code        string // the challenge's error; empty if there was no token
	description string
	scope       string
	cause       error
}

func malformedRequest(description string) *refusal {
	return &refusal{
		status: http.StatusBadRequest, reason: "malformed_request", code: string(grants.InvalidRequest), description: description,
	}
}

func invalidToken(err error) *refusal {
	refused := &refusal{status: http.StatusUnauthorized, reason: "invalid", code: "invalid_token", cause: err}
	if token := (*accesstoken.Error)(nil); errors.As(err, &token) {
		refused.reason, refused.description = string(token.Reason), token.Detail
	}
	return refused
}

// challenge is the WWW-Authenticate header. An attribute is there once and is quoted (RFC 9110 §11.6.1).
func (r *refusal) challenge(realm string) string {
	challenge := "Bearer realm=" + quoted(realm)
	if r.code != "" {
		challenge += ", error=" + quoted(r.code)
	}
	if r.description != "" {
		challenge += ", error_description=" + quoted(r.description)
	}
	if r.scope != "" {
		challenge += ", scope=" + quoted(r.scope)
	}
	return challenge
}

// Interface guards
var (
	_ caddy.Provisioner           = (*BearerAuth)(nil)
	_ caddyhttp.MiddlewareHandler = (*BearerAuth)(nil)
	_ caddyfile.Unmarshaler       = (*BearerAuth)(nil)
)
