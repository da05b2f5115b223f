package caddymodule

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"

	"github.com/tokengateway/caddy-token-gateway/accesstoken"
	"github.com/tokengateway/caddy-token-gateway/grants"
)

const wellKnownMetadata = "/.well-known/oauth-authorization-server"

// metadataPath is where an issuer's metadata is: the well-known path goes in front of the issuer's own (RFC 8414 §3).
func metadataPath(issuer string) string {
	u, _ := url.Parse(issuer) // the issuer was checked
	return wellKnownMetadata + strings.TrimSuffix(u.Path, "/")
}

// endpointURL is the URL of a path at the issuer's site.
func endpointURL(issuer, path string) string {
	u, _ := url.Parse(issuer)
	return u.Scheme + "://" + u.Host + path
}

// metadata is the authorization server's metadata (RFC 8414 §2). Empty lists are left out (§3.2).
type metadata struct {
	Issuer                 string   `json:"issuer"`
	TokenEndpoint          string   `json:"token_endpoint"`
	RevocationEndpoint     string   `json:"revocation_endpoint"`
	JWKSURI                string   `json:"jwks_uri"`
	ScopesSupported        []string `json:"scopes_supported,omitempty"`
	ResponseTypesSupported []string `json:"response_types_supported"`
	GrantTypesSupported    []string `json:"grant_types_supported,omitempty"`

	TokenAuthMethods      []string                `json:"token_endpoint_auth_methods_supported,omitempty"`
	TokenAuthAlgorithms   []accesstoken.Algorithm `json:"token_endpoint_auth_signing_alg_values_supported,omitempty"`
	RevocationAuthMethods []string                `json:"revocation_endpoint_auth_methods_supported,omitempty"`
	RevocationAlgorithms  []accesstoken.Algorithm `json:"revocation_endpoint_auth_signing_alg_values_supported,omitempty"`
}

func metadataDocument(config *grants.Config, base string) ([]byte, error) {
	m := metadata{
		Issuer:             config.Issuer,
		TokenEndpoint:      endpointURL(config.Issuer, base+tokenPath),
		RevocationEndpoint: endpointURL(config.Issuer, base+revokePath),
		JWKSURI:            endpointURL(config.Issuer, base+jwksPath),
		// The member is required and must not be empty, and there is no authorization endpoint: "none" is the registered
		// type of a response that holds neither code nor token.
		ResponseTypesSupported: []string{"none"},
	}
	for _, client := range config.Clients {
		m.ScopesSupported = append(m.ScopesSupported, client.Scopes...)
		for _, grantType := range client.GrantTypes {
			if config.GrantTypeEnabled(grantType) {
				m.GrantTypesSupported = append(m.GrantTypesSupported, grantType)
			}
		}
		m.TokenAuthMethods = append(m.TokenAuthMethods, authenticationMethods(client)...)
		if client.Keys != nil {
			m.TokenAuthAlgorithms = append(m.TokenAuthAlgorithms, client.Keys.Algorithms()...)
		}
	}
	m.ScopesSupported = sortedSet(m.ScopesSupported)
	m.GrantTypesSupported = sortedSet(m.GrantTypesSupported)
	m.TokenAuthMethods = sortedSet(m.TokenAuthMethods)
	m.TokenAuthAlgorithms = sortedSet(m.TokenAuthAlgorithms)
	m.RevocationAuthMethods = m.TokenAuthMethods
	m.RevocationAlgorithms = m.TokenAuthAlgorithms
	return json.Marshal(m)
}

// authenticationMethods are the registered names of how a client may authenticate (RFC 7591 §2, RFC 8705 §2).
func authenticationMethods(client *grants.Client) []string {
	switch {
	case client.Public:
		return []string{"none"}
	case client.Keys != nil:
		return []string{"private_key_jwt"}
	case client.Certificate != nil && client.Certificate.Subject != "":
		return []string{"tls_client_auth"}
	case client.Certificate != nil:
		return []string{"self_signed_tls_client_auth"}
	default:
		return []string{"client_secret_basic", "client_secret_post"}
	}
}

func sortedSet[S ~string](names []S) []S { return slices.Compact(slices.Sorted(slices.Values(names))) }
