// SPDX-License-Identifier: Apache-2.0

package accesstest_test

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
)

// A notingTB notes what fails.
type notingTB struct {
	testing.TB
	said []string
}

func (n *notingTB) Helper() {}
func (n *notingTB) Errorf(format string, args ...any) {
	n.said = append(n.said, fmt.Sprintf(format, args...))
}
func (n *notingTB) Fatalf(format string, args ...any) { n.Errorf(format, args...) }

func TestPolicyCases(t *testing.T) {
	t.Parallel()
	good := accesstest.Case{Roles: []string{"clerk", "nurse"}, Action: access.Read, Type: "patient", Purpose: access.Treatment, Allow: true}
	with := func(edit func(*accesstest.Case)) accesstest.Case {
		c := good
		edit(&c)
		return c
	}
	a := &accesstest.Fake{Rules: []accesstest.Rule{read}}
	accesstest.TestPolicy(t, a, good,
		with(func(c *accesstest.Case) { c.Code = access.AllowRule }),
		with(func(c *accesstest.Case) { c.Tenant = "t-2" }),
		with(func(c *accesstest.Case) { c.Roles, c.Allow = []string{"clerk"}, false }),
		with(func(c *accesstest.Case) { c.Purpose, c.Allow, c.Code = access.Payment, false, access.DenyPurpose }))
	for name, c := range map[string]accesstest.Case{
		"zero":            {},
		"denied":          with(func(c *accesstest.Case) { c.Action = access.Delete }),
		"allowed":         with(func(c *accesstest.Case) { c.Allow = false }),
		"another code":    with(func(c *accesstest.Case) { c.Purpose, c.Allow, c.Code = access.Payment, false, access.DenyNoRule }),
		"unknown purpose": with(func(c *accesstest.Case) { c.Purpose, c.Allow = "FUN", false }),
		"bad role":        with(func(c *accesstest.Case) { c.Roles, c.Allow = []string{"a b"}, false }),
		"bad type":        with(func(c *accesstest.Case) { c.Type, c.Allow = "a b", false }),
		"bad action":      with(func(c *accesstest.Case) { c.Action, c.Allow = "*", false }),
	} {
		n := &notingTB{TB: t}
		if accesstest.TestPolicy(n, a, good, c); len(n.said) != 1 || !strings.HasPrefix(n.said[0], "case 1: ") {
			t.Errorf("%s: %q", name, n.said)
		}
	}
	n := &notingTB{TB: t}
	if accesstest.TestPolicy(n, a); len(n.said) != 1 {
		t.Error("no case passes")
	}
	broken := &accesstest.Fake{}
	broken.Fail(os.ErrClosed)
	n = &notingTB{TB: t}
	if accesstest.TestPolicy(n, broken, with(func(c *accesstest.Case) { c.Allow = false })); len(n.said) != 1 {
		t.Error("an error passes for a denial")
	}
}

func TestCasesFromAFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "cases.csv")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("# who, what\nclerk+nurse, read, patient, TREAT, allow\n\nnurse, read , patient, HPAYMT, DENY_PURPOSE , t-2\n")
	got := accesstest.ReadCases(t, path)
	want := []accesstest.Case{
		{Roles: []string{"clerk", "nurse"}, Action: "read", Type: "patient", Purpose: "TREAT", Allow: true, From: path + ":2"},
		{Roles: []string{"nurse"}, Action: "read", Type: "patient", Purpose: "HPAYMT", Code: access.DenyPurpose, Tenant: "t-2", From: path + ":4"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	accesstest.TestPolicy(t, &accesstest.Fake{Rules: []accesstest.Rule{read}}, got...)
	for _, text := range []string{"nurse, read, patient, TREAT", "nurse, read, patient, TREAT, yes", "nurse, read, patient, TREAT, allow, t, x", "nurse, \"read, patient, TREAT, allow"} {
		write(text)
		n := &notingTB{TB: t}
		if got := accesstest.ReadCases(n, path); got != nil || len(n.said) != 1 || !strings.Contains(n.said[0], path+":") {
			t.Errorf("%q: %+v, %q", text, got, n.said)
		}
	}
	n := &notingTB{TB: t}
	if accesstest.ReadCases(n, path+".missing"); len(n.said) != 1 {
		t.Error("a missing file has no case, and passes")
	}
}
