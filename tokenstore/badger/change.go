package badger

import (
	"context"
	"errors"
	"fmt"

	badgerdb "github.com/dgraph-io/badger/v4"

	"github.com/tokengateway/caddy-token-gateway/tokenstore"
)

// maxGroup is how many changes are committed together at the most.
const maxGroup = 512

// change is one call that writes.
//
// One goroutine commits for all of them: it takes the changes that wait, applies each in order inside one transaction,
// commits, syncs once and then answers each caller. So racing compare-and-swaps of one record meet in order, need no
// retries, and the cost of the sync, which is all the cost there is, is shared.
type change struct {
	ctx context.Context

	// apply reads and writes through the transaction. ErrConflict and ErrNotFound it returns before its first write, for
	// the transaction goes on without it; after any other error nothing that it wrote is kept.
	apply func(txn *badgerdb.Txn) error

	// durable is called after the commit and before the caller hears of it; nil for nothing to do.
	durable func()

	err    error
	answer chan error
}

// update applies a change and waits until it is durable.
func (s *Store) update(ctx context.Context, apply func(txn *badgerdb.Txn) error, durable func()) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.open.RUnlock()
	c := &change{ctx: ctx, apply: apply, durable: durable, answer: make(chan error, 1)}
	select {
	case s.changes <- c:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-c.answer:
		return err
	case <-ctx.Done():
		return fmt.Errorf("waiting for the commit: %w", ctx.Err())
	}
}

func (s *Store) commitLoop() {
	group := make([]*change, 0, maxGroup)
	for first := range s.changes {
		group = append(group[:0], first)
	gather:
		for len(group) < maxGroup {
			select {
			case next, ok := <-s.changes:
				if !ok {
					break gather
				}
				group = append(group, next)
			default:
				break gather
			}
		}
		s.commit(group)
		clear(group)
	}
}

// commit makes a group of changes durable and answers their callers. If the commit fails, it fails for all of them: also
// for one that lost its compare-and-swap, since it may have lost to one that now isn't there.
func (s *Store) commit(group []*change) {
	if err := s.checkSpace(); err != nil {
		fail(group, err)
		return
	}
	txn := s.db.NewTransaction(true)
	defer txn.Discard()
	for _, c := range group {
		if c.err = c.ctx.Err(); c.err != nil {
			continue // the caller has gone; a change that nobody hears of is better not made
		}
		c.err = c.apply(txn)
		if c.err != nil && !errors.Is(c.err, tokenstore.ErrConflict) && !errors.Is(c.err, tokenstore.ErrNotFound) {
			// It failed half-way, or the transaction is full: start again with fewer, until it fails alone.
			txn.Discard()
			s.commitApart(group)
			return
		}
	}
	if err := s.commitTxn(txn); err != nil {
		// Badger shows what it wrote before it is synced. After a failed sync nobody knows what is on disk, and what can be
		// read may be what was answered as failed: nothing is to be answered from it.
		err = fmt.Errorf("the Badger store in %s failed to commit and answers nothing more; mend the disk and restart: %w", s.directory, err)
		s.failure.Store(&err)
		fail(group, err)
		return
	}
	for _, c := range group {
		if c.err == nil && c.durable != nil {
			c.durable()
		}
		c.answer <- c.err
	}
}

func fail(group []*change, err error) {
	for _, c := range group {
		c.answer <- err
	}
}

// commitApart commits a group whose transaction was given up in two halves. A single change has failed for good.
func (s *Store) commitApart(group []*change) {
	if len(group) == 1 {
		group[0].answer <- group[0].err
		return
	}
	s.commit(group[:len(group)/2])
	s.commit(group[len(group)/2:])
}
