// SPDX-License-Identifier: Apache-2.0

package accesstest

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/part164/part164/access"
)

// A Case is one line of a policy's test: who may do what, and what for. The zero
// Case wants a denial of nothing, and fails.
type Case struct {
	Roles   []string // that the person holds, in Tenant
	Action  access.Action
	Type    string
	Purpose access.Purpose
	Tenant  string // empty means [Tenant]

	Allow bool
	Code  access.Code // wanted too; empty means any
	From  string      // for messages: "policy_test.csv:3"; empty means its place
}

// TestPolicy asks a about each of cases, and fails t with those that it answers
// in another way.
func TestPolicy(t testing.TB, a access.Authorizer, cases ...Case) {
	t.Helper()
	if len(cases) == 0 {
		t.Errorf("accesstest: TestPolicy: there is no case")
	}
	for i, c := range cases {
		if c.From == "" {
			c.From = fmt.Sprintf("case %d", i)
		}
		if c.Tenant == "" {
			c.Tenant = Tenant
		}
		ctx := access.With(t.Context(), Principal(c.Tenant, c.Roles...), c.Purpose)
		if _, err := access.From(ctx); err != nil {
			t.Errorf("%s: %v", c.From, err)
			continue
		}
		if access.CheckName(string(c.Action)) != nil || access.CheckName(c.Type) != nil {
			t.Errorf("%s: the action or the type is no name", c.From)
			continue
		}
		d, err := a.Check(ctx, access.Request{Action: c.Action, Resources: []access.Resource{{Type: c.Type, Tenant: c.Tenant}}})
		if err != nil || len(d.Verdicts) != 1 {
			t.Errorf("%s: Check: %d verdicts, %v", c.From, len(d.Verdicts), err)
			continue
		}
		if v := d.Verdicts[0]; v.Allow != c.Allow || c.Code != "" && v.Code != c.Code {
			want := c.Code
			if want == "" {
				want = access.Code(map[bool]string{true: "allow", false: "deny"}[c.Allow])
			}
			t.Errorf("%s: %s %s %s for %s: %s by %q, want %s", c.From, strings.Join(c.Roles, "+"), c.Action, c.Type, c.Purpose, v.Code, v.Rule, want)
		}
	}
}

// ReadCases reads cases from a CSV file: the roles with + between them, action,
// type, purpose, what is wanted (allow, deny, or a code), and the tenant where it
// is another than [Tenant]. Lines that begin with # are comments. It fails t with
// a line that it cannot read.
//
//	# who,        what,   of what, for,    wanted
//	nurse,        read,   patient, TREAT,  allow
//	nurse+clerk,  delete, patient, TREAT,  deny
//	nurse,        read,   patient, HPAYMT, DENY_PURPOSE
func ReadCases(t testing.TB, path string) []Case {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatalf("accesstest: ReadCases: %v", err)
		return nil
	}
	defer f.Close()
	in := csv.NewReader(f)
	in.Comment, in.TrimLeadingSpace, in.FieldsPerRecord = '#', true, -1
	var out []Case
	for {
		fields, err := in.Read()
		if err == io.EOF {
			return out
		}
		line, _ := in.FieldPos(0)
		var c Case
		if err == nil {
			c, err = parseCase(fields)
		}
		if err != nil {
			t.Fatalf("accesstest: ReadCases: %s:%d: %v", path, line, err)
			return nil
		}
		c.From = fmt.Sprintf("%s:%d", path, line)
		out = append(out, c)
	}
}

func parseCase(fields []string) (c Case, err error) {
	if len(fields) != 5 && len(fields) != 6 {
		return c, errors.New("a case has five fields, or six with the tenant")
	}
	for i, f := range fields {
		fields[i] = strings.TrimSpace(f)
	}
	c = Case{Roles: strings.Split(fields[0], "+"), Action: access.Action(fields[1]), Type: fields[2], Purpose: access.Purpose(fields[3])}
	switch code := access.Code(fields[4]); {
	case code == "allow":
		c.Allow = true
	case code == "deny":
	case code.Known():
		c.Code, c.Allow = code, strings.HasPrefix(string(code), "ALLOW_")
	default:
		return c, errors.New("wanted is neither allow, deny nor a code of package access")
	}
	if len(fields) == 6 {
		c.Tenant = fields[5]
	}
	return c, nil
}
