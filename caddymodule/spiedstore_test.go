package caddymodule_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/google/uuid"

	"github.com/tokengateway/caddy-token-gateway/caddymodule"
	"github.com/tokengateway/caddy-token-gateway/tokenstore"
	"github.com/tokengateway/caddy-token-gateway/tokenstore/badger"
)

// spiedStore is a store module for tests: Badger, but it counts how often it is asked, and its disk breaks when told to.
type spiedStore struct {
	Directory string `json:"directory"`
}

// spiedDatabase is the tokenstore.Store of a spiedStore.
type spiedDatabase struct {
	tokenstore.Store

	mu            sync.Mutex // for opening and closing
	calls         atomic.Int64
	reads, writes atomic.Bool // whether they fail
}

// spiedDatabases is where tests and modules meet: the databases by directory.
var spiedDatabases sync.Map

var errDisk = errors.New("input/output error")

func init() { caddy.RegisterModule(new(spiedStore)) }

// startOnSpiedStore runs Caddy with these options on such a store.
func startOnSpiedStore(t *testing.T, options string) (*gateway, *spiedDatabase) {
	t.Helper()
	g := prepare(t)
	database := g.spy()
	g.load(strings.Replace(g.caddyfile(options, usualSite), "store badger", "store spied", 1))
	return g, database
}

// spy returns the database that a gateway with "store spied" will have.
func (g *gateway) spy() *spiedDatabase {
	database := new(spiedDatabase)
	spiedDatabases.Store(g.store, database)
	return database
}

func (*spiedStore) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "oauth.stores.spied", New: func() caddy.Module { return new(spiedStore) }}
}

func (s *spiedStore) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the module's name
	if !d.AllArgs(&s.Directory) {
		return d.ArgErr()
	}
	return nil
}

func (s *spiedStore) database() *spiedDatabase {
	database, _ := spiedDatabases.Load(s.Directory)
	return database.(*spiedDatabase)
}

func (s *spiedStore) Open() (tokenstore.Store, error) {
	d := s.database()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.Store != nil {
		return d, nil
	}
	store, err := badger.Open(badger.Options{Directory: s.Directory})
	if err != nil {
		return nil, err
	}
	d.Store = store
	return d, nil
}

func (*spiedStore) Hold() (release func(), err error) { return func() {}, nil }

func (s *spiedStore) Cleanup() error {
	d := s.database()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.Store == nil {
		return nil
	}
	defer func() { d.Store = nil }()
	return d.Close()
}

// ask counts a call and says whether it fails.
func (d *spiedDatabase) ask(fails *atomic.Bool) error {
	d.calls.Add(1)
	if fails.Load() {
		return errDisk
	}
	return nil
}

func (d *spiedDatabase) Family(ctx context.Context, id uuid.UUID) (*tokenstore.Family, error) {
	if err := d.ask(&d.reads); err != nil {
		return nil, err
	}
	return d.Store.Family(ctx, id)
}

func (d *spiedDatabase) CreateFamily(ctx context.Context, family *tokenstore.Family) error {
	if err := d.ask(&d.writes); err != nil {
		return err
	}
	return d.Store.CreateFamily(ctx, family)
}

func (d *spiedDatabase) RotateFamily(ctx context.Context, from, to *tokenstore.Family, revocations ...tokenstore.Revocation) error {
	if err := d.ask(&d.writes); err != nil {
		return err
	}
	return d.Store.RotateFamily(ctx, from, to, revocations...)
}

func (d *spiedDatabase) Revoke(ctx context.Context, revocation tokenstore.Revocation) error {
	if err := d.ask(&d.writes); err != nil {
		return err
	}
	return d.Store.Revoke(ctx, revocation)
}

// Interface guards
var (
	_ caddymodule.Store     = (*spiedStore)(nil)
	_ caddy.CleanerUpper    = (*spiedStore)(nil)
	_ caddyfile.Unmarshaler = (*spiedStore)(nil)
)
