package badger

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	badgerdb "github.com/dgraph-io/badger/v4"
	"github.com/google/uuid"

	"github.com/tokengateway/caddy-token-gateway/tokenstore"
)

// Every key begins with a byte that says what its record is.
const (
	familyPrefix     = 'f' // + family ID → tokenstore.Family
	revocationPrefix = 'r' // + kind + ID or name → tokenstore.Revocation
	keyPrefix        = 'k' // + use + number, big endian → tokenstore.Key
	usedPrefix       = 'u' // + identifier → nothing
)

var formatKey = []byte("format")

// ttlMargin is how much longer than its expiry a record is kept. Whether something has expired is decided by its reader's
// clock; Badger's own only decides when the space is taken back, to the second.
const ttlMargin = time.Minute

// maxTTL is as good as never.
const maxTTL = 100 * 365 * 24 * time.Hour

func familyKey(id uuid.UUID) []byte { return append([]byte{familyPrefix}, id[:]...) }

func revocationKey(r tokenstore.Revocation) []byte {
	key := []byte{revocationPrefix, byte(r.Kind)}
	if r.Kind == tokenstore.RevokedToken || r.Kind == tokenstore.RevokedFamily {
		return append(key, r.ID[:]...)
	}
	return append(key, r.Name...)
}

func keyKey(use tokenstore.KeyUse, number uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{keyPrefix, byte(use)}, number)
}

// CreateFamily records a new family.
func (s *Store) CreateFamily(ctx context.Context, family *tokenstore.Family) error {
	encoded, err := family.Encode()
	if err != nil {
		return fmt.Errorf("encoding family %s: %w", family.ID, err)
	}
	key, keepUntil := familyKey(family.ID), family.KeepUntil()
	return s.update(ctx, func(txn *badgerdb.Txn) error {
		if err := absent(txn, key); err != nil {
			return err
		}
		return s.set(txn, key, encoded, keepUntil)
	}, nil)
}

// Family returns the family with this ID.
func (s *Store) Family(ctx context.Context, id uuid.UUID) (family *tokenstore.Family, err error) {
	err = s.view(ctx, func(txn *badgerdb.Txn) error {
		family, err = readFamily(txn, id)
		return err
	})
	return family, err
}

// RotateFamily replaces the family from by to.
func (s *Store) RotateFamily(ctx context.Context, from, to *tokenstore.Family, revocations ...tokenstore.Revocation) error {
	encoded, err := to.Encode()
	if err != nil {
		return fmt.Errorf("encoding family %s: %w", to.ID, err)
	}
	// A caller that gives up waiting may change what it gave us before the change is applied.
	id, generation, secretHash, keepUntil := from.ID, from.Generation, from.SecretHash, to.KeepUntil()
	revocations = slices.Clone(revocations)
	return s.update(ctx, func(txn *badgerdb.Txn) error {
		current, err := readFamily(txn, id)
		if err != nil {
			return err
		}
		if current.Generation != generation || current.SecretHash != secretHash {
			return tokenstore.ErrConflict
		}
		if err := s.set(txn, familyKey(id), encoded, keepUntil); err != nil {
			return err
		}
		return s.record(txn, revocations)
	}, func() { s.publish(revocations) })
}

// Revoke records a revocation.
func (s *Store) Revoke(ctx context.Context, revocation tokenstore.Revocation) error {
	revocations := []tokenstore.Revocation{revocation}
	return s.update(ctx, func(txn *badgerdb.Txn) error {
		if revocation.Kind == tokenstore.RevokedFamily {
			if err := txn.Delete(familyKey(revocation.ID)); err != nil {
				return err
			}
		}
		return s.record(txn, revocations)
	}, func() { s.publish(revocations) })
}

// UseOnce marks an identifier as used.
func (s *Store) UseOnce(ctx context.Context, id [32]byte, until time.Time) error {
	key := append([]byte{usedPrefix}, id[:]...)
	return s.update(ctx, func(txn *badgerdb.Txn) error {
		if err := absent(txn, key); err != nil {
			return err
		}
		return s.set(txn, key, nil, until)
	}, nil)
}

// Keys returns every key of this use.
func (s *Store) Keys(ctx context.Context, use tokenstore.KeyUse) (keys []tokenstore.Key, err error) {
	err = s.view(ctx, func(txn *badgerdb.Txn) error {
		return scan(txn, []byte{keyPrefix, byte(use)}, func(name, value []byte) error {
			key, err := tokenstore.DecodeKey(value)
			if err != nil {
				return fmt.Errorf("damaged key record %x: %w", name, err)
			}
			keys = append(keys, key)
			return nil
		})
	})
	return keys, err
}

// AddKey records a new key.
func (s *Store) AddKey(ctx context.Context, key tokenstore.Key) error {
	encoded, err := key.Encode()
	if err != nil {
		return fmt.Errorf("encoding key %d: %w", key.Number, err)
	}
	name := keyKey(key.Use, key.Number)
	return s.update(ctx, func(txn *badgerdb.Txn) error {
		if err := absent(txn, name); err != nil {
			return err
		}
		return txn.Set(name, encoded)
	}, nil)
}

// DeleteKey forgets a key.
func (s *Store) DeleteKey(ctx context.Context, use tokenstore.KeyUse, number uint32) error {
	return s.update(ctx, func(txn *badgerdb.Txn) error { return txn.Delete(keyKey(use, number)) }, nil)
}

// get returns a copy of a record's value, ErrNotFound if there is none.
func get(txn *badgerdb.Txn, key []byte) ([]byte, error) {
	item, err := txn.Get(key)
	if errors.Is(err, badgerdb.ErrKeyNotFound) {
		return nil, tokenstore.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("reading record %x: %w", key, err)
	}
	value, err := item.ValueCopy(nil)
	if err != nil {
		return nil, fmt.Errorf("reading record %x: %w", key, err)
	}
	return value, nil
}

// absent returns ErrConflict if there is a record.
func absent(txn *badgerdb.Txn, key []byte) error {
	_, err := get(txn, key)
	switch {
	case err == nil:
		return tokenstore.ErrConflict
	case errors.Is(err, tokenstore.ErrNotFound):
		return nil
	default:
		return err
	}
}

func readFamily(txn *badgerdb.Txn, id uuid.UUID) (*tokenstore.Family, error) {
	encoded, err := get(txn, familyKey(id))
	if err != nil {
		return nil, err
	}
	family, err := tokenstore.DecodeFamily(encoded)
	if err != nil {
		return nil, fmt.Errorf("damaged record of family %s: %w", id, err)
	}
	if family.ID != id {
		return nil, fmt.Errorf("damaged record of family %s: it is that of family %s", id, family.ID)
	}
	return family, nil
}

// record writes revocations. None takes back what one before it said.
func (s *Store) record(txn *badgerdb.Txn, revocations []tokenstore.Revocation) error {
	for _, r := range revocations {
		key := revocationKey(r)
		before, err := readRevocation(txn, key)
		if err == nil {
			r = r.Merge(before)
		} else if !errors.Is(err, tokenstore.ErrNotFound) {
			return err
		}
		encoded, err := r.Encode()
		if err != nil {
			return fmt.Errorf("encoding a revocation: %w", err)
		}
		if err := s.set(txn, key, encoded, r.ExpiresAt); err != nil {
			return err
		}
	}
	return nil
}

func readRevocation(txn *badgerdb.Txn, key []byte) (tokenstore.Revocation, error) {
	encoded, err := get(txn, key)
	if err != nil {
		return tokenstore.Revocation{}, err
	}
	revocation, err := tokenstore.DecodeRevocation(encoded)
	if err != nil {
		return tokenstore.Revocation{}, fmt.Errorf("damaged revocation %x: %w", key, err)
	}
	return revocation, nil
}

func (s *Store) publish(revocations []tokenstore.Revocation) {
	for _, r := range revocations {
		s.revocations.Add(r)
	}
}

// set writes a record that Badger may drop some time after its expiry.
func (s *Store) set(txn *badgerdb.Txn, key, value []byte, expiry time.Time) error {
	ttl := min(max(expiry.Sub(s.clock()), 0), maxTTL) + ttlMargin
	return txn.SetEntry(badgerdb.NewEntry(key, value).WithTTL(ttl))
}

// scan calls f with every record whose key has the prefix, in the order of their keys. Key and value are good until f
// returns.
func scan(txn *badgerdb.Txn, prefix []byte, f func(key, value []byte) error) error {
	o := badgerdb.DefaultIteratorOptions
	o.Prefix = prefix
	records := txn.NewIterator(o)
	defer records.Close()
	for records.Rewind(); records.Valid(); records.Next() {
		item := records.Item()
		if err := item.Value(func(value []byte) error { return f(bytes.Clone(item.Key()), value) }); err != nil {
			return err
		}
	}
	return nil
}
