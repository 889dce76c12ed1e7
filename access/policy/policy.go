// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Config is a model and its rows.
type Config struct {
	Model string // the text of a model.conf
	Rows  []Row  // in the order of the policy; repeated ones count once

	// AsCasbin answers as Casbin does, also where that fails open.
	AsCasbin bool

	// AskedByRole says that requests are made by roles, not by users: a request
	// whose subject has a role's name is then not refused.
	AskedByRole bool
}

// A Row is one line of a policy: "p" or "g" first, then the fields.
type Row struct {
	Fields []string
	From   string // where it was read, for messages: "line 3"
}

func (r Row) String() string { return strings.Join(r.Fields, ", ") }

// A By says who decided.
type By string

// Who decides.
const (
	Compiled By = "compiled" // the index
	ByCasbin By = "casbin"   // Casbin itself, for a model that cannot be compiled
)

// A Decision is the answer to one request. The zero Decision denies.
type Decision struct {
	Allow   bool
	Rule    []string // the fields of the row that decided, without "p"; nil where none did. Not to be changed
	By      By
	Refused string // why the request was denied without asking any row; empty where rows were asked
}

// A Policy is a model with its rows. It never changes, and is safe for
// concurrent use. The zero Policy denies everything.
type Policy struct {
	model    *model
	rows     [][]string // of p, in the order in which Casbin tries them
	index    *index     // nil where casbin decides
	casbin   *casbinPolicy
	asCasbin bool
	roles    map[string]bool // names that no user may have; nil where roles ask
}

// Compile reads a policy. It returns a [*RefusedError] for what Casbin would
// take and this package does not, and other errors for what Casbin refuses too.
func Compile(cfg Config) (*Policy, error) {
	m, err := readModel(cfg.Model)
	if err != nil {
		return nil, fmt.Errorf("policy: read model: %w", err)
	}
	rules, links, err := m.sort(cfg.Rows)
	if err != nil {
		return nil, fmt.Errorf("policy: read rows: %w", err)
	}
	p := &Policy{model: m, asCasbin: cfg.AsCasbin}
	if !cfg.AsCasbin {
		if refused := append(refuseModel(m), refuseRows(m, cfg.Rows)...); len(refused) > 0 {
			return nil, &RefusedError{Refusals: refused}
		}
		if !cfg.AskedByRole {
			p.roles = links.roles(m)
		}
	}
	p.rows = make([][]string, len(rules))
	for i, r := range rules {
		p.rows[i] = r.Fields[1:]
	}
	if m.why == "" && !indexed(m) {
		m.why = "no term of the matcher finds rows by a look-up: add one such as r.act == p.act with &&"
	}
	if m.why == "" && cfg.AsCasbin {
		m.why = whyRows(m, rules)
	}
	if m.why == "" {
		p.index = newIndex(m, p.rows, links)
	}
	p.casbin = &casbinPolicy{text: cfg.Model, rows: cfg.Rows}
	return p, nil
}

// errRequest is about the program that asks, and holds no value of a request.
var errRequest = errors.New("policy: decide: the request has another number of fields than the model's request_definition")

// errNoPolicy is what the zero Policy answers.
var errNoPolicy = errors.New("policy: decide: there is no policy: make it with policy.Compile")

// Decide answers one request, given as the fields of the model's
// request_definition in their order. An error denies.
func (p *Policy) Decide(request ...string) (Decision, error) {
	if p == nil || p.model == nil {
		return Decision{}, errNoPolicy
	}
	if len(request) != len(p.model.request) {
		return Decision{}, errRequest
	}
	if !p.asCasbin {
		if why := p.refuseRequest(request); why != "" {
			return Decision{Refused: why, By: p.by()}, nil
		}
	}
	if p.index == nil {
		return p.casbin.decide(request)
	}
	row, allow, err := p.index.decide(request)
	if err != nil || row < 0 {
		return Decision{By: Compiled}, err
	}
	return Decision{Allow: allow, Rule: p.rows[row], By: Compiled}, nil
}

// Casbin answers as Decide does, by Casbin itself, so that the one can be held
// against the other. Requests that are denied without asking any row are denied
// here too.
func (p *Policy) Casbin(request ...string) (Decision, error) {
	if p == nil || p.model == nil {
		return Decision{}, errNoPolicy
	}
	if !p.asCasbin && len(request) == len(p.model.request) {
		if why := p.refuseRequest(request); why != "" {
			return Decision{Refused: why, By: ByCasbin}, nil
		}
	}
	return p.casbin.decide(request)
}

func (p *Policy) by() By {
	if p.index == nil {
		return ByCasbin
	}
	return Compiled
}

// refuseRequest says why request is denied whatever the rows say; empty where
// it is not.
func (p *Policy) refuseRequest(request []string) string {
	for i, v := range request {
		if v == "" {
			return "r." + p.model.request[i] + " is empty"
		}
		if p.model.path[i] && !plainPath(v) {
			return "r." + p.model.request[i] + " is not a plain path: it has . or .. or empty segments, encoded or control characters"
		}
	}
	if s := p.model.subject; s >= 0 && p.roles[request[s]] {
		return "r." + p.model.request[s] + " is the name of a role: users and roles need names of their own, such as u:alice and r:nurse"
	}
	return ""
}

// plainPath reports whether no server would read s as another path.
func plainPath(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c == 0x7f || c == '\\' || c == '%' {
			return false
		}
	}
	if !strings.Contains(s, "/") {
		return s != "." && s != ".."
	}
	segments := strings.Split(s, "/")
	for i, segment := range segments {
		if segment == "." || segment == ".." || segment == "" && i > 0 && i < len(segments)-1 {
			return false
		}
	}
	return true
}

// A Plan says how a policy is evaluated.
type Plan struct {
	By       By
	Why      string   // why Casbin decides; empty where it does not
	Index    []string // terms that find rows by a look-up
	Residual []string // terms that are tried on the rows found
	Rules    int      // p rows, each once
	Links    int      // g rows, each once
}

// Plan says how the policy is evaluated. Where Casbin decides, each decision
// tries every row.
func (p *Policy) Plan() Plan {
	if p == nil || p.model == nil {
		return Plan{}
	}
	out := Plan{By: p.by(), Why: p.model.why, Rules: len(p.rows)}
	if p.index == nil {
		return out
	}
	out.Links = p.index.links
	for _, t := range p.index.terms {
		out.Index = append(out.Index, t.text)
	}
	for _, t := range p.index.residual {
		out.Residual = append(out.Residual, t.text)
	}
	slices.Sort(out.Index)
	return out
}
