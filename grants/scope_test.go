package grants

import (
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestParseScope(t *testing.T) {
	for _, test := range []struct {
		name      string
		parameter string
		want      []string
		refused   bool
	}{
		{"nothing", "", nil, false},
		{"one", "read", []string{"read"}, false},
		{"two", "read write", []string{"read", "write"}, false},
		{"the order is kept", "write read", []string{"write", "read"}, false},
		{"one named twice", "read write read", []string{"read", "write"}, false},
		{"case matters", "read READ", []string{"read", "READ"}, false},
		{"the whole alphabet", "!#$%&'()*+,-./09:;<=>?@AZ[]^_`az{|}~", []string{"!#$%&'()*+,-./09:;<=>?@AZ[]^_`az{|}~"}, false},
		{"a space only", " ", nil, true},
		{"a space in front", " read", nil, true},
		{"a space behind", "read ", nil, true},
		{"two spaces between", "read  write", nil, true},
		{"a tab", "read\twrite", nil, true},
		{"a line break", "read\nwrite", nil, true},
		{"a quote", `re"ad`, nil, true},
		{"a backslash", `re\ad`, nil, true},
		{"a control character", "read\x00", nil, true},
		{"DEL", "read\x7f", nil, true},
		{"beyond ASCII", "läs", nil, true},
		{"invalid UTF-8", "read\xff", nil, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, refused := parseScope(test.parameter)
			if test.refused {
				wantCode(t, refused, InvalidScope)
				return
			}
			if refused != nil {
				t.Fatal(refused)
			}
			wantEqual(t, "scopes", got, test.want)
		})
	}
}

func TestValidScopeTakesExactlyTheCharactersOfTheStandard(t *testing.T) {
	for c := range 256 {
		// RFC 6749 §3.3: scope-token = 1*( %x21 / %x23-5B / %x5D-7E )
		want := c == 0x21 || c >= 0x23 && c <= 0x5b || c >= 0x5d && c <= 0x7e
		wantEqual(t, string(rune(c)), ValidScope(string([]byte{'a', byte(c)})), want)
		wantEqual(t, string(rune(c)), ValidScope(string([]byte{byte(c)})), want)
	}
	wantEqual(t, "the empty scope", ValidScope(""), false)
}

func TestAClientIsGrantedWhatIsItsOwn(t *testing.T) {
	client := &Client{Scopes: []string{"default", "read", "write"}}
	wantScopes(t, func(parameter string) ([]string, *Error) { return grantScopes(client, parameter) }, []scopeTest{
		{"none asked for", "", []string{"default"}, false},
		{"one", "read", []string{"read"}, false},
		{"all, in another order", "write read default", []string{"write", "read", "default"}, false},
		{"a foreign one", "admin", nil, true},
		{"a foreign one among its own", "read admin", nil, true},
		{"a part of a name", "rea", nil, true},
		{"another case", "Read", nil, true},
	})
}

func TestAGrantedScopeIsOnlyNarrowed(t *testing.T) {
	granted := []string{"default", "read"}
	wantScopes(t, func(parameter string) ([]string, *Error) { return narrowScopes(granted, parameter) }, []scopeTest{
		{"none asked for", "", []string{"default", "read"}, false},
		{"one", "read", []string{"read"}, false},
		{"all", "read default", []string{"read", "default"}, false},
		{"one more", "default read write", nil, true},
		{"another", "write", nil, true},
		{"malformed", "read ", nil, true},
	})
}

func TestAnAudienceIsOnlyNarrowed(t *testing.T) {
	allowed := []string{filesAudience, apiAudience}
	for _, test := range []struct {
		name            string
		resources, want []string
		refused         bool
	}{
		{"none asked for", nil, []string{filesAudience, apiAudience}, false},
		{"one", []string{apiAudience}, []string{apiAudience}, false},
		{"one named twice", []string{filesAudience, filesAudience}, []string{filesAudience}, false},
		{"both", []string{filesAudience, apiAudience}, []string{apiAudience, filesAudience}, false},
		{"a foreign one", []string{briefAudience}, nil, true},
		{"a foreign one among the allowed", []string{apiAudience, briefAudience}, nil, true},
		{"a slash more", []string{apiAudience + "/"}, nil, true},
		{"an empty one", []string{""}, nil, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			asked := slices.Clone(test.resources)
			got, refused := narrowAudience(allowed, test.resources)
			wantEqual(t, "the resources afterwards", test.resources, asked)
			if test.refused {
				wantCode(t, refused, InvalidTarget)
				return
			}
			if refused != nil {
				t.Fatal(refused)
			}
			wantEqual(t, "audience", got, test.want)
		})
	}
}

func TestAScopeWithTooManyNamesIsRefused(t *testing.T) {
	names := make([]string, maxScopes+1)
	for i := range names {
		names[i] = "s" + strconv.Itoa(i)
	}
	if _, refused := parseScope(strings.Join(names[:maxScopes], " ")); refused != nil {
		t.Errorf("%d names: %v", maxScopes, refused)
	}
	_, refused := parseScope(strings.Join(names, " "))
	wantCode(t, refused, InvalidScope)
}

// scopeTest is a scope parameter and what comes of it.
type scopeTest struct {
	name, parameter string
	want            []string
	refused         bool
}

func wantScopes(t *testing.T, scopes func(parameter string) ([]string, *Error), tests []scopeTest) {
	t.Helper()
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, refused := scopes(test.parameter)
			if test.refused {
				wantCode(t, refused, InvalidScope)
				return
			}
			if refused != nil {
				t.Fatal(refused)
			}
			wantEqual(t, "scopes", got, test.want)
		})
	}
}
