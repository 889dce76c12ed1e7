// SPDX-License-Identifier: Apache-2.0

package policystore

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/policy"
	"github.com/part164/part164/access/rbac"
)

// ReadCSV reads rows from a policy.csv, for [Store.Init] or a [Change]:
//
//	p, r:nurse, clinic-7, patient, read, TREAT          a rule; allow or deny may follow
//	g, r:charge-nurse, r:nurse, clinic-7                a role link; the tenant may be left out
//	g, u:u-17, r:nurse, clinic-7                        an assignment: user u-17 has the role nurse
//
// As a rule's tenant * stands for every tenant. An error names the line that is
// no such row. Whether the policy is valid is said where it is written.
func ReadCSV(r io.Reader) (Rows, error) {
	lines, err := policy.ReadCSV(r)
	if err != nil {
		return Rows{}, fmt.Errorf("policystore: read CSV: %w", err)
	}
	var out Rows
	for _, l := range lines {
		f := make([]string, len(l.Fields))
		for i, v := range l.Fields {
			f[i] = strings.TrimSpace(v)
		}
		if err := out.add(f); err != nil {
			return Rows{}, fmt.Errorf("policystore: read CSV: %s: %w", l.From, err)
		}
	}
	return out, nil
}

func (r *Rows) add(f []string) error {
	role := func(v string) (string, error) {
		name, ok := strings.CutPrefix(v, "r:")
		if !ok || name == "" {
			return "", errors.New("a role has no r: prefix: write r:nurse for the role nurse")
		}
		return name, nil
	}
	switch {
	case f[0] == "p" && (len(f) == 6 || len(f) == 7):
		name, err := role(f[1])
		if err != nil {
			return err
		}
		if len(f) == 7 && f[6] != allow && f[6] != deny {
			return errors.New("the last field is neither allow nor deny")
		}
		r.Rules = append(r.Rules, rbac.Rule{Role: name, Tenant: unlessEvery(f[2]), Resources: f[3:4:4],
			Actions: []access.Action{access.Action(f[4])}, Purposes: []access.Purpose{access.Purpose(f[5])}, Deny: len(f) == 7 && f[6] == deny})
		return nil
	case f[0] == "p":
		return fmt.Errorf("the row has %d fields after p: it takes role, tenant, type, action, purpose, and perhaps allow or deny", len(f)-1)
	case f[0] != "g":
		return errors.New("the row begins with neither p nor g")
	case len(f) != 3 && len(f) != 4:
		return fmt.Errorf("the row has %d fields after g: it takes a role or user, the role that it has, and the tenant", len(f)-1)
	}
	of, err := role(f[2])
	if err != nil {
		return err
	}
	tenant := ""
	if len(f) == 4 {
		tenant = f[3]
	}
	if user, ok := strings.CutPrefix(f[1], "u:"); ok {
		if tenant == "" || tenant == every {
			return errors.New("a user has a role in one tenant: add it, as in g, u:u-17, r:nurse, clinic-7")
		}
		r.Assignments = append(r.Assignments, rbac.Assignment{Tenant: tenant, User: user, Role: of})
		return nil
	}
	name, err := role(f[1])
	if err != nil {
		return errors.New("the first name has no prefix: write r:nurse for a role, u:u-17 for a user")
	}
	r.Links = append(r.Links, rbac.Link{Role: name, Inherits: of, Tenant: unlessEvery(tenant)})
	return nil
}
