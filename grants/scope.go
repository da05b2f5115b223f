package grants

import (
	"slices"
	"strings"
)

// maxScopes is how many scopes a request may name.
const maxScopes = 256

// parseScope takes a scope parameter apart (RFC 6749 §3.3): tokens of visible ASCII without quote and backslash, separated
// by single spaces. A scope named twice counts once. Absent means nil.
func parseScope(parameter string) ([]string, *Error) {
	if parameter == "" {
		return nil, nil
	}
	var scopes []string
	for scope := range strings.SplitSeq(parameter, " ") {
		if !ValidScope(scope) {
			return nil, refuse(InvalidScope, "The scope is malformed: names of visible ASCII characters, separated by single spaces.")
		}
		if slices.Contains(scopes, scope) {
			continue
		}
		if len(scopes) == maxScopes {
			return nil, refuse(InvalidScope, "The scope has too many names.")
		}
		scopes = append(scopes, scope)
	}
	return scopes, nil
}

// ValidScope reports whether s is a scope-token of RFC 6749 §3.3.
func ValidScope(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < 0x21 || c > 0x7e || c == '"' || c == '\\' {
			return false
		}
	}
	return s != ""
}

// grantScopes returns what a client is granted that asks for these scopes: the first of its own when it asks for none.
func grantScopes(client *Client, parameter string) ([]string, *Error) {
	asked, refused := parseScope(parameter)
	if refused != nil {
		return nil, refused
	}
	if asked == nil {
		return client.Scopes[:1], nil
	}
	if !subset(asked, client.Scopes) {
		return nil, refuse(InvalidScope, "The client may not ask for one of these scopes.")
	}
	return asked, nil
}

// narrowScopes returns what an access token gets of a family's scopes: all of them when none are asked for (RFC 6749 §6).
func narrowScopes(granted []string, parameter string) ([]string, *Error) {
	asked, refused := parseScope(parameter)
	if refused != nil || asked == nil {
		return granted, refused
	}
	if !subset(asked, granted) {
		return nil, refuse(InvalidScope, "A refresh can't add to the scope that was granted.")
	}
	return asked, nil
}

// narrowAudience returns what an access token is meant for: the resources asked for (RFC 8707 §2), which must be among
// those allowed; all of the allowed when none are asked for.
func narrowAudience(allowed, resources []string) ([]string, *Error) {
	if len(resources) == 0 {
		return allowed, nil
	}
	if !subset(resources, allowed) {
		return nil, refuse(InvalidTarget, "The client may not ask for a token for one of these resources.")
	}
	return slices.Compact(slices.Sorted(slices.Values(resources))), nil
}

func subset(of, all []string) bool {
	return !slices.ContainsFunc(of, func(s string) bool { return !slices.Contains(all, s) })
}
