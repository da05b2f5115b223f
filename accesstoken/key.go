package accesstoken

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jws"
)

// The bounds of RSA keys: smaller ones can be broken, larger ones let a stranger's key set make us compute for long.
const (
	minRSABits = 2048
	maxRSABits = 4096
)

// Key is one key with the one algorithm that it is used with.
type Key struct {
	// ID is the key's RFC 7638 thumbprint.
	ID string

	Algorithm Algorithm

	private crypto.Signer // nil if only the public half is known
	public  crypto.PublicKey
	jwk     json.RawMessage // the public half, as published
	signer  jws.Signer
	check   jws.Verifier

	signatureSize int
	header        string // of the tokens that it signs: base64url and a dot
}

// GenerateKey makes a new key for an algorithm. RSA keys have 2048 bits.
func GenerateKey(algorithm Algorithm) (*Key, error) {
	private, err := generate(algorithm)
	if err != nil {
		return nil, fmt.Errorf("generating a key for %s: %w", algorithm, err)
	}
	return NewKey(private, algorithm)
}

func generate(algorithm Algorithm) (crypto.Signer, error) {
	switch algorithm {
	case ES256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case ES384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case RS256, PS256:
		return rsa.GenerateKey(rand.Reader, minRSABits)
	case EdDSA:
		_, private, err := ed25519.GenerateKey(rand.Reader)
		return private, err
	default:
		return nil, fmt.Errorf("algorithm %q is not one of %v", algorithm, Algorithms)
	}
}

// NewKey takes a private key (*ecdsa.PrivateKey, *rsa.PrivateKey or ed25519.PrivateKey) into use. An empty algorithm means
// the natural one of the key's type, RS256 for RSA.
func NewKey(private crypto.Signer, algorithm Algorithm) (*Key, error) {
	key, err := NewPublicKey(private.Public(), algorithm)
	if err != nil {
		return nil, err
	}
	key.private = private
	if key.signer, err = jws.NewSigner(jwa.SignatureAlgorithm(key.Algorithm)); err != nil {
		return nil, fmt.Errorf("algorithm %s: %w", key.Algorithm, err)
	}
	if err := key.tryOut(); err != nil {
		return nil, err
	}
	header := fmt.Sprintf(`{"typ":"at+jwt","alg":%q,"kid":%q}`, key.Algorithm, key.ID)
	key.header = base64.RawURLEncoding.EncodeToString([]byte(header)) + "."
	return key, nil
}

// tryOut makes sure that the two halves of the key belong together. A file may hold any numbers.
func (k *Key) tryOut() error {
	input := []byte("trial")
	signature, err := k.sign(input)
	if err != nil || !k.verify(input, signature) {
		return errors.New("the private key is not sound: it makes no signature that its public key verifies")
	}
	return nil
}

// NewPublicKey takes a public key (*ecdsa.PublicKey, *rsa.PublicKey or ed25519.PublicKey) into use, for verifying only.
func NewPublicKey(public crypto.PublicKey, algorithm Algorithm) (*Key, error) {
	natural, size, err := fits(public)
	if err != nil {
		return nil, err
	}
	if algorithm == "" {
		algorithm = natural
	}
	if algorithm != natural && (natural != RS256 || algorithm != PS256) {
		return nil, fmt.Errorf("a key for %s can't be used with %s", natural, algorithm)
	}
	key := &Key{Algorithm: algorithm, public: public, signatureSize: size}
	if key.check, err = jws.NewVerifier(jwa.SignatureAlgorithm(algorithm)); err != nil {
		return nil, fmt.Errorf("algorithm %s: %w", algorithm, err)
	}
	return key, key.publish()
}

// fits returns the natural algorithm of a public key and the size of its signatures in bytes, or says why the key is not
// acceptable.
func fits(public crypto.PublicKey) (Algorithm, int, error) {
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() && key.Curve != elliptic.P384() {
			return "", 0, fmt.Errorf("curve %s is not one of P-256 and P-384", key.Curve.Params().Name)
		}
		if _, err := key.ECDH(); err != nil {
			return "", 0, errors.New("the key's point is not on its curve")
		}
		if key.Curve == elliptic.P384() {
			return ES384, 96, nil
		}
		return ES256, 64, nil
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < minRSABits || bits > maxRSABits {
			return "", 0, fmt.Errorf("the RSA key has %d bits, it must have %d to %d", bits, minRSABits, maxRSABits)
		}
		if key.E < 3 || key.E%2 == 0 || int64(key.E) > 1<<32 {
			return "", 0, errors.New("the RSA key's exponent is not an odd number between 3 and 2^32")
		}
		return RS256, key.Size(), nil
	case ed25519.PublicKey:
		if len(key) != ed25519.PublicKeySize {
			return "", 0, fmt.Errorf("the Ed25519 key has %d bytes, it must have %d", len(key), ed25519.PublicKeySize)
		}
		return EdDSA, ed25519.SignatureSize, nil
	default:
		return "", 0, fmt.Errorf("a key of type %T is not one of ECDSA, RSA and Ed25519", public)
	}
}

// publish fills in what others are told about the key.
func (k *Key) publish() error {
	published, err := jwk.FromRaw(k.public)
	if err != nil {
		return fmt.Errorf("making a JWK: %w", err)
	}
	thumbprint, err := published.Thumbprint(crypto.SHA256)
	if err != nil {
		return fmt.Errorf("computing the key's thumbprint: %w", err)
	}
	k.ID = base64.RawURLEncoding.EncodeToString(thumbprint)
	err = errors.Join(
		published.Set(jwk.KeyIDKey, k.ID),
		published.Set(jwk.AlgorithmKey, string(k.Algorithm)),
		published.Set(jwk.KeyUsageKey, jwk.ForSignature),
	)
	if err != nil {
		return fmt.Errorf("making a JWK: %w", err)
	}
	k.jwk, err = json.Marshal(published)
	return err
}

// PKCS8 returns the private key in PKCS #8 DER, for the store.
func (k *Key) PKCS8() ([]byte, error) { return x509.MarshalPKCS8PrivateKey(k.private) }

// ParsePKCS8 reads what PKCS8 wrote.
func ParsePKCS8(der []byte, algorithm Algorithm) (*Key, error) {
	private, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("reading a PKCS #8 key: %w", err)
	}
	signer, ok := private.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a key of type %T can't sign", private)
	}
	return NewKey(signer, algorithm)
}

func (k *Key) sign(input []byte) ([]byte, error) { return k.signer.Sign(input, k.private) }

func (k *Key) verify(input, signature []byte) bool {
	return len(signature) == k.signatureSize && k.check.Verify(input, signature, k.public) == nil
}
