package grants

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// descriptions returns every error description that the package's source holds, by its place.
func descriptions(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	files := token.NewFileSet()
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), ".go") || strings.HasSuffix(entry.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(files, entry.Name(), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(node ast.Node) bool {
			var description ast.Expr
			switch node := node.(type) {
			case *ast.CallExpr:
				if name, ok := node.Fun.(*ast.Ident); ok && name.Name == "refuse" {
					description = node.Args[1]
				}
			case *ast.KeyValueExpr:
				if name, ok := node.Key.(*ast.Ident); ok && name.Name == "Description" {
					description = node.Value
				}
			}
			if description == nil {
				return true
			}
			place := files.Position(description.Pos()).String()
			switch description := description.(type) {
			case *ast.BasicLit:
				if found[place], err = strconv.Unquote(description.Value); err != nil {
					t.Errorf("%s: %v", place, err)
				}
			case *ast.Ident: // the parameter of refuse itself
				if description.Name != "description" {
					t.Errorf("%s: the description is not a literal", place)
				}
			default:
				t.Errorf("%s: the description is not a literal", place)
			}
			return true
		})
	}
	return found
}

func TestDescriptionsHoldOnlyWhatTheStandardAllows(t *testing.T) {
	all := descriptions(t)
	if len(all) < 15 {
		t.Fatalf("only %d descriptions were found", len(all))
	}
	for place, description := range all {
		if description == "" {
			t.Errorf("%s: there is none", place)
		}
		for _, c := range []byte(description) {
			// RFC 6749 §5.2: %x20-21 / %x23-5B / %x5D-7E
			if c < 0x20 || c > 0x7e || c == '"' || c == '\\' {
				t.Errorf("%s: %q holds %q", place, description, c)
			}
		}
	}
}

func TestEveryBadRefreshTokenIsAnsweredAlike(t *testing.T) {
	f := newFixture(t)
	fresh := func() string { return f.signIn(t).RefreshToken }
	used, revoked, otherClients, expired := fresh(), fresh(), f.mustToken(t, signIn(confidential("rival"), "")).RefreshToken, fresh()
	f.mustRefresh(t, used)
	f.revoke(t, revoked)
	forged := macKey{id: 1, key: make([]byte, 32)}.formatRefreshToken(f.parse(t, used))

	answers := map[Error]string{}
	ask := func(name, token string) {
		_, refused := f.token(t, refreshing(token))
		wantCode(t, refused, InvalidGrant)
		if refused.Cause == nil {
			t.Errorf("%s: the log isn't told why", name)
		}
		refused.Cause = nil
		answers[*refused] = name
	}
	ask("junk", "junk")
	ask("forged", forged)
	ask("another client's", otherClients)
	ask("used", used)
	ask("of an ended family", used)
	ask("revoked", revoked)
	f.start(t, withoutUser("admin"))
	ask("of a user who is gone", expired)
	f.start(t)
	f.clock.advance(day)
	ask("expired", expired)
	wantEqual(t, "different answers", len(answers), 1)
}

func TestNoErrorHoldsASecret(t *testing.T) {
	f := newFixture(t)
	first := f.signIn(t)
	second := f.mustRefresh(t, first.RefreshToken)
	secrets := []string{testSecret, testPassword, "wrong secret", first.RefreshToken, second.RefreshToken, first.AccessToken}
	wrongSecret, wrongPassword := refreshing(second.RefreshToken), signIn(confidential("portal"), "")
	wrongSecret.Client.Secret = "wrong secret"
	wrongPassword.Password = "wrong secret"
	foreign := refreshing(second.RefreshToken)
	foreign.Client = confidential("rival")
	unknownScope := refreshing(second.RefreshToken)
	unknownScope.Scope = "unknown"
	for _, r := range []TokenRequest{wrongSecret, wrongPassword, foreign, unknownScope, refreshing(first.RefreshToken), refreshing(second.RefreshToken)} {
		_, refused := f.token(t, r)
		if refused == nil {
			t.Fatal("not refused")
		}
		for _, secret := range secrets {
			if strings.Contains(refused.Error(), secret) {
				t.Errorf("error %q holds %q", refused, secret)
			}
		}
	}
}

func TestAnErrorTellsItsCauseToTheLogOnly(t *testing.T) {
	cause := errors.New("disk full")
	err := Unavailable(cause)
	wantEqual(t, "is its cause", errors.Is(err, cause), true)
	wantEqual(t, "text", strings.HasSuffix(err.Error(), "(disk full)"), true)
	wantEqual(t, "description", strings.Contains(err.Description, "disk full"), false)
	wantEqual(t, "retry after", err.RetryAfter, time.Second)
	wantEqual(t, "text without a cause", refuse(InvalidScope, "No.").Error(), "invalid_scope: No.")
}
