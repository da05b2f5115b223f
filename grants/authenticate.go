package grants

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/tokengateway/caddy-token-gateway/accesstoken"
	"github.com/tokengateway/caddy-token-gateway/tokenstore"
)

// JWTBearer is the client_assertion_type of RFC 7523 §2.2, the only one that is known.
const JWTBearer = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// ClientAuthentication is how a client says who it is. Secret, Assertion and neither exclude each other; who fills it in
// sees to that.
type ClientAuthentication struct {
	ClientID string // empty where only the assertion names the client
	Secret   string // from the Authorization header or the form

	AssertionType string
	Assertion     string

	// Certificate is what the client presented in the TLS handshake, nil if nothing; CertificateTrusted says whether it
	// was verified up to a trusted authority.
	Certificate        *x509.Certificate
	CertificateTrusted bool

	// Address is where the request came from, for counting failures.
	Address netip.Addr
}

// authenticate finds out which client makes a request (RFC 6749 §2.3). Every failure looks the same to the client.
func (s *Server) authenticate(ctx context.Context, a ClientAuthentication) (*Client, *Error) {
	if a.Assertion != "" || a.AssertionType != "" {
		return s.authenticateByAssertion(ctx, a)
	}
	if a.ClientID == "" {
		return nil, refuse(InvalidClient, "The client did not say who it is: send its client_id and its secret.")
	}
	client := s.clients[a.ClientID]
	switch {
	case client != nil && client.Public:
		if a.Secret != "" {
			return nil, refuseClient("public client %q sent a secret", a.ClientID)
		}
		return client, nil
	case client != nil && client.Certificate != nil && a.Secret == "":
		return client, client.Certificate.check(client.ID, a)
	}
	if refused := s.throttle.admit(clientPrefix+a.ClientID, a.Address); refused != nil {
		return nil, refused
	}
	var secret *Credential
	if client != nil {
		secret = client.Secret
	}
	ok, refused := s.credentials.check(secret, s.clientDecoy, a.Secret)
	if refused != nil {
		return nil, refused
	}
	if !ok {
		s.throttle.failed(clientPrefix+a.ClientID, a.Address)
		return nil, refuseClient("client %.64q is unknown or its secret is wrong", a.ClientID)
	}
	s.throttle.succeeded(clientPrefix+a.ClientID, a.Address)
	return client, nil
}

// What failures are counted under, so that a client and a user of one name are counted apart.
const (
	clientPrefix = "client "
	userPrefix   = "user "
)

func refuseClient(format string, args ...any) *Error {
	return refuse(InvalidClient, "The client is unknown or did not prove who it is.").because(format, args...)
}

// authenticateByAssertion is private_key_jwt (RFC 7523 §3).
func (s *Server) authenticateByAssertion(ctx context.Context, a ClientAuthentication) (*Client, *Error) {
	if a.AssertionType != JWTBearer {
		return nil, refuseClient("client_assertion_type %.64q", a.AssertionType)
	}
	subject, err := accesstoken.AssertedSubject(a.Assertion)
	if err != nil {
		return nil, refuseClient("client assertion: %w", err)
	}
	client := s.clients[subject]
	if client == nil || client.Keys == nil || a.ClientID != "" && a.ClientID != subject {
		return nil, refuseClient("client assertion: %.64q has no key to verify it with", subject)
	}
	if refused := s.throttle.admit(clientPrefix+client.ID, a.Address); refused != nil {
		return nil, refused
	}
	claims, refused := s.verifyAssertion(client, a.Assertion)
	if refused != nil {
		s.throttle.failed(clientPrefix+client.ID, a.Address)
		return nil, refused
	}
	s.throttle.succeeded(clientPrefix+client.ID, a.Address)
	return client, s.useAssertion(ctx, client, claims)
}

func (s *Server) verifyAssertion(client *Client, assertion string) (*accesstoken.Claims, *Error) {
	claims, err := accesstoken.VerifyAssertion(assertion, client.Keys, s.clock())
	if err != nil {
		return nil, refuseClient("client assertion of %q: %w", client.ID, err)
	}
	if claims.Issuer != client.ID || claims.Subject != client.ID {
		return nil, refuseClient("client assertion of %q: iss and sub are not its client_id", client.ID)
	}
	if !slices.ContainsFunc(claims.Audience, func(a string) bool { return slices.Contains(s.assertionAudience, a) }) {
		return nil, refuseClient("client assertion of %q: aud is neither the issuer nor the token endpoint", client.ID)
	}
	return claims, nil
}

// useAssertion makes sure that an assertion is used once (RFC 7523 §3, jti).
func (s *Server) useAssertion(ctx context.Context, client *Client, claims *accesstoken.Claims) *Error {
	id := sha256.Sum256(fmt.Appendf(nil, "assertion %q %q", client.ID, claims.TokenID))
	err := s.store.UseOnce(ctx, id, claims.Expiry.Add(time.Minute))
	if errors.Is(err, tokenstore.ErrConflict) {
		return refuseClient("client assertion of %q was used before", client.ID)
	}
	if err != nil {
		return Unavailable(fmt.Errorf("recording the use of a client assertion: %w", err))
	}
	return nil
}

// CertificateRule says which TLS client certificate proves a client's identity (RFC 8705 §2). One of the two is set.
type CertificateRule struct {
	// Subject is the distinguished name of a certificate from a trusted authority, in the form of RFC 2253.
	Subject string

	// KeySHA256 is the SHA-256 of the certificate's SubjectPublicKeyInfo; it may be self-signed.
	KeySHA256 [sha256.Size]byte
}

func (r *CertificateRule) check(clientID string, a ClientAuthentication) *Error {
	switch {
	case a.Certificate == nil:
		return refuseClient("client %q sent no TLS client certificate", clientID)
	case r.Subject != "" && !a.CertificateTrusted:
		return refuseClient("client %q: its TLS client certificate is from no trusted authority", clientID)
	case r.Subject != "" && a.Certificate.Subject.String() != r.Subject:
		return refuseClient("client %q: its TLS client certificate is for %q", clientID, a.Certificate.Subject)
	case r.Subject == "" && sha256.Sum256(a.Certificate.RawSubjectPublicKeyInfo) != r.KeySHA256:
		return refuseClient("client %q: its TLS client certificate has another key", clientID)
	}
	return nil
}
