package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// A tree is the parsed Go code of one module.
type tree struct {
	fset  *token.FileSet
	files []*file
}

type file struct {
	path      string // from the root, with slashes
	dir       string // path without the name; "." is the root
	name      string
	test      bool // *_test.go
	generated bool
	ast       *ast.File
}

// load parses every Go file below the root of fsys, whatever its build tags, except other modules,
// testdata, and directories that the go command does not look into.
func load(fsys fs.FS) (*tree, error) {
	t := &tree{fset: token.NewFileSet()}
	err := fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return t.enter(fsys, p)
		}
		if path.Ext(p) != ".go" {
			return nil
		}
		src, err := fs.ReadFile(fsys, p)
		if err != nil {
			return err
		}
		parsed, err := parser.ParseFile(t.fset, p, src, parser.ParseComments)
		if err != nil {
			return err
		}
		t.files = append(t.files, &file{
			path:      p,
			dir:       path.Dir(p),
			name:      path.Base(p),
			test:      strings.HasSuffix(p, "_test.go"),
			generated: ast.IsGenerated(parsed),
			ast:       parsed,
		})
		return nil
	})
	return t, err
}

// enter decides whether a directory belongs to the module.
func (t *tree) enter(fsys fs.FS, dir string) error {
	if dir == "." {
		return nil
	}
	name := path.Base(dir)
	if strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") ||
		name == "testdata" || name == "node_modules" {
		return fs.SkipDir
	}
	if _, err := fs.Stat(fsys, path.Join(dir, "go.mod")); err == nil {
		return fs.SkipDir
	}
	return nil
}

// dirs lists the directories that hold Go files, in order.
func (t *tree) dirs() []string {
	var dirs []string
	for _, f := range t.files {
		dirs = append(dirs, f.dir)
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}

// in lists the files of one directory.
func (t *tree) in(dir string) []*file {
	var files []*file
	for _, f := range t.files {
		if f.dir == dir {
			files = append(files, f)
		}
	}
	return files
}

// finding is one broken rule, in the form of a compiler's message.
func (t *tree) finding(at ast.Node, format string, args ...any) string {
	pos := t.fset.Position(at.Pos())
	return fmt.Sprintf("%s:%d: %s", pos.Filename, pos.Line, fmt.Sprintf(format, args...))
}

func importPath(spec *ast.ImportSpec) string {
	p, err := strconv.Unquote(spec.Path.Value)
	if err != nil {
		return spec.Path.Value // unreachable: the parser has read it as a string literal
	}
	return p
}

// ours returns the directory of one of our packages, given its import path.
func ours(importPath string) (dir string, ok bool) {
	if importPath == module {
		return ".", true
	}
	return strings.CutPrefix(importPath, module+"/")
}

// matches reports whether dir is one of patterns: a directory, or "x/*" for all below x.
func matches(dir string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		if above, ok := strings.CutSuffix(p, "*"); ok {
			return strings.HasPrefix(dir, above)
		}
		return dir == p
	})
}

// within reports whether an import path is one of paths or below one.
func within(importPath string, paths []string) bool {
	return slices.ContainsFunc(paths, func(p string) bool {
		return importPath == p || strings.HasPrefix(importPath, p+"/")
	})
}
