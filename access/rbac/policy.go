// SPDX-License-Identifier: Apache-2.0

package rbac

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"regexp/syntax"
	"slices"
	"strings"

	"github.com/part164/part164/access"
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

// maxDepth is the depth at which Casbin's role manager stops looking.
const maxDepth = 10

// A row is one line of a policy, section first, and where it came from.
type row struct {
	fields []string
	from   string
}

func (r row) String() string { return strings.Join(r.fields, ", ") }

// ruleRows writes rules and links as rows.
func ruleRows(l language, rules []Rule, links []Link) ([]row, error) {
	var rows []row
	for i, r := range rules {
		from := fmt.Sprintf("Config.Rules[%d]", i)
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
					f := []string{"p", "r:" + r.Role, tenant, res, string(act), string(pur)}
					if l.hasEffect {
						f = append(f, effect)
					}
					rows = append(rows, row{f, from})
				}
			}
		}
	}
	for i, k := range links {
		f := []string{"g", "r:" + k.Role, "r:" + k.Inherits}
		if l.linkTenant || k.Tenant != "" {
			f = append(f, k.Tenant)
		}
		rows = append(rows, row{f, fmt.Sprintf("Config.Links[%d]", i)})
	}
	return rows, nil
}

// csvRows reads rows as Casbin's file adapter does, with line numbers.
func csvRows(text string) ([]row, error) {
	r := csv.NewReader(strings.NewReader(text))
	r.Comment = '#'
	r.TrimLeadingSpace = true
	r.FieldsPerRecord = -1
	var rows []row
	for {
		f, err := r.Read()
		if err == io.EOF {
			return rows, nil
		}
		if pe := (*csv.ParseError)(nil); errors.As(err, &pe) {
			return nil, fmt.Errorf("Config.Policy line %d: %w", pe.Line, pe.Err)
		} else if err != nil {
			return nil, fmt.Errorf("Config.Policy: %w", err)
		}
		line, _ := r.FieldPos(0)
		for i := range f {
			f[i] = strings.TrimSpace(f[i])
		}
		rows = append(rows, row{f, fmt.Sprintf("Config.Policy line %d", line)})
	}
}

// checkRows refuses a row that could match more, or less, than it says.
func checkRows(l language, rows []row) error {
	allows := false
	for _, r := range rows {
		var err error
		switch r.fields[0] {
		case "p":
			err = l.checkRule(r.fields[1:])
			allows = allows || !l.hasEffect || r.fields[len(r.fields)-1] == "allow"
		case "g":
			err = l.checkLink(r.fields[1:])
		default:
			err = errors.New("does not begin with p or g")
		}
		if err != nil {
			return fmt.Errorf("%s: %w", r.from, err)
		}
	}
	if !allows {
		return errors.New("the policy has no row that allows anything: give Config.Rules or Config.Policy, such as rbac.StarterRules()")
	}
	return nil
}

func (l language) checkRule(f []string) error {
	want := len(fields)
	if l.hasEffect {
		want++
	}
	if len(f) != want {
		return fmt.Errorf("has %d fields after p, the model's policy_definition has %d", len(f), want)
	}
	for i, name := range fields {
		if err := l.checkField(name, f[i]); err != nil {
			return fmt.Errorf("%s %w", name, err)
		}
	}
	if l.hasEffect {
		switch eft := f[len(fields)]; {
		case eft != "allow" && eft != "deny":
			return errors.New("eft is neither allow nor deny")
		case eft == "deny" && !l.canDeny:
			return errors.New("eft is deny, but the model's policy_effect ignores it")
		}
	}
	return nil
}

func (l language) checkField(name, v string) error {
	if v == "" {
		return errors.New("is empty")
	}
	if name == "sub" {
		return checkRole(v)
	}
	switch l.compare[name] {
	case regexMatch:
		return checkRegexp(v)
	case keyMatch, globMatch:
		prefix := strings.TrimSuffix(v, "*")
		if prefix == "" {
			return nil
		}
		if strings.Contains(prefix, "*") {
			return errors.New("has characters after the first *, which Casbin's patterns do not compare: keep one * at the end")
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
			return errors.New("is not a purpose of use: take one of the constants in package access")
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

// checkRegexp wants ^ and $ around the whole: Casbin searches unanchored.
func checkRegexp(v string) error {
	re, err := syntax.Parse(v, syntax.Perl)
	if err != nil {
		return errors.New("is no regular expression of Go's regexp/syntax")
	}
	if re.Op != syntax.OpConcat || len(re.Sub) < 2 ||
		re.Sub[0].Op != syntax.OpBeginText || re.Sub[len(re.Sub)-1].Op != syntax.OpEndText {
		return errors.New("is not anchored: write ^(?:...)$ around the whole expression")
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
		return fmt.Errorf("has %d fields after g, the model's role_definition and matcher take %d", len(f), want)
	}
	for _, v := range f[:2] {
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

// A hierarchy is the role links: by tenant ("" where links hold in all), then
// by role.
type hierarchy map[string]map[string][]string

func newHierarchy(rows []row) (hierarchy, error) {
	h := make(hierarchy)
	for _, r := range rows {
		if r.fields[0] != "g" {
			continue
		}
		tenant := ""
		if len(r.fields) == 4 {
			tenant = r.fields[3]
		}
		if h[tenant] == nil {
			h[tenant] = make(map[string][]string)
		}
		h[tenant][r.fields[1]] = append(h[tenant][r.fields[1]], r.fields[2])
	}
	for _, links := range h {
		depth := make(map[string]int)
		for role := range links {
			if _, err := measure(links, role, depth, nil); err != nil {
				return nil, err
			}
		}
	}
	return h, nil
}

// measure returns the longest chain above role; Casbin drops what is deeper
// than maxDepth without a word.
func measure(links map[string][]string, role string, known map[string]int, trail []string) (int, error) {
	if i := slices.Index(trail, role); i >= 0 {
		return 0, fmt.Errorf("role links form a cycle: %s", strings.Join(append(trail[i:], role), " -> "))
	}
	if d, ok := known[role]; ok {
		return d, nil
	}
	deepest := 0
	for _, up := range links[role] {
		d, err := measure(links, up, known, append(trail, role))
		if err != nil {
			return 0, err
		}
		deepest = max(deepest, d+1)
	}
	if deepest > maxDepth {
		return 0, fmt.Errorf("role %s inherits through more than %d links, which Casbin ignores: shorten the chain", role, maxDepth)
	}
	known[role] = deepest
	return deepest, nil
}

// path returns the shortest chain of roles from one to another.
func (h hierarchy) path(tenant, from, to string) []string {
	links := h[""]
	if links == nil {
		links = h[tenant]
	}
	seen := map[string]bool{from: true}
	for queue := [][]string{{from}}; len(queue) > 0; queue = queue[1:] {
		p := queue[0]
		last := p[len(p)-1]
		if last == to {
			return p
		}
		for _, up := range links[last] {
			if !seen[up] {
				seen[up] = true
				queue = append(queue, append(slices.Clone(p), up))
			}
		}
	}
	return nil
}
