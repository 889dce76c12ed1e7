// SPDX-License-Identifier: Apache-2.0

package pdp_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/access/pdp"
)

const tenant = accesstest.Tenant

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// A world answers everything that a Point asks, from lists.
type world struct {
	rules      []accesstest.Rule // allowed
	denied     []accesstest.Rule
	related    map[string][]string // patients of a principal
	restricted map[string][]string // patients who restrict a principal
	needs      []string            // types that need an authorization
	authorized []string            // patients who gave it
	foreign    []string            // records that need one; nil: every one

	restrictedRecords []string            // that anybody restricts
	wrote             map[string][]string // records that a principal must not touch
	apart             []string            // roles that nobody may hold together
	grants            []pdp.Grant
	roles             []string // requestable
	included          []string // roles that everybody has by the policy
	fail              string   // the source that fails
	stale             bool     // but for who has a grant
}

var errSource = errors.New("the source is down")

func hit(rules []accesstest.Rule, who access.Principal, action access.Action, resourceType string, purpose access.Purpose) (string, bool) {
	for _, r := range rules {
		if slices.Contains(who.Roles, r.Role) && r.Action == action && r.Type == resourceType && (r.Purpose == purpose || r.Purpose == "*") {
			return fmt.Sprint(r), true
		}
	}
	return "", false
}

func (w *world) Rule(ctx context.Context, who access.Principal, action access.Action, resourceType string, purpose access.Purpose) (access.Verdict, error) {
	scope, err := access.From(ctx)
	if err != nil {
		return access.Verdict{}, err
	}
	if w.stale && len(who.Roles) == len(scope.Principal().Roles) {
		return access.Verdict{Code: access.DenyStale}, nil
	}
	if w.fail == "policy" {
		return access.Verdict{Allow: true}, errSource
	}
	if rule, ok := hit(w.denied, who, action, resourceType, purpose); ok {
		return access.Verdict{Code: access.DenyRule, Rule: rule}, nil
	}
	if rule, ok := hit(w.rules, who, action, resourceType, purpose); ok {
		return access.Verdict{Allow: true, Code: access.AllowRule, Rule: rule}, nil
	}
	for _, p := range access.Purposes() {
		if _, ok := hit(w.rules, who, action, resourceType, p); ok {
			return access.Verdict{Code: access.DenyPurpose}, nil
		}
	}
	return access.Verdict{Code: access.DenyNoRule}, nil
}

// Roles has those of grants, and what they include, as the policy's own.
func (w *world) Roles(_ context.Context, who access.Principal) ([]string, error) {
	if w.fail == "roles" {
		return who.Roles, errSource
	}
	return slices.Concat(who.Roles, w.included), nil
}

func (w *world) Revision(context.Context) uint64 { return 7 }

// An idSet is a set of the IDs of one tenant.
type idSet struct {
	ids  []string
	fail bool
}

func (s idSet) Has(_ context.Context, in string, ids []string) ([]bool, error) {
	out := make([]bool, len(ids))
	for i, id := range ids {
		out[i] = in == tenant && slices.Contains(s.ids, id) || s.fail
	}
	if s.fail {
		return out, errSource
	}
	return out, nil
}

func (w *world) Related(who access.Principal, _ access.Purpose, _ time.Time) access.Set {
	if ids, ok := w.related[who.ID]; ok || w.fail == "relations" {
		return idSet{ids, w.fail == "relations"}
	}
	return nil
}

func (w *world) Restricted(who access.Principal, _ access.Purpose, _ string, _ time.Time) (patients, records access.Set) {
	if len(w.restrictedRecords) > 0 {
		records = idSet{w.restrictedRecords, false}
	}
	if ids, ok := w.restricted[who.ID]; ok || w.fail == "restrictions" {
		patients = idSet{ids, w.fail == "restrictions"}
	}
	return patients, records
}

// To a recipient as inside: the tests with directives of their own say what
// differs.
func (w *world) RestrictedTo(_ string, who access.Principal, purpose access.Purpose, resourceType string, now time.Time) (patients, records access.Set) {
	return w.Restricted(who, purpose, resourceType, now)
}

func (w *world) AuthorizedTo(_ string, who access.Principal, purpose access.Purpose, resourceType string, now time.Time) (bool, []access.Set) {
	needed, of, _ := w.Authorized(who, purpose, resourceType, now)
	return needed, of
}

func (w *world) Authorized(_ access.Principal, _ access.Purpose, resourceType string, _ time.Time) (bool, []access.Set, access.Set) {
	if !slices.Contains(w.needs, resourceType) {
		return false, nil, nil
	}
	var foreign access.Set
	if w.foreign != nil {
		foreign = idSet{w.foreign, false}
	}
	if w.authorized == nil && w.fail == "" {
		return true, nil, foreign
	}
	return true, []access.Set{idSet{w.authorized, w.fail == "authorizations"}}, foreign
}

func (w *world) Conflicting(_ context.Context, who access.Principal, action access.Action, _ string, _ time.Time) (bool, access.Set, error) {
	if w.fail == "duties" {
		return false, nil, errSource
	}
	both := len(w.apart) > 0
	for _, r := range w.apart {
		both = both && slices.Contains(who.Roles, r)
	}
	if ids, ok := w.wrote[who.ID]; ok && action == access.Review {
		return both, idSet{ids: ids}, nil
	}
	return both, nil, nil
}

func (w *world) Live(context.Context, access.Principal, time.Time) ([]pdp.Grant, error) {
	if w.fail == "grants" {
		return w.grants, errSource
	}
	return w.grants, nil
}

func (w *world) Requestable(context.Context, access.Principal) []string { return w.roles }

func (w *world) config() pdp.Config {
	return pdp.Config{Policy: w, Relations: w, Directives: w, Duties: w, Grants: w, TenantWide: []access.Purpose{access.Payment}, Now: func() time.Time { return now }}
}

func (w *world) point(t *testing.T) *pdp.Point {
	t.Helper()
	p, err := pdp.New(w.config())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// clinic is a world in which u-1, a physician, cares for p-1.
func clinic() *world {
	return &world{
		rules: []accesstest.Rule{
			{Role: "physician", Action: access.Read, Type: "note", Purpose: access.Treatment},
			{Role: "physician", Action: access.Review, Type: "note", Purpose: access.Treatment},
			{Role: "physician", Action: access.Read, Type: "note", Purpose: access.BreakGlass},
			{Role: "physician", Action: access.Read, Type: "psychotherapy", Purpose: access.Treatment},
			{Role: "physician", Action: access.Read, Type: "psychotherapy", Purpose: access.BreakGlass},
			{Role: "physician", Action: access.Read, Type: "note", Purpose: access.Payment},
			{Role: "surgeon", Action: access.Update, Type: "note", Purpose: access.Treatment},
			{Role: "patient", Action: access.Read, Type: "note", Purpose: access.PatientRequest},
		},
		denied:     []accesstest.Rule{{Role: "physician", Action: access.Delete, Type: "note", Purpose: "*"}},
		related:    map[string][]string{"u-1": {"p-1", "p-3"}},
		restricted: map[string][]string{"u-1": {"p-3"}},
		needs:      []string{"psychotherapy"},
		authorized: []string{"p-3"},
		wrote:      map[string][]string{"u-1": {"r-9"}},
	}
}

func as(t *testing.T, id, role string, kind access.Kind, purpose access.Purpose) context.Context {
	t.Helper()
	p := accesstest.Principal(tenant, role)
	p.ID, p.Kind = id, kind
	return access.With(t.Context(), p, purpose)
}

func note(id, patient string) access.Resource {
	return access.Resource{Type: "note", ID: id, Patient: patient, Tenant: tenant}
}

// one asks about one record, and holds Filter to the answer.
func one(t *testing.T, p *pdp.Point, ctx context.Context, action access.Action, r access.Resource) access.Verdict {
	t.Helper()
	d, err := p.Check(ctx, access.Request{Action: action, Resources: []access.Resource{r}})
	if err != nil || len(d.Verdicts) != 1 {
		t.Fatalf("Check = %+v, %v", d, err)
	}
	f, err := p.Filter(ctx, action, r.Type)
	if err != nil && !errors.Is(err, access.ErrDenied) {
		t.Fatalf("Filter: %v", err)
	}
	in, err := f.Match(t.Context(), r)
	if err != nil || r.ID+r.Patient != "" && in[0] != d.Allow(0) {
		t.Errorf("Check of %+v = %+v, Filter.Match = %v, %v", r, d.Verdicts[0], in, err)
	}
	if strings := string(d.Verdicts[0].Code); d.Allow(0) != (len(strings) > 6 && strings[:6] == "ALLOW_") || !d.Verdicts[0].Code.Known() {
		t.Errorf("%+v has another code than its answer", d.Verdicts[0])
	}
	return d.Verdicts[0]
}

// The answers of Check and Filter are those of a reader who goes by the rules
// one record at a time.
func TestRandomWorlds(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(164, 312))
	pick := func(of ...string) string { return of[rnd.IntN(len(of))] }
	some := func(prefix string, n int) (out []string) {
		for i := range n {
			if rnd.IntN(3) == 0 {
				out = append(out, fmt.Sprint(prefix, i))
			}
		}
		return out
	}
	purposes := []access.Purpose{access.Treatment, access.CareCoordination, access.Payment, access.ClaimAttachment, access.BreakGlass, access.EmergencyTreatment}
	purpose := func() access.Purpose { return purposes[rnd.IntN(len(purposes))] }
	roles := []string{"a", "b", "c"}
	types := []string{"note", "bill"}
	actions := []access.Action{access.Read, access.Review}
	allowed, asked := 0, 0
	for range 3000 {
		w := &world{related: map[string][]string{}, restricted: map[string][]string{}, wrote: map[string][]string{}}
		rule := func() accesstest.Rule {
			return accesstest.Rule{Role: pick(roles...), Action: actions[rnd.IntN(2)], Type: pick(types...), Purpose: purpose()}
		}
		for range rnd.IntN(80) {
			w.rules = append(w.rules, rule())
		}
		if rnd.IntN(3) == 0 {
			w.denied = append(w.denied, rule())
		}
		if rnd.IntN(4) > 0 {
			w.related["u-1"] = some("p-", 5)
		}
		if rnd.IntN(2) == 0 {
			w.restricted["u-1"] = some("p-", 5)
		}
		if rnd.IntN(3) == 0 {
			w.needs, w.authorized = []string{pick(types...)}, some("p-", 5)
		}
		if rnd.IntN(3) == 0 {
			w.foreign = append([]string{}, some("r-", 4)...)
		}
		if rnd.IntN(4) == 0 {
			w.restrictedRecords = some("r-", 4)
		}
		if rnd.IntN(2) == 0 {
			w.wrote["u-1"] = some("r-", 4)
		}
		if rnd.IntN(5) == 0 {
			w.apart = []string{"a", pick("b", "c")}
		}
		for i := range rnd.IntN(4) {
			g := pdp.Grant{ID: fmt.Sprint("g-", i), Purposes: []access.Purpose{purpose()}, Until: now.Add(time.Duration(rnd.IntN(3)-1) * time.Minute)}
			if g.BreakGlass = rnd.IntN(2) == 0; !g.BreakGlass {
				g.Role = pick(roles...)
			}
			if g.BreakGlass || rnd.IntN(2) == 0 {
				g.Patient = fmt.Sprint("p-", rnd.IntN(5))
			}
			w.grants = append(w.grants, g)
		}
		who := accesstest.Principal(tenant, some2(rnd, roles)...)
		who.ID = "u-1"
		who.Kind = []access.Kind{access.Human, access.Human, access.Service, access.Patient, access.Proxy}[rnd.IntN(5)]
		switch who.Kind {
		case access.Patient:
			who.ID = "p-1"
		case access.Proxy:
			who.OnBehalf, who.OnBehalfKind = fmt.Sprint("p-", rnd.IntN(5)), access.Patient
		}
		cfg := w.config()
		if rnd.IntN(4) == 0 {
			cfg.Relations, cfg.TenantWide = nil, nil
		}
		p, err := pdp.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		pur, action, typ := purpose(), actions[rnd.IntN(2)], pick(types...)
		ctx := access.With(t.Context(), who, pur)
		f, err := p.Filter(ctx, action, typ)
		if err != nil && !errors.Is(err, access.ErrDenied) {
			t.Fatal(err)
		}
		var batch []access.Resource
		for range 6 {
			batch = append(batch, access.Resource{Type: typ, ID: fmt.Sprint("r-", rnd.IntN(4)), Patient: pick("", "p-0", "p-1", "p-2", "p-3", "p-4"), Tenant: pick(tenant, tenant, tenant, "t-other", "")})
		}
		d, err := p.Check(ctx, access.Request{Action: action, Resources: batch})
		if err != nil {
			t.Fatal(err)
		}
		in, err := f.Match(ctx, batch...)
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range batch {
			want := w.reads(cfg, who, action, pur, r)
			asked++
			if want {
				allowed++
			}
			if d.Allow(i) != want || in[i] != want {
				t.Fatalf("%+v asks %s for %s of %+v in %+v: Check %+v, Filter %v, want %v", who, action, pur, r, w, d.Verdicts[i], in[i], want)
			}
			if d.Allow(i) && d.Verdicts[i].Code == access.AllowRule && d.Verdicts[i].Grant != "" || !d.Verdicts[i].Code.Known() {
				t.Fatalf("%+v", d.Verdicts[i])
			}
		}
	}
	if allowed < asked/20 || allowed > asked/2 {
		t.Errorf("%d of %d are allowed: the worlds say little", allowed, asked)
	}
}

func some2(rnd *rand.Rand, of []string) (out []string) {
	for _, s := range of {
		if rnd.IntN(2) == 0 {
			out = append(out, s)
		}
	}
	return out
}

// reads is the oracle: one record, one rule after the other.
func (w *world) reads(cfg pdp.Config, who access.Principal, action access.Action, purpose access.Purpose, r access.Resource) bool {
	if r.Tenant != tenant {
		return false
	}
	emergency := purpose == access.BreakGlass || purpose == access.EmergencyTreatment
	in := func(ids []string, id string) bool { return id != "" && slices.Contains(ids, id) }
	try := func(roles []string, grant *pdp.Grant) bool {
		as := who
		as.Roles = roles
		if _, no := hit(w.denied, as, action, r.Type, purpose); no {
			return false
		}
		if _, yes := hit(w.rules, as, action, r.Type, purpose); !yes {
			return false
		}
		if len(w.apart) > 0 && slices.Contains(roles, w.apart[0]) && slices.Contains(roles, w.apart[1]) {
			return false
		}
		if action == access.Review && slices.Contains(w.wrote[who.ID], r.ID) {
			return false
		}
		if slices.Contains(w.needs, r.Type) && !in(w.authorized, r.Patient) && (w.foreign == nil || slices.Contains(w.foreign, r.ID)) {
			return false
		}
		if !emergency && slices.Contains(w.restrictedRecords, r.ID) {
			return false
		}
		if !emergency && in(w.restricted[who.ID], r.Patient) {
			return false
		}
		if grant != nil && grant.Patient != "" {
			return r.Patient == grant.Patient
		}
		switch {
		case who.Kind == access.Patient:
			return r.Patient == who.ID
		case who.Kind == access.Proxy:
			return r.Patient == who.OnBehalf && (cfg.Relations == nil || in(w.related[who.ID], r.Patient))
		case cfg.Relations == nil, purpose == access.Payment, purpose == access.ClaimAttachment, r.Patient == "":
			return true
		}
		return in(w.related[who.ID], r.Patient)
	}
	if _, no := hit(w.denied, who, action, r.Type, purpose); no {
		return false
	}
	if !emergency && try(who.Roles, nil) {
		return true
	}
	// Roles that nobody may hold together are taken from nobody by a grant.
	if _, yes := hit(w.rules, who, action, r.Type, purpose); yes && !emergency && len(w.apart) > 0 && slices.Contains(who.Roles, w.apart[0]) && slices.Contains(who.Roles, w.apart[1]) {
		return false
	}
	if who.Kind == access.Patient || who.Kind == access.Proxy {
		return false
	}
	for _, g := range w.grants {
		if !now.Before(g.Until) || g.BreakGlass != emergency {
			continue
		}
		serves := false
		for _, p := range g.Purposes {
			serves = serves || p == purpose || p == access.Treatment && purpose == access.CareCoordination || p == access.Payment && purpose == access.ClaimAttachment
		}
		roles := who.Roles
		if g.Role != "" {
			roles = append(slices.Clone(roles), g.Role)
		}
		if serves && try(roles, &g) {
			return true
		}
	}
	return false
}
