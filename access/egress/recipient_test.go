// SPDX-License-Identifier: Apache-2.0

package egress_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/access/egress"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/minimize"
)

// load tries a registry of one entry.
func load(t *testing.T, r egress.Recipient) error {
	t.Helper()
	_, err := egress.New(egress.Config{Authorizer: accesstest.Allow(), Audit: audittest.New(t), Recipients: []egress.Recipient{r}})
	return err
}

// on returns a good entry of each basis.
func on(b egress.Basis) egress.Recipient {
	r := (&world{port: "443"}).lab()
	r.Basis, r.Agreement = b, nil
	doc := &egress.Document{ID: "doc-1", SHA256: strings.Repeat("0", 64), Signed: r.From}
	switch b {
	case egress.BusinessAssociate:
		r.Agreement = doc
	case egress.Treatment:
		r.NPI, r.Purposes = "1234567893", []access.Purpose{access.Treatment, access.EmergencyTreatment}
		r.Types = map[string]egress.Item{"patient": {}}
	case egress.Payment:
		r.Purposes = []access.Purpose{access.Payment}
	case egress.Individual:
		r.Purposes, r.Patients = []access.Purpose{access.PatientRequest}, []string{patient}
		r.Types = map[string]egress.Item{"patient": {}}
	case egress.Law:
		r.Purposes, r.Citation, r.Law, r.Statement = []access.Purpose{access.PublicHealth}, "164.512(b)(1)(i)", "105 CMR 300.170", "a reportable disease"
	case egress.Authorization:
		r.Purposes, r.Patients, r.Document = []access.Purpose{access.Research}, []string{patient}, doc
		r.Types = map[string]egress.Item{"patient": {}}
	case egress.LimitedDataSet:
		r.Purposes, r.Agreement = []access.Purpose{access.Research}, doc
		r.Types = map[string]egress.Item{"patient": {Fields: map[string]minimize.Class{"dob": minimize.DOB, "zip": minimize.ZIP}}}
	}
	return r
}

var bases = []egress.Basis{egress.BusinessAssociate, egress.Treatment, egress.Payment, egress.Individual, egress.Law,
	egress.Authorization, egress.LimitedDataSet}

// TestEachBasis holds what each asks for, what it permits, and what a trail then
// has: the table of the package's documentation.
func TestEachBasis(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		basis     egress.Basis
		needs     []string
		minimum   bool
		recorded  audit.Basis
		accounted bool
	}{
		{egress.BusinessAssociate, []string{"Agreement"}, true, audit.ByTreatment, false},
		{egress.Treatment, []string{"NPI"}, false, audit.ByTreatment, false},
		{egress.Payment, nil, true, audit.ByPayment, false},
		{egress.Individual, []string{"Patients"}, false, audit.ByIndividual, false},
		{egress.Law, []string{"Citation", "Law", "Statement"}, true, audit.ByPublicHealth, true},
		{egress.Authorization, []string{"Patients", "Document"}, false, audit.ByAuthorization, false},
		{egress.LimitedDataSet, []string{"Agreement"}, true, audit.ByLimitedDataSet, false},
	} {
		t.Run(string(tt.basis), func(t *testing.T) {
			t.Parallel()
			if err := load(t, on(tt.basis)); err != nil {
				t.Fatalf("a good entry: %v", err)
			}
			for _, field := range tt.needs {
				r := on(tt.basis)
				switch field {
				case "Agreement":
					r.Agreement = nil
				case "NPI":
					r.NPI = ""
				case "Patients":
					r.Patients = nil
				case "Citation":
					r.Citation = ""
				case "Law":
					r.Law = " "
				case "Statement":
					r.Statement = ""
				case "Document":
					r.Document = nil
				}
				if err := load(t, r); err == nil || !strings.Contains(err.Error(), field) {
					t.Errorf("without %s: %v", field, err)
				}
			}
			r := on(tt.basis)
			r.Types = map[string]egress.Item{"patient": {}}
			if err := load(t, r); (err != nil) != tt.minimum {
				t.Errorf("without fields: %v, want refused %v", err, tt.minimum)
			}

			w := setup(t, func(w *world) {
				r := on(tt.basis)
				r.Hosts = []string{"lab.example:" + w.port}
				w.cfg.Recipients = []egress.Recipient{r}
			})
			d := said()
			d.Objects[0].Fields = nil
			for f := range on(tt.basis).Types["patient"].Fields {
				d.Objects[0].Fields = []string{f}
			}
			ctx := accesstest.As(t, t.Context(), "physician", on(tt.basis).Purposes[0])
			if _, _, err := w.post(egress.Disclose(ctx, d), w.url()); err != nil {
				t.Fatal(err)
			}
			got := w.events(audit.Disclosed)[0].Disclosure.Basis
			if got != tt.recorded || (got.Excluded() == "") != tt.accounted {
				t.Errorf("recorded as %s, accounted for %v; want %s, %v", got, got.Excluded() == "", tt.recorded, tt.accounted)
			}
		})
	}
}

// TestPurposeAgainstBasis lists every pair.
func TestPurposeAgainstBasis(t *testing.T) {
	t.Parallel()
	const treat, pay, ops, own, health, study, other = 0, 1, 2, 3, 4, 5, 6
	kind := func(p access.Purpose) int { // by 45 CFR, not by HL7's tree
		switch {
		case p == "POPHLTH":
			return ops
		case p == "DONAT" || p == "HDECD" || p == "HDIRECT" || p == "GOV" || p == "MILCDM" || p == "HMARKT":
			return other
		}
		for p.Parent() != "" {
			p = p.Parent()
		}
		return map[access.Purpose]int{"TREAT": treat, "HPAYMT": pay, "HOPERAT": ops, "PATRQT": own, "PUBHLTH": health, "HRESCH": study}[p]
	}
	want := map[egress.Basis][]int{
		egress.BusinessAssociate: {treat, pay, ops},
		egress.Treatment:         {treat},
		egress.Payment:           {pay},
		egress.Individual:        {own},
		egress.Law:               {treat, pay, ops, own, health, study, other},
		egress.Authorization:     {treat, pay, ops, own, health, study, other},
		egress.LimitedDataSet:    {study, health, ops},
	}
	for _, b := range bases {
		for _, p := range access.Purposes() {
			r := on(b)
			r.Purposes = []access.Purpose{p}
			ok := slices.Contains(want[b], kind(p)) && (p != access.Marketing || b == egress.Authorization)
			if err := load(t, r); (err == nil) != ok {
				t.Errorf("%s for %s: %v, want permitted %v", b, p, err, ok)
			}
		}
	}
}

func TestTheProvisionOfALaw(t *testing.T) {
	t.Parallel()
	for citation, want := range map[string]audit.Basis{
		"164.512(a)": audit.ByLaw, "164.512(b)(1)(ii)": audit.ByPublicHealth, "164.512(c)": audit.ByAbuse, "164.512(d)": audit.ByOversight,
		"164.512(e)(1)(i)": audit.ByJudicial, "164.512(f)(2)": audit.ByLawEnforcement, "164.512(g)(1)": audit.ByDecedents,
		"164.512(h)": audit.ByDonation, "164.512(i)(1)(i)": audit.ByResearch, "164.512(j)(1)": audit.BySafety,
		"164.512(k)(1)": audit.ByGovernment, "164.512(k)(2)": audit.ByNationalSecurity, "164.512(k)(5)(i)": audit.ByCustody,
		"164.512(l)": audit.ByWorkersCompensate,
		"164.512":    "", "164.512(m)": "", "164.508(a)": "", "164.512(b": "", "164.512(b)(oops)": "", "Jane Roe": "",
	} {
		w := setup(t, func(w *world) {
			r := on(egress.Law)
			r.Hosts = []string{"lab.example:" + w.port}
			w.cfg.Recipients = []egress.Recipient{r}
		})
		r := w.cfg.Recipients[0]
		r.Citation = citation
		if want == audit.ByResearch {
			if err := w.Load(t.Context(), []egress.Recipient{r}); err == nil || !strings.Contains(err.Error(), "Document") {
				t.Errorf("research without the waiver's approval: %v", err)
			}
			r.Protocol, r.Document = "irb-12", &egress.Document{ID: "waiver-1", SHA256: strings.Repeat("0", 64), Signed: r.From}
		}
		err := w.Load(t.Context(), []egress.Recipient{r})
		if want == "" {
			if err == nil || !strings.Contains(err.Error(), "Citation") || strings.Contains(err.Error(), "Roe") {
				t.Errorf("%s: %v, want it to name Citation", citation, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", citation, err)
			continue
		}
		d := said()
		d.Description = "one report"
		if _, _, err := w.post(egress.Disclose(accesstest.As(t, t.Context(), "nurse", access.PublicHealth), d), w.url()); err != nil {
			t.Errorf("%s: %v", citation, err)
			continue
		}
		ev := w.events(audit.Disclosed)[0]
		detail, err := w.trail.Detail(as(t), ev.ID)
		if ev.Disclosure.Basis != want || ev.Disclosure.Protocol != r.Protocol || ev.Citation != citation || err != nil ||
			detail.Statement != "a reportable disease (105 CMR 300.170)" || detail.Description != "one report" {
			t.Errorf("%s: recorded %+v, %s, %+v, %v; want %s", citation, ev.Disclosure, ev.Citation, detail, err, want)
		}
	}
}

func TestBadEntriesAreRefused(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 64)
	for _, tt := range []struct {
		says   string
		basis  egress.Basis
		change func(*egress.Recipient)
	}{
		{"ID is empty", egress.Payment, func(r *egress.Recipient) { r.ID = "" }},
		{"ID looks like an e-mail", egress.Payment, func(r *egress.Recipient) { r.ID = "jane@lab.example" }},
		{"Basis is not", egress.Payment, func(r *egress.Recipient) { r.Basis = "" }},
		{"Basis is not", egress.Payment, func(r *egress.Recipient) { r.Basis = "curiosity" }},
		{"Name", egress.Payment, func(r *egress.Recipient) { r.Name = " " }},
		{"Owner", egress.Payment, func(r *egress.Recipient) { r.Owner = "" }},
		{"Description", egress.Payment, func(r *egress.Recipient) { r.Description = "" }},
		{"Hosts is empty", egress.Payment, func(r *egress.Recipient) { r.Hosts = nil }},
		{"Networks[0]", egress.Payment, func(r *egress.Recipient) { r.Networks = []netip.Prefix{netip.MustParsePrefix("10.0.0.1/8")} }},
		{"Networks[0]", egress.Payment, func(r *egress.Recipient) { r.Networks = make([]netip.Prefix, 1) }},
		{"Tenants is empty", egress.Payment, func(r *egress.Recipient) { r.Tenants = nil }},
		{"Tenants[0]", egress.Payment, func(r *egress.Recipient) { r.Tenants = []string{"Elm Street"} }},
		{"Purposes is empty", egress.Payment, func(r *egress.Recipient) { r.Purposes = nil }},
		{"Purposes[0]", egress.Law, func(r *egress.Recipient) { r.Purposes = []access.Purpose{"CURIOSITY"} }},
		{"Types is empty", egress.Payment, func(r *egress.Recipient) { r.Types = nil }},
		{"a resource type", egress.Payment, func(r *egress.Recipient) { r.Types["a patient"] = r.Types["patient"] }},
		{"Fields is empty", egress.Treatment, func(r *egress.Recipient) { r.Types["patient"] = egress.Item{Fields: map[string]minimize.Class{}} }},
		{"not an identifier", egress.Payment, func(r *egress.Recipient) { r.Types["patient"].Fields["date of birth"] = minimize.DOB }},
		{"not a class", egress.Payment, func(r *egress.Recipient) { r.Types["patient"].Fields["dob"] = "birthday" }},
		{"psychotherapy notes", egress.Payment, func(r *egress.Recipient) { r.Types["patient"].Fields["note"] = minimize.Psychotherapy }},
		{"Patients[0]", egress.Individual, func(r *egress.Recipient) { r.Patients = []string{"617-555-0199"} }},
		{"From", egress.Payment, func(r *egress.Recipient) { r.From = time.Time{} }},
		{"Until is zero", egress.Payment, func(r *egress.Recipient) { r.Until = time.Time{} }},
		{"Until is not after", egress.Payment, func(r *egress.Recipient) { r.Until = r.From }},
		{"Document", egress.Individual, func(r *egress.Recipient) { r.Designee = true }},
		{"Agreement is set", egress.Payment, func(r *egress.Recipient) { r.Agreement = on(egress.BusinessAssociate).Agreement }},
		{"NPI is set", egress.Payment, func(r *egress.Recipient) { r.NPI = "1234567893" }},
		{"Subcontractors is set", egress.Payment, func(r *egress.Recipient) { r.Subcontractors = make([]egress.Subcontractor, 1) }},
		{"Citation is set", egress.Payment, func(r *egress.Recipient) { r.Citation = "164.512(a)" }},
		{"Protocol is set", egress.Law, func(r *egress.Recipient) { r.Protocol = "irb-1" }},
		{"Designee is set", egress.Payment, func(r *egress.Recipient) { r.Designee = true }},
		{"NPI is not", egress.Treatment, func(r *egress.Recipient) { r.NPI = "1234567890" }},
		{"NPI is not", egress.Treatment, func(r *egress.Recipient) { r.NPI = "12345678931" }},
		{"Agreement.ID", egress.BusinessAssociate, func(r *egress.Recipient) { r.Agreement.ID = "" }},
		{"Agreement.SHA256", egress.BusinessAssociate, func(r *egress.Recipient) { r.Agreement.SHA256 = strings.Repeat("A", 64) }},
		{"Agreement.SHA256", egress.BusinessAssociate, func(r *egress.Recipient) { r.Agreement.SHA256 = "ab" }},
		{"Agreement.Signed", egress.BusinessAssociate, func(r *egress.Recipient) { r.Agreement.Signed = time.Time{} }},
		{"Agreement.Until", egress.BusinessAssociate, func(r *egress.Recipient) { r.Agreement.Until = r.Agreement.Signed.Add(-1) }},
		{"Subcontractors[0].ID", egress.BusinessAssociate, func(r *egress.Recipient) { r.Subcontractors = make([]egress.Subcontractor, 1) }},

		{"is an IP address", egress.Payment, func(r *egress.Recipient) { r.Hosts = []string{"8.8.8.8"} }},
		{"port", egress.Payment, func(r *egress.Recipient) { r.Hosts = []string{"::1"} }},
		{"port", egress.Payment, func(r *egress.Recipient) { r.Hosts = []string{"lab.example:0"} }},
		{"port", egress.Payment, func(r *egress.Recipient) { r.Hosts = []string{"lab.example:70000"} }},
		{"port", egress.Payment, func(r *egress.Recipient) { r.Hosts = []string{"lab.example:https"} }},
		{"ends in a number", egress.Payment, func(r *egress.Recipient) { r.Hosts = []string{"127.1"} }},
		{"ends in a number", egress.Payment, func(r *egress.Recipient) { r.Hosts = []string{"0x7f.0x1"} }},
		{"no dot", egress.Payment, func(r *egress.Recipient) { r.Hosts = []string{"localhost"} }},
		{"empty label", egress.Payment, func(r *egress.Recipient) { r.Hosts = []string{"lab.example."} }},
		{"lower case", egress.Payment, func(r *egress.Recipient) { r.Hosts = []string{"Lab.example"} }},
		{"xn--", egress.Payment, func(r *egress.Recipient) { r.Hosts = []string{"läb.example"} }},
		{"lower case", egress.Payment, func(r *egress.Recipient) { r.Hosts = []string{"lab_x.example"} }},
		{"lower case", egress.Payment, func(r *egress.Recipient) { r.Hosts = []string{"lab.example/path"} }},
		{"lower case", egress.Payment, func(r *egress.Recipient) { r.Hosts = []string{"a*.lab.example"} }},
		{"lower case", egress.Payment, func(r *egress.Recipient) { r.Hosts = []string{"*.*.lab.example"} }},
		{"hyphen", egress.Payment, func(r *egress.Recipient) { r.Hosts = []string{"-lab.example"} }},
		{"63 bytes", egress.Payment, func(r *egress.Recipient) { r.Hosts = []string{long + ".example"} }},
		{"253 bytes", egress.Payment, func(r *egress.Recipient) { r.Hosts = []string{strings.Repeat("abc.", 70) + "example"} }},
		{"no dot", egress.Payment, func(r *egress.Recipient) { r.Hosts = []string{"*.com"} }},
		{"public suffix", egress.Payment, func(r *egress.Recipient) { r.Hosts = []string{"*.co.uk"} }},
		{"public suffix", egress.Payment, func(r *egress.Recipient) { r.Hosts = []string{"*.github.io"} }},
		{"Hosts[1]", egress.Payment, func(r *egress.Recipient) { r.Hosts = []string{"lab.example", ""} }},
	} {
		r := on(tt.basis)
		tt.change(&r)
		if err := load(t, r); err == nil || !strings.Contains(err.Error(), tt.says) || !strings.HasPrefix(err.Error(), "egress: Recipients[0]") {
			t.Errorf("%s: %v", tt.says, err)
		}
	}
	for _, c := range []minimize.Class{minimize.Name, minimize.Street, minimize.Phone, minimize.Fax, minimize.Email, minimize.SSN, minimize.MRN,
		minimize.Plan, minimize.Account, minimize.License, minimize.Vehicle, minimize.Device, minimize.URL, minimize.IP, minimize.Biometric,
		minimize.Photo, minimize.Text} {
		r := on(egress.LimitedDataSet)
		r.Types["patient"].Fields["x"] = c
		if err := load(t, r); err == nil || !strings.Contains(err.Error(), "164.514(e)(2)") {
			t.Errorf("%s in a limited data set: %v", c, err)
		}
	}
	for _, hosts := range [][]string{{"api.lab.example"}, {"*.lab.example", "lab.example:8443"}, {"xn--lb-via.example"}, {"lab-1.github.io"}} {
		r := on(egress.Payment)
		r.Hosts = hosts
		if err := load(t, r); err != nil {
			t.Errorf("%v: %v", hosts, err)
		}
	}
}

func TestTwoEntriesOfOneID(t *testing.T) {
	t.Parallel()
	_, err := egress.New(egress.Config{Authorizer: accesstest.Allow(), Audit: audittest.New(t), Recipients: []egress.Recipient{on(egress.Payment), on(egress.Treatment)}})
	if err == nil || !strings.Contains(err.Error(), "Recipients[1] (lab-acme): ID is taken") {
		t.Error(err)
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	var all []egress.Recipient
	for _, b := range bases {
		r := on(b)
		r.ID = string(b)
		r.Networks = []netip.Prefix{netip.MustParsePrefix("10.1.2.0/24")}
		all = append(all, r)
	}
	text, err := json.MarshalIndent(all, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	got, err := egress.Parse(text)
	if err != nil || fmt.Sprintf("%+v", plainly(got)) != fmt.Sprintf("%+v", plainly(all)) {
		t.Errorf("Parse = %+v, %v\nwant %+v", plainly(got), err, plainly(all))
	}

	// entry puts one bad line into the second of two entries.
	entry := func(line string) string {
		one, err := json.MarshalIndent(on(egress.Payment), "", "\t")
		if err != nil {
			t.Fatal(err)
		}
		head, tail, _ := bytes.Cut(one, []byte("\n"))
		return "[\n" + string(one) + ",\n" + string(head) + "\n" + line + "\n" + string(tail) + "\n]"
	}
	at := 2 + strings.Count(entry(""), "\n")/2 // the line of what entry puts there
	for _, tt := range []struct {
		text string
		line int
		says string
	}{
		{"", 1, "unexpected end"},
		{entry("\t\"bogus\": 1,"), at, "unknown field \"bogus\""},
		{"{}", 1, "not an array"},
		{"null", 1, "not an array"},
		{"[\n\n{]", 3, ""},
		{"[]\n[]", 2, "after top-level value"},
		{"[\n", 2, "unexpected end"},
		{entry(`"hostnames": ["lab.example"],`), 0, "unknown field"},
		{entry(`"hosts": "lab.example",`), at, "hosts is not"},
		{entry(`"from": "yesterday",`), 0, ""},
		{entry(`"networks": ["10.0.0.0/99"],`), 0, ""},
		{entry(`"basis" "payment",`), at, ""},
	} {
		_, err := egress.Parse([]byte(tt.text))
		if err == nil || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), "line ") ||
			tt.line != 0 && !strings.Contains(err.Error(), fmt.Sprintf("line %d:", tt.line)) {
			t.Errorf("%.60q: %v, want line %d, %s", tt.text, err, tt.line, tt.says)
		}
	}
	bad := on(egress.Payment)
	bad.Name = ""
	list, _ := json.MarshalIndent([]egress.Recipient{on(egress.Treatment), bad}, "", "\t")
	line := 1 + bytes.Count(list[:bytes.Index(list, []byte("\n\t},\n\t{"))+6], []byte("\n"))
	if _, err := egress.Parse(list); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("line %d: egress: Recipients[1] (lab-acme): Name is empty", line)) {
		t.Errorf("%v, want line %d", err, line)
	}
}

// plainly has a registry without its pointers.
func plainly(list []egress.Recipient) (out []string) {
	for _, r := range list {
		docs := fmt.Sprint(r.Agreement, r.Document)
		r.Agreement, r.Document = nil, nil
		out = append(out, fmt.Sprintf("%+v %s", r, docs))
	}
	return out
}

func TestDocumentCheck(t *testing.T) {
	t.Parallel()
	d := egress.Document{ID: "baa-7", SHA256: "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"} // of "hello"
	if err := d.Check(strings.NewReader("hello")); err != nil {
		t.Error(err)
	}
	if err := d.Check(strings.NewReader("hello.")); err == nil || !strings.Contains(err.Error(), "baa-7") {
		t.Error(err)
	}
	if err := d.Check(failing{}); !errors.Is(err, errDown) {
		t.Error(err)
	}
}

var errDown = errors.New("down")

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errDown }

func FuzzParse(f *testing.F) {
	for _, b := range bases {
		text, err := json.Marshal([]egress.Recipient{on(b)})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte("[{]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := egress.Parse(data)
		if err != nil {
			return
		}
		text, err := json.Marshal(list)
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		if _, err := egress.Parse(text); err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
	})
}

// A wildcard stands for one label.
func TestWildcard(t *testing.T) {
	t.Parallel()
	w := setup(t, func(w *world) {
		w.cfg.Recipients[0].Hosts = []string{"*.lab.example:" + w.port}
		for _, h := range []string{"a.b.lab.example", "evillab.example", "evil.xlab.example"} {
			w.names.set(h, "127.0.0.1")
		}
	})
	for host, ok := range map[string]bool{"api.lab.example": true, "API.Lab.Example": true, "lab.example": false, "a.b.lab.example": false,
		"evillab.example": false, "evil.xlab.example": false} {
		if _, _, err := w.post(egress.Disclose(as(t), said()), "https://"+host+":"+w.port); (err == nil) != ok || !ok && !errors.Is(err, access.ErrDenied) {
			t.Errorf("%s: %v, want allowed %v", host, err, ok)
		}
	}
}
