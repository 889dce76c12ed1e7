// SPDX-License-Identifier: Apache-2.0

// Package arch holds the shape of this repository: its floors, its top level,
// and the habits that a compiler does not see. Its tests hold the repository
// to it, and hold the checks to planted violations.
package arch

import (
	"path"
	"strings"
)

const module = "github.com/part164/part164"

// topLevel is what the root of the repository holds, and nothing else.
var topLevel = []string{
	".ci", ".gitattributes", ".gitignore",
	"CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", "SECURITY.md",
	"access", "audit", "crypto", "doc.go", "docs", "examples", "go.mod", "go.sum", "internal",
	"minimize", "session", "storage",
}

// A floor is the height of a package; imports go down only.
type floor struct {
	dir   string // from the root of the module
	level int
	alone bool // its subpackages need a floor of their own; its kit does not
}

// The repository's own tools stand below everything: they import the standard
// library only, and nobody imports them.
const tools = -1

// Below that is what every test kit shares.
const kits = -2

var floors = []floor{
	{dir: ".", level: tools, alone: true},
	{dir: "internal/arch", level: tools, alone: true},
	{dir: "internal/mutate", level: tools, alone: true},
	{dir: "internal/fault", level: kits, alone: true},
	{dir: "access", level: 0, alone: true},
	{dir: "crypto", level: 0},
	{dir: "access/policy", level: 1},
	{dir: "audit", level: 1},
	{dir: "minimize", level: 1},
	{dir: "session", level: 2},
	{dir: "access/rbac", level: 2},
	{dir: "access/pdp", level: 2},
	{dir: "access/grant", level: 2},
	{dir: "access/duty", level: 2},
	{dir: "access/machine", level: 2},
	{dir: "access/cmd", level: 3},
	{dir: "access/relation", level: 2},
	{dir: "access/directive", level: 2},
	{dir: "access/httpaccess", level: 3},
	{dir: "access/grpcaccess", level: 3},
	{dir: "access/egress", level: 3},
	{dir: "storage", level: 3},
	{dir: "examples", level: 4},
	{dir: "internal/readme", level: 4}, // the README's program is one more example
}

// A confinement says which packages may import what.
type confinement struct {
	what string // import path, or the beginning of one
	to   []string
}

func (c confinement) String() string {
	if len(c.to) == 0 {
		return "nobody"
	}
	return strings.Join(c.to, " and ") + " only"
}

var confinements = []confinement{
	{what: "gorm.io/", to: []string{"storage", "examples"}},
	{what: "github.com/glebarez/", to: []string{"storage", "examples"}},
	{what: module + "/internal/fault", to: []string{"access/accesstest", "access/machine/machinetest", "audit/audittest", "audit/sinktest", "audit/watchtest", "crypto/cryptotest", "session/sessiontest", "storage/storagetest", "internal/fault"}},
	{what: "github.com/casbin/", to: []string{"access/policy"}},
	{what: "github.com/stretchr/testify"},
}

// thirdParty lists the only foreign modules of a folder, where it has a list.
var thirdParty = []struct {
	dir   string
	alone bool
	only  []string
}{
	{dir: "access", alone: true},
	{dir: "crypto", only: []string{"github.com/tink-crypto/tink-go/v2"}},
	{dir: "internal/arch"},
	{dir: "internal/mutate"},
	{dir: "internal/fault"},
}

// floorOf returns the floor of the package in dir.
func floorOf(dir string) (floor, bool) {
	var found floor
	ok := false
	for _, f := range floors {
		own := dir == f.dir || isKit(dir) && path.Dir(dir) == f.dir
		if (own || !f.alone && within(dir, f.dir)) && (!ok || len(f.dir) > len(found.dir)) {
			found, ok = f, true
		}
	}
	return found, ok
}

// area is the folder within which packages of one floor may import each other.
func area(dir string) string {
	parts := strings.Split(dir, "/")
	if parts[0] == "examples" || parts[0] == "internal" {
		return strings.Join(parts[:min(2, len(parts))], "/")
	}
	return parts[0]
}

// isKit reports whether dir is a test kit, such as audit/audittest.
func isKit(dir string) bool { return strings.HasSuffix(dir, "test") }

// within reports whether dir is parent or stands under it.
func within(dir, parent string) bool { return dir == parent || strings.HasPrefix(dir, parent+"/") }
