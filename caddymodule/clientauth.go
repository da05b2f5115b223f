package caddymodule

import (
	"encoding/base64"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/tokengateway/caddy-token-gateway/grants"
)

// clientAuthentication collects how a client says who it is. A client uses one way only (RFC 6749 §2.3).
func clientAuthentication(r *http.Request, f form) (grants.ClientAuthentication, *grants.Error) {
	a := grants.ClientAuthentication{
		ClientID:      f.get("client_id"),
		Secret:        f.get("client_secret"),
		AssertionType: f.get("client_assertion_type"),
		Assertion:     f.get("client_assertion"),
		Address:       clientAddress(r),
	}
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		a.Certificate = r.TLS.PeerCertificates[0]
		a.CertificateTrusted = len(r.TLS.VerifiedChains) > 0
	}
	authorization := r.Header.Values("Authorization")
	ways := len(authorization)
	if a.Secret != "" {
		ways++
	}
	if a.Assertion != "" || a.AssertionType != "" {
		ways++
	}
	switch {
	case ways > 1:
		return a, invalidRequest("The client authenticated in more than one way; use one of them.")
	case len(authorization) == 0:
		return a, nil
	}
	id, secret, ok := basicCredentials(authorization[0])
	if !ok {
		return a, &grants.Error{Code: grants.InvalidClient, Description: "The Authorization header does not hold Basic credentials."}
	}
	if a.ClientID != "" && a.ClientID != id {
		return a, invalidRequest("The client_id in the body is not the one in the Authorization header.")
	}
	a.ClientID, a.Secret = id, secret
	return a, nil
}

// basicCredentials reads the Basic scheme (RFC 7617 §2), whose halves OAuth encodes as in a form (RFC 6749 §2.3.1).
func basicCredentials(authorization string) (id, secret string, ok bool) {
	scheme, encoded, _ := strings.Cut(authorization, " ")
	if !strings.EqualFold(scheme, "Basic") {
		return "", "", false
	}
	decoded, err := base64.StdEncoding.DecodeString(strings.TrimLeft(encoded, " "))
	if err != nil {
		return "", "", false
	}
	rawID, rawSecret, ok := strings.Cut(string(decoded), ":")
	if !ok {
		return "", "", false
	}
	id, err1 := url.QueryUnescape(rawID)
	secret, err2 := url.QueryUnescape(rawSecret)
	return id, secret, err1 == nil && err2 == nil && id != ""
}

// clientAddress is where the request came from, as Caddy knows it: it looks behind proxies that the configuration trusts,
// and at no others.
func clientAddress(r *http.Request) netip.Addr {
	ip, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	address, _ := netip.ParseAddr(ip) // the zero Addr, which counts as one address, for a listener that has none
	return address
}
