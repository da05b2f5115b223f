package accesstoken

import (
	"bytes"
	"encoding/json"
	"slices"
)

// KeySet is the keys that tokens are verified with. It doesn't change; who learns of new keys makes a new set.
type KeySet struct {
	keys []*Key
	byID map[string]*Key
	jwks []byte
}

// NewKeySet makes a set of keys. Of keys with one ID the first counts.
func NewKeySet(keys ...*Key) *KeySet {
	set := &KeySet{byID: make(map[string]*Key, len(keys))}
	published := make([][]byte, 0, len(keys))
	for _, key := range keys {
		if set.byID[key.ID] != nil {
			continue
		}
		set.byID[key.ID] = key
		set.keys = append(set.keys, key)
		published = append(published, key.jwk)
	}
	set.jwks = append(append([]byte(`{"keys":[`), bytes.Join(published, []byte(","))...), "]}"...)
	return set
}

// JWKS returns the JSON Web Key Set of the public keys (RFC 7517 §5). It is not to be changed.
func (s *KeySet) JWKS() json.RawMessage { return s.jwks }

// Algorithms are those of the set's keys, in the order of Algorithms.
func (s *KeySet) Algorithms() []Algorithm {
	return slices.DeleteFunc(slices.Clone(Algorithms), func(a Algorithm) bool {
		return !slices.ContainsFunc(s.keys, func(k *Key) bool { return k.Algorithm == a })
	})
}

// find returns the key that a token's header names. Without a key ID it must be the only one with the algorithm.
func (s *KeySet) find(h header) (*Key, *Error) {
	if h.hasKeyID {
		key := s.byID[h.keyID]
		if key == nil {
			return nil, refuse(WrongKey, "The token was signed with a key that is not known here.")
		}
		if key.Algorithm != h.algorithm {
			return nil, refuse(WrongKey, "The token's alg is not that of its key.")
		}
		return key, nil
	}
	var found *Key
	for _, key := range s.keys {
		if key.Algorithm != h.algorithm {
			continue
		}
		if found != nil {
			return nil, refuse(WrongKey, "The token has no kid, and more than one key could have signed it.")
		}
		found = key
	}
	if found == nil {
		return nil, refuse(WrongKey, "The token was signed with a key that is not known here.")
	}
	return found, nil
}
