package accesstoken

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/lestrrat-go/jwx/v2/jwk"
)

// ParsePrivateKeys reads the private keys in a file's content: PEM blocks (PKCS #8, PKCS #1 or SEC 1, certificates between
// them are skipped), one JWK, or a JWK set. The algorithm may be empty: then it is what a JWK says, or see NewKey.
func ParsePrivateKeys(content []byte, algorithm Algorithm) ([]*Key, error) {
	raws, err := parseKeys(content)
	if err != nil {
		return nil, err
	}
	keys := make([]*Key, 0, len(raws))
	for _, raw := range raws {
		private, ok := raw.key.(crypto.Signer)
		if !ok {
			return nil, errors.New("it holds a public key where a private key is needed")
		}
		if raw.algorithm != "" && algorithm != "" && raw.algorithm != algorithm {
			return nil, fmt.Errorf("it holds a key for %s where one for %s is needed", raw.algorithm, algorithm)
		}
		key, err := NewKey(private, cmp.Or(algorithm, raw.algorithm))
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// ParsePublicKeys reads the keys to verify with from a file's content, in the same forms; of private keys it takes the
// public half.
func ParsePublicKeys(content []byte) ([]*Key, error) {
	raws, err := parseKeys(content)
	if err != nil {
		return nil, err
	}
	keys := make([]*Key, 0, len(raws))
	for _, raw := range raws {
		public := raw.key
		if private, ok := public.(crypto.Signer); ok {
			public = private.Public()
		}
		key, err := NewPublicKey(public, raw.algorithm)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// rawKey is a key as a file holds it: its type is one of the standard library's.
type rawKey struct {
	key       any
	algorithm Algorithm // what a JWK says of itself; empty if it says nothing
}

// parseKeys returns at least one key.
func parseKeys(content []byte) (keys []rawKey, err error) {
	content = bytes.TrimSpace(content)
	switch {
	case bytes.HasPrefix(content, []byte("{")):
		keys, err = parseJWKs(content)
	case bytes.HasPrefix(content, []byte("-----BEGIN")):
		keys, err = parsePEM(content)
	default:
		return nil, errors.New("it is neither PEM nor a JSON Web Key")
	}
	if err == nil && len(keys) == 0 {
		err = errors.New("it holds no key for signatures")
	}
	return keys, err
}

// parseJWKs reads a JWK or a JWK set. Keys for encryption are skipped.
func parseJWKs(content []byte) (keys []rawKey, err error) {
	notValid := errors.New("it is not a valid JSON Web Key") // an error of the libraries may quote the key
	if err := eachMember(content, func(string, jsontext.Value) error { return nil }); err != nil {
		return nil, notValid
	}
	set, err := jwk.Parse(content)
	if err != nil {
		return nil, notValid
	}
	for i := range set.Len() {
		parsed, _ := set.Key(i)
		if parsed.KeyUsage() == string(jwk.ForEncryption) {
			continue
		}
		raw := rawKey{algorithm: Algorithm(parsed.Algorithm().String())}
		if err := parsed.Raw(&raw.key); err != nil {
			return nil, fmt.Errorf("key %d of the set (kty %s) can't be used", i+1, parsed.KeyType())
		}
		keys = append(keys, raw)
	}
	return keys, nil
}

func parsePEM(content []byte) (keys []rawKey, err error) {
	block, rest := pem.Decode(content)
	for ; block != nil; block, rest = pem.Decode(rest) {
		var key any
		switch block.Type {
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case "PUBLIC KEY":
			key, err = x509.ParsePKIXPublicKey(block.Bytes)
		case "ENCRYPTED PRIVATE KEY":
			return nil, errors.New("its private key is encrypted: decrypt it first (openssl pkey)")
		default: // certificates, curve parameters
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("its PEM block %q can't be read: %s", block.Type, strings.TrimPrefix(err.Error(), "x509: "))
		}
		keys = append(keys, rawKey{key: key})
	}
	if bytes.Contains(rest, []byte("-----BEGIN")) {
		return nil, errors.New("its last PEM block is cut off or damaged")
	}
	return keys, nil
}
