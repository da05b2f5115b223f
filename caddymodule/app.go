// Package caddymodule makes the gateway of Caddy: the app that owns the settings and the store, the handler that serves
// the OAuth endpoints, the middleware that checks bearer tokens, and their Caddyfile directives.
package caddymodule

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"go.uber.org/zap"

	"github.com/tokengateway/caddy-token-gateway/grants"
	"github.com/tokengateway/caddy-token-gateway/tokenstore"
)

func init() { caddy.RegisterModule(new(App)) }

// keyRefreshInterval is how often the app looks whether keys are due.
const keyRefreshInterval = time.Minute

// App is an OAuth 2.0 authorization server: its settings, its clients and users, and its store. The handlers oauth_server
// and bearer_auth work on it.
type App struct {
	// The issuer identifier (RFC 8414 §2): an https URL without query and fragment; http is taken on a loopback host.
	// Required.
	Issuer string `json:"issuer,omitempty"`

	// Where tokens and keys are remembered. Default: badger in Caddy's data directory.
	StoreRaw json.RawMessage `json:"store,omitempty" caddy:"namespace=oauth.stores inline_key=name"`

	// How access tokens are signed.
	Signing *Signing `json:"signing,omitempty"`

	// What access tokens are like.
	AccessToken *AccessToken `json:"access_token,omitempty"`

	// What refresh tokens are like.
	RefreshToken *RefreshToken `json:"refresh_token,omitempty"`

	// Whether the revocation endpoint answers with the headers RevokedAccessToken, RevokedRefreshToken and AuthorizedUser.
	// Default: true.
	RevocationHeaders *bool `json:"revocation_headers,omitempty"`

	// Whether a refresh revokes the access token that it replaces. Default: false, so that requests under way survive.
	RevokePreviousAccessToken bool `json:"revoke_previous_access_token,omitempty"`

	// Grant types that are off for every client. refresh_token here means that no refresh tokens are issued or taken.
	DisableGrantTypes []string `json:"disable_grant_types,omitempty"`

	// Who may ask for tokens.
	Clients []*Client `json:"clients,omitempty"`

	// Who may sign in with a password.
	Users []*User `json:"users,omitempty"`

	logger *zap.Logger
	events *caddyevents.App
	ctx    caddy.Context
	store  Store
	config grants.Config

	opening sync.Mutex
	server  atomic.Pointer[grants.Server]

	stop     context.CancelFunc
	finished sync.WaitGroup
}

// Store is a guest module of the namespace oauth.stores: it knows where a tokenstore.Store is and opens it when it is
// first needed.
type Store interface {
	// Open returns the store, which it opens unless that was done before. An error may pass: the next call tries again.
	Open() (tokenstore.Store, error)

	// Hold keeps the store open for a request under way, also while the configuration that the request began under is
	// being replaced.
	Hold() (release func(), err error)
}

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "oauth", New: func() caddy.Module { return new(App) }}
}

// loadApp returns the configuration's app, for the handlers that work on it.
func loadApp(ctx caddy.Context) (*App, error) {
	app, err := ctx.App("oauth")
	if err != nil {
		return nil, err
	}
	return app.(*App), nil
}

// Provision checks the settings. It opens nothing, so that a configuration can be validated beside a running server.
func (a *App) Provision(ctx caddy.Context) error {
	a.ctx = ctx
	a.logger = ctx.Logger()
	events, err := ctx.App("events")
	if err != nil {
		return fmt.Errorf("loading the events app: %w", err)
	}
	a.events = events.(*caddyevents.App)
	if a.config, err = a.provisionConfig(ctx); err != nil {
		return fmt.Errorf("oauth: %w", err)
	}
	if a.StoreRaw == nil {
		a.StoreRaw = json.RawMessage(`{"name":"badger"}`)
	}
	store, err := ctx.LoadModule(a, "StoreRaw")
	if err != nil {
		return fmt.Errorf("oauth: store: %w", err)
	}
	a.store = store.(Store)
	return nil
}

// Start opens the store and begins to look after the keys.
func (a *App) Start() error {
	server, err := a.Server(a.ctx)
	if err != nil {
		return fmt.Errorf("oauth: %w", err)
	}
	ctx, stop := context.WithCancel(a.ctx)
	a.stop = stop
	a.finished.Go(func() { a.refreshKeys(ctx, server) })
	return nil
}

// Stop ends what Start began. The store stays open for the requests under way.
func (a *App) Stop() error {
	if a.stop != nil {
		a.stop()
	}
	a.finished.Wait()
	return nil
}

// Server returns the authorization server. The first call opens the store; that may be a request's if the HTTP app starts
// before this one.
func (a *App) Server(ctx context.Context) (*grants.Server, error) {
	if server := a.server.Load(); server != nil {
		return server, nil
	}
	a.opening.Lock()
	defer a.opening.Unlock()
	if server := a.server.Load(); server != nil {
		return server, nil
	}
	store, err := a.store.Open()
	if err != nil {
		return nil, err
	}
	server, err := grants.New(ctx, a.config, store)
	if err != nil {
		return nil, err
	}
	a.server.Store(server)
	return server, nil
}

func (a *App) refreshKeys(ctx context.Context, server *grants.Server) {
	tick := time.NewTicker(keyRefreshInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := server.RefreshKeys(ctx); err != nil && ctx.Err() == nil {
				a.logger.Error("keys could not be brought up to date; the ones in use stay, the next try is in a minute",
					zap.Error(err))
			}
		}
	}
}

func (a *App) revocationHeaders() bool { return a.RevocationHeaders == nil || *a.RevocationHeaders }

// allowsOrigin reports whether scripts of this origin belong to any client.
func (a *App) allowsOrigin(origin string) bool {
	for _, client := range a.config.Clients {
		if client.AllowsOrigin(origin) {
			return true
		}
	}
	return false
}

// Interface guards
var (
	_ caddy.App         = (*App)(nil)
	_ caddy.Provisioner = (*App)(nil)
)
