// SPDX-License-Identifier: Apache-2.0

package arch

import (
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

func TestEachDependencyHasItsLine(t *testing.T) {
	t.Parallel()
	missing, err := Undocumented(os.DirFS(root164))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range missing {
		t.Error(m)
	}
}

func TestUndocumentedNamesWhatHasNoLine(t *testing.T) {
	t.Parallel()
	missing, err := Undocumented(fstest.MapFS{
		"docs/dependencies.md":  {Data: []byte("`a.example/prose` is only spoken of.\n| `a.example/known` | x |\n")},
		"go.mod":                {Data: []byte("module m\n\nrequire a.example/alone v1.0.0\n\nrequire (\n\ta.example/known v1.2.3\n\ta.example/prose v0.0.0-2024-abc\n\ta.example/deep v1.0.0 // indirect\n)\n")},
		"internal/peers/go.mod": {Data: []byte("module p\n\nrequire " + module + " v0.0.0\n\nrequire (\n\tb.example/new/v2 v2.0.0\n)\n")},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"go.mod: requires a.example/alone,", "go.mod: requires a.example/prose,", "internal/peers/go.mod: requires b.example/new/v2,"}
	if !slices.EqualFunc(missing, want, strings.HasPrefix) {
		t.Errorf("Undocumented = %q, want %q", missing, want)
	}
}
