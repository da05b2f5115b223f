package caddymodule

import (
	"fmt"
	"path/filepath"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/tokengateway/caddy-token-gateway/tokenstore"
	"github.com/tokengateway/caddy-token-gateway/tokenstore/badger"
)

func init() { caddy.RegisterModule(new(BadgerStore)) }

// BadgerStore is the embedded store: a Badger database in a directory of its own, for one Caddy process at a time.
type BadgerStore struct {
	// The directory of the database. Default: oauth in Caddy's data directory.
	Directory string `json:"directory,omitempty"`

	database *badgerDatabase
	held     bool // whether Cleanup has a reference to give back
}

// CaddyModule returns the Caddy module information.
func (*BadgerStore) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "oauth.stores.badger", New: func() caddy.Module { return new(BadgerStore) }}
}

// badgerDatabases are the databases in use, by directory. Badger locks its directory, so the configuration that is being
// loaded and the one that it replaces have to share one handle.
var badgerDatabases = caddy.NewUsagePool()

// Provision finds the database's handle. It doesn't open it: a configuration is also provisioned to be validated only,
// beside a server that has the database open.
func (b *BadgerStore) Provision(caddy.Context) error {
	directory := b.Directory
	if directory == "" {
		directory = filepath.Join(caddy.AppDataDir(), "oauth")
	}
	directory, err := caddy.NewReplacer().ReplaceOrErr(directory, true, true)
	if err != nil {
		return fmt.Errorf("badger: directory: %w; set what it stands for before Caddy starts", err)
	}
	if directory, err = filepath.Abs(directory); err != nil {
		return fmt.Errorf("badger: directory: %w", err)
	}
	b.Directory = directory
	if b.database, err = acquireBadger(directory); err != nil {
		return err
	}
	b.held = true
	return nil
}

// acquireBadger takes a reference to a directory's handle. Each is given back with badgerDatabases.Delete.
func acquireBadger(directory string) (*badgerDatabase, error) {
	database, _, err := badgerDatabases.LoadOrNew(directory, func() (caddy.Destructor, error) {
		return &badgerDatabase{directory: directory}, nil
	})
	if err != nil {
		return nil, err
	}
	return database.(*badgerDatabase), nil
}

// Cleanup gives the handle back. Caddy calls it also when Provision has failed; then there is nothing to give back.
func (b *BadgerStore) Cleanup() error {
	if !b.held {
		return nil
	}
	b.held = false
	_, err := badgerDatabases.Delete(b.Directory)
	return err
}

// Open opens the database unless it is open.
func (b *BadgerStore) Open() (tokenstore.Store, error) { return b.database.open() }

// Hold keeps the database open until it is released.
func (b *BadgerStore) Hold() (release func(), err error) {
	database, err := acquireBadger(b.Directory)
	if err != nil {
		return nil, err
	}
	release = func() { _, _ = badgerDatabases.Delete(b.Directory) }
	if database != b.database { // this configuration is gone, and its handle with it
		release()
		return nil, tokenstore.ErrClosed
	}
	return release, nil
}

// UnmarshalCaddyfile sets up the store from Caddyfile tokens. Syntax:
//
//	store badger [<directory>]
func (b *BadgerStore) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the module's name
	if d.NextArg() {
		b.Directory = d.Val()
	}
	if d.NextArg() {
		return d.Errf("store badger takes one directory; put a path with spaces in quotes")
	}
	return eachOption(d, func(name string) error { return unknownOption(d, name) })
}

// badgerDatabase is the handle that configurations share. The last of them to let go closes it.
type badgerDatabase struct {
	directory string

	mu     sync.Mutex
	store  *badger.Store
	closed bool
}

// directoryLocks hold the opening of a database back until the handle before it has closed it.
var directoryLocks sync.Map // directory → *sync.Mutex

func (b *badgerDatabase) open() (tokenstore.Store, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, tokenstore.ErrClosed
	}
	if b.store != nil {
		return b.store, nil
	}
	lock := b.lock()
	lock.Lock()
	store, err := badger.Open(badger.Options{
		Directory: b.directory,
		Logger:    caddy.Log().Named("oauth.stores.badger"),
	})
	if err != nil {
		lock.Unlock()
		return nil, err
	}
	b.store = store
	return store, nil
}

// Destruct closes the database.
func (b *badgerDatabase) Destruct() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	if b.store == nil {
		return nil
	}
	defer b.lock().Unlock()
	return b.store.Close()
}

func (b *badgerDatabase) lock() *sync.Mutex {
	lock, _ := directoryLocks.LoadOrStore(b.directory, new(sync.Mutex))
	return lock.(*sync.Mutex)
}

// Interface guards
var (
	_ Store                 = (*BadgerStore)(nil)
	_ caddy.Provisioner     = (*BadgerStore)(nil)
	_ caddy.CleanerUpper    = (*BadgerStore)(nil)
	_ caddyfile.Unmarshaler = (*BadgerStore)(nil)
)
