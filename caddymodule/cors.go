package caddymodule

import "net/http"

// Cross-origin requests of browser clients (Fetch standard, CORS protocol). The token and revocation endpoints answer the
// origins of the clients; the documents that everybody may read answer all.

const preflightMaxAge = "7200"

// isPreflight reports whether a request only asks what may be requested.
func isPreflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && r.Header.Get("Origin") != "" && r.Header.Get("Access-Control-Request-Method") != ""
}

// allowOrigin lets scripts of the request's origin read the answer.
func allowOrigin(h http.Header, origin string) {
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Expose-Headers", "Retry-After, WWW-Authenticate, X-Request-Id")
}

func allowPreflight(h http.Header, origin, method string) {
	allowOrigin(h, origin)
	h.Set("Access-Control-Allow-Methods", method)
	h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type")
	h.Set("Access-Control-Max-Age", preflightMaxAge)
}

func writeNoContent(w http.ResponseWriter) {
	w.Header().Del("Content-Type")
	w.WriteHeader(http.StatusNoContent)
}
