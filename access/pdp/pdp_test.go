// SPDX-License-Identifier: Apache-2.0

package pdp_test

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/access/pdp"
	"github.com/part164/part164/access/rbac"
)

func TestAuthorizer(t *testing.T) {
	t.Parallel()
	rule := accesstest.Rule{Role: "physician", Action: access.Read, Type: "note", Purpose: access.Treatment}
	for name, open := range map[string]func(t *testing.T) access.Authorizer{
		"tenant-wide": func(t *testing.T) access.Authorizer {
			p, err := pdp.New(pdp.Config{Policy: &world{rules: []accesstest.Rule{rule}}})
			if err != nil {
				t.Fatal(err)
			}
			return p
		},
		"the starter policy": func(t *testing.T) access.Authorizer {
			p, err := pdp.New(pdp.Config{Policy: rbac.Starter()})
			if err != nil {
				t.Fatal(err)
			}
			return p
		},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "tenant-wide" {
				accesstest.TestAuthorizer(t, open, rule)
			} else {
				accesstest.TestAuthorizer(t, open, accesstest.Rule{Role: "physician", Action: access.Read, Type: "patient", Purpose: access.Treatment})
			}
		})
	}
	t.Run("zero", func(t *testing.T) {
		ctx := as(t, "u-1", "physician", access.Human, access.Treatment)
		for _, p := range []*pdp.Point{nil, {}} {
			d, err := p.Check(ctx, access.Request{Action: access.Read, Resources: []access.Resource{note("r-1", "p-1")}})
			if err == nil || d.Allow(0) {
				t.Errorf("Check of a zero Point = %+v, %v", d, err)
			}
			if f, err := p.Filter(ctx, access.Read, "note"); err == nil || f.Tenant != "" {
				t.Errorf("Filter of a zero Point = %+v, %v", f, err)
			}
			if o := p.Offer(ctx, access.Read, "note"); o != access.OfferNone {
				t.Errorf("Offer of a zero Point = %s", o)
			}
		}
	})
}

// Each stage denies by itself, with its own code.
func TestStages(t *testing.T) {
	t.Parallel()
	breakGlass := pdp.Grant{ID: "g-1", BreakGlass: true, Patient: "p-2", Purposes: []access.Purpose{access.BreakGlass}, Until: now.Add(time.Hour)}
	role := pdp.Grant{ID: "g-2", Role: "surgeon", Purposes: []access.Purpose{access.Treatment}, Until: now.Add(time.Hour)}
	for _, tt := range []struct {
		name    string
		kind    access.Kind
		role    string
		purpose access.Purpose
		action  access.Action
		on      access.Resource
		change  func(*world)
		want    access.Code
		grant   string
	}{
		{name: "a patient of the care team", on: note("r-1", "p-1"), want: access.AllowRule},
		{name: "another patient", on: note("r-1", "p-2"), want: access.DenySubject},
		{name: "a record about nobody", on: note("r-1", ""), want: access.AllowRule},
		{name: "the type as a whole", on: note("", ""), want: access.AllowRule},
		{name: "another tenant", on: access.Resource{Type: "note", ID: "r-1", Patient: "p-1", Tenant: "t-other"}, want: access.DenyTenant},
		{name: "no tenant", on: access.Resource{Type: "note", ID: "r-1", Patient: "p-1"}, want: access.DenyInvalid},
		{name: "no relation of anybody", on: note("r-1", "p-1"), change: func(w *world) { w.related = nil }, want: access.DenySubject},
		{name: "a kind of the purpose that needs no relation", purpose: access.ClaimAttachment, on: note("r-1", "p-2"), change: func(w *world) { w.rules[5].Purpose = "*" }, want: access.AllowRule},
		{name: "the purpose of another rule", purpose: access.Research, on: note("r-1", "p-1"), want: access.DenyPurpose},
		{name: "no rule", role: "clerk", on: note("r-1", "p-1"), want: access.DenyNoRule},
		{name: "a denying rule", action: access.Delete, on: note("r-1", "p-1"), want: access.DenyRule},
		{name: "the patient restricts it", on: note("r-1", "p-3"), want: access.DenyRestriction},
		{name: "a record that the patient restricts", on: note("r-1", "p-1"), change: func(w *world) { w.restrictedRecords = []string{"r-1"} }, want: access.DenyRestriction},
		{name: "what the caller wrote needs no authorization", on: access.Resource{Type: "psychotherapy", ID: "r-1", Patient: "p-1", Tenant: tenant}, change: func(w *world) { w.foreign = []string{"r-2"} }, want: access.AllowRule},
		{name: "what another wrote needs one", on: access.Resource{Type: "psychotherapy", ID: "r-2", Patient: "p-1", Tenant: tenant}, change: func(w *world) { w.foreign = []string{"r-2"} }, want: access.DenyConsent},
		{name: "no authorization", on: access.Resource{Type: "psychotherapy", ID: "r-1", Patient: "p-1", Tenant: tenant}, want: access.DenyConsent},
		{name: "no authorization of anybody", on: access.Resource{Type: "psychotherapy", ID: "r-1", Patient: "p-1", Tenant: tenant}, change: func(w *world) { w.authorized = nil }, want: access.DenyConsent},
		{name: "what a psychotherapist wrote, about nobody", on: access.Resource{Type: "psychotherapy", ID: "r-1", Tenant: tenant}, want: access.DenyConsent},
		{name: "with the authorization", on: access.Resource{Type: "psychotherapy", ID: "r-1", Patient: "p-3", Tenant: tenant}, change: func(w *world) { w.restricted = nil }, want: access.AllowRule},
		{name: "an own note to countersign", action: access.Review, on: note("r-9", "p-1"), want: access.DenyDuty},
		{name: "a note of somebody else", action: access.Review, on: note("r-8", "p-1"), want: access.AllowRule},
		{name: "roles that nobody may hold together", on: note("r-1", "p-1"), change: func(w *world) { w.apart = []string{"physician"} }, want: access.DenyDuty},

		{name: "emergency access without a grant", purpose: access.BreakGlass, on: note("r-1", "p-2"), want: access.DenyGrant},
		{name: "emergency access without a grant, to an own patient", purpose: access.BreakGlass, on: note("r-1", "p-1"), want: access.DenyGrant},
		{name: "emergency access to the type without a grant", purpose: access.BreakGlass, on: note("", ""), want: access.DenyGrant},
		{name: "emergency access", purpose: access.BreakGlass, on: note("r-1", "p-2"), change: func(w *world) { w.grants = []pdp.Grant{breakGlass} }, want: access.AllowBreakGlass, grant: "g-1"},
		{name: "emergency access in spite of a restriction", purpose: access.BreakGlass, on: note("r-1", "p-2"), change: func(w *world) {
			w.grants, w.restricted = []pdp.Grant{breakGlass}, map[string][]string{"u-1": {"p-2"}}
		}, want: access.AllowBreakGlass, grant: "g-1"},
		{name: "emergency access to another patient", purpose: access.BreakGlass, on: note("r-1", "p-4"), change: func(w *world) { w.grants = []pdp.Grant{breakGlass} }, want: access.DenyGrant},
		{name: "emergency access to a record about nobody", purpose: access.BreakGlass, on: note("r-1", ""), change: func(w *world) { w.grants = []pdp.Grant{breakGlass} }, want: access.DenyGrant},
		{name: "emergency access beyond the ceiling", purpose: access.BreakGlass, action: access.Update, on: note("r-1", "p-2"), change: func(w *world) { w.grants = []pdp.Grant{breakGlass} }, want: access.DenyNoRule},
		{name: "emergency access to what needs an authorization", purpose: access.BreakGlass, on: access.Resource{Type: "psychotherapy", ID: "r-1", Patient: "p-2", Tenant: tenant}, change: func(w *world) { w.grants = []pdp.Grant{breakGlass} }, want: access.DenyConsent},
		{name: "emergency access under another purpose", on: note("r-1", "p-2"), change: func(w *world) { w.grants = []pdp.Grant{breakGlass} }, want: access.DenySubject},
		{name: "emergency access for another emergency purpose", purpose: access.EmergencyTreatment, on: note("r-1", "p-2"), change: func(w *world) {
			w.rules[0].Purpose, w.grants = access.EmergencyTreatment, []pdp.Grant{breakGlass}
		}, want: access.DenyGrant},
		{name: "emergency access that ended", purpose: access.BreakGlass, on: note("r-1", "p-2"), change: func(w *world) {
			w.grants = []pdp.Grant{breakGlass}
			w.grants[0].Until = now
		}, want: access.DenyGrant},
		{name: "emergency access of a grant without patient", purpose: access.BreakGlass, on: note("r-1", ""), change: func(w *world) {
			w.grants = []pdp.Grant{breakGlass}
			w.grants[0].Patient = ""
		}, want: access.DenyGrant},
		{name: "emergency access that brings a role", purpose: access.BreakGlass, on: note("r-1", "p-2"), change: func(w *world) {
			w.grants = []pdp.Grant{breakGlass}
			w.grants[0].Role = "surgeon"
		}, want: access.DenyGrant},

		{name: "a role for a time in an emergency", purpose: access.BreakGlass, on: note("r-1", "p-2"), change: func(w *world) {
			w.grants = []pdp.Grant{role}
			w.grants[0].Patient, w.grants[0].Purposes = "p-2", []access.Purpose{access.BreakGlass}
		}, want: access.DenyGrant},
		{name: "emergency access of a grant for the purpose that it is a kind of", purpose: access.BreakGlass, on: note("r-1", "p-2"), change: func(w *world) {
			w.grants = []pdp.Grant{breakGlass}
			w.grants[0].Purposes = []access.Purpose{access.EmergencyTreatment, access.Treatment}
		}, want: access.DenyGrant},
		{name: "a role for a time under a policy that is too old", action: access.Update, on: note("r-1", "p-1"), change: func(w *world) {
			w.grants, w.stale = []pdp.Grant{role}, true
		}, want: access.DenyStale},

		{name: "a role for a time", action: access.Update, on: note("r-1", "p-1"), change: func(w *world) { w.grants = []pdp.Grant{role} }, want: access.AllowGrant, grant: "g-2"},
		{name: "a role for a time, a kind of the purpose", purpose: access.CareCoordination, action: access.Update, on: note("r-1", "p-1"), change: func(w *world) {
			w.grants, w.rules[6].Purpose = []pdp.Grant{role}, "*"
		}, want: access.AllowGrant, grant: "g-2"},
		{name: "a role for a time and a patient without relation", action: access.Update, on: note("r-1", "p-2"), change: func(w *world) { w.grants = []pdp.Grant{role} }, want: access.DenySubject},
		{name: "a role for a time for one patient", action: access.Update, on: note("r-1", "p-2"), change: func(w *world) {
			w.grants = []pdp.Grant{role}
			w.grants[0].Patient = "p-2"
		}, want: access.AllowGrant, grant: "g-2"},
		{name: "a role for a time, restricted", action: access.Update, on: note("r-1", "p-3"), change: func(w *world) { w.grants = []pdp.Grant{role} }, want: access.DenyRestriction},
		{name: "a role for a time that must not be held beside another", action: access.Update, on: note("r-1", "p-1"), change: func(w *world) {
			w.grants, w.apart = []pdp.Grant{role}, []string{"physician", "surgeon"}
		}, want: access.DenyNoRule},
		{name: "a role for a time that a rule denies", action: access.Delete, on: note("r-1", "p-1"), change: func(w *world) {
			w.grants = []pdp.Grant{role}
			w.rules = append(w.rules, accesstest.Rule{Role: "surgeon", Action: access.Delete, Type: "note", Purpose: access.Treatment})
		}, want: access.DenyRule},

		{name: "a patient's own record", kind: access.Patient, role: "patient", purpose: access.PatientRequest, on: note("r-1", "u-1"), want: access.AllowRule},
		{name: "a patient, somebody else's record", kind: access.Patient, role: "patient", purpose: access.PatientRequest, on: note("r-1", "p-1"), want: access.DenySubject},
		{name: "a patient, a record about nobody", kind: access.Patient, role: "patient", purpose: access.PatientRequest, on: note("r-1", ""), want: access.DenySubject},
		{name: "a patient with a grant", kind: access.Patient, role: "physician", action: access.Update, on: note("r-1", "p-1"), change: func(w *world) { w.grants = []pdp.Grant{role} }, want: access.DenyNoRule},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := clinic()
			if tt.change != nil {
				tt.change(w)
			}
			if tt.kind == "" {
				tt.kind = access.Human
			}
			if tt.role == "" {
				tt.role = "physician"
			}
			if tt.purpose == "" {
				tt.purpose = access.Treatment
			}
			if tt.action == "" {
				tt.action = access.Read
			}
			v := one(t, w.point(t), as(t, "u-1", tt.role, tt.kind, tt.purpose), tt.action, tt.on)
			if v.Code != tt.want || v.Grant != tt.grant {
				t.Errorf("%+v, want %s by grant %q", v, tt.want, tt.grant)
			}
		})
	}
}

func TestProxies(t *testing.T) {
	t.Parallel()
	who := accesstest.Principal(tenant, "patient")
	who.ID, who.Kind, who.OnBehalf, who.OnBehalfKind = "u-5", access.Proxy, "p-1", access.Patient
	ctx := access.With(t.Context(), who, access.PatientRequest)
	w := clinic()
	if v := one(t, w.point(t), ctx, access.Read, note("r-1", "p-1")); v.Code != access.DenySubject {
		t.Errorf("a representation that ended: %+v", v)
	}
	w.related["u-5"] = []string{"p-1", "p-2"}
	if v := one(t, w.point(t), ctx, access.Read, note("r-1", "p-1")); v.Code != access.AllowRule {
		t.Errorf("a representative: %+v", v)
	}
	if v := one(t, w.point(t), ctx, access.Read, note("r-1", "p-2")); v.Code != access.DenySubject {
		t.Errorf("a representative, for somebody else: %+v", v)
	}
	cfg := w.config()
	cfg.Relations, cfg.TenantWide = nil, nil
	p, err := pdp.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if v := one(t, p, ctx, access.Read, note("r-1", "p-2")); v.Code != access.DenySubject {
		t.Errorf("a representative, where nobody keeps relations: %+v", v)
	}
}

// Who may not ask at all is denied before the policy is asked, but not before it
// is known that the record is of another tenant.
func TestAdmission(t *testing.T) {
	t.Parallel()
	networks := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")}
	for _, tt := range []struct {
		name   string
		addr   string
		change func(*pdp.Config, *access.Principal)
		want   access.Code
	}{
		{"inside", "192.0.2.7", nil, access.AllowRule},
		{"inside, IPv4 in IPv6", "::ffff:192.0.2.7", nil, access.AllowRule},
		{"inside, IPv6", "2001:db8::1%eth0", nil, access.AllowRule},
		{"outside", "198.51.100.1", nil, access.DenyAddress},
		{"nowhere", "", nil, access.DenyAddress},
		{"one of two rules is not met", "192.0.2.7", func(c *pdp.Config, _ *access.Principal) {
			c.Addresses = append(c.Addresses, pdp.AddressRule{Roles: []string{"physician"}, Prefixes: networks[1:]})
		}, access.DenyAddress},
		{"a rule about other roles", "198.51.100.1", func(c *pdp.Config, _ *access.Principal) { c.Addresses[0].Roles = []string{"nurse"} }, access.AllowRule},
		{"a rule about services", "198.51.100.1", func(c *pdp.Config, _ *access.Principal) { c.Addresses[0].Kinds = []access.Kind{access.Service} }, access.AllowRule},
		{"an unfit device", "192.0.2.7", func(c *pdp.Config, _ *access.Principal) {
			c.Posture = func(context.Context, access.Principal) error { return errors.New("jailbroken") }
		}, access.DenyDevice},
		{"a fit device", "192.0.2.7", func(c *pdp.Config, _ *access.Principal) {
			c.Posture = func(_ context.Context, who access.Principal) error {
				if who.ID != "u-1" {
					return errors.New("who?")
				}
				return nil
			}
		}, access.AllowRule},
		{"signed in too weakly", "192.0.2.7", func(c *pdp.Config, who *access.Principal) { c.Assurance, who.Assurance = 2, 1 }, access.DenyAssurance},
		{"signed in strongly enough", "192.0.2.7", func(c *pdp.Config, who *access.Principal) { c.Assurance, who.Assurance = 2, 2 }, access.AllowRule},
		{"a service has no factors", "192.0.2.7", func(c *pdp.Config, who *access.Principal) {
			c.Assurance, who.Assurance, who.Kind = 2, 0, access.Service
		}, access.AllowRule},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := clinic().config()
			cfg.Addresses = []pdp.AddressRule{{Prefixes: networks}}
			who := accesstest.Principal(tenant, "physician")
			who.ID = "u-1"
			if tt.addr != "" {
				who.Addr = netip.MustParseAddr(tt.addr)
			}
			if tt.change != nil {
				tt.change(&cfg, &who)
			}
			p, err := pdp.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			ctx := access.With(t.Context(), who, access.Treatment)
			if v := one(t, p, ctx, access.Read, note("r-1", "p-1")); v.Code != tt.want {
				t.Errorf("%+v, want %s", v, tt.want)
			}
			if v := one(t, p, ctx, access.Read, access.Resource{Type: "note", ID: "r-1", Tenant: "t-other"}); v.Code != access.DenyTenant {
				t.Errorf("another tenant: %+v", v)
			}
			if v := one(t, p, access.ForPurpose(ctx, access.BreakGlass), access.Read, note("r-1", "p-1")); tt.want != access.AllowRule && v.Code != tt.want {
				t.Errorf("emergency access: %+v, want %s", v, tt.want)
			}
		})
	}
}

// What fails denies everything that would need it, also beside an answer that
// would allow.
func TestSourcesThatFail(t *testing.T) {
	t.Parallel()
	for source, purpose := range map[string]access.Purpose{
		"policy": access.Treatment, "roles": access.Treatment, "relations": access.Treatment, "restrictions": access.Treatment, "authorizations": access.Treatment,
		"duties": access.Treatment, "grants": access.BreakGlass,
	} {
		w := clinic()
		w.fail = source
		w.related["u-1"] = append(w.related["u-1"], "p-2")
		w.grants = []pdp.Grant{{ID: "g-1", BreakGlass: true, Patient: "p-2", Purposes: []access.Purpose{access.BreakGlass}, Until: now.Add(time.Hour)}}
		p := w.point(t)
		ctx := as(t, "u-1", "physician", access.Human, purpose)
		types := []string{"note", "psychotherapy"}
		var batch []access.Resource
		for _, typ := range types {
			for _, patient := range []string{"p-1", "p-2", "p-3"} {
				batch = append(batch, access.Resource{Type: typ, ID: "r-1", Patient: patient, Tenant: tenant})
			}
		}
		d, err := p.Check(ctx, access.Request{Action: access.Read, Resources: batch})
		if !errors.Is(err, errSource) || !strings.HasPrefix(err.Error(), "pdp: check: ") {
			t.Errorf("%s: %v", source, err)
		}
		for i, v := range d.Verdicts {
			if v.Allow || v.Code != access.DenyInvalid || v.Rule != "" {
				t.Errorf("%s: verdict %d = %+v", source, i, v)
			}
		}
		f, err := p.Filter(ctx, access.Read, types[1])
		if err == nil {
			_, err = f.Match(ctx, batch...)
		}
		if !errors.Is(err, errSource) {
			t.Errorf("%s: Filter: %v", source, err)
		}
	}
}

// Grants are asked for where somebody needs one, and once a call.
func TestGrantsAreAskedForOnDemand(t *testing.T) {
	t.Parallel()
	w := clinic()
	w.fail = "grants" // who asks is found out
	d, err := w.point(t).Check(as(t, "u-1", "physician", access.Human, access.Treatment), access.Request{Action: access.Read, Resources: []access.Resource{note("r-1", "p-1"), note("", "")}})
	if err != nil || !d.AllowAll(2) || d.Revision != 7 {
		t.Errorf("Check = %+v, %v", d, err)
	}
}

// old is a policy that is too old for everything but emergencies.
type old struct{ *world }

func (o old) Rule(ctx context.Context, who access.Principal, action access.Action, resourceType string, purpose access.Purpose) (access.Verdict, error) {
	if !purpose.Emergency() {
		return access.Verdict{Code: access.DenyStale}, nil
	}
	return o.world.Rule(ctx, who, action, resourceType, purpose)
}

func TestOffer(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		kind    access.Kind
		role    string
		purpose access.Purpose
		action  access.Action
		change  func(*pdp.Config, *world)
		want    access.Offer
	}{
		{name: "a rule for emergencies", want: access.OfferBreakGlass},
		{name: "a service", kind: access.Service, want: access.OfferNone},
		{name: "in an emergency", purpose: access.BreakGlass, want: access.OfferNone},
		{name: "nobody keeps grants", change: func(c *pdp.Config, _ *world) { c.Grants = nil }, want: access.OfferNone},
		{name: "another purpose", purpose: access.Research, change: func(c *pdp.Config, _ *world) { c.Grants = nil }, want: access.OfferPurpose},
		{name: "a role that may be requested", action: access.Update, change: func(_ *pdp.Config, w *world) { w.roles = []string{"nurse", "surgeon"} }, want: access.OfferGrant},
		{name: "no role that may be requested", action: access.Update, change: func(_ *pdp.Config, w *world) { w.roles = []string{"nurse"} }, want: access.OfferNone},
		{name: "a rule denies it", action: access.Delete, change: func(_ *pdp.Config, w *world) {
			w.roles = []string{"surgeon"}
			w.rules = append(w.rules, accesstest.Rule{Role: "physician", Action: access.Delete, Type: "note", Purpose: access.BreakGlass})
		}, want: access.OfferNone},
		{name: "from nowhere", change: func(c *pdp.Config, _ *world) {
			c.Addresses = []pdp.AddressRule{{Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}}
		}, want: access.OfferNone},
		{name: "the policy fails", change: func(_ *pdp.Config, w *world) { w.fail = "policy" }, want: access.OfferNone},
		{name: "the policy is stale", change: func(c *pdp.Config, w *world) { c.Policy = old{w} }, want: access.OfferBreakGlass},
		{name: "the policy is stale, and has no rule for emergencies", action: access.Update, change: func(c *pdp.Config, w *world) {
			w.roles = []string{"surgeon"}
			c.Policy = old{w}
		}, want: access.OfferNone},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := clinic()
			cfg := w.config()
			if tt.change != nil {
				tt.change(&cfg, w)
			}
			p, err := pdp.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			if tt.kind == "" {
				tt.kind = access.Human
			}
			if tt.purpose == "" {
				tt.purpose = access.Treatment
			}
			if tt.action == "" {
				tt.action = access.Read
			}
			if o := p.Offer(as(t, "u-1", "physician", tt.kind, tt.purpose), tt.action, "note"); o != tt.want {
				t.Errorf("Offer = %q, want %q", o, tt.want)
			}
		})
	}
}

func TestNewNamesTheBadField(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*pdp.Config){
		"Policy is nil":                             func(c *pdp.Config) { c.Policy = nil },
		"TenantWide is set without Relations":       func(c *pdp.Config) { c.Relations = nil },
		"TenantWide has an unknown purpose":         func(c *pdp.Config) { c.TenantWide = []access.Purpose{"CURIOSITY"} },
		"TenantWide has BTG":                        func(c *pdp.Config) { c.TenantWide = []access.Purpose{access.BreakGlass} },
		"Assurance":                                 func(c *pdp.Config) { c.Assurance = 4 },
		"Addresses[0].Prefixes is empty":            func(c *pdp.Config) { c.Addresses = []pdp.AddressRule{{}} },
		"Addresses[0].Prefixes[0] is not a network": func(c *pdp.Config) { c.Addresses = []pdp.AddressRule{{Prefixes: make([]netip.Prefix, 1)}} },
		"Addresses[0].Prefixes[0] is not a network:": func(c *pdp.Config) {
			c.Addresses = []pdp.AddressRule{{Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.7/24")}}}
		},
		"Addresses[0].Kinds": func(c *pdp.Config) {
			c.Addresses = []pdp.AddressRule{{Kinds: []access.Kind{"dog"}, Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}}
		},
		"Addresses[0].Roles": func(c *pdp.Config) {
			c.Addresses = []pdp.AddressRule{{Roles: []string{"jane@example.org"}, Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}}
		},
	} {
		cfg := clinic().config()
		change(&cfg)
		if p, err := pdp.New(cfg); err == nil || p != nil || !strings.Contains(err.Error(), "pdp: Config."+want) || strings.Contains(err.Error(), "jane") {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestDeviations(t *testing.T) {
	t.Parallel()
	cfg := clinic().config()
	p, err := pdp.New(cfg)
	if err != nil || p.Deviations() != nil {
		t.Errorf("with relations: %v, %v", p.Deviations(), err)
	}
	for _, tt := range []struct {
		citation string
		without  func(*pdp.Config)
	}{
		{"164.308(a)(4)", func(cfg *pdp.Config) { cfg.Relations, cfg.TenantWide = nil, nil }},
		{"164.522(a)(1)(iii)", func(cfg *pdp.Config) { cfg.Directives = nil }},
		{"164.312(a)(2)(ii)", func(cfg *pdp.Config) { cfg.Grants = nil }},
	} {
		cfg := clinic().config()
		tt.without(&cfg)
		p, err := pdp.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if ds := p.Deviations(); len(ds) != 1 || ds[0].Citation != tt.citation || ds[0].Validate() != nil {
			t.Errorf("without what %s asks for: %+v", tt.citation, ds)
		}
	}
}
