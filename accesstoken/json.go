package accesstoken

import (
	"bytes"
	"errors"
	"io"
	"math"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// maxDepth is how deep arrays and objects may be nested.
const maxDepth = 32

var errNotObject = errors.New("not a JSON object")

// eachMember calls f with each member of a JSON object in turn. It refuses whatever readers of JSON could understand in
// different ways: a name twice (at any depth), invalid UTF-8, bytes after the object, a byte order mark. Names are
// compared exactly. The value is good until f returns.
func eachMember(object []byte, f func(name string, value jsontext.Value) error) error {
	decoder := jsontext.NewDecoder(bytes.NewBuffer(object))
	if decoder.PeekKind() != jsontext.KindBeginObject {
		return errNotObject
	}
	if _, err := decoder.ReadToken(); err != nil {
		return err
	}
	for decoder.PeekKind() != jsontext.KindEndObject {
		token, err := decoder.ReadToken()
		if err != nil {
			return err
		}
		name := token.String()
		value, err := decoder.ReadValue()
		if err != nil {
			return err
		}
		if nesting(value) >= maxDepth {
			return errors.New("nested too deep")
		}
		if err := f(name, value); err != nil {
			return err
		}
	}
	if _, err := decoder.ReadToken(); err != nil {
		return err
	}
	if _, err := decoder.ReadToken(); !errors.Is(err, io.EOF) {
		return errors.New("bytes after the object")
	}
	return nil
}

// nesting returns how deep a valid JSON value is nested; a scalar is 0.
func nesting(value jsontext.Value) int {
	depth, deepest := 0, 0
	inString := false
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			depth++
			deepest = max(deepest, depth)
		case c == '}' || c == ']':
			depth--
		}
	}
	return deepest
}

// text returns the value of a JSON string.
func text(value jsontext.Value) (string, bool) {
	if value.Kind() != jsontext.KindString {
		return "", false
	}
	unquoted, err := jsontext.AppendUnquote(nil, value)
	return string(unquoted), err == nil
}

// texts returns the values of a JSON array that holds nothing but strings.
func texts(value jsontext.Value) ([]string, bool) {
	decoder := jsontext.NewDecoder(bytes.NewBuffer(value))
	if token, err := decoder.ReadToken(); err != nil || token.Kind() != jsontext.KindBeginArray {
		return nil, false
	}
	var all []string
	for decoder.PeekKind() == jsontext.KindString {
		token, err := decoder.ReadToken()
		if err != nil {
			return nil, false
		}
		all = append(all, token.String())
	}
	return all, decoder.PeekKind() == jsontext.KindEndArray
}

// maxNumericDate is the last second of the year 9999, the last that time.Time can write as a date.
const maxNumericDate = 253402300799

// numericDate returns a NumericDate (RFC 7519 §2) in whole seconds, rounded down.
func numericDate(value jsontext.Value) (int64, bool) {
	if value.Kind() != jsontext.KindNumber {
		return 0, false
	}
	seconds, err := strconv.ParseFloat(string(value), 64)
	if err != nil || seconds < 0 || seconds > maxNumericDate {
		return 0, false
	}
	return int64(math.Floor(seconds)), true
}
