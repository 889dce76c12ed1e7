// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"context"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/part164/part164/access"
)

// A Disclosure is what an accounting of disclosures counts and groups by (45
// CFR 164.528). The recipient's name and address, the description and the
// statement of purpose are in the event's [Detail].
type Disclosure struct {
	Basis     Basis     // why it was permitted; required
	Recipient string    // opaque ID of whoever received it; the disclosures to one recipient are listed together, 164.528(b)(3)
	Protocol  string    // opaque ID of the research protocol, 164.528(b)(4); empty unless Basis is ByResearch
	Frequency Frequency // of a series that one event stands for, 164.528(b)(3)(ii); empty for a single disclosure
}

// A Basis is the provision under which PHI was disclosed. The set is closed.
type Basis string

// The bases. An accounting leaves out those of 45 CFR 164.528(a)(1)(i)-(ix)
// and lists every other: see [Basis.Excluded].
const (
	ByTreatment         Basis = "treatment"          // 164.506, and excluded by 164.528(a)(1)(i)
	ByPayment           Basis = "payment"            // likewise
	ByOperations        Basis = "operations"         // health care operations, likewise
	ByIndividual        Basis = "individual"         // to the individual, 164.502; 164.528(a)(1)(ii)
	ByIncident          Basis = "incidental"         // incident to a permitted use, 164.502(a)(1)(iii); 164.528(a)(1)(iii)
	ByAuthorization     Basis = "authorization"      // 164.508; 164.528(a)(1)(iv)
	ByDirectory         Basis = "directory"          // facility directory, 164.510(a); 164.528(a)(1)(v)
	ByCare              Basis = "care"               // persons involved in the individual's care, and notification, 164.510(b); 164.528(a)(1)(v)
	ByNationalSecurity  Basis = "national.security"  // 164.512(k)(2); 164.528(a)(1)(vi)
	ByCustody           Basis = "custody"            // correctional institutions and lawful custody, 164.512(k)(5); 164.528(a)(1)(vii)
	ByLimitedDataSet    Basis = "limited.data.set"   // 164.514(e); 164.528(a)(1)(viii)
	ByPreCompliance     Basis = "pre.compliance"     // before the compliance date, 164.528(a)(1)(ix)
	ByLaw               Basis = "law"                // required by law, 164.512(a)
	ByPublicHealth      Basis = "public.health"      // 164.512(b)
	ByAbuse             Basis = "abuse"              // victims of abuse, neglect or domestic violence, 164.512(c)
	ByOversight         Basis = "oversight"          // health oversight, 164.512(d)
	ByJudicial          Basis = "judicial"           // judicial and administrative proceedings, 164.512(e)
	ByLawEnforcement    Basis = "law.enforcement"    // 164.512(f)
	ByDecedents         Basis = "decedents"          // coroners, medical examiners and funeral directors, 164.512(g)
	ByDonation          Basis = "donation"           // cadaveric organ, eye or tissue donation, 164.512(h)
	ByResearch          Basis = "research"           // without authorization, 164.512(i)
	BySafety            Basis = "safety"             // to avert a serious threat, 164.512(j)
	ByGovernment        Basis = "government"         // specialized government functions other than the two above, 164.512(k)
	ByWorkersCompensate Basis = "workers.compensate" // workers' compensation, 164.512(l)
	Unpermitted         Basis = "unpermitted"        // none: a breach or another impermissible disclosure
)

func (b Basis) known() bool {
	switch b {
	case ByLaw, ByPublicHealth, ByAbuse, ByOversight, ByJudicial, ByLawEnforcement, ByDecedents, ByDonation,
		ByResearch, BySafety, ByGovernment, ByWorkersCompensate, Unpermitted:
		return true
	}
	return b.Excluded() != ""
}

// Excluded returns the citation of the exception that leaves a disclosure on
// this basis out of an accounting, such as "164.528(a)(1)(i)"; empty where
// an accounting lists it.
func (b Basis) Excluded() string {
	switch b {
	case ByTreatment, ByPayment, ByOperations:
		return "164.528(a)(1)(i)"
	case ByIndividual:
		return "164.528(a)(1)(ii)"
	case ByIncident:
		return "164.528(a)(1)(iii)"
	case ByAuthorization:
		return "164.528(a)(1)(iv)"
	case ByDirectory, ByCare:
		return "164.528(a)(1)(v)"
	case ByNationalSecurity:
		return "164.528(a)(1)(vi)"
	case ByCustody:
		return "164.528(a)(1)(vii)"
	case ByLimitedDataSet:
		return "164.528(a)(1)(viii)"
	case ByPreCompliance:
		return "164.528(a)(1)(ix)"
	}
	return ""
}

// A Frequency says how often a series of disclosures was made. The set is
// closed.
type Frequency string

// The frequencies.
const (
	Once      Frequency = "" // a single disclosure
	Daily     Frequency = "daily"
	Weekly    Frequency = "weekly"
	Monthly   Frequency = "monthly"
	Quarterly Frequency = "quarterly"
	Yearly    Frequency = "yearly"
	OnEvent   Frequency = "event" // whenever something happens, such as a reportable finding
)

func (f Frequency) known() bool {
	switch f {
	case Once, Daily, Weekly, Monthly, Quarterly, Yearly, OnEvent:
		return true
	}
	return false
}

// validate says what is wrong with d in an event of type t.
func (d *Disclosure) validate(t Type) error {
	switch {
	case d == nil && t == Disclosed:
		return errors.New("Disclosure is nil: a disclosure has a basis and a recipient")
	case d == nil:
		return nil
	case t != Disclosed && t != Suspended:
		return fmt.Errorf("Disclosure is set in an event other than %s and %s", Disclosed, Suspended)
	case !d.Basis.known():
		return errors.New("Disclosure.Basis is not one of the constants of package audit")
	case !d.Frequency.known():
		return errors.New("Disclosure.Frequency is not one of the constants of package audit")
	case d.Protocol != "" && d.Basis != ByResearch:
		return errors.New("Disclosure.Protocol is set, and Disclosure.Basis is not research")
	}
	if err := access.CheckID(d.Recipient); err != nil {
		return fmt.Errorf("Disclosure.Recipient %w", err)
	}
	if d.Protocol != "" {
		if err := access.CheckID(d.Protocol); err != nil {
			return fmt.Errorf("Disclosure.Protocol %w", err)
		}
	}
	return nil
}

// A Detail is what may identify somebody and an accounting of disclosures
// must hold (45 CFR 164.528(b)(2)). A journal seals it beside its lines, where
// it can be erased; the line has a salted commitment to it.
type Detail struct {
	Recipient   string `json:"recipient,omitempty"`   // name of the entity or person who received the PHI, 164.528(b)(2)(ii)
	Address     string `json:"address,omitempty"`     // theirs, where known
	Description string `json:"description,omitempty"` // what was disclosed, in brief, 164.528(b)(2)(iii)
	Statement   string `json:"statement,omitempty"`   // the purpose, or a copy of the written request, 164.528(b)(2)(iv)
}

// Details opens sealed details. [Journal] and audittest.Trail do. The
// conformance suite is audittest.TestTrail.
type Details interface {
	// Detail opens the detail of the event with the given ID, which is by or
	// about the tenant of the context's principal. It first records a
	// [DetailOpened] by that principal and for that purpose, and opens nothing
	// where it cannot. Errors wrap [ErrNoDetail] or [ErrErased], those of
	// [Recorder], or say that the sealed bytes were changed.
	Detail(ctx context.Context, event string) (Detail, error)
}

// Errors of [Details].
var (
	// ErrNoDetail means that the event does not exist in the caller's tenant,
	// or never had a detail.
	ErrNoDetail = errors.New("audit: the event has no detail")

	// ErrErased means that the event's detail was erased.
	ErrErased = errors.New("audit: the event's detail was erased")
)

// maxDetail bounds each text of a Detail, in bytes. The longest is a copy of a
// written request.
const maxDetail = 64 << 10

func (d *Detail) validate() error {
	if d == nil {
		return nil
	}
	empty := true
	for _, f := range [...]struct{ name, text string }{
		{"Recipient", d.Recipient}, {"Address", d.Address}, {"Description", d.Description}, {"Statement", d.Statement},
	} {
		switch {
		case len(f.text) > maxDetail:
			return fmt.Errorf("Detail.%s is longer than %d bytes", f.name, maxDetail)
		case !utf8.ValidString(f.text):
			return fmt.Errorf("Detail.%s is not UTF-8", f.name)
		}
		empty = empty && f.text == ""
	}
	if empty {
		return errors.New("Detail is empty: leave it nil")
	}
	return nil
}
