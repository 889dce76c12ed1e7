// SPDX-License-Identifier: Apache-2.0

package rbac_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/access/rbac"
)

// must returns an engine of cfg.
func must(t testing.TB, cfg rbac.Config) *rbac.Engine {
	t.Helper()
	e, err := rbac.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// verdict asks about one resource type of the principal's own tenant.
func verdict(t testing.TB, e *rbac.Engine, ctx context.Context, action access.Action, typ string) access.Verdict {
	t.Helper()
	p, _ := access.PrincipalFrom(ctx)
	d, err := e.Check(ctx, access.Request{Action: action, Resources: []access.Resource{{Type: typ, Tenant: p.Tenant}}})
	if err != nil || len(d.Verdicts) != 1 {
		t.Fatalf("Check = %+v, %v", d, err)
	}
	return d.Verdicts[0]
}

// rule allows role one action on one type for one purpose.
func rule(role string, action access.Action, typ string, purpose access.Purpose) rbac.Rule {
	return rbac.Rule{Role: role, Resources: []string{typ}, Actions: []access.Action{action}, Purposes: []access.Purpose{purpose}}
}

// domainModel has links that hold in one tenant, patterns, and no deny rows.
const domainModel = `
[request_definition]
r = sub, dom, obj, act, pur
[policy_definition]
p = sub, dom, obj, act, pur
[role_definition]
g = _, _, _
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = (r.dom == p.dom || p.dom == '*') && regexMatch(r.obj, p.obj) && keyMatch(r.act, p.act) && p.pur == r.pur && g(r.sub, p.sub, r.dom)
`

func TestEngineKeepsTheContract(t *testing.T) {
	t.Parallel()
	starter := []accesstest.Rule{
		{Role: "physician", Action: access.Update, Type: "document", Purpose: access.EmergencyTreatment},
		{Role: "nurse", Action: access.Search, Type: "patient", Purpose: access.Treatment},
		{Role: "billing", Action: access.Read, Type: "encounter", Purpose: access.Payment},
		{Role: "privacy-officer", Action: access.Search, Type: "audit", Purpose: access.Compliance},
		{Role: "admin", Action: access.Create, Type: "user", Purpose: access.SystemAdmin},
	}
	t.Run("starter", func(t *testing.T) {
		accesstest.TestAuthorizer(t, func(*testing.T) access.Authorizer { return rbac.Starter() }, starter...)
	})
	t.Run("starter as CSV", func(t *testing.T) {
		csv := rbac.Starter().CSV()
		accesstest.TestAuthorizer(t, func(t *testing.T) access.Authorizer { return must(t, rbac.Config{Policy: csv}) }, starter...)
	})
	t.Run("links and a model of one's own", func(t *testing.T) {
		accesstest.TestAuthorizer(t, func(t *testing.T) access.Authorizer {
			return must(t, rbac.Config{Model: domainModel, Policy: `
# the ward
p, r:nurse, *, ^patient$, read, TREAT
p, r:clerk, t-test, ^(?:bill|claim)$, *, HPAYMT
g, r:charge-nurse, r:nurse, t-test
`})
		},
			accesstest.Rule{Role: "charge-nurse", Action: access.Read, Type: "patient", Purpose: access.Treatment},
			accesstest.Rule{Role: "clerk", Action: access.Delete, Type: "claim", Purpose: access.Payment})
	})
}

// What the starter says, asked of every role x type x action x purpose: the
// whole matrix, so that nobody gains anything by an edit that was not meant.
func TestStarterIsTheMatrixAndNoMore(t *testing.T) {
	t.Parallel()
	chart := []string{"patient", "encounter", "condition", "observation", "medication", "allergy", "document"}
	want := func(role, typ string, act access.Action, pur access.Purpose) bool {
		look := act == access.Read || act == access.Search
		treat := pur.IsA(access.Treatment) && !pur.Emergency() // a rule for a purpose is one for its kinds
		switch role {
		case "physician":
			return slices.Contains(chart, typ) && (look || act == access.Create || act == access.Update) &&
				(treat || pur == access.EmergencyTreatment)
		case "nurse":
			return treat && slices.Contains(chart, typ) && (look ||
				(typ == "observation" || typ == "allergy") && (act == access.Create || act == access.Update) ||
				typ == "patient" && act == access.Update)
		case "billing":
			return pur.IsA(access.Payment) && look && (typ == "patient" || typ == "encounter")
		case "privacy-officer":
			return (typ == "patient" || typ == "audit") && (pur == access.Compliance && look || pur.IsA(access.Operations) && act == access.Read)
		case "admin":
			return pur.IsA(access.SystemAdmin) && typ == "user" && (look || act == access.Create || act == access.Update)
		}
		return false
	}
	e := rbac.Starter()
	allowed := 0
	for _, role := range []string{"physician", "nurse", "billing", "privacy-officer", "admin", "janitor"} {
		for _, pur := range access.Purposes() {
			ctx := accesstest.As(t, t.Context(), role, pur)
			for _, typ := range append(chart, "user", "audit", "Patient", "patients") {
				for _, act := range []access.Action{access.Read, access.Search, access.Create, access.Update, access.Delete, "export"} {
					v := verdict(t, e, ctx, act, typ)
					if v.Allow != want(role, typ, act, pur) {
						t.Errorf("%s %s %s for %s: %+v", role, act, typ, pur, v)
					}
					if v.Allow {
						allowed++
					}
				}
			}
		}
	}
	if allowed != 418 {
		t.Errorf("%d combinations are allowed", allowed)
	}
}

// A rule for a purpose is one for its kinds, whether it allows or denies; but
// emergency access has to be named.
func TestPurposesHaveKinds(t *testing.T) {
	t.Parallel()
	deny := rule("nurse", access.Read, "patient", access.Operations)
	deny.Deny = true
	e := must(t, rbac.Config{Rules: []rbac.Rule{
		rule("nurse", access.Read, "patient", access.Treatment),
		rule("nurse", access.Read, "patient", access.QualityImprovement),
		deny,
		rule("medic", access.Read, "patient", access.EmergencyTreatment),
		rule("coder", access.Read, "patient", access.Coverage),
		rule("root", access.Read, "patient", "*"),
	}})
	for _, tt := range []struct {
		role    string
		purpose access.Purpose
		want    access.Code
	}{
		{"nurse", access.Treatment, access.AllowRule},
		{"nurse", access.CareCoordination, access.AllowRule},
		{"nurse", access.EmergencyRoom, access.AllowRule},
		{"nurse", access.EmergencyTreatment, access.DenyPurpose},
		{"nurse", access.BreakGlass, access.DenyPurpose},
		{"nurse", access.QualityImprovement, access.DenyRule}, // denied for what it is a kind of
		{"nurse", access.Operations, access.DenyRule},
		{"nurse", access.Payment, access.DenyPurpose},
		{"medic", access.EmergencyTreatment, access.AllowRule},
		{"medic", access.EmergencyRoom, access.AllowRule},
		{"medic", access.BreakGlass, access.DenyPurpose},
		{"medic", access.Treatment, access.DenyPurpose},
		{"coder", access.Enrollment, access.AllowRule},
		{"coder", access.Payment, access.DenyPurpose},
		{"coder", access.ClaimAttachment, access.DenyPurpose},
		{"root", access.BreakGlass, access.DenyGrant}, // a rule is not enough
	} {
		if got := verdict(t, e, accesstest.As(t, t.Context(), tt.role, tt.purpose), access.Read, "patient"); got.Code != tt.want || got.Allow != (tt.want == access.AllowRule) {
			t.Errorf("%s for %s: %+v, want %s", tt.role, tt.purpose, got, tt.want)
		}
	}
}

// Rule answers for the roles of a grant too, by the scope's own version.
func TestRuleTakesGrantedRoles(t *testing.T) {
	t.Parallel()
	cfg := rbac.Config{Rules: []rbac.Rule{rule("nurse", access.Read, "patient", access.Treatment), rule("clerk", access.Read, "bill", access.Payment)},
		Assigned: true, Assignments: []rbac.Assignment{{Tenant: "t-1", User: "u-1", Role: "clerk"}}, Revision: 3}
	e := must(t, cfg)
	who := access.Principal{ID: "u-1", Tenant: "t-1", Kind: access.Human, Assurance: 2}
	ctx := access.With(t.Context(), who, access.Payment)
	ask := func(ctx context.Context, who access.Principal, typ string, purpose access.Purpose) access.Code {
		t.Helper()
		v, err := e.Rule(ctx, who, access.Read, typ, purpose)
		if err != nil || v.Allow != (v.Code == access.AllowRule) {
			t.Fatalf("Rule = %+v, %v", v, err)
		}
		return v.Code
	}
	granted := who
	granted.Roles = []string{"nurse"}
	other := granted
	other.ID = "u-2"
	for _, tt := range []struct {
		name    string
		ctx     context.Context
		who     access.Principal
		typ     string
		purpose access.Purpose
		want    access.Code
	}{
		{"own role", ctx, who, "bill", access.Payment, access.AllowRule},
		{"another purpose than the scope's", ctx, who, "bill", access.Treatment, access.DenyPurpose},
		{"not assigned", ctx, who, "patient", access.Treatment, access.DenyNoRule},
		{"granted", ctx, granted, "patient", access.Treatment, access.AllowRule},
		{"own role beside a grant", ctx, granted, "bill", access.Payment, access.AllowRule},
		{"granted before", ctx, who, "patient", access.Treatment, access.DenyNoRule},
		{"what somebody else claims", ctx, other, "patient", access.Treatment, access.DenyNoRule},
		{"no scope", t.Context(), who, "bill", access.Payment, access.DenyInvalid},
		{"nobody", ctx, access.Principal{}, "bill", access.Payment, access.DenyInvalid},
		{"no purpose", ctx, who, "bill", "", access.DenyInvalid},
		{"no type", ctx, who, "", access.Payment, access.DenyInvalid},
	} {
		if got := ask(tt.ctx, tt.who, tt.typ, tt.purpose); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
	cfg.Assignments = nil
	if err := e.Replace(cfg); err != nil {
		t.Fatal(err)
	}
	if got := ask(ctx, who, "bill", access.Payment); got != access.AllowRule {
		t.Errorf("the scope's version changed: %s", got)
	}
	if got := ask(access.With(t.Context(), who, access.Payment), who, "bill", access.Payment); got != access.DenyNoRule {
		t.Errorf("the next scope: %s", got)
	}
	var none *rbac.Engine
	if v, err := none.Rule(ctx, who, access.Read, "bill", access.Payment); err == nil || v.Allow {
		t.Errorf("no engine: %+v, %v", v, err)
	}
}

func TestCodesSayWhy(t *testing.T) {
	t.Parallel()
	deny := rule("student", access.Read, "patient", access.Treatment)
	deny.Deny = true
	e := must(t, rbac.Config{
		Rules: []rbac.Rule{rule("nurse", access.Read, "patient", access.Treatment), deny},
		Links: []rbac.Link{{Role: "charge", Inherits: "senior"}, {Role: "senior", Inherits: "nurse"}},
	})
	as := func(purpose access.Purpose, roles ...string) context.Context {
		return access.With(t.Context(), accesstest.Principal("t-1", roles...), purpose)
	}
	for _, tt := range []struct {
		name string
		ctx  context.Context
		typ  string
		want access.Verdict
	}{
		{"allowed", as(access.Treatment, "nurse"), "patient",
			access.Verdict{Allow: true, Code: access.AllowRule, Rule: "p, r:nurse, *, patient, read, TREAT, allow", Path: []string{"r:nurse"}}},
		{"by inheritance", as(access.Treatment, "x", "charge"), "patient",
			access.Verdict{Allow: true, Code: access.AllowRule, Rule: "p, r:nurse, *, patient, read, TREAT, allow", Path: []string{"r:charge", "r:senior", "r:nurse"}}},
		{"no rule", as(access.Treatment, "nurse"), "document", access.Verdict{Code: access.DenyNoRule}},
		{"no role", as(access.Treatment), "patient", access.Verdict{Code: access.DenyNoRule}},
		{"another purpose", as(access.Payment, "nurse"), "patient",
			access.Verdict{Code: access.DenyPurpose, Near: "for TREAT, by p, r:nurse, *, patient, read, TREAT, allow"}},
		{"denied", as(access.Treatment, "student"), "patient",
			access.Verdict{Code: access.DenyRule, Rule: "p, r:student, *, patient, read, TREAT, deny", Path: []string{"r:student"}}},
		{"denied for another purpose only", as(access.Payment, "student"), "patient", access.Verdict{Code: access.DenyNoRule}},
		{"a denial wins over an earlier role", as(access.Treatment, "nurse", "student"), "patient",
			access.Verdict{Code: access.DenyRule, Rule: "p, r:student, *, patient, read, TREAT, deny", Path: []string{"r:student"}}},
		{"a denial wins over a later role", as(access.Treatment, "student", "nurse"), "patient",
			access.Verdict{Code: access.DenyRule, Rule: "p, r:student, *, patient, read, TREAT, deny", Path: []string{"r:student"}}},
	} {
		if got := verdict(t, e, tt.ctx, access.Read, tt.typ); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

func TestDecisionIDsAreRandomHex(t *testing.T) {
	t.Parallel()
	e := rbac.Starter()
	seen := make(map[string]bool)
	for range 1000 {
		d, err := e.Check(t.Context(), access.Request{})
		if err != nil || len(d.ID) != 32 || strings.Trim(d.ID, "0123456789abcdef") != "" || seen[d.ID] {
			t.Fatalf("ID %q, %v", d.ID, err)
		}
		seen[d.ID] = true
	}
}

func TestRulesOfOneTenantHoldThere(t *testing.T) {
	t.Parallel()
	local := rule("nurse", access.Read, "patient", access.Treatment)
	local.Tenant = "t-a"
	e := must(t, rbac.Config{Rules: []rbac.Rule{local}})
	for tenant, want := range map[string]bool{"t-a": true, "t-b": false} {
		if got := verdict(t, e, accesstest.AsIn(t, t.Context(), tenant, "nurse", access.Treatment), access.Read, "patient").Allow; got != want {
			t.Errorf("in %s: %v, want %v", tenant, got, want)
		}
	}
	e = must(t, rbac.Config{Model: domainModel,
		Rules: []rbac.Rule{rule("nurse", access.Read, "^patient$", access.Treatment)},
		Links: []rbac.Link{{Role: "charge", Inherits: "nurse", Tenant: "t-a"}}})
	for tenant, want := range map[string]bool{"t-a": true, "t-b": false} {
		if got := verdict(t, e, accesstest.AsIn(t, t.Context(), tenant, "charge", access.Treatment), access.Read, "patient").Allow; got != want {
			t.Errorf("link in %s: %v, want %v", tenant, got, want)
		}
	}
}

// Without relations nothing says whose record is the patient's own.
func TestPatientsAndProxiesNeedARelation(t *testing.T) {
	t.Parallel()
	e := must(t, rbac.Config{Rules: []rbac.Rule{rule("self", access.Read, "patient", access.PatientRequest)}})
	for kind, want := range map[access.Kind]access.Code{
		access.Human: access.AllowRule, access.Service: access.AllowRule,
		access.Patient: access.DenySubject, access.Proxy: access.DenySubject,
	} {
		p := accesstest.Principal("t-1", "self")
		p.Kind = kind
		ctx := access.With(t.Context(), p, access.PatientRequest)
		if got := verdict(t, e, ctx, access.Read, "patient"); got.Code != want || got.Allow != (want == access.AllowRule) {
			t.Errorf("%s: %+v, want %s", kind, got, want)
		}
		if f, err := e.Filter(ctx, access.Read, "patient"); (err == nil) != (want == access.AllowRule) {
			t.Errorf("%s: Filter = %+v, %v", kind, f, err)
		}
	}
}

func TestOneScopeSeesOnePolicy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // no second passes
		e := must(t, rbac.Config{Rules: []rbac.Rule{rule("nurse", access.Read, "patient", access.Treatment)}})
		before := accesstest.As(t, t.Context(), "nurse", access.Treatment)
		if !verdict(t, e, before, access.Read, "patient").Allow {
			t.Fatal("denied")
		}
		if err := e.Replace(rbac.Config{Rules: []rbac.Rule{rule("nurse", access.Search, "patient", access.Treatment)}}); err != nil {
			t.Fatal(err)
		}
		after := accesstest.As(t, t.Context(), "nurse", access.Treatment)
		for _, tt := range []struct {
			name         string
			ctx          context.Context
			read, search bool
		}{{"begun before", before, true, false}, {"begun after", after, false, true}} {
			if r, s := verdict(t, e, tt.ctx, access.Read, "patient").Allow, verdict(t, e, tt.ctx, access.Search, "patient").Allow; r != tt.read || s != tt.search {
				t.Errorf("scope %s: read %v, search %v; want %v, %v", tt.name, r, s, tt.read, tt.search)
			}
		}
		if err := e.Replace(rbac.Config{}); err == nil {
			t.Error("an empty policy replaced one that works")
		}
		if !verdict(t, e, accesstest.As(t, t.Context(), "nurse", access.Treatment), access.Search, "patient").Allow {
			t.Error("a policy that failed to load is in force")
		}
	})
}

func TestReplaceWhileOthersAsk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // no second passes
		read := rbac.Config{Rules: []rbac.Rule{rule("nurse", access.Read, "patient", access.Treatment)}}
		search := rbac.Config{Rules: []rbac.Rule{rule("nurse", access.Search, "patient", access.Treatment)}}
		e := must(t, read)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 100 {
					ctx := accesstest.As(t, t.Context(), "nurse", access.Treatment)
					if verdict(t, e, ctx, access.Read, "patient").Allow == verdict(t, e, ctx, access.Search, "patient").Allow {
						t.Error("one scope saw two policies")
					}
				}
			})
		}
		for i := range 50 {
			if err := e.Replace([]rbac.Config{read, search}[i%2]); err != nil {
				t.Error(err)
			}
		}
		wg.Wait()
	})
}

func TestNoEngineDenies(t *testing.T) {
	t.Parallel()
	for name, e := range map[string]*rbac.Engine{"zero": {}, "nil": nil} {
		ctx := accesstest.As(t, t.Context(), "physician", access.Treatment)
		d, err := e.Check(ctx, access.Request{Action: access.Read, Resources: []access.Resource{{Type: "patient", Tenant: accesstest.Tenant}}})
		if err == nil || d.Allow(0) || len(d.Verdicts) != 1 || d.Verdicts[0].Code != access.DenyInvalid {
			t.Errorf("%s engine: %+v, %v", name, d, err)
		}
		if f, err := e.Filter(ctx, access.Read, "patient"); err == nil || f.Tenant != "" {
			t.Errorf("%s engine: Filter = %+v, %v", name, f, err)
		}
		if e.Deviations() != nil || e.CSV() != "" || e.String() != "no policy: everything is denied\n" {
			t.Errorf("%s engine says it has a policy", name)
		}
	}
}

// Nothing of Casbin is within reach: not EnableEnforce(false), which allows
// all, nor Explain, which asks a language model on the network.
func TestCasbinIsOutOfReach(t *testing.T) {
	t.Parallel()
	typ := reflect.TypeFor[*rbac.Engine]()
	var got []string
	for i := range typ.NumMethod() {
		got = append(got, typ.Method(i).Name)
	}
	if want := []string{"CSV", "Check", "Deviations", "Filter", "Replace", "Revision", "Roles", "Rule", "String", "Take"}; !slices.Equal(got, want) {
		t.Errorf("methods of Engine = %v, want %v", got, want)
	}
	for i := range typ.Elem().NumField() {
		if f := typ.Elem().Field(i); f.IsExported() {
			t.Errorf("field %s of Engine is exported", f.Name)
		}
	}
}

func TestDeviationIsComplete(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	ds := must(t, rbac.Config{Rules: rbac.StarterRules(), Now: func() time.Time { return now }}).Deviations()
	if len(ds) != 1 || ds[0].Citation != "164.308(a)(4)" || !ds[0].ReviewBy.Equal(now.AddDate(1, 0, 0)) {
		t.Fatalf("Deviations() = %+v", ds)
	}
	if err := ds[0].Validate(); err != nil {
		t.Error(err)
	}
}

// Random policies against a reading of their rows that knows nothing of
// Casbin: same answer, and the rule and path that it names are real.
func TestEngineAgreesWithItsRows(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(164, 312))
	roles := []string{"a", "b", "c", "d", "e"}
	types := []string{"patient", "document", "*"}
	actions := []access.Action{access.Read, access.Update, "*"}
	purposes := []access.Purpose{access.Treatment, access.Payment, "*"}
	tenants := []string{"t-1", "t-2", ""}
	match := func(pattern, v string) bool { return pattern == "*" || pattern == v }
	allows, denies := 0, 0
	for range 150 {
		var cfg rbac.Config
		for range 1 + rnd.IntN(6) {
			r := rule(roles[rnd.IntN(5)], actions[rnd.IntN(3)], types[rnd.IntN(3)], purposes[rnd.IntN(3)])
			r.Tenant, r.Deny = tenants[rnd.IntN(3)], rnd.IntN(5) == 0
			cfg.Rules = append(cfg.Rules, r)
		}
		above := make(map[string][]string)
		for range rnd.IntN(5) {
			i := rnd.IntN(4)
			l := rbac.Link{Role: roles[i], Inherits: roles[i+1+rnd.IntN(4-i)]} // upwards only: no cycles
			cfg.Links = append(cfg.Links, l)
			above[l.Role] = append(above[l.Role], l.Inherits)
		}
		e, err := rbac.New(cfg)
		if err != nil {
			if strings.Contains(err.Error(), "no row that allows") {
				continue
			}
			t.Fatal(err)
		}
		for range 20 {
			held := []string{roles[rnd.IntN(5)], roles[rnd.IntN(5)]}
			tenant, act, typ, pur := tenants[rnd.IntN(2)], actions[rnd.IntN(2)], types[rnd.IntN(2)], purposes[rnd.IntN(2)]

			reach := slices.Clone(held)
			for i := 0; i < len(reach); i++ {
				reach = append(reach, above[reach[i]]...)
			}
			allow, deny := false, false
			for _, r := range cfg.Rules {
				if slices.Contains(reach, r.Role) && (r.Tenant == "" || r.Tenant == tenant) && match(r.Resources[0], typ) &&
					match(string(r.Actions[0]), string(act)) && match(string(r.Purposes[0]), string(pur)) {
					allow, deny = allow || !r.Deny, deny || r.Deny
				}
			}
			v := verdict(t, e, access.With(t.Context(), accesstest.Principal(tenant, held...), pur), act, typ)
			if v.Allow != (allow && !deny) || deny != (v.Code == access.DenyRule) {
				t.Fatalf("%v in %s: %s %s for %s = %+v; its rows say allow %v, deny %v\n%s", held, tenant, act, typ, pur, v, allow, deny, e.CSV())
			}
			if v.Rule == "" {
				denies++
				continue
			}
			allows++
			if !strings.Contains(e.CSV(), v.Rule+"\n") || !slices.Contains(held, v.Path[0][2:]) ||
				!strings.HasPrefix(v.Rule, "p, "+v.Path[len(v.Path)-1]+",") {
				t.Fatalf("verdict %+v names no row of\n%s", v, e.CSV())
			}
			for i := range len(v.Path) - 1 {
				if !slices.Contains(above[v.Path[i][2:]], v.Path[i+1][2:]) {
					t.Fatalf("path %v has no link %d", v.Path, i)
				}
			}
		}
	}
	if allows < 300 || denies < 300 {
		t.Errorf("too lopsided to prove much: %d with a rule, %d without", allows, denies)
	}
}

func ExampleStarter() {
	fmt.Print(rbac.Starter())
	// Output:
	// role             may                        on                                                                   for                  in tenant
	// physician        read                       patient encounter condition observation medication allergy document  TREAT ETREAT BTG     *
	// physician        search create update       patient encounter condition observation medication allergy document  TREAT ETREAT         *
	// nurse            read                       patient encounter condition observation medication allergy document  TREAT BTG            *
	// nurse            search update              patient                                                              TREAT                *
	// nurse            search                     encounter condition medication document                              TREAT                *
	// nurse            search create update       observation allergy                                                  TREAT                *
	// billing          read search                patient encounter                                                    HPAYMT               *
	// privacy-officer  read                       patient audit                                                        HCOMPL HOPERAT       *
	// privacy-officer  search                     patient                                                              HCOMPL               *
	// privacy-officer  search review              audit                                                                HCOMPL               *
	// privacy-officer  shred                      patient                                                              HOPERAT RECORDMGT    *
	// registrar        read create update         relation                                                             PATADMIN             *
	// privacy-officer  read create update         directive                                                            HOPERAT HLEGAL       *
	// maintenance      maintain                   *                                                                    RECORDMGT HSYSADMIN  *
	// admin            read search create update  user                                                                 HSYSADMIN            *
}

func ExampleNew() {
	engine, err := rbac.New(rbac.Config{
		Policy: `
# Casbin rows: p, role, tenant, resource type, action, purpose, effect
p, r:pharmacist, *, medication, read,   TREAT, allow
p, r:pharmacist, *, allergy,    read,   TREAT, allow
p, r:trainee,    *, *,          delete, TREAT, deny
g, r:chief-pharmacist, r:pharmacist
`})
	if err != nil {
		fmt.Println(err)
		return
	}
	who := access.Principal{ID: "u-17", Tenant: "t-1", Kind: access.Human, Roles: []string{"chief-pharmacist"}}
	ctx := access.With(context.Background(), who, access.Treatment)
	d, err := engine.Check(ctx, access.Request{Action: access.Read, Resources: []access.Resource{
		{Type: "medication", ID: "m-1", Patient: "p-1", Tenant: "t-1"},
		{Type: "document", ID: "d-1", Patient: "p-1", Tenant: "t-1"},
		{Type: "medication", ID: "m-2", Patient: "p-2", Tenant: "t-2"},
	}})
	for _, v := range d.Verdicts {
		fmt.Println(v.Allow, v.Code, v.Path)
	}
	fmt.Println(err)
	// Output:
	// true ALLOW_RULE [r:chief-pharmacist r:pharmacist]
	// false DENY_NO_RULE []
	// false DENY_TENANT []
	// <nil>
}

func ExampleEngine_String() {
	engine, err := rbac.New(rbac.Config{
		Rules: []rbac.Rule{
			{Role: "nurse", Resources: []string{"*"}, Actions: []access.Action{access.Read}, Purposes: []access.Purpose{access.Treatment}},
			{Role: "nurse", Resources: []string{"document"}, Actions: []access.Action{"*"}, Purposes: []access.Purpose{"*"}, Tenant: "t-7", Deny: true},
		},
		Links: []rbac.Link{{Role: "charge-nurse", Inherits: "nurse"}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Print(engine)
	// Output:
	// role          may                on        for    in tenant
	// nurse         read               *         TREAT  *
	// nurse         not *              document  *      t-7
	// charge-nurse  do what nurse may                   *
}
