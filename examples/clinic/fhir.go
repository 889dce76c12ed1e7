// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/part164/part164/storage"
)

// This file knows FHIR R4: which elements of a resource go into which field.
// import.go knows how they get into the database.

// A resource is one FHIR resource on its way into a model.
type resource struct {
	kind    string // FHIR resource type
	key     string // Type/id, by which others refer to it
	number  int    // where it stands in its file, from 1
	subject string // the key of its patient; empty for a patient
	model   placed
	id      string // the record ID to keep; empty: a new one, found again by Source
}

// A placed model tells where the importer puts what ties it to others.
type placed interface{ place() place }

type place struct {
	record  *storage.Record
	source  *storage.Sealed[string]
	subject *string // nil for a patient
}

func (m *Patient) place() place     { return place{&m.Record, &m.Source, nil} }
func (m *Encounter) place() place   { return place{&m.Record, &m.Source, &m.PatientID} }
func (m *Condition) place() place   { return place{&m.Record, &m.Source, &m.PatientID} }
func (m *Observation) place() place { return place{&m.Record, &m.Source, &m.PatientID} }
func (m *Medication) place() place  { return place{&m.Record, &m.Source, &m.PatientID} }
func (m *Allergy) place() place     { return place{&m.Record, &m.Source, &m.PatientID} }
func (m *Document) place() place    { return place{&m.Record, &m.Source, &m.PatientID} }

// readFile returns the resources of a file, in their order: those of a bundle
// or the one that it holds. leftOut counts those of other types; bad says what
// is wrong with single ones.
func readFile(text []byte) (found []*resource, leftOut int, bad []error, err error) {
	var b struct {
		ResourceType string
		Entry        []struct {
			FullURL  string `json:"fullUrl"`
			Resource json.RawMessage
		}
	}
	if err := decode(text, &b); err != nil {
		return nil, 0, nil, err
	}
	raw, urls := []json.RawMessage{text}, []string{""}
	switch {
	case b.ResourceType == "":
		return nil, 0, nil, errors.New("no FHIR resource: resourceType is missing")
	case b.ResourceType == "Bundle":
		raw, urls = nil, nil
		for _, e := range b.Entry {
			raw, urls = append(raw, e.Resource), append(urls, e.FullURL)
		}
	}
	keys := map[string]string{} // of the patients: what the bundle calls them, and what they are
	seen := map[string]bool{}
	for i, text := range raw {
		if len(text) == 0 {
			continue // an entry without a resource, such as a deletion
		}
		r, err := readResource(text)
		switch {
		case err != nil:
			bad = append(bad, fmt.Errorf("resource %d: %w", i+1, err))
		case r == nil:
			leftOut++
		case seen[r.key]:
			bad = append(bad, fmt.Errorf("resource %d: this %s is in the file twice", i+1, r.kind))
		default:
			r.number, seen[r.key] = i+1, true
			if key, err := (reference{urls[i]}).patientKey(); err == nil && r.kind == "Patient" {
				keys[key] = r.key
			}
			found = append(found, r)
		}
	}
	for _, r := range found {
		if key, ok := keys[r.subject]; ok {
			r.subject = key
		}
	}
	return found, leftOut, bad, nil
}

// readResource returns nil for a resource of a type that has no model here.
func readResource(text []byte) (*resource, error) {
	var head struct {
		ResourceType, ID string
		Identifier       json.RawMessage
	}
	if err := decode(text, &head); err != nil {
		return nil, err
	}
	k, ok := kinds[head.ResourceType]
	if !ok {
		return nil, nil
	}
	if head.ID == "" {
		return nil, fmt.Errorf("%s without an id", head.ResourceType)
	}
	model, subject, err := k.read(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", head.ResourceType, err)
	}
	r := &resource{kind: head.ResourceType, key: head.ResourceType + "/" + head.ID, subject: subject, model: model}
	// A UUID says nothing and is kept, unless it is what people know the
	// patient by: identifiers are stored sealed only.
	if u, err := uuid.Parse(head.ID); err == nil && u.String() == head.ID && !strings.Contains(strings.ToLower(string(head.Identifier)), head.ID) {
		r.id = head.ID
	}
	return r, nil
}

// decode reads JSON. Its errors never hold what stands in the text.
func decode(text []byte, v any) error {
	err := json.Unmarshal(text, v)
	var syntax *json.SyntaxError
	var typed *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &syntax):
		return fmt.Errorf("not JSON, at byte %d", syntax.Offset)
	case errors.As(err, &typed):
		return fmt.Errorf("not FHIR R4: another type of %q, at byte %d", typed.Field, typed.Offset)
	}
	return errors.New("cannot be read")
}

// The FHIR data types, with the elements that are used.
type (
	concept struct {
		Text   string
		Coding []struct{ Code, Display string }
	}
	reference struct{ Reference string }
	quantity  struct {
		Value json.Number
		Unit  string
	}
	period    struct{ Start, End string }
	humanName struct {
		Use, Text, Family string
		Given             []string
	}
)

func (c concept) String() string {
	if c.Text == "" && len(c.Coding) > 0 {
		if c.Text = c.Coding[0].Display; c.Text == "" {
			c.Text = c.Coding[0].Code
		}
	}
	return c.Text
}

func (c concept) is(code string) bool { return len(c.Coding) > 0 && c.Coding[0].Code == code }

func (n humanName) String() string {
	if n.Text != "" {
		return n.Text
	}
	return strings.TrimSpace(strings.Join(n.Given, " ") + " " + n.Family)
}

func (q quantity) String() string { return strings.TrimSpace(q.Value.String() + " " + q.Unit) }

// first returns the first of the concepts as text.
func first(cs []concept) string {
	if len(cs) == 0 {
		return ""
	}
	return cs[0].String()
}

// patientKey returns the key of the patient that a reference names, or the
// reference itself, which the bundle may know.
func (r reference) patientKey() (string, error) {
	ref := r.Reference
	if id, ok := strings.CutPrefix(ref, "urn:uuid:"); ok {
		return "Patient/" + id, nil
	}
	ref, _, _ = strings.Cut(ref, "/_history/")
	parts := strings.Split(ref, "/")
	switch n := len(parts); {
	case ref == "":
		return "", errors.New("it names no patient")
	case strings.HasPrefix(ref, "#"):
		return "", errors.New("its patient stands inside it: give the patient a resource")
	case n < 2 || parts[n-2] != "Patient" || parts[n-1] == "":
		return "", errors.New("it is about something else than a patient")
	default:
		return "Patient/" + parts[n-1], nil
	}
}

// seal leaves a missing element NULL.
func seal(s string) storage.Sealed[string] {
	if s = strings.TrimSpace(s); s == "" {
		return storage.Sealed[string]{}
	}
	return storage.Seal(s)
}

// when reads the first of the FHIR dates that is there. A partial date gives
// the first day of its year or month.
func when(texts ...string) *time.Time {
	for _, text := range texts {
		for _, layout := range []string{time.RFC3339Nano, "2006-01-02", "2006-01", "2006"} {
			if t, err := time.Parse(layout, text); err == nil {
				t = t.UTC()
				return &t
			}
		}
	}
	return nil
}

func readPatient(text []byte) (*Patient, string, error) {
	var f struct {
		Identifier []struct {
			Type          concept
			System, Value string
		}
		Name      []humanName
		Telecom   []struct{ System, Value string }
		Gender    string
		BirthDate string
		Address   []struct {
			Line                    []string
			City, State, PostalCode string
		}
	}
	if err := decode(text, &f); err != nil {
		return nil, "", err
	}
	p := &Patient{BirthDate: seal(f.BirthDate), Sex: seal(f.Gender)}
	for _, i := range f.Identifier {
		switch {
		case i.Type.is("MR"):
			p.MRN = seal(i.Value)
		case i.Type.is("SS") || i.System == "http://hl7.org/fhir/sid/us-ssn":
			p.SSN = seal(i.Value)
		}
	}
	name, others := "", []string{}
	for i, n := range f.Name {
		switch {
		case i == 0:
			name = n.String()
		case n.Use == "official" && f.Name[0].Use != "official":
			name, others = n.String(), append(others, name)
		default:
			others = append(others, n.String())
		}
	}
	p.Name, p.OtherNames = seal(name), seal(strings.Join(others, "; "))
	for _, t := range f.Telecom {
		switch {
		case t.System == "phone" && p.Phone.IsNull():
			p.Phone = seal(t.Value)
		case t.System == "email" && p.Email.IsNull():
			p.Email = seal(t.Value)
		}
	}
	if len(f.Address) > 0 {
		a := f.Address[0]
		p.Street, p.City, p.State, p.ZIP = seal(strings.Join(a.Line, ", ")), seal(a.City), seal(a.State), seal(a.PostalCode)
	}
	return p, "", nil
}

func readEncounter(text []byte) (*Encounter, string, error) {
	var f struct {
		Status     string
		Type       []concept
		Class      struct{ Code, Display string }
		Subject    reference
		Period     period
		ReasonCode []concept
	}
	if err := decode(text, &f); err != nil {
		return nil, "", err
	}
	kind := first(f.Type)
	if kind == "" {
		kind = concept{Coding: []struct{ Code, Display string }{f.Class}}.String()
	}
	subject, err := f.Subject.patientKey()
	return &Encounter{Start: when(f.Period.Start), End: when(f.Period.End), Status: seal(f.Status), Kind: seal(kind), Reason: seal(first(f.ReasonCode))}, subject, err
}

func readCondition(text []byte) (*Condition, string, error) {
	var f struct {
		ClinicalStatus, Code        concept
		Subject                     reference
		OnsetDateTime, RecordedDate string
		OnsetPeriod                 period
	}
	if err := decode(text, &f); err != nil {
		return nil, "", err
	}
	subject, err := f.Subject.patientKey()
	return &Condition{Onset: when(f.OnsetDateTime, f.OnsetPeriod.Start, f.RecordedDate), Status: seal(f.ClinicalStatus.String()), Name: seal(f.Code.String())}, subject, err
}

// observed is the value of an observation or of one of its components.
type observed struct {
	Code                 concept
	ValueQuantity        quantity
	ValueCodeableConcept concept
	ValueString          string
	ValueInteger         json.Number
	ValueBoolean         *bool
	ValueDateTime        string
	DataAbsentReason     concept
}

func (o observed) String() string {
	for _, s := range []string{o.ValueQuantity.String(), o.ValueCodeableConcept.String(), o.ValueString, o.ValueInteger.String(), o.ValueDateTime} {
		if s != "" {
			return s
		}
	}
	if o.ValueBoolean != nil {
		return fmt.Sprint(*o.ValueBoolean)
	}
	return o.DataAbsentReason.String()
}

func readObservation(text []byte) (*Observation, string, error) {
	var f struct {
		observed
		Subject                   reference
		EffectiveDateTime, Issued string
		EffectivePeriod           period
		Component                 []observed
	}
	if err := decode(text, &f); err != nil {
		return nil, "", err
	}
	values := []string{}
	if v := f.observed.String(); v != "" {
		values = append(values, v)
	}
	for _, c := range f.Component {
		values = append(values, c.Code.String()+" "+c.String())
	}
	subject, err := f.Subject.patientKey()
	return &Observation{Taken: when(f.EffectiveDateTime, f.EffectivePeriod.Start, f.Issued), Name: seal(f.Code.String()), Value: seal(strings.Join(values, "; "))}, subject, err
}

func readMedication(text []byte) (*Medication, string, error) {
	var f struct {
		Status                    string
		MedicationCodeableConcept concept
		MedicationReference       struct{ Display string }
		Subject                   reference
		AuthoredOn                string
		DosageInstruction         []struct {
			Text                  string
			AsNeededBoolean       bool
			AdditionalInstruction []concept
		}
	}
	if err := decode(text, &f); err != nil {
		return nil, "", err
	}
	name := f.MedicationCodeableConcept.String()
	if name == "" {
		name = f.MedicationReference.Display
	}
	var dosage []string
	for _, d := range f.DosageInstruction {
		switch {
		case d.Text != "":
			dosage = append(dosage, d.Text)
		case len(d.AdditionalInstruction) > 0:
			dosage = append(dosage, first(d.AdditionalInstruction))
		case d.AsNeededBoolean:
			dosage = append(dosage, "as needed")
		}
	}
	subject, err := f.Subject.patientKey()
	return &Medication{Ordered: when(f.AuthoredOn), Status: seal(f.Status), Name: seal(name), Dosage: seal(strings.Join(dosage, "; "))}, subject, err
}

func readAllergy(text []byte) (*Allergy, string, error) {
	var f struct {
		Code                        concept
		Patient                     reference
		RecordedDate, OnsetDateTime string
		Criticality                 string
		Reaction                    []struct {
			Substance     concept
			Manifestation []concept
		}
	}
	if err := decode(text, &f); err != nil {
		return nil, "", err
	}
	substance := f.Code.String()
	var reactions []string
	for _, r := range f.Reaction {
		if substance == "" {
			substance = r.Substance.String()
		}
		if m := first(r.Manifestation); m != "" {
			reactions = append(reactions, m)
		}
	}
	subject, err := f.Patient.patientKey()
	return &Allergy{Recorded: when(f.RecordedDate, f.OnsetDateTime), Substance: seal(substance), Reaction: seal(strings.Join(reactions, "; ")), Severity: seal(f.Criticality)}, subject, err
}

func readDocument(text []byte) (*Document, string, error) {
	var f struct {
		Type        concept
		Subject     reference
		Date        string
		Description string
		Content     []struct {
			Attachment struct{ ContentType, Data, Title string }
		}
	}
	if err := decode(text, &f); err != nil {
		return nil, "", err
	}
	d := &Document{Written: when(f.Date), Kind: seal(f.Type.String()), Title: seal(f.Description)}
	for _, c := range f.Content {
		if d.Title.IsNull() {
			d.Title = seal(c.Attachment.Title)
		}
		if strings.HasPrefix(c.Attachment.ContentType, "text/") && d.Text.IsNull() {
			if plain, err := base64.StdEncoding.DecodeString(c.Attachment.Data); err == nil {
				d.Text = seal(string(plain))
			}
		}
	}
	subject, err := f.Subject.patientKey()
	return d, subject, err
}
