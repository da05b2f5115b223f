package accesstoken

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/lestrrat-go/jwx/v2/jwk"
)

// ParsePrivateKeys reads the private keys in a file's content: PEM blocks (PKCS #8, PKCS #1 or SEC 1, certificates between
// them are skipped), one JWK, or a JWK set. The algorithm may be empty, see NewKey.
func ParsePrivateKeys(content []byte, algorithm Algorithm) ([]*Key, error) {
	raws, err := parseKeys(content)
	if err != nil {
		return nil, err
	}
	keys := make([]*Key, 0, len(raws))
	for _, raw := range raws {
		private, ok := raw.(crypto.Signer)
		if !ok {
			return nil, fmt.Errorf("it holds a key of type %T where a private key is needed", raw)
		}
		key, err := NewKey(private, algorithm)
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
		if private, ok := raw.(crypto.Signer); ok {
			raw = private.Public()
		}
		key, err := NewPublicKey(raw, "")
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// parseKeys returns at least one raw key.
func parseKeys(content []byte) (keys []any, err error) {
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
		err = errors.New("it holds no key")
	}
	return keys, err
}

func parseJWKs(content []byte) ([]any, error) {
	set, err := jwk.Parse(content)
	if err != nil {
		return nil, errors.New("it is not a valid JSON Web Key") // the library's error may quote the key
	}
	keys := make([]any, set.Len())
	for i := range keys {
		key, _ := set.Key(i)
		if err := key.Raw(&keys[i]); err != nil {
			return nil, fmt.Errorf("key %d of the set (kty %s) can't be used", i+1, key.KeyType())
		}
	}
	return keys, nil
}

func parsePEM(content []byte) (keys []any, err error) {
	for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
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
		keys = append(keys, key)
	}
	return keys, nil
}
