// SPDX-License-Identifier: Apache-2.0

package policystore

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strings"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/rbac"
)

// Rows are rules, role links and assignments. An empty Tenant of a rule or link
// means every tenant, as in package rbac.
type Rows struct {
	Rules       []rbac.Rule
	Links       []rbac.Link
	Assignments []rbac.Assignment
}

// A row is one row of the policy: of policy_rules or policy_links.
type row struct {
	kind kind
	f    [6]string // of a rule: role, tenant, resource, action, purpose, effect; of a link: tenant, member, role
}

// A kind of row. In the order of their names they stand in a state.
type kind string

const (
	roleLink kind = "role" // a role inherits another
	ruleRow  kind = "rule"
	userLink kind = "user" // a user has a role
)

// Of a rule's fields.
const (
	allow = "allow"
	deny  = "deny"
	every = "*" // every tenant
)

func (a row) compare(b row) int {
	if c := strings.Compare(string(a.kind), string(b.kind)); c != 0 {
		return c
	}
	for i := range a.f {
		if c := strings.Compare(a.f[i], b.f[i]); c != 0 {
			return c
		}
	}
	return 0
}

// tenant is where the row holds; every for all of them.
func (r row) tenant() string {
	if r.kind == ruleRow {
		return r.f[1]
	}
	return r.f[0]
}

// String is the row for people: it holds no PHI.
func (r row) String() string {
	where := "every tenant"
	if t := r.tenant(); t != every {
		where = "tenant " + t
	}
	switch f := r.f; r.kind {
	case ruleRow:
		may := "may"
		if f[5] == deny {
			may = "may not"
		}
		return fmt.Sprintf("role %s %s %s %s for %s in %s", f[0], may, f[3], f[2], f[4], where)
	case roleLink:
		return fmt.Sprintf("role %s has what role %s has in %s", f[1], f[2], where)
	default:
		return fmt.Sprintf("user %s has role %s in %s", f[1], f[2], where)
	}
}

// gives reports whether adding the row may allow something: all but a denying
// rule.
func (r row) gives() bool { return r.kind != ruleRow || r.f[5] != deny }

// The longest fields that the columns take, beyond what rbac checks.
const (
	maxID      = 64
	maxPattern = 255
)

// expand returns the rows of r, each once, in their order.
func (r Rows) expand() ([]row, error) {
	var out []row
	add := func(k kind, fields ...string) {
		n := row{kind: k}
		copy(n.f[:], fields)
		out = append(out, n)
	}
	for _, l := range r.Links {
		add(roleLink, cmp.Or(l.Tenant, every), l.Role, l.Inherits)
	}
	for _, l := range r.Rules {
		if len(l.Resources) == 0 || len(l.Actions) == 0 || len(l.Purposes) == 0 {
			return nil, fmt.Errorf("a rule of role %s has no Resources, Actions or Purposes", l.Role)
		}
		effect := allow
		if l.Deny {
			effect = deny
		}
		for _, res := range l.Resources {
			for _, act := range l.Actions {
				for _, pur := range l.Purposes {
					add(ruleRow, l.Role, cmp.Or(l.Tenant, every), res, string(act), string(pur), effect)
				}
			}
		}
	}
	for _, a := range r.Assignments {
		add(userLink, a.Tenant, a.User, a.Role)
	}
	for _, r := range out {
		if err := r.check(); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(out, row.compare)
	return slices.Compact(out), nil
}

// check says what the tables cannot hold, or what would be read as something
// else. rbac says the rest.
func (r row) check() error {
	for i, v := range r.f[:map[kind]int{ruleRow: 6, roleLink: 3, userLink: 3}[r.kind]] {
		most := maxID
		if r.kind == ruleRow && (i == 2 || i == 3) {
			most = maxPattern
		}
		switch {
		case v == "":
			return fmt.Errorf("%s: a field is empty", r)
		case len(v) > most:
			return fmt.Errorf("a %s has a field of more than %d bytes", r.kind, most)
		}
	}
	if r.kind == ruleRow {
		return nil // in the words of the model, which rbac knows
	}
	for _, id := range r.f[1:3] {
		if err := access.CheckID(id); err != nil {
			return fmt.Errorf("a link: a user or role %w", err)
		}
	}
	if t := r.tenant(); t != every || r.kind == userLink {
		if err := access.CheckID(t); err != nil {
			return fmt.Errorf("a link: Tenant %w", err)
		}
	}
	return nil
}

// An edit adds a row or takes one away.
type edit struct {
	remove bool
	row    row
}

func (e edit) String() string {
	if e.remove {
		return "remove: " + e.row.String()
	}
	return "add: " + e.row.String()
}

// takes reports whether the edit, by itself, can only take rights away.
func (e edit) takes() bool { return e.remove == e.row.gives() }

// takes reports whether edits of the state can only take rights away. To take
// off a role that denies something gives a right, where another is left.
func (s *state) takes(edits []edit) bool {
	var denying map[string]bool
	off := make(map[row]bool)
	for _, e := range edits {
		off[e.row] = true
	}
	for _, e := range edits {
		if !e.takes() {
			return false
		}
		if e.row.kind == ruleRow {
			continue
		}
		if denying == nil {
			denying = s.denying()
		}
		if denying[e.row.f[2]] && (e.row.kind == roleLink || s.hasMore(e.row, off)) {
			return false
		}
	}
	return true
}

// hasMore reports whether the user of a link has a role that is not taken off.
func (s *state) hasMore(of row, off map[row]bool) bool {
	return slices.ContainsFunc(s.rows, func(r row) bool {
		return r.kind == userLink && r.f[0] == of.f[0] && r.f[1] == of.f[1] && !off[r]
	})
}

// denying returns the roles that have a denying rule, or inherit one.
func (s *state) denying() map[string]bool {
	out := make(map[string]bool)
	for i := range s.rows {
		if r := &s.rows[i]; r.kind == ruleRow && r.f[5] == deny {
			out[r.f[0]] = true
		}
	}
	for more := len(out) > 0; more; {
		more = false
		for i := range s.rows {
			if r := &s.rows[i]; r.kind == roleLink && out[r.f[2]] && !out[r.f[1]] {
				out[r.f[1]], more = true, true
			}
		}
	}
	return out
}

// A digest is a running hash of values, each with its length, so that no two
// lists of values have one text.
type digest struct {
	h   hash.Hash
	buf []byte
}

func newDigest(domain string) *digest {
	d := &digest{h: sha256.New()}
	d.add(domain)
	return d
}

func (d *digest) add(values ...string) {
	d.buf = d.buf[:0]
	for _, v := range values {
		d.buf = binary.AppendUvarint(d.buf, uint64(len(v)))
		d.buf = append(d.buf, v...)
	}
	d.h.Write(d.buf)
}

func (d *digest) row(r *row) {
	d.buf = binary.AppendUvarint(d.buf[:0], uint64(len(r.kind)))
	d.buf = append(d.buf, r.kind...)
	for _, v := range &r.f {
		d.buf = binary.AppendUvarint(d.buf, uint64(len(v)))
		d.buf = append(d.buf, v...)
	}
	d.h.Write(d.buf)
}

func (d *digest) sum() (out [sha256.Size]byte) {
	d.h.Sum(out[:0])
	return out
}

// A state is the policy at one revision. It never changes.
type state struct {
	revision uint64
	head     [sha256.Size]byte // digest of the change that made it
	rows     []row             // in their order
}

// sum is the digest of the rows.
func (s *state) sum() [sha256.Size]byte {
	d := newDigest("part164 policy state 1")
	for i := range s.rows {
		d.row(&s.rows[i])
	}
	return d.sum()
}

// errApplies is wrapped by what apply says.
var errApplies = errors.New("does not apply")

// apply returns the rows after edits, which it refuses where a row to add is
// there, or one to remove is not.
func (s *state) apply(edits []edit) ([]row, error) {
	edits = slices.Clone(edits)
	slices.SortStableFunc(edits, func(a, b edit) int { return a.row.compare(b.row) })
	out := make([]row, 0, len(s.rows)+len(edits))
	i := 0
	for n, e := range edits {
		if n > 0 && edits[n-1].row == e.row {
			return nil, fmt.Errorf("%w: the row is edited twice: %s", errApplies, e)
		}
		at, there := slices.BinarySearchFunc(s.rows[i:], e.row, row.compare)
		out = append(out, s.rows[i:i+at]...)
		i += at
		switch {
		case e.remove && !there:
			return nil, fmt.Errorf("%w: the row is not there: %s", errApplies, e)
		case !e.remove && there:
			return nil, fmt.Errorf("%w: the row is there already: %s", errApplies, e)
		case e.remove:
			i++
		default:
			out = append(out, e.row)
		}
	}
	return append(out, s.rows[i:]...), nil
}

// config is the policy as rbac takes it.
func (s *state) config(cfg *Config) rbac.Config {
	out := rbac.Config{Model: cfg.Model, Assigned: !cfg.PrincipalRoles, Revision: s.revision, Shadow: cfg.Shadow, Differs: cfg.Differs, Now: cfg.Now}
	var rules, users int
	for i := range s.rows {
		switch s.rows[i].kind {
		case ruleRow:
			rules++
		case userLink:
			users++
		}
	}
	out.Rules = make([]rbac.Rule, 0, rules)
	if !cfg.PrincipalRoles {
		out.Assignments = make([]rbac.Assignment, 0, users)
	}
	// One array for what each rule lists.
	resources, actions, purposes := make([]string, rules), make([]access.Action, rules), make([]access.Purpose, rules)
	for i := range s.rows {
		f := &s.rows[i].f
		switch s.rows[i].kind {
		case roleLink:
			out.Links = append(out.Links, rbac.Link{Role: f[1], Inherits: f[2], Tenant: unlessEvery(f[0])})
		case userLink:
			if !cfg.PrincipalRoles {
				out.Assignments = append(out.Assignments, rbac.Assignment{Tenant: f[0], User: f[1], Role: f[2]})
			}
		case ruleRow:
			n := len(out.Rules)
			resources[n], actions[n], purposes[n] = f[2], access.Action(f[3]), access.Purpose(f[4])
			out.Rules = append(out.Rules, rbac.Rule{
				Role: f[0], Tenant: unlessEvery(f[1]), Deny: f[5] == deny,
				Resources: resources[n : n+1 : n+1], Actions: actions[n : n+1 : n+1], Purposes: purposes[n : n+1 : n+1],
			})
		}
	}
	return out
}

func unlessEvery(tenant string) string {
	if tenant == every {
		return ""
	}
	return tenant
}
