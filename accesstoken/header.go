package accesstoken

import (
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// maxKeyIDLength is more than any sane key ID has.
const maxKeyIDLength = 256

// header is what counts of a JOSE header (RFC 7515 §4). Keys and addresses of keys in it (jku, jwk, x5u, x5c) are never
// looked at.
type header struct {
	algorithm Algorithm
	typ       string
	keyID     string
	hasKeyID  bool
}

func parseHeader(raw []byte) (header, *Error) {
	var h header
	var refused *Error
	err := eachMember(raw, func(name string, value jsontext.Value) error {
		var ok bool
		switch name {
		case "alg":
			var algorithm string
			if algorithm, ok = text(value); ok {
				h.algorithm = Algorithm(algorithm)
			}
		case "typ":
			h.typ, ok = text(value)
		case "kid":
			h.keyID, ok = text(value)
			h.hasKeyID = true
			ok = ok && h.keyID != "" && len(h.keyID) <= maxKeyIDLength
		case "crit", "b64", "zip", "enc":
			// Extensions that change what the token means (RFC 7515 §4.1.11, RFC 7797, RFC 7516): none is known here.
			ok = false
		default:
			ok = true
		}
		if !ok {
			refused = refuse(Malformed, "The token's header has a "+name+" that is not acceptable.")
			return refused
		}
		return nil
	})
	switch {
	case refused != nil:
		return header{}, refused
	case err != nil:
		return header{}, refuse(Malformed, "The token's header is not a sound JSON object.")
	case !slices.Contains(Algorithms, h.algorithm):
		return header{}, refuse(Malformed, "The token's alg is not acceptable.")
	}
	return h, nil
}

// isType reports whether the header's typ is a media type, with or without its "application/" (RFC 7515 §4.1.9).
func (h header) isType(typ string) bool {
	const application = "application/"
	got := h.typ
	if len(got) > len(application) && strings.EqualFold(got[:len(application)], application) {
		got = got[len(application):]
	}
	return strings.EqualFold(got, typ)
}
