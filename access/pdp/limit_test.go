// SPDX-License-Identifier: Apache-2.0

package pdp_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/access/pdp"
)

// TestAGrantForOneRecord: a role for a time that is for one record reaches that
// one, and no other, in Check as in Filter.
func TestAGrantForOneRecord(t *testing.T) {
	t.Parallel()
	w := clinic()
	w.grants = []pdp.Grant{{ID: "g-3", Role: "surgeon", Type: "note", Record: "r-1", Purposes: []access.Purpose{access.Treatment}, Until: now.Add(time.Hour)}}
	p := w.point(t)
	ctx := as(t, "u-1", "physician", access.Human, access.Treatment)
	for r, want := range map[access.Resource]access.Code{
		note("r-1", "p-2"): access.AllowGrant, // without a relation: the record is named
		note("r-2", "p-2"): access.DenyGrant,
		note("r-2", "p-1"): access.DenyGrant,
		note("R-1", "p-1"): access.DenyGrant,
	} {
		v := one(t, p, ctx, access.Update, r)
		if v.Code != want {
			t.Errorf("%+v: %+v, want %s", r, v, want)
		}
		f, err := p.Filter(ctx, access.Update, "note")
		if err != nil {
			t.Fatal(err)
		}
		if in, err := f.Match(ctx, r); err != nil || in[0] != v.Allow {
			t.Errorf("%+v: Check says %v, and Filter %v, %v", r, v.Allow, in, err)
		}
	}
	w.rules = append(w.rules, accesstest.Rule{Role: "surgeon", Action: access.Create, Type: "note", Purpose: access.Treatment})
	for _, action := range []access.Action{access.Create, access.Update} {
		if v := one(t, w.point(t), ctx, action, note("", "p-2")); v.Code != access.DenyGrant {
			t.Errorf("%s of a record without ID: %+v, want %s", action, v, access.DenyGrant)
		}
	}
	w.grants[0].Type = "report"
	if v := one(t, w.point(t), ctx, access.Update, note("r-1", "p-2")); v.Allow {
		t.Errorf("of another type: %+v", v)
	}
}

// TestUsesAreCounted: what is allowed by a grant is allowed once a use of it is
// counted.
func TestUsesAreCounted(t *testing.T) {
	t.Parallel()
	left, asked := 1, 0
	w := clinic()
	w.grants = []pdp.Grant{{ID: "g-4", Role: "surgeon", Purposes: []access.Purpose{access.Treatment}, Until: now.Add(time.Hour), Use: func(context.Context) error {
		if asked++; asked > left {
			return errors.New("no use is left")
		}
		return nil
	}}}
	p := w.point(t)
	ctx := as(t, "u-1", "physician", access.Human, access.Treatment)
	check := func(action access.Action, r access.Resource) access.Verdict { // a Filter counts too
		t.Helper()
		d, err := p.Check(ctx, access.Request{Action: action, Resources: []access.Resource{r}})
		if err != nil || len(d.Verdicts) != 1 {
			t.Fatal(d, err)
		}
		return d.Verdicts[0]
	}
	if v := check(access.Read, note("r-1", "p-1")); v.Code != access.AllowRule || asked != 0 {
		t.Errorf("what needs no grant: %+v, %d uses", v, asked)
	}
	if v := check(access.Update, note("r-1", "p-2")); v.Allow || asked != 0 {
		t.Errorf("what it does not reach: %+v, %d uses", v, asked)
	}
	for _, want := range []access.Code{access.AllowGrant, access.DenyGrant} {
		if v := check(access.Update, note("r-1", "p-1")); v.Code != want {
			t.Errorf("use %d: %+v, want %s", asked, v, want)
		}
	}
	if f, err := p.Filter(ctx, access.Update, "note"); !errors.Is(err, access.ErrDenied) {
		t.Errorf("a list when none is left: %+v, %v", f, err)
	}
}
