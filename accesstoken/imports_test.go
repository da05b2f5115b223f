package accesstoken_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// importsOf returns the import paths of a Go file.
func importsOf(t *testing.T, path string) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	paths := make([]string, 0, len(file.Imports))
	for _, spec := range file.Imports {
		unquoted, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, unquoted)
	}
	return paths
}

func isJWX(path string) bool {
	return path == "github.com/lestrrat-go/jwx" || strings.HasPrefix(path, "github.com/lestrrat-go/jwx/")
}

func TestOnlyThisPackageImportsJWX(t *testing.T) {
	here, elsewhere := 0, 0
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != ".." && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata"):
			return filepath.SkipDir
		case entry.IsDir() || filepath.Ext(path) != ".go":
			return nil
		}
		inside := filepath.Dir(path) == filepath.Join("..", "accesstoken")
		if !inside {
			elsewhere++
		}
		if !slices.ContainsFunc(importsOf(t, path), isJWX) {
			return nil
		}
		if inside {
			here++
		} else {
			t.Errorf("%s imports jwx", path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if here == 0 || elsewhere == 0 {
		t.Fatalf("the search found %d files that import jwx here and %d files elsewhere: it looks in the wrong place", here, elsewhere)
	}
}

func TestThisPackageCannotFetch(t *testing.T) {
	t.Run("row 31: nothing that the header points to can be fetched", func(t *testing.T) {
		files, err := filepath.Glob("*.go")
		if err != nil || len(files) == 0 {
			t.Fatalf("%d files, %v", len(files), err)
		}
		for _, path := range files {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			for _, imported := range importsOf(t, path) {
				if imported == "net" || strings.HasPrefix(imported, "net/") || imported == "os" {
					t.Errorf("%s imports %s", path, imported)
				}
			}
		}
	})
}
