// SPDX-License-Identifier: Apache-2.0

package arch

import (
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"
)

// Undocumented returns the modules that a go.mod requires directly and
// docs/dependencies.md has no line for.
func Undocumented(fsys fs.FS) ([]string, error) {
	doc, err := fs.ReadFile(fsys, "docs/dependencies.md")
	if err != nil {
		return nil, err
	}
	required := regexp.MustCompile(`(?m)^(?:require )?\t?(\S+\.\S+/\S+) v\S+$`) // without "// indirect"
	var out []string
	for _, dir := range []string{".", "internal/peers"} {
		name := path.Join(dir, "go.mod")
		mod, err := fs.ReadFile(fsys, name)
		if err != nil {
			return nil, err
		}
		for _, m := range required.FindAllStringSubmatch(string(mod), -1) {
			if m[1] != module && !strings.Contains(string(doc), "\n| `"+m[1]+"` |") {
				out = append(out, fmt.Sprintf("%s: requires %s, which has no line in docs/dependencies.md: say what it is for, what was rejected, and its last release", name, m[1]))
			}
		}
	}
	return out, nil
}
