// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/minimize"
)

// A Recipient is one entity outside that may receive PHI, and what it may
// receive. Two that receive on different grounds are two entries. The JSON names
// are those of [Parse].
type Recipient struct {
	ID      string `json:"id"`                // opaque, for events; required, see access.CheckID
	Name    string `json:"name"`              // required, as an accounting shows it, 164.528(b)(2)(ii)
	Address string `json:"address,omitempty"` // postal, where known; likewise
	Owner   string `json:"owner"`             // who in your organisation answers for the entry; required

	Basis Basis `json:"basis"` // required

	// Hosts are DNS names, with a port where it is not 443: "api.lab.example",
	// "api.lab.example:8443", or "*.lab.example" for every name that is one
	// label longer. Required.
	Hosts []string `json:"hosts"`

	// Networks allows addresses of these networks, private ones too, and no
	// others, for a recipient at the other end of a private line. Empty allows
	// public addresses.
	Networks []netip.Prefix `json:"networks,omitempty"`

	Tenants  []string         `json:"tenants"`            // covered entities that may send to it; "*" for all of them; required
	Purposes []access.Purpose `json:"purposes"`           // that it may be sent for; required, and within the basis
	Types    map[string]Item  `json:"types"`              // resource types that it may be sent, and what of them; required
	Patients []string         `json:"patients,omitempty"` // these only; empty means any

	From  time.Time `json:"from"`  // first moment; required
	Until time.Time `json:"until"` // last; required: an entry without a date is looked at by nobody

	Description string `json:"description"`         // what is sent, in brief, 164.528(b)(2)(iii); required
	Statement   string `json:"statement,omitempty"` // the purpose, 164.528(b)(2)(iv)

	Agreement      *Document       `json:"agreement,omitempty"`      // of a business associate, or for a limited data set
	Document       *Document       `json:"document,omitempty"`       // an authorization, a designation, or the approval of a waiver
	Subcontractors []Subcontractor `json:"subcontractors,omitempty"` // of a business associate, that PHI is sent to directly
	NPI            string          `json:"npi,omitempty"`            // National Provider Identifier, 45 CFR 162.406
	Designee       bool            `json:"designee,omitempty"`       // of Individual: somebody whom the patient designates, 164.524(c)(3)(ii)
	Citation       string          `json:"citation,omitempty"`       // of Law: the provision of 164.512
	Law            string          `json:"law,omitempty"`            // of Law: the statute, regulation or order itself
	Protocol       string          `json:"protocol,omitempty"`       // of Law under 164.512(i): opaque ID of the research protocol
}

// An Item is what of one resource type may be sent.
type Item struct {
	// Fields are the fields that may be sent, each with its class. Required
	// where minimum necessary applies (see [Basis]); elsewhere nil means all.
	Fields map[string]minimize.Class `json:"fields,omitempty"`
}

// A Document is a paper that the basis rests on, kept elsewhere.
type Document struct {
	ID     string    `json:"id"`     // opaque; required
	SHA256 string    `json:"sha256"` // of the signed document, in lower-case hexadecimal; required
	Signed time.Time `json:"signed"` // required
	Until  time.Time `json:"until"`  // its last moment; zero where it has none
}

// Check reads a document and reports whether it is the one whose digest d has.
func (d *Document) Check(r io.Reader) error {
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return fmt.Errorf("egress: check document: %w", err)
	}
	if hex.EncodeToString(h.Sum(nil)) != d.SHA256 {
		return fmt.Errorf("egress: check document %s: it is not the document whose SHA-256 is registered", d.ID)
	}
	return nil
}

// A Subcontractor of a business associate receives PHI on its behalf, under the
// assurances that the business associate has obtained (164.502(e)(1)(ii)).
type Subcontractor struct {
	ID    string    `json:"id"`    // opaque; required: events and accountings name it
	Name  string    `json:"name"`  // required
	Hosts []string  `json:"hosts"` // as of a Recipient; required
	From  time.Time `json:"from"`  // required
	Until time.Time `json:"until"` // required
}

// anyTenant stands for every tenant.
const anyTenant = "*"

// validate names the first bad field, never with its value.
func (r *Recipient) validate() error {
	if err := access.CheckID(r.ID); err != nil {
		return fmt.Errorf("ID %w", err)
	}
	if !r.Basis.known() {
		return errors.New("Basis is not one of the constants of package egress")
	}
	for _, f := range []struct{ name, text string }{{"Name", r.Name}, {"Owner", r.Owner}, {"Description", r.Description}} {
		if strings.TrimSpace(f.text) == "" {
			return fmt.Errorf("%s is empty", f.name)
		}
	}
	if err := checkHosts(r.Hosts); err != nil {
		return err
	}
	for i, p := range r.Networks {
		if !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() {
			return fmt.Errorf("Networks[%d] is not a network in the form 10.1.2.0/24", i)
		}
	}
	if err := r.validateScope(); err != nil {
		return err
	}
	if err := checkDates(r.From, r.Until); err != nil {
		return err
	}
	return r.validateBasis()
}

func (r *Recipient) validateScope() error {
	if len(r.Tenants) == 0 {
		return errors.New(`Tenants is empty: name those that may send, or "*"`)
	}
	for i, t := range r.Tenants {
		if err := access.CheckID(t); err != nil && t != anyTenant {
			return fmt.Errorf("Tenants[%d] %w", i, err)
		}
	}
	if len(r.Purposes) == 0 {
		return errors.New("Purposes is empty: say what may be sent for")
	}
	for i, p := range r.Purposes {
		if !p.Valid() {
			return fmt.Errorf("Purposes[%d] is not a purpose of use", i)
		}
		if !r.Basis.allows(p) {
			return fmt.Errorf("Purposes[%d]: the basis %s does not permit the purpose %s", i, r.Basis, p)
		}
	}
	if len(r.Types) == 0 {
		return errors.New("Types is empty: say which resource types may be sent")
	}
	for name, item := range r.Types {
		if err := access.CheckName(name); err != nil {
			return fmt.Errorf("Types: a resource type %w", err)
		}
		if err := r.validateItem(&item); err != nil {
			return fmt.Errorf("Types[%s]: %w", name, err)
		}
	}
	for i, p := range r.Patients {
		if err := access.CheckID(p); err != nil {
			return fmt.Errorf("Patients[%d] %w", i, err)
		}
	}
	return nil
}

func (r *Recipient) validateItem(item *Item) error {
	if len(item.Fields) == 0 && (item.Fields != nil || r.minimum()) {
		return fmt.Errorf("Fields is empty: the minimum necessary standard applies to the basis %s, 164.502(b)", r.Basis)
	}
	for name, class := range item.Fields {
		switch {
		case access.CheckName(name) != nil:
			return errors.New("Fields has a name that is not an identifier")
		case !class.Valid():
			return fmt.Errorf("Fields[%s] is not a class of package minimize", name)
		case r.Basis == LimitedDataSet && direct(class):
			return fmt.Errorf("Fields[%s]: the class %s is not for a limited data set, 164.514(e)(2)", name, class)
		case class == minimize.Psychotherapy && r.Basis != Authorization && r.Basis != Law:
			return fmt.Errorf("Fields[%s]: psychotherapy notes need an authorization, 164.508(a)(2)", name)
		}
	}
	return nil
}

// validateBasis holds what each basis asks for, and that nothing stands there
// which it would not look at.
func (r *Recipient) validateBasis() error {
	research := r.Basis == Law && underLaw(r.Citation) == audit.ByResearch
	for _, f := range []struct {
		name          string
		set, required bool
		allowed       bool
	}{
		{"Agreement", r.Agreement != nil, r.Basis == BusinessAssociate || r.Basis == LimitedDataSet, false},
		{"Document", r.Document != nil, r.Basis == Authorization || r.Basis == Individual && r.Designee || research, false},
		{"Patients", len(r.Patients) > 0, r.Basis == Individual || r.Basis == Authorization, true},
		{"NPI", r.NPI != "", r.Basis == Treatment, false},
		{"Subcontractors", len(r.Subcontractors) > 0, false, r.Basis == BusinessAssociate},
		{"Designee", r.Designee, false, r.Basis == Individual},
		{"Citation", r.Citation != "", r.Basis == Law, false},
		{"Law", strings.TrimSpace(r.Law) != "", r.Basis == Law, false},
		{"Statement", strings.TrimSpace(r.Statement) != "", r.Basis == Law, true},
		{"Protocol", r.Protocol != "", research, false},
	} {
		switch {
		case f.required && !f.set:
			return fmt.Errorf("%s is empty: the basis %s needs it", f.name, r.Basis)
		case f.set && !f.required && !f.allowed:
			return fmt.Errorf("%s is set: the basis %s has no use for it", f.name, r.Basis)
		}
	}
	for _, d := range []struct {
		name string
		doc  *Document
	}{{"Agreement", r.Agreement}, {"Document", r.Document}} {
		if err := d.doc.validate(); err != nil {
			return fmt.Errorf("%s.%w", d.name, err)
		}
	}
	for i := range r.Subcontractors {
		if err := r.Subcontractors[i].validate(); err != nil {
			return fmt.Errorf("Subcontractors[%d].%w", i, err)
		}
	}
	switch {
	case r.Basis == Law && underLaw(r.Citation) == "":
		return errors.New("Citation is not a paragraph of 164.512, such as 164.512(b)(1)(i)")
	case r.NPI != "" && !isNPI(r.NPI):
		return errors.New("NPI is not a National Provider Identifier: ten digits with a check digit")
	}
	// What a trail will take: the citation's form, and the protocol's.
	ev := audit.Event{Type: audit.Disclosed, Outcome: audit.Success, Citation: r.citation(),
		Disclosure: &audit.Disclosure{Basis: r.record(r.Purposes[0]), Recipient: r.ID, Protocol: r.Protocol}}
	return ev.Validate()
}

func (d *Document) validate() error {
	if d == nil {
		return nil
	}
	if err := access.CheckID(d.ID); err != nil {
		return fmt.Errorf("ID %w", err)
	}
	if b, err := hex.DecodeString(d.SHA256); err != nil || len(b) != sha256.Size || strings.ToLower(d.SHA256) != d.SHA256 {
		return errors.New("SHA256 is not 64 lower-case hexadecimal digits")
	}
	if d.Signed.IsZero() {
		return errors.New("Signed is zero")
	}
	if !d.Until.IsZero() && d.Until.Before(d.Signed) {
		return errors.New("Until is before Signed")
	}
	return nil
}

func (s *Subcontractor) validate() error {
	if err := access.CheckID(s.ID); err != nil {
		return fmt.Errorf("ID %w", err)
	}
	if strings.TrimSpace(s.Name) == "" {
		return errors.New("Name is empty")
	}
	if err := checkHosts(s.Hosts); err != nil {
		return err
	}
	return checkDates(s.From, s.Until)
}

func checkDates(from, until time.Time) error {
	switch {
	case from.IsZero():
		return errors.New("From is zero")
	case until.IsZero():
		return errors.New("Until is zero: say when somebody must look at the entry again")
	case !from.Before(until):
		return errors.New("Until is not after From")
	}
	return nil
}

// citation is the provision that a disclosure rests on.
func (r *Recipient) citation() string {
	switch r.Basis {
	case BusinessAssociate:
		return "164.502(e)"
	case Treatment, Payment:
		return "164.506(c)"
	case Individual:
		return "164.524"
	case Authorization:
		return "164.508"
	case LimitedDataSet:
		return "164.514(e)"
	}
	return r.Citation
}

// isNPI checks the Luhn digit over the identifier with the prefix 80840 (CMS,
// "Requirements for National Provider Identifier (NPI) and NPI Check Digit").
func isNPI(s string) bool {
	if len(s) != 10 || strings.Trim(s, "0123456789") != "" {
		return false
	}
	sum := 24 // of 80840
	for i := range len(s) {
		d := int(s[i] - '0')
		if i%2 == 0 { // every second digit from the right, the check digit not counted
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return sum%10 == 0
}

// clone returns a copy that shares nothing with r.
func (r *Recipient) clone() Recipient {
	c := *r
	c.Hosts, c.Networks = slices.Clone(r.Hosts), slices.Clone(r.Networks)
	c.Tenants, c.Purposes, c.Patients = slices.Clone(r.Tenants), slices.Clone(r.Purposes), slices.Clone(r.Patients)
	c.Types = make(map[string]Item, len(r.Types))
	for name, item := range r.Types {
		fields := make(map[string]minimize.Class, len(item.Fields))
		for f, class := range item.Fields {
			fields[f] = class
		}
		if item.Fields == nil {
			fields = nil
		}
		c.Types[name] = Item{Fields: fields}
	}
	c.Agreement, c.Document = r.Agreement.clone(), r.Document.clone()
	c.Subcontractors = slices.Clone(r.Subcontractors)
	for i := range c.Subcontractors {
		c.Subcontractors[i].Hosts = slices.Clone(c.Subcontractors[i].Hosts)
	}
	return c
}

func (d *Document) clone() *Document {
	if d == nil {
		return nil
	}
	c := *d
	return &c
}
