package accesstoken

import (
	"encoding/base64"
	"strings"
)

// MaxLength is the length of the longest token that is looked at, in bytes.
const MaxLength = 16 << 10

// segment is base64url as RFC 7515 §2 has it: no padding, and no bits left over that could be changed unseen.
var segment = base64.RawURLEncoding.Strict()

// signed is a token whose form is sound: its decoded parts, and the bytes that the signature is over, as received.
type signed struct {
	header    header
	payload   []byte
	signature []byte
	input     []byte
}

// open takes a compact JWS apart (RFC 7515 §7.1). For each token there is one spelling that it accepts.
func open(token string) (signed, *Error) {
	if len(token) > MaxLength {
		return signed{}, refuse(Malformed, "The token is too long.")
	}
	first := strings.IndexByte(token, '.')
	last := strings.LastIndexByte(token, '.')
	if first <= 0 || last == first || last == len(token)-1 || strings.IndexByte(token[first+1:last], '.') >= 0 || last == first+1 {
		return signed{}, refuse(Malformed, "The token is not a signed JWT in its compact form.")
	}
	if strings.ContainsAny(token, "\r\n") { // the decoder would skip them
		return signed{}, refuse(Malformed, "The token holds line breaks.")
	}
	rawHeader, err1 := segment.DecodeString(token[:first])
	payload, err2 := segment.DecodeString(token[first+1 : last])
	signature, err3 := segment.DecodeString(token[last+1:])
	if err1 != nil || err2 != nil || err3 != nil {
		return signed{}, refuse(Malformed, "A part of the token is not canonical base64url.")
	}
	h, err := parseHeader(rawHeader)
	if err != nil {
		return signed{}, err
	}
	return signed{header: h, payload: payload, signature: signature, input: []byte(token[:last])}, nil
}

// verify checks the signature with the one key of the set that the header names.
func (s signed) verify(keys *KeySet) *Error {
	key, err := keys.find(s.header)
	if err != nil {
		return err
	}
	if !key.verify(s.input, s.signature) {
		return refuse(BadSignature, "The token's signature is not valid.")
	}
	return nil
}
