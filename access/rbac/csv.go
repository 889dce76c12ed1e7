// SPDX-License-Identifier: Apache-2.0

package rbac

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/policy"
)

// ReadCSV reads the rows of a policy.csv into the Rules, Links and Assignments of
// a Config, with Assigned where there are rows of users:
//
//	p, r:nurse, clinic-7, patient, read, TREAT          a rule; allow or deny may follow
//	g, r:charge-nurse, r:nurse, clinic-7                a role link; the tenant may be left out
//	g, u:u-17, r:nurse, clinic-7                        an assignment: user u-17 has the role nurse
//
// As a tenant * stands for every one. An error names the line that is no such
// row, as [New] does for Config.Policy. What else the model takes, [New] says.
func ReadCSV(r io.Reader) (Config, error) {
	var cfg Config
	rows, err := readRows(r)
	if err != nil {
		return cfg, fmt.Errorf("rbac: read CSV: %w", err)
	}
	for _, row := range rows {
		s, err := says(row.Fields)
		switch {
		case err != nil:
			return Config{}, fmt.Errorf("rbac: read CSV: %s: %w", row.From, err)
		case s.user != nil:
			cfg.Assignments, cfg.Assigned = append(cfg.Assignments, *s.user), true
		case s.link != nil:
			cfg.Links = append(cfg.Links, *s.link)
		default:
			cfg.Rules = append(cfg.Rules, *s.rule)
		}
	}
	return cfg, nil
}

// takeCSV returns the rows of Config.Policy, and moves those of users to
// Assignments.
func (cfg *Config) takeCSV() ([]policy.Row, error) {
	rows, err := readRows(strings.NewReader(cfg.Policy))
	if err != nil {
		return nil, fmt.Errorf("Config.Policy: %w", err)
	}
	var users []Assignment
	var rest []policy.Row
	for _, r := range rows {
		r.From = "Config.Policy " + r.From
		s, err := says(r.Fields)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%s: %w", r.From, err)
		case s.user == nil:
			rest = append(rest, r)
			continue
		case !cfg.Assigned:
			return nil, fmt.Errorf("%s: a user has a role here: set Config.Assigned, or let the sign-in give roles and take the row away", r.From)
		}
		s.user.from = r.From
		users = append(users, *s.user)
	}
	cfg.Assignments = slices.Concat(cfg.Assignments, users)
	return rest, nil
}

// readRows reads rows as Casbin's file adapter does.
func readRows(r io.Reader) ([]policy.Row, error) {
	rows, err := policy.ReadCSV(r)
	for _, row := range rows {
		for n, f := range row.Fields {
			row.Fields[n] = strings.TrimSpace(f)
		}
	}
	return rows, err
}

// A statement is what a row says: one of the three.
type statement struct {
	rule *Rule
	link *Link
	user *Assignment
}

// says reads the fields of a row, as far as they are the same in every model.
func says(f []string) (s statement, err error) {
	role := func(v string) string { // the name, once it is checked
		if e := checkRole(v); e != nil && err == nil {
			err = fmt.Errorf("role %w", e)
		}
		return strings.TrimPrefix(v, "r:")
	}
	switch {
	case f[0] == "p" && (len(f) == 6 || len(f) == 7):
		if len(f) == 7 && f[6] != "allow" && f[6] != "deny" {
			return s, errors.New("eft is neither allow nor deny")
		}
		s.rule = &Rule{Role: role(f[1]), Tenant: unlessAny(f[2]), Resources: f[3:4:4],
			Actions: []access.Action{access.Action(f[4])}, Purposes: []access.Purpose{access.Purpose(f[5])}, Deny: len(f) == 7 && f[6] == "deny"}
	case f[0] == "p":
		return s, fmt.Errorf("the row has %d fields after p: it takes role, tenant, type, action, purpose, and perhaps allow or deny", len(f)-1)
	case f[0] != "g":
		return s, errors.New("the row begins with neither p nor g")
	case len(f) > 1 && strings.HasPrefix(f[1], "u:"):
		if len(f) != 4 {
			return s, errors.New("a user has a role in one tenant: write g, u:u-17, r:nurse, clinic-7")
		}
		s.user = &Assignment{Tenant: f[3], User: f[1][2:], Role: role(f[2])}
		if err == nil {
			err = s.user.check()
		}
	case len(f) != 3 && len(f) != 4:
		return s, fmt.Errorf("the row has %d fields after g: it takes a role or user, the role that it has, and the tenant", len(f)-1)
	case !strings.Contains(f[1], ":"):
		return s, errors.New("the first name has no prefix: write r: before a role, or u: before a user, where Config.Assigned")
	default:
		s.link = &Link{Role: role(f[1]), Inherits: role(f[2])}
		if len(f) == 4 {
			s.link.Tenant = unlessAny(f[3])
		}
	}
	return s, err
}

func unlessAny(tenant string) string {
	if tenant == "*" {
		return ""
	}
	return tenant
}
