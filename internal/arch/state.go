// SPDX-License-Identifier: Apache-2.0

package arch

import (
	"go/ast"
	"go/token"
	"slices"
	"strings"
)

// checkState reports init functions, and package-level variables that are more
// than an error, a compile-time check, an embedded file, or a table that
// nothing writes to.
func checkState(pkg []file, report func(string, ...any)) {
	written := writes(pkg)
	for _, f := range pkg {
		if f.test() {
			continue
		}
		for _, d := range f.ast.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil && d.Name.Name == "init" {
					report("%s: has an init function", f.path())
				}
			case *ast.GenDecl:
				if d.Tok != token.VAR {
					continue
				}
				for _, s := range d.Specs {
					s := s.(*ast.ValueSpec)
					if embedded(d.Doc) || embedded(s.Doc) {
						continue
					}
					for i, n := range s.Names {
						var value ast.Expr
						if len(s.Values) == len(s.Names) {
							value = s.Values[i]
						}
						if n.Name != "_" && !isError(n.Name, value) && !(isTable(n, value) && !written[n.Name]) {
							report("%s: package-level state: var %s", f.path(), n.Name)
						}
					}
				}
			}
		}
	}
}

func embedded(doc *ast.CommentGroup) bool {
	return doc != nil && slices.ContainsFunc(doc.List, func(c *ast.Comment) bool { return strings.HasPrefix(c.Text, "//go:embed ") })
}

// isError reports whether value is an error sentinel's.
func isError(name string, value ast.Expr) bool {
	return (strings.HasPrefix(name, "Err") || strings.HasPrefix(name, "err")) &&
		(calls(value) == "errors.New" || calls(value) == "fmt.Errorf")
}

// constants are the functions whose results never change: what they return is
// a constant in all but name.
var constants = []string{"regexp.MustCompile", "reflect.TypeFor", "reflect.TypeOf", "base64.RawStdEncoding.Strict"}

// values are the imported types that hold no more than their fields.
var values = []string{"access.Principal"}

// isTable reports whether the variable is a private constant in all but name, a
// private literal of plain values, or an array that is computed once.
func isTable(name *ast.Ident, value ast.Expr) bool {
	if name.IsExported() {
		return false
	}
	if slices.Contains(constants, calls(value)) {
		return true
	}
	if computed(value) {
		return true
	}
	lit, ok := value.(*ast.CompositeLit)
	if !ok {
		return false
	}
	if _, imported := lit.Type.(*ast.SelectorExpr); imported && !slices.Contains(values, dotted(lit.Type)) {
		return false // sync.Pool{}, atomic.Value{} and their like
	}
	plain := true
	ast.Inspect(lit, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit:
			return false
		case *ast.UnaryExpr:
			plain = plain && n.Op != token.AND
		case *ast.ChanType, *ast.CallExpr:
			plain = false
		}
		return true
	})
	return plain
}

// computed reports whether e is an array that a function literal fills in:
// func() [256]uint8 { ... }().
func computed(e ast.Expr) bool {
	call, ok := e.(*ast.CallExpr)
	if !ok {
		return false
	}
	fill, ok := call.Fun.(*ast.FuncLit)
	if !ok || fill.Type.Results == nil || len(fill.Type.Results.List) != 1 {
		return false
	}
	array, ok := fill.Type.Results.List[0].Type.(*ast.ArrayType)
	return ok && array.Len != nil
}

// calls returns the function that e calls, such as "errors.New", or "".
func calls(e ast.Expr) string {
	call, ok := e.(*ast.CallExpr)
	if !ok {
		return ""
	}
	return dotted(call.Fun)
}

func dotted(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return dotted(e.X) + "." + e.Sel.Name
	case *ast.IndexExpr: // a type argument
		return dotted(e.X)
	}
	return ""
}

// writes returns the names that the package assigns to inside a function, takes
// the address of, or deletes from. A local variable of the same name counts: it
// had better be called something else.
func writes(pkg []file) map[string]bool {
	names := make(map[string]bool)
	for _, f := range pkg {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.AssignStmt:
				if n.Tok != token.DEFINE {
					for _, l := range n.Lhs {
						names[root(l)] = true
					}
				}
			case *ast.IncDecStmt:
				names[root(n.X)] = true
			case *ast.RangeStmt:
				if n.Tok == token.ASSIGN {
					names[root(n.Key)] = true
					names[root(n.Value)] = true
				}
			case *ast.UnaryExpr:
				if n.Op == token.AND {
					names[root(n.X)] = true
				}
			case *ast.CallExpr:
				if fun, ok := n.Fun.(*ast.Ident); ok && (fun.Name == "delete" || fun.Name == "clear" || fun.Name == "copy") && len(n.Args) > 0 {
					names[root(n.Args[0])] = true
				}
			}
			return true
		})
	}
	return names
}

// root returns the variable that e reaches into.
func root(e ast.Expr) string {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			return x.Name
		case *ast.IndexExpr:
			e = x.X
		case *ast.SliceExpr:
			e = x.X
		case *ast.SelectorExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		default:
			return ""
		}
	}
}
