// SPDX-License-Identifier: Apache-2.0

package minimize

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"

	"github.com/part164/part164/access"
)

// A Rule is one row of a policy: what a role sees and may write of some
// classes, for some purposes. It is plain data and can be kept as JSON.
type Rule struct {
	Role     string           `json:"role"`
	Purposes []access.Purpose `json:"purposes"`
	Classes  []Class          `json:"classes"`
	View     View             `json:"view"`           // zero withholds
	Right    Right            `json:"right"`          // zero is none
	Deny     bool             `json:"deny,omitempty"` // withholds and refuses writes, whatever another row or role allows
}

// A Policy is the table role x purpose x class -> view and write right: the
// document of 45 CFR 164.514(d)(2) as data. It is immutable and safe for
// concurrent use. The nil and the zero Policy show and allow nothing.
type Policy struct {
	rules []Rule // canonical: see normalise
	id    string
	cells map[key]*row

	plans    sync.Map  // of reflect.Type to *plan: what JSON does with it
	encoders sync.Pool // of *encoder, wiped
}

type key struct {
	role    string
	purpose access.Purpose
}

// A row is what one role has for one purpose, by index of class.
type row [len(classes)]cell

type cell struct {
	view  View
	right Right
	deny  bool
}

// New returns the policy of rules, or an error that names the first bad rule.
// The order of rules does not matter: rows that meet in one cell give the most
// permissive of their views and rights, unless one of them denies.
func New(rules []Rule) (*Policy, error) {
	if len(rules) == 0 {
		return nil, errors.New("minimize: new policy: no rules: begin with Starter().Rules()")
	}
	p := &Policy{cells: make(map[key]*row)}
	for i, r := range rules {
		if err := r.validate(); err != nil {
			return nil, fmt.Errorf("minimize: new policy: rule %d: %w", i, err)
		}
		for _, purpose := range r.Purposes {
			k := key{r.Role, purpose}
			if p.cells[k] == nil {
				p.cells[k] = new(row)
			}
			for _, c := range r.Classes {
				at := &p.cells[k][c.index()]
				at.view = max(at.view, r.View)
				at.right = max(at.right, r.Right)
				at.deny = at.deny || r.Deny
			}
		}
	}
	p.rules = normalise(p.cells)
	sum := sha256.New()
	for _, r := range p.rules {
		fmt.Fprintln(sum, r.Role, r.Purposes, r.Classes, r.View, r.Right, r.Deny)
	}
	p.id = hex.EncodeToString(sum.Sum(nil)[:16])
	return p, nil
}

func (r Rule) validate() error {
	if err := access.CheckID(r.Role); err != nil {
		return fmt.Errorf("Role %w", err)
	}
	if len(r.Purposes) == 0 {
		return fmt.Errorf("role %s: Purposes is empty: name each purpose", r.Role)
	}
	if len(r.Classes) == 0 {
		return fmt.Errorf("role %s: Classes is empty: name each class", r.Role)
	}
	if r.View > Reveal {
		return fmt.Errorf("role %s: View is none of the views", r.Role)
	}
	if r.Right > Change {
		return fmt.Errorf("role %s: Right is none of the rights", r.Role)
	}
	if r.View == Pseudonym || r.View == Scrub {
		return fmt.Errorf("role %s: View %s is not available yet: take mask, generalise or withhold", r.Role, r.View)
	}
	if r.Deny && (r.View != Withhold || r.Right != No) {
		return fmt.Errorf("role %s: Deny together with a View or a Right: split the rule in two", r.Role)
	}
	for _, p := range r.Purposes {
		if !p.Valid() {
			return fmt.Errorf("role %s: unknown purpose %q: take one of the constants in package access", r.Role, p)
		}
	}
	for _, c := range r.Classes {
		if !c.Valid() {
			return fmt.Errorf("role %s: unknown class %q: take one of the constants in package minimize", r.Role, c)
		}
		if !r.View.fits(c) {
			return fmt.Errorf("role %s: class %s has no form for the view %s: withhold or reveal it", r.Role, c, r.View)
		}
	}
	return nil
}

// normalise returns the rules that make cells, in one order: by role, then
// purposes with equal rows together, then what a group of classes has in
// common. Of what is withheld it names only roles that see nothing at all.
func normalise(cells map[key]*row) []Rule {
	purposes := make(map[string]map[row][]access.Purpose)
	for k, r := range cells {
		if purposes[k.role] == nil {
			purposes[k.role] = make(map[row][]access.Purpose)
		}
		purposes[k.role][*r] = append(purposes[k.role][*r], k.purpose)
	}
	var rules []Rule
	for role, rows := range purposes {
		for r, ps := range rows {
			slices.Sort(ps)
			groups := make(map[cell][]Class)
			for i, at := range r {
				if at.deny {
					at = cell{deny: true}
				}
				groups[at] = append(groups[at], classes[i])
			}
			for at, cs := range groups {
				if at == (cell{}) && len(groups) > 1 {
					continue // withheld like all that is not named
				}
				rules = append(rules, Rule{role, slices.Clone(ps), cs, at.view, at.right, at.deny})
			}
		}
	}
	slices.SortFunc(rules, func(a, b Rule) int {
		if c := strings.Compare(a.Role, b.Role); c != 0 {
			return c
		}
		if c := slices.Compare(a.Purposes, b.Purposes); c != 0 {
			return c
		}
		return a.Classes[0].index() - b.Classes[0].index()
	})
	return rules
}

// rows returns what roles have for purpose: what a caller is made of.
func (p *Policy) rows(roles []string, purpose access.Purpose) []*row {
	if p == nil {
		return nil
	}
	rows := make([]*row, 0, len(roles))
	for _, role := range roles {
		if r := p.cells[key{role, purpose}]; r != nil {
			rows = append(rows, r)
		}
	}
	return rows
}

// unite returns the most permissive cell of the rows for the class with index
// i; one that denies wins.
func unite(rows []*row, i int) (at cell) {
	if i < 0 {
		return cell{}
	}
	for _, r := range rows {
		if r[i].deny {
			return cell{deny: true}
		}
		at.view = max(at.view, r[i].view)
		at.right = max(at.right, r[i].right)
	}
	return at
}

// View returns how much somebody who holds roles sees of a class for purpose:
// the most that one of the roles gives for this very purpose, unless one of
// them denies. Whatever the table does not name is [Withhold].
func (p *Policy) View(roles []string, purpose access.Purpose, class Class) View {
	return unite(p.rows(roles, purpose), class.index()).view
}

// Right returns how somebody who holds roles may write a class for purpose, by
// the same rules as [Policy.View]. Whatever the table does not name is [No].
func (p *Policy) Right(roles []string, purpose access.Purpose, class Class) Right {
	return unite(p.rows(roles, purpose), class.index()).right
}

// ID names the table's content: two policies that decide alike about what they
// name have one ID, in whatever order their rules were given. It is empty for
// the nil and the zero Policy.
func (p *Policy) ID() string {
	if p == nil {
		return ""
	}
	return p.id
}

// Rules returns the table as data, in one order: change it and give it to
// [New]. It is the caller's to keep.
func (p *Policy) Rules() []Rule {
	if p == nil {
		return nil
	}
	rules := slices.Clone(p.rules)
	for i := range rules {
		rules[i].Purposes = slices.Clone(rules[i].Purposes)
		rules[i].Classes = slices.Clone(rules[i].Classes)
	}
	return rules
}

// WriteTo prints the table for people: one line for what a role sees and may
// write alike.
func (p *Policy) WriteTo(w io.Writer) (int64, error) {
	n, err := io.WriteString(w, p.String())
	return int64(n), err
}

// String returns the table as [Policy.WriteTo] prints it.
func (p *Policy) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "minimum necessary policy %s: what is not listed is withheld\n", p.ID())
	tw := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	fmt.Fprintln(tw, "ROLE\tPURPOSE\tVIEW\tWRITE\tCLASSES")
	for _, r := range p.Rules() {
		view := r.View.String()
		if r.Deny {
			view = "deny"
		}
		list := join(r.Classes)
		if len(r.Classes) == len(classes) {
			list = "every class"
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\n", r.Role, join(r.Purposes), view, r.Right, list)
	}
	tw.Flush() // to memory: cannot fail
	return b.String()
}

func join[S ~string](list []S) string {
	var b strings.Builder
	for i, s := range list {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(string(s))
	}
	return b.String()
}
