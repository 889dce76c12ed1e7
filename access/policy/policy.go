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
	From   string // where it was read, for messages: "line 3"; empty means its place in Config.Rows

	text string // as String writes it, once; empty where that was not needed yet
}

// String writes the row as a line of CSV.
func (r Row) String() string {
	if r.text != "" {
		return r.text
	}
	var b strings.Builder
	r.write(&b)
	return b.String()
}

func (r Row) write(b *strings.Builder) {
	for i, f := range r.Fields {
		if i > 0 {
			b.WriteString(", ")
		}
		if needsQuotes(f) {
			f = `"` + strings.ReplaceAll(f, `"`, `""`) + `"`
		}
		b.WriteString(f)
	}
}

func needsQuotes(field string) bool {
	for i := range len(field) {
		switch field[i] {
		case ',', '"', '\r', '\n':
			return true
		}
	}
	return strings.HasPrefix(field, "#") || strings.TrimSpace(field) != field
}

// length is how many bytes the fields of rows have, each with a separator.
func length(rows []Row, separator string) int {
	n := 0
	for _, r := range rows {
		for _, f := range r.Fields {
			n += len(f) + len(separator)
		}
	}
	return n
}

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
	Rule    *Row // the row that decided; nil where none did. Not to be changed
	By      By
	Refused string // why the request was denied without asking any row; empty where rows were asked
}

// A Policy is a model with its rows. It never changes, and is safe for
// concurrent use. The zero Policy denies everything.
type Policy struct {
	model    *model
	rules    []Row  // of p, in the order in which Casbin tries them
	links    *links // of g
	index    *index // nil where casbin decides
	casbin   *casbinPolicy
	asCasbin bool
	roles    map[string]bool // names that no user may have; nil where roles ask
	asks     int             // the index's link whose members may be no role; -1: none
}

// Compile reads a policy. It returns a [*RefusedError] for what Casbin would
// take and this package does not, and other errors for what Casbin refuses too.
func Compile(cfg Config) (*Policy, error) {
	m, err := readModel(cfg.Model)
	if err != nil {
		return nil, fmt.Errorf("policy: read model: %w", err)
	}
	rows := clone(cfg.Rows)
	rules, links, err := m.sort(rows)
	if err != nil {
		return nil, fmt.Errorf("policy: read rows: %w", err)
	}
	p := &Policy{model: m, rules: rules, links: links, asCasbin: cfg.AsCasbin, asks: -1}
	if !cfg.AsCasbin {
		if refused := append(refuseModel(m), refuseRows(m, rules, links)...); len(refused) > 0 {
			return nil, &RefusedError{Findings: refused}
		}
		if !cfg.AskedByRole {
			p.roles = links.roles()
		}
	}
	var texts strings.Builder // one piece of memory for all
	texts.Grow(length(rules, ", "))
	for i := range rules {
		from := texts.Len()
		rules[i].write(&texts)
		rules[i].text = texts.String()[from:]
	}
	if m.why == "" && !indexed(m) {
		m.why = "no term of the matcher finds rows by a look-up: add one such as r.act == p.act with &&"
	}
	if m.why == "" && cfg.AsCasbin {
		m.why = whyRows(m, rules)
	}
	if m.why == "" {
		if p.index, err = newIndex(m, rules, links); err != nil {
			return nil, fmt.Errorf("policy: read model: %w", err)
		}
		p.asks = slices.IndexFunc(p.index.links, func(x *members) bool { return p.roles != nil && x.term.function == "g" && x.term.r == m.subject })
	}
	p.casbin = &casbinPolicy{text: cfg.Model, rows: rows, rules: rules, links: m.links, sure: !cfg.AsCasbin}
	return p, nil
}

// clone copies rows, so that the policy stays what it is whatever their owner
// does.
func clone(rows []Row) []Row {
	total := 0
	for _, r := range rows {
		total += len(r.Fields)
	}
	all := make([]string, 0, total)
	out := make([]Row, len(rows))
	for i, r := range rows {
		from := len(all)
		all = append(all, r.Fields...)
		out[i] = Row{Fields: all[from:len(all):len(all)], From: r.From}
		if r.From == "" {
			out[i].From = fmt.Sprintf("Rows[%d]", i)
		}
	}
	return out
}

// badRequest is about the program that asks, and holds no value of a request.
func (p *Policy) badRequest(fields int) error {
	return fmt.Errorf("policy: decide: the request has %d fields, the model's request_definition has %d: %s", fields, len(p.model.request), strings.Join(p.model.request, ", "))
}

// errNoPolicy is what the zero Policy answers.
var errNoPolicy = errors.New("policy: decide: there is no policy: make it with policy.Compile")

// Decide answers one request, given as the fields of the model's
// request_definition in their order. An error denies. It takes no lock and
// allocates nothing where the policy is compiled and no term needs Casbin's
// evaluator.
func (p *Policy) Decide(request ...string) (Decision, error) {
	if p == nil || p.model == nil {
		return Decision{}, errNoPolicy
	}
	if len(request) != len(p.model.request) {
		return Decision{}, p.badRequest(len(request))
	}
	if !p.asCasbin {
		if why := p.refuse(request, 0); why != "" {
			return Decision{Refused: why, By: p.by()}, nil
		}
	}
	if p.index == nil {
		return p.casbin.decide(request)
	}
	var l lookup
	p.index.fill(&l, request, 0, len(request))
	return p.answer(&l, request)
}

func (p *Policy) answer(l *lookup, request []string) (Decision, error) {
	if p.asks >= 0 && l.member[p.asks].isRole {
		return Decision{Refused: p.isRole(), By: Compiled}, nil
	}
	row, allow, err := p.index.decide(l, request)
	if err != nil || row < 0 {
		return Decision{By: Compiled}, err
	}
	return Decision{Allow: allow, Rule: &p.rules[row], By: Compiled}, nil
}

// Casbin answers as Decide does, by Casbin itself, so that the one can be held
// against the other. Requests that are denied without asking any row are denied
// here too. The first call loads the rows into Casbin, which takes seconds for
// 100,000 of them.
func (p *Policy) Casbin(request ...string) (Decision, error) {
	if p == nil || p.model == nil {
		return Decision{}, errNoPolicy
	}
	if len(request) != len(p.model.request) {
		return Decision{By: ByCasbin}, p.badRequest(len(request))
	}
	if !p.asCasbin {
		why := p.refuse(request, 0)
		if n := p.model.subject; why == "" && n >= 0 && p.roles[request[n]] { // a model may have no subject
			why = p.isRole()
		}
		if why != "" {
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

// refuse says why a request is denied whatever the rows say; empty where it is
// not. It looks at the fields from the given one on.
func (p *Policy) refuse(request []string, from int) string {
	for i := from; i < len(request); i++ {
		v := request[i]
		switch {
		case v == "":
			return "r." + p.model.request[i] + " is empty"
		case len(v) > maxField:
			return "r." + p.model.request[i] + " is too long"
		case p.model.path[i] && !plainPath(v):
			return "r." + p.model.request[i] + " is not a plain path: it has . or .. or empty segments, encoded or control characters"
		case p.asks < 0 && i == p.model.subject && p.roles[v]:
			return p.isRole()
		}
	}
	return ""
}

func (p *Policy) isRole() string {
	return "r." + p.model.request[p.model.subject] + " is the name of a role: users and roles need names of their own, such as u:alice and r:nurse"
}

// A Subject is the first fields of requests, looked up once: who asks, and
// where. It is for one who asks many times, and is safe for concurrent use.
// The zero Subject is denied everything.
type Subject struct {
	p       *Policy
	first   []string
	found   lookup
	refused string
}

// Subject looks up the first fields of requests.
func (p *Policy) Subject(first ...string) (Subject, error) {
	if p == nil || p.model == nil {
		return Subject{}, errNoPolicy
	}
	if len(first) > len(p.model.request) {
		return Subject{}, p.badRequest(len(first))
	}
	s := Subject{p: p, first: slices.Clone(first)}
	if !p.asCasbin {
		s.refused = p.refuse(first, 0)
	}
	if p.index != nil {
		p.index.fill(&s.found, first, 0, len(first))
	}
	return s, nil
}

// Decide answers one request, given as the fields that the subject does not
// have.
func (s *Subject) Decide(rest ...string) (Decision, error) {
	if s == nil || s.p == nil {
		return Decision{}, errNoPolicy
	}
	p := s.p
	if len(s.first)+len(rest) != len(p.model.request) {
		return Decision{}, p.badRequest(len(s.first) + len(rest))
	}
	if s.refused != "" {
		return Decision{Refused: s.refused, By: p.by()}, nil
	}
	var buf [8]string
	request := append(append(buf[:0], s.first...), rest...)
	if !p.asCasbin {
		if why := p.refuse(request, len(s.first)); why != "" {
			return Decision{Refused: why, By: p.by()}, nil
		}
	}
	if p.index == nil {
		return p.casbin.decide(request)
	}
	l := s.found
	p.index.fill(&l, request, len(s.first), len(request))
	return p.answer(&l, request)
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
	out := Plan{By: p.by(), Why: p.model.why, Rules: len(p.rules)}
	for _, rows := range p.links.of {
		out.Links += len(rows)
	}
	if p.index == nil {
		return out
	}
	for _, t := range p.index.terms {
		out.Index = append(out.Index, t.text)
	}
	for _, x := range p.index.links {
		out.Index = append(out.Index, x.term.text)
	}
	for _, t := range p.index.residual {
		out.Residual = append(out.Residual, t.text)
	}
	slices.Sort(out.Index)
	return out
}
