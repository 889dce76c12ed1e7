// SPDX-License-Identifier: Apache-2.0

package format

import (
	"encoding/base64"
	"strconv"
	"strings"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// Code systems and profiles of FHIR R4 (hl7.org/fhir/R4/auditevent.html) and of
// the IHE ITI Basic Audit Log Patterns 1.1.4 (profiles.ihe.net/ITI/BALP).
const (
	sysType        = "http://terminology.hl7.org/CodeSystem/audit-event-type"
	sysInteraction = "http://hl7.org/fhir/restful-interaction"
	sysDICOM       = "http://dicom.nema.org/resources/ontology/DCM"
	sysOutcome     = "http://terminology.hl7.org/CodeSystem/audit-event-outcome"
	sysEntity      = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
	sysRole        = "http://terminology.hl7.org/CodeSystem/object-role"
	sysParticipant = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
	sysProvenance  = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"
	sysLifecycle   = "http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle"
	sysReason      = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
	sysSource      = "http://terminology.hl7.org/CodeSystem/security-source-type"
	sysBALP        = "https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType"
	sysAuthZ       = "https://profiles.ihe.net/ITI/BALP/CodeSystem/AuthZsubType"
	profileBase    = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit."
	absentReason   = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"

	// What the identifiers of this project mean.
	idBase      = "https://github.com/part164/part164/id/"
	idEvent     = idBase + "event"
	idObserver  = idBase + "observer"
	idPrincipal = idBase + "principal"
	idPseudonym = idBase + "pseudonym"
	idRole      = idBase + "role"
)

type coding struct {
	System  string `json:"system,omitempty"`
	Code    string `json:"code"`
	Display string `json:"display,omitempty"`
}

type concept struct {
	Coding []coding `json:"coding"`
}

type identifier struct {
	System string `json:"system,omitempty"`
	Value  string `json:"value"`
}

type reference struct {
	Type       string      `json:"type,omitempty"`
	Identifier *identifier `json:"identifier,omitempty"`
}

type extension struct {
	URL  string `json:"url"`
	Code string `json:"valueCode"`
}

type absent struct {
	Extension []extension `json:"extension"`
}

type network struct {
	Address string  `json:"address,omitempty"`
	Absent  *absent `json:"_address,omitempty"`
	Type    string  `json:"type,omitempty"`
}

type agent struct {
	Type      *concept  `json:"type,omitempty"`
	Role      []concept `json:"role,omitempty"`
	Who       reference `json:"who"`
	Requestor bool      `json:"requestor"`
	Network   *network  `json:"network,omitempty"`
	Purpose   []concept `json:"purposeOfUse,omitempty"`
}

type detail struct {
	Type  string `json:"type"`
	Value string `json:"valueString"`
}

type entity struct {
	What   *reference `json:"what,omitempty"`
	Type   *coding    `json:"type,omitempty"`
	Role   *coding    `json:"role,omitempty"`
	Query  string     `json:"query,omitempty"` // base64Binary
	Detail []detail   `json:"detail,omitempty"`
}

type source struct {
	Observer reference `json:"observer"`
	Type     []coding  `json:"type"`
}

type meta struct {
	Profile []string `json:"profile"`
}

type auditEvent struct {
	ResourceType   string    `json:"resourceType"`
	ID             string    `json:"id"`
	Meta           *meta     `json:"meta,omitempty"`
	Type           coding    `json:"type"`
	Subtype        []coding  `json:"subtype,omitempty"`
	Action         string    `json:"action"`
	Recorded       string    `json:"recorded"`
	Outcome        string    `json:"outcome"`
	OutcomeDesc    string    `json:"outcomeDesc,omitempty"`
	PurposeOfEvent []concept `json:"purposeOfEvent,omitempty"`
	Agent          []agent   `json:"agent"`
	Source         source    `json:"source"`
	Entity         []entity  `json:"entity,omitempty"`
}

// A shape says how a type of event is put in FHIR.
type shape struct {
	typ     coding
	subtype coding
	action  string // C, R, U, D or E
	profile string // of BALP, less Patient; "" where none describes it
}

// emergencyStarted is a code of DICOM PS3.16, CID 401.
const emergencyStarted = "110127"

// shapeOf returns the shape of the line. Attempts carry their patients, so a
// write is reported with its attempt; what became of it follows as a
// transaction that names the attempt.
func shapeOf(l *audit.Line) shape {
	rest := func(code, action, profile string) shape {
		return shape{coding{sysType, "rest", "Restful Operation"}, coding{sysInteraction, code, code}, action, profile}
	}
	dicom := func(code, display, sub, subDisplay string) shape {
		return shape{coding{sysDICOM, code, display}, coding{sysDICOM, sub, subDisplay}, "E", ""}
	}
	alert := func(sub, display string) shape { return dicom("110113", "Security Alert", sub, display) }
	switch l.Type {
	case audit.Revealed, audit.Fetched:
		return rest("read", "R", "Read")
	case audit.Searched:
		return rest("search-type", "E", "Query")
	case audit.WriteAttempt:
		switch l.Action {
		case access.Create:
			return rest("create", "C", "Create")
		case access.Delete, access.Shred:
			return rest("delete", "D", "Delete")
		}
		return rest("update", "U", "Update")
	case audit.Shredded:
		return rest("delete", "D", "Delete")
	case audit.Merged:
		return rest("update", "U", "Update")
	case audit.Committed, audit.RolledBack:
		return rest("transaction", "E", "")
	case audit.Denied:
		s := alert("", "")
		s.subtype = coding{sysAuthZ, "AuthZ-Role", "Authorization Decision using only Roles"}
		return s
	case audit.SignIn, audit.SignInFailed, audit.SignInLocked:
		return dicom("110114", "User Authentication", "110122", "Login")
	case audit.SessionEnded:
		return dicom("110114", "User Authentication", "110123", "Logout")
	case audit.FactorChanged:
		return alert("110137", "User Security Attributes Changed")
	case audit.GlassBroken:
		return alert(emergencyStarted, "Emergency Override Started")
	case audit.GrantEnded:
		if l.Code == access.AllowBreakGlass {
			return alert("110138", "Emergency Override Stopped")
		}
		return alert("110136", "Security Roles Changed")
	case audit.UserChanged, audit.PolicyChanged, audit.GrantRequested, audit.GrantApproved, audit.GrantRefused:
		return alert("110136", "Security Roles Changed")
	case audit.Disclosed:
		return shape{coding{sysDICOM, "110106", "Export"}, coding{sysLifecycle, "disclose", "Disclose Record Lifecycle Event"}, "R", "PrivacyDisclosure.Source"}
	case audit.Reported, audit.Checked, audit.Reviewed, audit.Disposed, audit.DetailOpened, audit.GrantReviewed, audit.PolicyReviewed:
		return shape{coding{sysDICOM, "110101", "Audit Log Used"}, coding{}, "R", ""}
	case audit.RelationChanged, audit.DirectiveChanged, audit.RecipientsLoaded:
		return alert("110135", "Object Security Attributes Changed")
	case audit.RevealFailed, audit.OutboxRefused, audit.PolicyRefused, audit.Restored, audit.Sealed, audit.Erased:
		return alert("110135", "Object Security Attributes Changed")
	case audit.Outside, audit.Alerted:
		return alert("110132", "Use of Restricted Function")
	case audit.Opened, audit.Recovered, audit.Adopted, audit.SinkOpened:
		return alert("110134", "Audit Recording Started")
	case audit.Closed, audit.Gap, audit.Parked:
		return alert("110133", "Audit Recording Stopped")
	}
	return alert("110129", "Security Configuration")
}

// fhir makes one AuditEvent for each patient that the line names, and one for
// what it names that is about no patient.
func (e Encoder) fhir(dst []byte, l *audit.Line) ([]byte, error) {
	if !event(l) {
		return dst, nil
	}
	s := shapeOf(l)
	subjects := patients(l)
	byPatient := make(map[string][]*audit.Object)
	for i := range l.Objects {
		o := &l.Objects[i]
		byPatient[o.Patient] = append(byPatient[o.Patient], o)
	}
	if len(subjects) == 0 || len(byPatient[""]) > 0 {
		subjects = append(subjects, "")
	}
	var err error
	for n, patient := range subjects {
		id := fhirID(eventID(l))
		if len(subjects) > 1 {
			id += "-" + strconv.Itoa(n+1)
		}
		if dst, err = appendJSON(dst, e.auditEvent(l, s, id, patient, byPatient[patient])); err != nil {
			return nil, err
		}
	}
	return dst, nil
}

func (e Encoder) auditEvent(l *audit.Line, s shape, id, patient string, objects []*audit.Object) auditEvent {
	observer := reference{Type: "Device", Identifier: &identifier{idObserver, e.observer(l)}}
	out := auditEvent{
		ResourceType: "AuditEvent", ID: id, Type: s.typ, Action: s.action,
		Recorded: l.Time.UTC().Format(timeLayout),
		Outcome:  outcomeCode(l, objects), OutcomeDesc: string(l.Reason),
		Source: source{observer, []coding{{sysSource, "4", "Application Server"}}},
	}
	if s.subtype.Code != "" {
		out.Subtype = []coding{s.subtype}
	}
	if l.Purpose != "" {
		out.PurposeOfEvent = []concept{{[]coding{{System: sysReason, Code: string(l.Purpose)}}}}
	}
	if breakGlass(l) && s.subtype.Code != emergencyStarted {
		out.Subtype = append(out.Subtype, coding{sysDICOM, emergencyStarted, "Emergency Override Started"})
	}
	out.Agent = e.agents(l, s, observer)
	if s.profile == "Query" {
		out.Entity = append(out.Entity, queryEntity(objects))
	} else {
		out.Entity = append(out.Entity, dataEntities(s, l, objects)...)
	}
	if patient != "" {
		out.Entity = append(out.Entity, entity{
			What: &reference{Type: "Patient", Identifier: &identifier{idPseudonym, patient}},
			Type: &coding{sysEntity, "1", "Person"}, Role: &coding{sysRole, "1", "Patient"},
		})
	}
	if l.Request != "" {
		out.Entity = append(out.Entity, entity{What: &reference{Identifier: &identifier{Value: l.Request}}, Type: &coding{System: sysBALP, Code: "XrequestId"}})
	}
	out.Entity = append(out.Entity, recordEntity(l))
	// The profiles describe what succeeded (outcome is fixed to 0).
	if s.profile != "" && out.Outcome == "0" {
		name := s.profile
		switch {
		case l.Type == audit.Disclosed && patient == "":
			return out // it wants a patient
		case l.Type == audit.Disclosed:
		case patient != "":
			name = "Patient" + name
		}
		out.Meta = &meta{[]string{profileBase + name}}
	}
	return out
}

// agents returns who took part: the user, the system that they came from, and
// the one that recorded.
func (e Encoder) agents(l *audit.Line, s shape, observer reference) []agent {
	var out []agent
	userType := coding{sysParticipant, "IRCP", "information recipient"}
	client, server := coding{sysDICOM, "110152", "Destination Role ID"}, coding{sysDICOM, "110153", "Source Role ID"}
	switch s.action {
	case "C", "U":
		userType = coding{sysParticipant, "AUT", "author (originator)"}
		client, server = server, client
	case "D":
		userType = coding{sysParticipant, "AUT", "author (originator)"}
		client, server = coding{sysDICOM, "110150", "Application"}, coding{sysProvenance, "custodian", "Custodian"}
	case "E":
		client, server = server, client
		if s.profile == "" {
			client = coding{sysDICOM, "110150", "Application"}
		}
	}
	user := agent{Type: one(userType), Requestor: true}
	if l.Actor.ID != "" {
		kind := idPrincipal
		if l.Actor.Kind == access.Patient || l.Actor.Kind == access.Proxy {
			kind = idPseudonym
		}
		user.Who.Identifier = &identifier{kind, l.Actor.ID}
	}
	for _, r := range l.Actor.Roles {
		user.Role = append(user.Role, concept{[]coding{{System: idRole, Code: r}}})
	}
	if l.Purpose != "" {
		user.Purpose = []concept{{[]coding{{System: sysReason, Code: string(l.Purpose)}}}}
	}
	known := l.Actor.ID != ""
	if known {
		out = append(out, user)
	}
	if l.Type == audit.Disclosed {
		recipient := identifier{idBase + "recipient", "unknown"}
		if d := l.Disclosure; d != nil && d.Recipient != "" {
			recipient.Value = d.Recipient
		}
		return append(out,
			agent{Type: one(server), Who: observer, Network: &network{Address: e.observer(l), Type: "1"}, Requestor: !known},
			agent{Type: one(client), Who: reference{Type: "Organization", Identifier: &recipient}, Network: unknownNetwork()})
	}
	who := reference{Type: "Device", Identifier: &identifier{idPrincipal, "unknown"}}
	if l.Actor.Session != "" {
		who.Identifier = &identifier{idBase + "session", l.Actor.Session}
	}
	out = append(out,
		agent{Type: one(client), Who: who, Network: networkOf(l), Requestor: !known},
		agent{Type: one(server), Who: observer, Network: &network{Address: e.observer(l), Type: "1"}})
	return out
}

func networkOf(l *audit.Line) *network {
	if l.Actor.Addr.IsValid() {
		return &network{Address: l.Actor.Addr.String(), Type: "2"}
	}
	return unknownNetwork()
}

func unknownNetwork() *network {
	return &network{Absent: &absent{[]extension{{absentReason, "unknown"}}}}
}

// dataEntities names the records, one entity where none is.
func dataEntities(s shape, l *audit.Line, objects []*audit.Object) []entity {
	if len(objects) == 0 {
		if s.profile == "" {
			return nil
		}
		return []entity{{What: &reference{Identifier: &identifier{idEvent, eventID(l)}},
			Type: &coding{sysEntity, "2", "System Object"}, Role: &coding{sysRole, "20", "Job"}}}
	}
	// The profiles want exactly one data entity: the first record; the others
	// are its details.
	o := objects[0]
	what := &reference{Identifier: &identifier{idPseudonym, o.Record}}
	if o.Record == "" {
		what.Identifier = &identifier{idEvent, eventID(l)}
	}
	data := entity{What: what, Type: &coding{sysEntity, "2", "System Object"}, Role: &coding{sysRole, "4", "Domain Resource"}}
	for i, o := range objects {
		at := ""
		if i > 0 {
			at = "." + strconv.Itoa(i+1)
			data.Detail = add(data.Detail, "record"+at, o.Record)
		}
		data.Detail = add(data.Detail, "type"+at, o.Type)
		data.Detail = add(data.Detail, "fields"+at, strings.Join(o.Fields, " "))
		data.Detail = add(data.Detail, "digests"+at, strings.Join(o.Digests, " "))
		if o.Version != 0 {
			data.Detail = add(data.Detail, "version"+at, strconv.FormatInt(o.Version, 10))
		}
		if o.Denied {
			data.Detail = add(data.Detail, "denied"+at, "true")
		}
	}
	return []entity{data}
}

// queryEntity holds the type and fields that were searched; what was searched
// for is nowhere in the journal.
func queryEntity(objects []*audit.Object) entity {
	var b strings.Builder
	for i, o := range objects {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(o.Type)
		b.WriteByte('?')
		b.WriteString(strings.Join(o.Fields, "&"))
		if b.Len() > 1<<10 {
			break
		}
	}
	if b.Len() == 0 {
		b.WriteByte('?')
	}
	return entity{Type: &coding{sysEntity, "2", "System Object"}, Role: &coding{sysRole, "24", "Query"},
		Query: base64.StdEncoding.EncodeToString([]byte(b.String()))}
}

// recordEntity names the line of the journal, so that it can be proven.
func recordEntity(l *audit.Line) entity {
	out := entity{What: &reference{Identifier: &identifier{idEvent, eventID(l)}}, Type: &coding{sysEntity, "4", "Other"}}
	out.Detail = add(out.Detail, "event", string(l.Type))
	out.Detail = add(out.Detail, "leaf", leafText(l))
	out.Detail = add(out.Detail, "decision", l.Decision)
	out.Detail = add(out.Detail, "tenant", l.Actor.Tenant)
	out.Detail = add(out.Detail, "attempt", l.Attempt)
	out.Detail = add(out.Detail, "citation", l.Citation)
	out.Detail = add(out.Detail, "batch", l.Batch)
	out.Detail = add(out.Detail, "code", string(l.Code))
	out.Detail = add(out.Detail, "about", l.About)
	out.Detail = add(out.Detail, "rule", l.Rule)
	out.Detail = add(out.Detail, "grant", l.Grant)
	out.Detail = add(out.Detail, "role", l.Role)
	out.Detail = add(out.Detail, "user", l.User)
	out.Detail = add(out.Detail, "on-behalf-of", l.Actor.OnBehalf)
	out.Detail = add(out.Detail, "since", instant(l.Since))
	out.Detail = add(out.Detail, "until", instant(l.Until))
	out.Detail = add(out.Detail, "node", l.Node)
	out.Detail = add(out.Detail, "root", l.Root)
	out.Detail = add(out.Detail, "commitment", l.Detail)
	if d := l.Disclosure; d != nil {
		out.Detail = add(out.Detail, "basis", string(d.Basis))
		out.Detail = add(out.Detail, "protocol", d.Protocol)
		out.Detail = add(out.Detail, "frequency", string(d.Frequency))
	}
	if l.Count != 0 {
		out.Detail = add(out.Detail, "count", strconv.Itoa(l.Count))
	}
	return out
}

func add(d []detail, typ, value string) []detail {
	if value == "" {
		return d
	}
	return append(d, detail{typ, value})
}

func one(c coding) *concept { return &concept{[]coding{c}} }

// outcomeCode is that of one patient's part of an event.
func outcomeCode(l *audit.Line, objects []*audit.Object) string {
	denied := 0
	for _, o := range objects {
		if o.Denied {
			denied++
		}
	}
	switch {
	case l.Outcome == audit.Success:
		return "0"
	case l.Outcome == audit.Partial && len(objects) > 0 && denied == 0:
		return "0"
	case l.Outcome == audit.Partial && denied < len(objects):
		return "4" // minor failure
	}
	return "8" // serious failure
}

// fhirID keeps to FHIR's id: letters, digits, "-" and ".", at most 64.
func fhirID(id string) string {
	out := []byte(id)
	for i, c := range out {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '.' {
			out[i] = '-'
		}
	}
	if len(out) == 0 {
		return "-"
	}
	return string(out[:min(len(out), 54)])
}
