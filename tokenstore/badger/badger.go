// Package badger is the embedded store: one Badger database in one directory, used by one process at a time.
package badger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	badgerdb "github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"go.uber.org/zap"

	"github.com/tokengateway/caddy-token-gateway/tokenstore"
)

// format is the version of the records' layout, kept in the database. A later version of the gateway that changes the
// layout raises it and converts older databases; a database that is newer than the gateway is refused.
const format = 1

// sweepInterval is how often the revocations that expired leave memory.
const sweepInterval = time.Minute

// Options say where the database is and what it runs with.
type Options struct {
	// Directory holds the database and nothing else. It is made if it isn't there.
	Directory string

	// Logger gets Badger's own messages; nil for none.
	Logger *zap.Logger

	// Clock tells the time; nil for the machine's.
	Clock func() time.Time

	// FreeSpace tells how many bytes may still be written to the directory's file system; nil for asking the system.
	FreeSpace func(directory string) (uint64, error)
}

// Store is a tokenstore.Store on Badger.
type Store struct {
	db          *badgerdb.DB
	directory   string
	freeSpace   func(directory string) (uint64, error)
	clock       func() time.Time
	revocations *tokenstore.RevocationSet

	// open is held for reading by every call under way, and for writing by Close.
	open   sync.RWMutex
	closed bool

	// failure is why the store answers nothing more; nil while it does.
	failure   atomic.Pointer[error]
	commitTxn func(txn *badgerdb.Txn) error

	changes  chan *change
	stop     chan struct{}
	finished sync.WaitGroup
}

// Open opens the database in a directory, or makes a new one there. The error says what to do where that can be known.
func Open(o Options) (*Store, error) {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	if err := prepareDirectory(o.Directory); err != nil {
		return nil, fmt.Errorf("preparing the store's directory: %w", err)
	}
	if o.FreeSpace == nil {
		o.FreeSpace = freeSpace
	}
	if err := checkSpace(o.Directory, o.FreeSpace); err != nil {
		return nil, fmt.Errorf("opening the Badger store: %w", err)
	}
	db, err := badgerdb.Open(databaseOptions(o))
	if err != nil && strings.Contains(err.Error(), "Cannot acquire directory lock") {
		return nil, fmt.Errorf("opening the Badger store in %s: another process is using it, and a directory serves one at a time: %w",
			o.Directory, err)
	}
	if err != nil {
		return nil, fmt.Errorf("opening the Badger store in %s: %w", o.Directory, err)
	}
	s := &Store{
		db:          db,
		directory:   o.Directory,
		freeSpace:   o.FreeSpace,
		clock:       o.Clock,
		revocations: tokenstore.NewRevocationSet(),
		commitTxn:   (*badgerdb.Txn).Commit,
		changes:     make(chan *change, maxGroup),
		stop:        make(chan struct{}),
	}
	if err := errors.Join(s.checkFormat(), s.loadRevocations()); err != nil {
		return nil, fmt.Errorf("reading the Badger store in %s: %w", o.Directory, errors.Join(err, db.Close()))
	}
	s.finished.Go(s.commitLoop)
	s.finished.Go(s.sweepLoop)
	return s, nil
}

// prepareDirectory makes the directory, or closes one that is there to others: the database holds private keys, and
// Badger's files are readable by everybody who gets at them. A directory that serves something else is left alone.
func prepareDirectory(directory string) error {
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(directory)
	if err != nil {
		return err
	}
	if i := slices.IndexFunc(entries, func(e os.DirEntry) bool { return !isBadgers(e.Name()) }); i >= 0 {
		return fmt.Errorf("%s holds something else, %s: give the store a directory of its own", directory, entries[i].Name())
	}
	found, err := os.Stat(directory)
	if err != nil || found.Mode().Perm()&0o077 == 0 {
		return err
	}
	if err := os.Chmod(directory, found.Mode().Perm()&^0o077); err != nil {
		return fmt.Errorf("it has to belong to the user that the gateway runs as: %w", err)
	}
	return nil
}

// isBadgers reports whether a file is one that Badger makes, or one that stands at the root of every file system.
func isBadgers(name string) bool {
	switch filepath.Ext(name) {
	case ".mem", ".sst", ".vlog":
		return true
	}
	return slices.Contains([]string{"DISCARD", "KEYREGISTRY", "LOCK", "REWRITE-KEYREGISTRY", "lost+found"}, name) ||
		strings.HasPrefix(name, badgerdb.ManifestFilename)
}

// databaseOptions are chosen for a proxy with small records, not for a database server.
func databaseOptions(o Options) badgerdb.Options {
	return badgerdb.DefaultOptions(o.Directory).
		WithSyncWrites(true).
		WithDetectConflicts(false). // there is one committer, see change.go
		WithNumVersionsToKeep(1).
		WithMemTableSize(16 << 20).
		WithNumMemtables(2).
		WithValueLogFileSize(16 << 20). // stays empty: values are far below the threshold
		WithCompression(options.None).  // hashes and identifiers don't compress
		WithBlockCacheSize(0).          // serves compression and encryption only
		WithMetricsEnabled(false).
		WithLogger(badgerLogger{o.Logger.Sugar()})
}

// Revocations is the set of all live revocations in memory.
func (s *Store) Revocations() *tokenstore.RevocationSet { return s.revocations }

// Close waits for the calls under way and closes the database.
func (s *Store) Close() error {
	s.open.Lock()
	defer s.open.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	close(s.stop)
	close(s.changes)
	s.finished.Wait()
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("closing the Badger store: %w", err)
	}
	return nil
}

// enter begins a call; the caller ends it with s.open.RUnlock. Badger panics when some of its calls meet a closed
// database, so none may.
func (s *Store) enter() error {
	s.open.RLock()
	if s.closed {
		s.open.RUnlock()
		return tokenstore.ErrClosed
	}
	if failure := s.failure.Load(); failure != nil {
		s.open.RUnlock()
		return *failure
	}
	return nil
}

// view runs a read-only transaction.
func (s *Store) view(ctx context.Context, read func(txn *badgerdb.Txn) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.enter(); err != nil {
		return err
	}
	defer s.open.RUnlock()
	return s.db.View(read)
}

func (s *Store) checkFormat() error {
	return s.db.Update(func(txn *badgerdb.Txn) error {
		found, err := get(txn, formatKey)
		if errors.Is(err, tokenstore.ErrNotFound) {
			return txn.Set(formatKey, []byte{format})
		}
		if err != nil {
			return err
		}
		if !bytes.Equal(found, []byte{format}) {
			return fmt.Errorf("its records have the format %x and this gateway knows %d: run the version that wrote it", found, format)
		}
		return nil
	})
}

func (s *Store) loadRevocations() error {
	return s.db.View(func(txn *badgerdb.Txn) error {
		return scan(txn, []byte{revocationPrefix}, func(key, value []byte) error {
			revocation, err := tokenstore.DecodeRevocation(value)
			if err != nil {
				return fmt.Errorf("damaged revocation %x: %w", key, err)
			}
			s.revocations.Add(revocation)
			return nil
		})
	})
}

func (s *Store) sweepLoop() {
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
			s.revocations.Sweep(s.clock())
		}
	}
}

// badgerLogger hands Badger's messages to zap. What Badger thinks worth an Info is Debug to a gateway's operator.
type badgerLogger struct{ log *zap.SugaredLogger }

func (l badgerLogger) Errorf(format string, args ...any)   { l.log.Errorf(format, args...) }
func (l badgerLogger) Warningf(format string, args ...any) { l.log.Warnf(format, args...) }
func (l badgerLogger) Infof(format string, args ...any)    { l.log.Debugf(format, args...) }
func (l badgerLogger) Debugf(format string, args ...any)   { l.log.Debugf(format, args...) }

// Interface guard
var _ tokenstore.Store = (*Store)(nil)
