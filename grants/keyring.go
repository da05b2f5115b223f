package grants

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/tokengateway/caddy-token-gateway/accesstoken"
	"github.com/tokengateway/caddy-token-gateway/tokenstore"
)

// maxPublishAhead is how long a signing key is published before it is used, at the most: time for everybody who caches
// the key set to fetch it again. A rotation interval shorter than twice that halves it.
const maxPublishAhead = 24 * time.Hour

// retireMargin is how much longer than the tokens it signed a signing key stays published.
const retireMargin = 24 * time.Hour

// Keyring holds the keys in use. They live in the store, which every gateway of the same issuer shares.
type Keyring struct {
	config KeyringConfig
	store  tokenstore.Store
	clock  func() time.Time
	keys   atomic.Pointer[keysInUse]
}

// KeyringConfig says which keys to make and to use.
type KeyringConfig struct {
	// Algorithm is that of the signing keys that are made.
	Algorithm accesstoken.Algorithm

	// RotateEvery is the age at which a signing key gets a successor. Zero means never.
	RotateEvery time.Duration

	// FileKeys sign instead of generated keys if there are any: the first signs, all are published.
	FileKeys []*accesstoken.Key

	// LongestToken is the longest lifetime of the access tokens that are signed.
	LongestToken time.Duration
}

// keysInUse doesn't change; a change of keys makes a new one.
type keysInUse struct {
	signer *accesstoken.Key
	public *accesstoken.KeySet
	mac    macKey
	macs   map[byte]macKey
}

// refresh reads the keys from the store, makes the ones that are missing or due, and drops the ones that have had their
// day. Several gateways may do it at once: of a new key, one of them makes it.
func (k *Keyring) refresh(ctx context.Context) (created []string, err error) {
	macs, err := k.macKeys(ctx)
	if err != nil {
		return nil, fmt.Errorf("loading the keys of the refresh tokens: %w", err)
	}
	next := &keysInUse{macs: make(map[byte]macKey, len(macs))}
	for _, stored := range macs {
		next.mac = macKey{id: byte(stored.Number), key: stored.Material}
		next.macs[next.mac.id] = next.mac
	}
	stored, created, err := k.signingKeys(ctx)
	if err != nil {
		return nil, fmt.Errorf("loading the signing keys: %w", err)
	}
	all := k.config.FileKeys
	if len(all) > 0 {
		next.signer = all[0]
	}
	for _, s := range stored {
		if isFileMark(s) {
			continue
		}
		key, err := accesstoken.ParsePKCS8(s.Material, accesstoken.Algorithm(s.Algorithm))
		if err != nil {
			return nil, fmt.Errorf("signing key %d: %w", s.Number, err)
		}
		all = append(all[:len(all):len(all)], key)
		if len(k.config.FileKeys) == 0 && !s.ActiveFrom.After(k.clock()) {
			next.signer = key
		}
	}
	if next.signer == nil { // the clock was set back: the oldest key is the one that others know
		next.signer = all[0]
	}
	next.public = accesstoken.NewKeySet(all...)
	k.keys.Store(next)
	return created, nil
}

// macKeys returns at least one key.
func (k *Keyring) macKeys(ctx context.Context) ([]tokenstore.Key, error) {
	keys, err := k.store.Keys(ctx, tokenstore.MACKey)
	if err != nil || len(keys) > 0 {
		return keys, err
	}
	material := make([]byte, 32)
	_, _ = rand.Read(material) // never fails (Go 1.24)
	err = k.store.AddKey(ctx, tokenstore.Key{
		Use: tokenstore.MACKey, Number: 1, Material: material, CreatedAt: k.clock(), ActiveFrom: k.clock(),
	})
	if err != nil && !errors.Is(err, tokenstore.ErrConflict) {
		return nil, err
	}
	return k.store.Keys(ctx, tokenstore.MACKey)
}

// signingKeys returns the signing keys of the store, oldest first. Unless the keys come from a file, at least one is in
// use.
func (k *Keyring) signingKeys(ctx context.Context) (keys []tokenstore.Key, created []string, err error) {
	if keys, err = k.store.Keys(ctx, tokenstore.SigningKey); err != nil {
		return nil, nil, err
	}
	if activeFrom, due := k.successorDue(keys); due {
		id, err := k.addSigningKey(ctx, keys, activeFrom)
		if err == nil && id != "" {
			created = []string{id}
		} else if err != nil && !errors.Is(err, tokenstore.ErrConflict) {
			return nil, nil, err
		}
		if keys, err = k.store.Keys(ctx, tokenstore.SigningKey); err != nil {
			return nil, nil, err
		}
	}
	keys, err = k.retire(ctx, keys)
	return keys, created, err
}

// A record without material stands where keys from a file took over from generated ones, so that those are retired like
// all others.
func isFileMark(key tokenstore.Key) bool { return len(key.Material) == 0 }

// successorDue says whether a signing key has to be made, and from when on it is to be used.
func (k *Keyring) successorDue(keys []tokenstore.Key) (activeFrom time.Time, due bool) {
	now := k.clock()
	if len(k.config.FileKeys) > 0 {
		return now, len(keys) > 0 && !isFileMark(keys[len(keys)-1])
	}
	if len(keys) == 0 {
		return now, true
	}
	newest := keys[len(keys)-1]
	if newest.Algorithm != string(k.config.Algorithm) {
		return now, true // the configuration has changed: whoever sees the new key ID fetches the new key
	}
	if k.config.RotateEvery == 0 {
		return now, false
	}
	ahead := min(maxPublishAhead, k.config.RotateEvery/2)
	dueAt := newest.ActiveFrom.Add(k.config.RotateEvery)
	return later(dueAt, now.Add(ahead)), !now.Before(dueAt.Add(-ahead))
}

// addSigningKey records the next signing key and returns its ID; where keys come from a file, only the mark of that.
func (k *Keyring) addSigningKey(ctx context.Context, keys []tokenstore.Key, activeFrom time.Time) (id string, err error) {
	next := tokenstore.Key{Use: tokenstore.SigningKey, Number: 1, CreatedAt: k.clock(), ActiveFrom: activeFrom}
	if len(keys) > 0 {
		next.Number = keys[len(keys)-1].Number + 1
	}
	if len(k.config.FileKeys) > 0 {
		return "", k.store.AddKey(ctx, next)
	}
	key, err := accesstoken.GenerateKey(k.config.Algorithm)
	if err != nil {
		return "", err
	}
	next.Algorithm = string(key.Algorithm)
	if next.Material, err = key.PKCS8(); err != nil {
		return "", err
	}
	return key.ID, k.store.AddKey(ctx, next)
}

// retire deletes the keys whose last token has expired: those whose successor has been in use for longer than a token
// lives.
func (k *Keyring) retire(ctx context.Context, keys []tokenstore.Key) ([]tokenstore.Key, error) {
	for len(keys) > 1 && k.clock().Sub(keys[1].ActiveFrom) > k.config.LongestToken+retireMargin {
		if err := k.store.DeleteKey(ctx, tokenstore.SigningKey, keys[0].Number); err != nil {
			return nil, err
		}
		keys = keys[1:]
	}
	return keys, nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
