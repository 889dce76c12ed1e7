// SPDX-License-Identifier: Apache-2.0

package format

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// What FHIR R4's AuditEvent and the BALP profiles 1.1.4 take where: by path,
// the code systems and, where the binding is required, or the profiles fix
// them, the codes.
var fhirBindings = map[string]map[string][]string{
	"type": {
		"http://terminology.hl7.org/CodeSystem/audit-event-type": {"rest"},
		"http://dicom.nema.org/resources/ontology/DCM":           {"110101", "110106", "110113", "110114"},
	},
	"subtype": {
		"http://hl7.org/fhir/restful-interaction":                   {"read", "search-type", "create", "update", "delete", "transaction"},
		"http://dicom.nema.org/resources/ontology/DCM":              {"110122", "110123", "110127", "110129", "110132", "110133", "110134", "110135", "110136", "110137"},
		"http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle": {"disclose"},
		"https://profiles.ihe.net/ITI/BALP/CodeSystem/AuthZsubType": {"AuthZ-Role"},
	},
	"agent.type.coding": {
		"http://dicom.nema.org/resources/ontology/DCM":                      {"110150", "110152", "110153"},
		"http://terminology.hl7.org/CodeSystem/v3-ParticipationType":        {"IRCP", "AUT"},
		"http://terminology.hl7.org/CodeSystem/provenance-participant-type": {"custodian"},
	},
	"agent.role.coding":         {"https://github.com/part164/part164/id/role": nil},
	"agent.purposeOfUse.coding": {"http://terminology.hl7.org/CodeSystem/v3-ActReason": nil},
	"purposeOfEvent.coding":     {"http://terminology.hl7.org/CodeSystem/v3-ActReason": nil},
	"source.type":               {"http://terminology.hl7.org/CodeSystem/security-source-type": {"4"}},
	"entity.type": {
		"http://terminology.hl7.org/CodeSystem/audit-entity-type":           {"1", "2", "4"},
		"https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType": {"XrequestId"},
	},
	"entity.role": {"http://terminology.hl7.org/CodeSystem/object-role": {"1", "4", "20", "24"}},
}

// The elements of R4's AuditEvent that this package writes, each with what must
// stand in it.
var fhirElements = map[string][]string{
	"":              {"resourceType", "type", "recorded", "agent", "source"},
	"agent":         {"requestor"},
	"source":        {"observer"},
	"entity.detail": {"type", "valueString"},
}

// every calls f with each object in a document and its path, lists left out.
func every(path string, v any, f func(path string, m map[string]any)) {
	switch v := v.(type) {
	case map[string]any:
		f(path, v)
		for k, inner := range v {
			every(strings.TrimPrefix(path+"."+k, "."), inner, f)
		}
	case []any:
		for _, inner := range v {
			every(path, inner, f)
		}
	}
}

// kinds are lines of every type of event, with each kind of actor, action and
// outcome that changes a document.
func kinds() map[string]audit.Line {
	out := samples()
	base := out["read"]
	for _, typ := range []audit.Type{
		audit.Revealed, audit.Fetched, audit.Searched, audit.WriteAttempt, audit.Committed, audit.RolledBack, audit.Denied, audit.SignIn,
		audit.RelationChanged, audit.DirectiveChanged, audit.RecipientsLoaded,
		audit.SignInFailed, audit.SignInLocked, audit.SessionEnded, audit.FactorChanged, audit.UserChanged, audit.PolicyChanged, audit.PolicyRefused, audit.PolicyReviewed, audit.GrantRequested, audit.GrantApproved, audit.GrantRefused, audit.GlassBroken, audit.GrantEnded, audit.GrantReviewed, audit.Disclosed, audit.Reported,
		audit.Checked, audit.Reviewed, audit.Disposed, audit.DetailOpened, audit.RevealFailed, audit.OutboxRefused, audit.Restored, audit.Sealed,
		audit.Erased, audit.Outside, audit.Alerted, audit.Opened, audit.Recovered, audit.Adopted, audit.SinkOpened, audit.Closed, audit.Gap,
		audit.Parked, audit.Shredded, audit.Merged, audit.Purged, audit.JournalKeyRotated, audit.ClockOff, audit.Deviation, "a.type.of.tomorrow",
	} {
		for i, kind := range []access.Kind{access.Human, access.Service, access.Patient, access.Proxy, ""} {
			l := base
			l.Type, l.Actor.Kind = typ, kind
			l.Outcome = []audit.Outcome{audit.Success, audit.Failure, audit.Partial, audit.Success, audit.Success}[i]
			l.Action = []access.Action{access.Read, access.Create, access.Update, access.Delete, ""}[i]
			if kind == "" {
				l.Actor, l.Objects = access.Principal{}, nil
			}
			out[fmt.Sprint(typ, "/", kind)] = l
		}
	}
	return out
}

func TestFHIRCodesAreThePublishedOnes(t *testing.T) {
	t.Parallel()
	for name, l := range kinds() {
		text, err := Encoder{Format: FHIR}.Append(nil, l)
		if err != nil {
			t.Fatal(name, err)
		}
		for _, doc := range decodeAll(t, text) {
			for _, bad := range fhirProblems(doc) {
				t.Errorf("%s: %s", name, bad)
			}
			every("", doc, func(path string, m map[string]any) {
				for _, k := range fhirElements[path] {
					if _, ok := m[k]; !ok {
						t.Errorf("%s: %s.%s is missing", name, path, k)
					}
				}
				code, isCoding := m["code"].(string)
				if path == "agent.network" {
					if kind, ok := m["type"].(string); ok && !slices.Contains([]string{"1", "2", "3", "4", "5"}, kind) {
						t.Errorf("%s: %s.type is %s", name, path, kind)
					}
				}
				if !isCoding {
					return
				}
				systems, known := fhirBindings[path]
				codes, ok := systems[fmt.Sprint(m["system"])]
				if !known || !ok || codes != nil && !slices.Contains(codes, code) {
					t.Errorf("%s: %s is %v#%s", name, path, m["system"], code)
				}
			})
		}
	}
}

// The enumerations of OCSF's classes, by class_uid: activity_id and its caption.
var ocsfActivities = map[float64]map[float64]string{
	3002: {1: "Logon", 2: "Logoff"},
	3005: {1: "Assign Privileges", 2: "Revoke Privileges"},
	6003: {1: "Create", 2: "Read", 3: "Update", 4: "Delete"},
	6005: {1: "Read", 2: "Update", 3: "Connect", 4: "Query", 5: "Write", 6: "Create", 7: "Delete", 8: "List", 9: "Encrypt", 10: "Decrypt"},
}

func TestOCSFEnumerationsAreThePublishedOnes(t *testing.T) {
	t.Parallel()
	statuses := map[float64]string{1: "Success", 2: "Failure"}
	users := map[float64]string{0: "Unknown", 1: "User", 2: "Admin", 3: "System", 4: "Service"}
	for name, l := range kinds() {
		text, err := Encoder{Format: OCSF}.Append(nil, l)
		if err != nil {
			t.Fatal(name, err)
		}
		for _, doc := range decodeAll(t, text) {
			for _, bad := range ocsfProblems(doc, &l) {
				t.Errorf("%s: %s", name, bad)
			}
			// 99 is Other in each: the caption is then the source's, and must be there.
			sibling := func(what string, id, caption any, known map[float64]string) {
				n, _ := id.(float64)
				want, ok := known[n]
				if got, _ := caption.(string); n == 99 && got == "" || n != 99 && (!ok || got != "" && got != want) {
					t.Errorf("%s: %s %v is %q", name, what, id, caption)
				}
			}
			class, _ := doc["class_uid"].(float64)
			sibling("activity_id", doc["activity_id"], doc["activity_name"], ocsfActivities[class])
			sibling("status_id", doc["status_id"], doc["status"], statuses)
			for _, path := range [][]any{{"user"}, {"actor", "user"}} {
				if u, ok := at(doc, path...).(map[string]any); ok {
					sibling("user.type_id", u["type_id"], u["type"], users)
					if u["uid"] == nil {
						t.Errorf("%s: %v has no uid", name, path)
					}
				}
			}
			for _, end := range []string{"src_endpoint", "dst_endpoint"} {
				e, _ := doc[end].(map[string]any)
				if e["ip"] == nil && e["uid"] == nil && e["svc_name"] == nil {
					t.Errorf("%s: %s has none of ip, uid and svc_name", name, end)
				}
			}
			if class == 3005 && at(doc, "privileges", 0) == nil {
				t.Errorf("%s: privileges are missing", name)
			}
			if class == 6005 && (doc["type_id"] != 3.0 || at(doc, "table", "name") == nil) {
				t.Errorf("%s: the datastore is %v", name, doc["type_id"])
			}
		}
	}
}

// The lengths of CEF's extension dictionary, of the keys that are used; 0 is a
// number.
var cefLengths = map[string]int{
	"act": 63, "c6a2": 39, "c6a2Label": 1023, "cat": 1023, "cn1": 0, "cn1Label": 1023, "cn2": 0, "cn2Label": 1023, "cnt": 0,
	"cs1": 4000, "cs1Label": 1023, "cs2": 4000, "cs2Label": 1023, "cs3": 4000, "cs3Label": 1023, "cs4": 4000, "cs4Label": 1023,
	"cs5": 4000, "cs5Label": 1023, "cs6": 4000, "cs6Label": 1023, "destinationServiceName": 1023, "deviceCustomDate1": 0,
	"deviceCustomDate1Label": 1023, "deviceCustomDate2": 0, "deviceCustomDate2Label": 1023, "deviceExternalId": 255, "deviceFacility": 1023,
	"dpriv": 1023, "duid": 1023, "dvchost": 100, "externalId": 40, "flexString1": 1023, "flexString1Label": 128, "flexString2": 1023,
	"flexString2Label": 128, "outcome": 63, "reason": 1023, "requestContext": 2048, "rt": 0, "spriv": 1023, "src": 16, "suid": 1023,
}

func TestCEFKeysAndLengthsAreThePublishedOnes(t *testing.T) {
	t.Parallel()
	all := kinds()
	long := all["read"]
	long.Position = audit.Position{Writer: "j" + strings.Repeat("f", 32), Seq: 1<<64 - 1}
	long.ID, long.Seq = "", 1<<64-1
	long.Objects = nil
	for i := range 1024 {
		long.Objects = append(long.Objects, audit.Object{Type: fmt.Sprint("a_long_name_of_a_type_", i), Fields: []string{fmt.Sprint("a_long_name_of_a_field_", i)}})
		long.Actor.Roles = append(long.Actor.Roles, fmt.Sprint("a_long_name_of_a_role_", i))
	}
	all["long"] = long
	for name, l := range all {
		text, err := Encoder{Format: CEF}.Append(nil, l)
		if err != nil {
			t.Fatal(name, err)
		}
		for record := range strings.Lines(string(text)) {
			header, extension := cefFields(t, strings.TrimSuffix(record, "\n"))
			if n, err := strconv.Atoi(header[5]); err != nil || n < 0 || n > 10 || len(header[4]) > 512 || len(header[3]) > 1023 {
				t.Errorf("%s: header %q", name, header)
			}
			for k, v := range extension {
				most, known := cefLengths[k]
				_, nan := strconv.ParseInt(v, 10, 64)
				if !known || most == 0 && nan != nil || most > 0 && len(v) > most {
					t.Errorf("%s: %s has %d bytes: %.80s", name, k, len(v), v)
				}
			}
			if got := extension["deviceExternalId"] + "." + extension["externalId"]; got != eventID(&l) {
				t.Errorf("%s: the event's ID is %s, want %s", name, got, eventID(&l))
			}
		}
		if name == "long" && (!strings.Contains(string(text), ",+9") || !strings.Contains(string(text), "externalId=18446744073709551615 ")) {
			t.Errorf("what was left out is not said: %.300s", text)
		}
	}
}
