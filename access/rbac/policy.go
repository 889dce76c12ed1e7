// SPDX-License-Identifier: Apache-2.0

package rbac

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/policy"
)

// A Rule allows a role some actions on some resource types for some purposes:
// every action on every type for every purpose listed. "*", alone, stands for
// all.
type Rule struct {
	Role      string           // the role's name, without the r: of Casbin rows
	Tenant    string           // the tenant in which the rule holds; empty means each one in which the role is held
	Resources []string         // resource types, such as "patient"
	Actions   []access.Action  // such as access.Read
	Purposes  []access.Purpose // such as access.Treatment
	Deny      bool             // deny instead; a denying rule wins over every allowing one
}

// A Link gives a role everything that another role has. Links may chain up to
// 10 deep, Casbin's own limit.
type Link struct {
	Role     string // such as "charge-nurse"
	Inherits string // such as "nurse"
	Tenant   string // where the model's role_definition is g = _, _, _; else empty
}

// ruleRows writes rules and links as rows.
func ruleRows(l language, rules []Rule, links []Link) ([]policy.Row, error) {
	total := len(links)
	for _, r := range rules {
		total += len(r.Resources) * len(r.Actions) * len(r.Purposes)
	}
	rows := make([]policy.Row, 0, total)
	role, typed := "", "r:" // of the rule before: rules mostly come by role
	for i, r := range rules {
		from := "Config.Rules[" + strconv.Itoa(i) + "]"
		if r.Role != role {
			role, typed = r.Role, "r:"+r.Role
		}
		if len(r.Resources) == 0 || len(r.Actions) == 0 || len(r.Purposes) == 0 {
			return nil, fmt.Errorf("%s: Resources, Actions or Purposes is empty", from)
		}
		if r.Deny && !l.canDeny {
			return nil, fmt.Errorf("%s: Deny is set, but the model's policy_effect ignores it", from)
		}
		tenant, effect := r.Tenant, "allow"
		if tenant == "" {
			tenant = "*"
		}
		if r.Deny {
			effect = "deny"
		}
		for _, res := range r.Resources {
			for _, act := range r.Actions {
				for _, pur := range r.Purposes {
					f := append(make([]string, 0, 7), "p", typed, tenant, res, string(act), string(pur))
					if l.hasEffect {
						f = append(f, effect)
					}
					rows = append(rows, policy.Row{Fields: f, From: from})
				}
			}
		}
	}
	for i, k := range links {
		f := []string{"g", "r:" + k.Role, "r:" + k.Inherits}
		if l.linkTenant || k.Tenant != "" {
			f = append(f, k.Tenant)
		}
		rows = append(rows, policy.Row{Fields: f, From: fmt.Sprintf("Config.Links[%d]", i)})
	}
	return rows, nil
}

// checkRows refuses what a Casbin policy may say and one of roles, types,
// actions and purposes may not. [policy.Compile] has looked at the rest.
func checkRows(l language, rows []policy.Row) error {
	for _, r := range rows {
		var err error
		if r.Fields[0] == "p" {
			err = l.checkRule(r.Fields[1:])
		} else {
			err = l.checkLink(r.Fields[1:])
		}
		if err != nil {
			return fmt.Errorf("%s: %w", r.From, err)
		}
	}
	return nil
}

// allows reports whether any row does.
func (l language) allows(rows []policy.Row) bool {
	return slices.ContainsFunc(rows, func(r policy.Row) bool {
		return len(r.Fields) > 0 && r.Fields[0] == "p" && (!l.hasEffect || r.Fields[len(r.Fields)-1] != "deny")
	})
}

func (l language) checkRule(f []string) error {
	for i, name := range fields {
		if err := l.checkField(name, f[i]); err != nil {
			return fmt.Errorf("%s %w", name, err)
		}
	}
	return nil
}

func (l language) checkField(name, v string) error {
	if name == "sub" {
		return checkRole(v)
	}
	switch l.compare[name] {
	case regexMatch:
		return nil // policy.Compile wants it anchored
	case keyMatch, globMatch:
		prefix := strings.TrimSuffix(v, "*")
		if prefix == "" {
			return nil
		}
		if strings.Contains(prefix, "*") {
			return errors.New("has characters after the *, which could match more than it says: keep one * at the end")
		}
		if prefix != v && name == "pur" {
			return errors.New("has a pattern: name each purpose of use, or * for all")
		}
		v = prefix
	default:
		if v == "*" && l.compare[name] == equalOrAny {
			return nil
		}
		if strings.Contains(v, "*") {
			return errors.New("has a * that the model compares as a plain character: write * alone, where the model has || p." + name + " == '*'")
		}
	}
	switch name {
	case "dom":
		return access.CheckID(v)
	case "pur":
		if !access.Purpose(v).Valid() {
			return errors.New("is not a purpose of use: write a code of HL7, such as TREAT, HPAYMT or HOPERAT (access.Purposes has them all)")
		}
		return nil
	}
	return access.CheckName(v)
}

// checkRole wants the typed prefix, so that no user, whatever the name, can be
// taken for a role.
func checkRole(v string) error {
	name, ok := strings.CutPrefix(v, "r:")
	if !ok {
		return errors.New("has no r: prefix: write r:nurse for the role nurse; rules are for roles, never for users")
	}
	if err := access.CheckID(name); err != nil {
		return fmt.Errorf("after r: %w", err)
	}
	return nil
}

func (l language) checkLink(f []string) error {
	want := 0
	if l.compare["sub"] == byRole {
		want = 2
		if l.linkTenant {
			want = 3
		}
	}
	if len(f) != want {
		return fmt.Errorf("the row has %d fields after g, the model's role_definition and matcher take %d", len(f), want)
	}
	for i, v := range f[:2] {
		if i == 0 && !strings.Contains(v, ":") {
			return errors.New("the first name has no prefix: write r: before a role, or u: before a user, where Config.Assigned")
		}
		if err := checkRole(v); err != nil {
			return fmt.Errorf("role %w", err)
		}
	}
	if l.linkTenant {
		if err := access.CheckID(f[2]); err != nil {
			return fmt.Errorf("tenant %w", err)
		}
	}
	return nil
}
