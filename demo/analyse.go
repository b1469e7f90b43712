package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"go/ast"
	"go/parser"
	"go/scanner"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// fileReport is what is found out about one Go file.
type fileReport struct {
	Path        string   `json:"path"`
	Lines       int      `json:"lines"`
	Words       int      `json:"words"`
	Identifiers int      `json:"identifiers"`
	SHA256      string   `json:"sha256"`
	Longest     function `json:"longest"`
}

// function is a function's name and length.
type function struct {
	Name  string `json:"name"`
	File  string `json:"file"`
	Lines int    `json:"lines"`
}

// total is the sum over all files.
type total struct {
	Files       int      `json:"files"`
	Lines       int      `json:"lines"`
	Words       int      `json:"words"`
	Identifiers int      `json:"identifiers"`
	SHA256      string   `json:"sha256"` // of the files' sums, in order
	Longest     function `json:"longest"`
}

func (t *total) add(r fileReport) {
	t.Files++
	t.Lines += r.Lines
	t.Words += r.Words
	t.Identifiers += r.Identifiers
	sum := sha256.Sum256([]byte(t.SHA256 + r.SHA256))
	t.SHA256 = hex.EncodeToString(sum[:])
	if r.Longest.Lines > t.Longest.Lines {
		t.Longest = r.Longest
	}
}

// goFiles lists the Go files below a folder, in order. Hidden folders and installed packages are left out.
func goFiles(folder string) ([]string, error) {
	var files []string
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() && path != folder && (strings.HasPrefix(name, ".") || name == "node_modules") {
			return fs.SkipDir
		}
		if entry.Type().IsRegular() && strings.HasSuffix(name, ".go") {
			relative, err := filepath.Rel(folder, path)
			if err != nil {
				return err // unreachable: path is below folder
			}
			files = append(files, filepath.ToSlash(relative))
		}
		return nil
	})
	return files, err
}

// analyseFile reads one file.
func analyseFile(folder, path string) (fileReport, error) {
	source, err := os.ReadFile(filepath.Join(folder, filepath.FromSlash(path)))
	if err != nil {
		return fileReport{}, err
	}
	sum := sha256.Sum256(source)
	return fileReport{
		Path: path, Lines: bytes.Count(source, []byte("\n")), Words: len(bytes.Fields(source)),
		Identifiers: identifiers(source), SHA256: hex.EncodeToString(sum[:]), Longest: longestFunction(path, source),
	}, nil
}

func identifiers(source []byte) int {
	var s scanner.Scanner
	files := token.NewFileSet()
	s.Init(files.AddFile("", files.Base(), len(source)), source, nil, 0)
	n := 0
	for {
		_, tok, _ := s.Scan()
		switch tok {
		case token.EOF:
			return n
		case token.IDENT:
			n++
		default:
		}
	}
}

// longestFunction finds the longest function; a file that does not parse has as many as were understood.
func longestFunction(path string, source []byte) function {
	files := token.NewFileSet()
	file, _ := parser.ParseFile(files, "", source, parser.SkipObjectResolution) // it returns what it understood
	if file == nil {
		return function{}
	}
	var longest function
	for _, declaration := range file.Decls {
		f, ok := declaration.(*ast.FuncDecl)
		if !ok {
			continue
		}
		if n := files.Position(f.End()).Line - files.Position(f.Pos()).Line + 1; n > longest.Lines {
			longest = function{Name: f.Name.Name, File: path, Lines: n}
		}
	}
	return longest
}

// analyseFolder does the whole work in this process: what the workers' results are checked against.
func analyseFolder(folder string) (total, error) {
	files, err := goFiles(folder)
	if err != nil {
		return total{}, err
	}
	if len(files) < minFiles {
		return total{}, fmt.Errorf("%s has %d Go files; the demo needs at least %d", folder, len(files), minFiles)
	}
	var t total
	for _, path := range files {
		r, err := analyseFile(folder, path)
		if err != nil {
			return total{}, err
		}
		t.add(r)
	}
	return t, nil
}
