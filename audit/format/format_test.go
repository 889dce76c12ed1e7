// SPDX-License-Identifier: Apache-2.0

package format

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

var update = flag.Bool("update", false, "write the golden files")

const writer = "j00112233445566778899aabbccddeeff"

// sample is a line as a journal yields it. Its raw bytes are those of some
// line, which the formats do not read.
func sample(seq uint64, s audit.Stored) audit.Line {
	s.ID, s.Seq, s.Time = fmt.Sprintf("%s.%d", writer, seq), seq, time.Date(2026, 11, 22, 13, 0, 0, 123456000, time.UTC)
	if s.Outcome == "" {
		s.Outcome = audit.Success
	}
	raw := fmt.Appendf(nil, `{"seq":%d,"type":%q,"crc":"00000000"}`, seq, s.Type)
	return audit.Line{Stored: s, Raw: raw, Leaf: sha256.Sum256(append([]byte{0}, raw...)), Position: audit.Position{Writer: writer, Seq: seq}}
}

func nurse() access.Principal {
	return access.Principal{ID: "u-17", Tenant: "elm-street", Kind: access.Human, Roles: []string{"nurse", "triage"}, Session: "s-9",
		Assurance: 2, Addr: netip.MustParseAddr("192.0.2.7")}
}

func record(n int, fields ...string) audit.Object {
	return audit.Object{Type: "note", Tenant: "elm-street", Record: fmt.Sprintf("rRRRRRRRRRRRRRRRRRRR%02d", n), Patient: fmt.Sprintf("pPPPPPPPPPPPPPPPPPPP%02d", n), Fields: fields, Version: 3}
}

func samples() map[string]audit.Line {
	patient := access.Principal{ID: "pPPPPPPPPPPPPPPPPPPP01", Tenant: "elm-street", Kind: access.Patient}
	denied := record(2, "text")
	denied.Denied = true
	out := make(map[string]audit.Line)
	for i, s := range []struct {
		name string
		audit.Stored
	}{
		{"read", audit.Stored{Type: audit.Revealed, Actor: nurse(), Purpose: access.Treatment, Decision: "d-1", Request: "76d148b6-586d-11ec-bf63-0242ac130002", Objects: []audit.Object{record(1, "text", "title"), record(2, "text")}}},
		{"partial", audit.Stored{Type: audit.Revealed, Outcome: audit.Partial, Actor: nurse(), Purpose: access.BreakGlass, Objects: []audit.Object{record(1, "text"), denied}}},
		{"query", audit.Stored{Type: audit.Searched, Actor: nurse(), Purpose: access.Treatment, Count: 12, Objects: []audit.Object{record(1, "name")}}},
		{"create", audit.Stored{Type: audit.WriteAttempt, Action: access.Create, Actor: nurse(), Purpose: access.Treatment, Objects: []audit.Object{record(1, "text")}}},
		{"update", audit.Stored{Type: audit.WriteAttempt, Action: access.Update, Actor: nurse(), Purpose: access.Treatment, Objects: []audit.Object{record(1, "text")}}},
		{"delete", audit.Stored{Type: audit.WriteAttempt, Action: access.Delete, Actor: nurse(), Purpose: access.Treatment, Objects: []audit.Object{record(1)}}},
		{"committed", audit.Stored{Type: audit.Committed, Attempt: writer + ".4"}},
		{"denied", audit.Stored{Type: audit.Denied, Outcome: audit.Failure, Reason: audit.ReasonPolicy, Code: access.DenyNoRule, Action: access.Read, Actor: nurse(), Purpose: access.Payment, Decision: "d-2", Objects: []audit.Object{record(1)}}},
		{"disclosure", audit.Stored{Type: audit.Disclosed, Actor: nurse(), Purpose: access.PublicHealth, Disclosure: &audit.Disclosure{Basis: audit.ByPublicHealth, Recipient: "agency-3", Frequency: audit.Weekly}, Detail: "cccc", Objects: []audit.Object{record(1, "text")}}},
		{"login", audit.Stored{Type: audit.SignIn, Actor: nurse()}},
		{"login-failed", audit.Stored{Type: audit.SignInFailed, Outcome: audit.Failure, Reason: audit.ReasonPassword, Actor: access.Principal{Tenant: "elm-street", Addr: netip.MustParseAddr("2001:db8::1")}}},
		{"logout", audit.Stored{Type: audit.SessionEnded, Reason: audit.ReasonIdle, Actor: nurse()}},
		{"user-changed", audit.Stored{Type: audit.UserChanged, Reason: audit.ReasonCreated, Actor: nurse(), Objects: []audit.Object{{Type: "user", Record: "uUUUUUUUUUUUUUUUUUUU01"}}}},
		{"alert", audit.Stored{Type: audit.Alerted, Rule: "vip", User: "u-17", UserKind: access.Human, About: writer + ".0"}},
		{"own-record", audit.Stored{Type: audit.Reported, Actor: patient, Purpose: access.PatientRequest, Since: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Until: time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC), Objects: []audit.Object{{Type: "report", Patient: patient.ID}}}},
		{"opened", audit.Stored{Type: audit.Opened, Node: "node-1"}},
		{"policy-change", audit.Stored{Type: audit.PolicyChanged, Action: access.Update, Reason: audit.ReasonMoved, Actor: nurse(), Purpose: access.SystemAdmin, Objects: []audit.Object{{Type: "policy", Record: "rRRRRRRRRRRRRRRRRRRR02", Version: 7, Fields: []string{"change"}, Digests: []string{"0123456789abcdef"}}, {Type: "approver", Record: "uUUUUUUUUUUUUUUUUUUU02"}}}},
		{"grant-breakglass", audit.Stored{Type: audit.GlassBroken, Code: access.AllowBreakGlass, Reason: audit.ReasonEmergency, Grant: "0190163d-8694-739b-aea5-966c26f8ad90", Role: "physician", User: "u-17", UserKind: access.Human, Actor: nurse(), Purpose: access.BreakGlass, Since: time.Unix(1769940000, 0), Until: time.Unix(1769954400, 0), Objects: []audit.Object{record(1)}}},
		{"grant-ended", audit.Stored{Type: audit.GrantEnded, Code: access.AllowGrant, Reason: audit.ReasonExpired, Grant: "0190163d-8694-739b-aea5-966c26f8ad91", Role: "records-clerk", User: "u-17", UserKind: access.Human}},
	} {
		out[s.name] = sample(uint64(i), s.Stored)
	}
	return out
}

var all = []Format{JSON, FHIR, OCSF, CEF}

func TestGolden(t *testing.T) {
	t.Parallel()
	for name, l := range samples() {
		for _, f := range all {
			got, err := Encoder{Format: f, Observer: "ehr-1"}.Append(nil, l)
			if err != nil {
				t.Fatal(err)
			}
			if f != CEF { // for whoever reads them
				var pretty bytes.Buffer
				for doc := range bytes.Lines(got) {
					if err := json.Indent(&pretty, doc, "", "\t"); err != nil {
						t.Fatalf("%s %s: %v", name, f, err)
					}
				}
				got = pretty.Bytes()
			}
			file := filepath.Join("testdata", "golden", name+"."+string(f))
			if *update {
				if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s is not what it was:\n%s", file, got)
			}
		}
	}
}

// at follows a path of names and indexes through decoded JSON.
func at(v any, path ...any) any {
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[p]
		case int:
			a, _ := v.([]any)
			if p >= len(a) {
				return nil
			}
			v = a[p]
		}
	}
	return v
}

func decodeAll(t testing.TB, text []byte) []map[string]any {
	t.Helper()
	var out []map[string]any
	for doc := range bytes.Lines(text) {
		var m map[string]any
		if err := json.Unmarshal(doc, &m); err != nil {
			t.Fatalf("it is not JSON: %v\n%s", err, doc)
		}
		out = append(out, m)
	}
	return out
}

// fhirProblems holds one document to FHIR R4's AuditEvent and, where it claims
// one, to its BALP profile.
func fhirProblems(m map[string]any) (bad []string) {
	report := func(format string, args ...any) { bad = append(bad, fmt.Sprintf(format, args...)) }
	if m["resourceType"] != "AuditEvent" {
		report("resourceType is %v", m["resourceType"])
	}
	if id, _ := m["id"].(string); !regexp.MustCompile(`^[A-Za-z0-9.-]{1,64}$`).MatchString(id) {
		report("id is %q", id)
	}
	if at(m, "type", "code") == nil || at(m, "type", "system") == nil {
		report("type has no code")
	}
	if r, _ := m["recorded"].(string); !regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z$`).MatchString(r) {
		report("recorded is %q", r)
	}
	if !slices.Contains([]any{"C", "R", "U", "D", "E"}, m["action"]) {
		report("action is %v", m["action"])
	}
	if !slices.Contains([]any{"0", "4", "8", "12"}, m["outcome"]) {
		report("outcome is %v", m["outcome"])
	}
	if at(m, "source", "observer", "identifier", "value") == nil {
		report("source.observer is empty")
	}
	agents, _ := m["agent"].([]any)
	requestors := 0
	agentOf := make(map[any]any)
	for i, a := range agents {
		r, ok := at(a, "requestor").(bool)
		if !ok {
			report("agent[%d].requestor is missing", i)
		}
		if r {
			requestors++
		}
		agentOf[at(a, "type", "coding", 0, "code")] = a
	}
	if len(agents) == 0 || requestors != 1 {
		report("%d agents, %d requestors", len(agents), requestors)
	}
	entities, _ := m["entity"].([]any)
	patient, data, query := 0, 0, 0
	for i, e := range entities {
		switch {
		case at(e, "type", "code") == "1" && at(e, "role", "code") == "1":
			patient++
			if at(e, "what", "type") != "Patient" {
				report("entity[%d] is no reference to a Patient", i)
			}
		case at(e, "role", "code") == "24":
			query++
			if text, _ := at(e, "query").(string); text == "" || at(e, "what") != nil || at(e, "detail") != nil {
				report("entity[%d] is no query", i)
			} else if _, err := base64.StdEncoding.DecodeString(text); err != nil {
				report("entity[%d].query is not base64", i)
			}
		case at(e, "type", "code") == "2":
			data++
			if !slices.Contains([]any{"3", "4", "20"}, at(e, "role", "code")) || at(e, "what") == nil {
				report("entity[%d] is no data", i)
			}
		}
	}
	profile, _ := at(m, "meta", "profile", 0).(string)
	if profile == "" {
		return bad
	}
	name := strings.TrimPrefix(profile, "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.")
	if m["outcome"] != "0" {
		report("%s is for what succeeded", name)
	}
	type profiled struct{ client, server, user, subtype, action string }
	want, ok := map[string]profiled{
		"Read":                     {"110152", "110153", "IRCP", "read", "R"},
		"Query":                    {"110153", "110152", "IRCP", "search-type", "E"},
		"Create":                   {"110153", "110152", "AUT", "create", "C"},
		"Update":                   {"110153", "110152", "AUT", "update", "U"},
		"Delete":                   {"110150", "custodian", "AUT", "delete", "D"},
		"PrivacyDisclosure.Source": {"110152", "110153", "", "disclose", "R"},
	}[strings.TrimPrefix(name, "Patient")]
	if !ok {
		report("there is no profile %s", name)
		return bad
	}
	if m["action"] != want.action || at(m, "subtype", 0, "code") != want.subtype {
		report("%s: action %v, subtype %v", name, m["action"], at(m, "subtype", 0, "code"))
	}
	for _, code := range []string{want.client, want.server} {
		a := agentOf[code]
		if at(a, "who") == nil || at(a, "network") == nil {
			report("%s: the agent %s has no who or network", name, code)
		}
	}
	if u := agentOf[want.user]; u != nil && (at(u, "network") != nil || at(u, "requestor") != true) {
		report("%s: the user is no requestor, or a network device", name)
	}
	if want.user == "" && fmt.Sprint(at(agentOf[want.server], "who")) != fmt.Sprint(at(m, "source", "observer")) {
		report("%s: the source agent is not the observer", name)
	}
	switch {
	case strings.HasSuffix(name, "Query") && query != 1, !strings.HasSuffix(name, "Query") && data != 1:
		report("%s: %d queries, %d data entities", name, query, data)
	case (strings.HasPrefix(name, "Patient") || want.user == "") && patient != 1:
		report("%s: %d patients", name, patient)
	case len(entities) < 2:
		report("%s: %d entities", name, len(entities))
	}
	return bad
}

func TestFHIRHasWhatTheProfilesRequire(t *testing.T) {
	t.Parallel()
	profiles := make(map[string]bool)
	for name, l := range samples() {
		text, err := Encoder{Format: FHIR}.Append(nil, l)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range decodeAll(t, text) {
			for _, bad := range fhirProblems(m) {
				t.Errorf("%s: %s", name, bad)
			}
			if p, ok := at(m, "meta", "profile", 0).(string); ok {
				profiles[p[strings.LastIndex(p, "Audit.")+6:]] = true
			}
		}
	}
	for _, p := range []string{"PatientRead", "PatientCreate", "PatientUpdate", "PatientDelete", "PatientQuery", "PrivacyDisclosure.Source"} {
		if !profiles[p] {
			t.Errorf("no sample claims %s", p)
		}
	}
}

// TestFHIRIsOneAPatient: a list of 1,000 rows is in the record of each of the
// 1,000 patients, and a record of nobody is not lost beside them.
func TestFHIRIsOneAPatient(t *testing.T) {
	t.Parallel()
	s := audit.Stored{Type: audit.Revealed, Actor: nurse(), Purpose: access.Treatment, Objects: []audit.Object{{Type: "setting", Record: "rNobody"}}}
	for i := range 1000 {
		s.Objects = append(s.Objects, record(i, "name"))
	}
	text, err := Encoder{Format: FHIR}.Append(nil, sample(1, s))
	if err != nil {
		t.Fatal(err)
	}
	docs := decodeAll(t, text)
	ids, seen := make(map[any]bool), make(map[string]bool)
	for _, m := range docs {
		ids[m["id"]] = true
		who := ""
		for _, e := range m["entity"].([]any) {
			if at(e, "role", "code") == "1" {
				who += at(e, "what", "identifier", "value").(string)
			}
		}
		seen[who] = true
	}
	if len(docs) != 1001 || len(ids) != 1001 || len(seen) != 1001 || !seen[""] || !seen["pPPPPPPPPPPPPPPPPPPP999"] {
		t.Errorf("%d documents with %d IDs about %d patients, want 1001 of each", len(docs), len(ids), len(seen))
	}
}

// TestFHIROutcomeIsThePatientsOwn: in a batch that was refused in part, who
// was granted and who was refused are told apart.
func TestFHIROutcomeIsThePatientsOwn(t *testing.T) {
	t.Parallel()
	text, err := Encoder{Format: FHIR}.Append(nil, samples()["partial"])
	if err != nil {
		t.Fatal(err)
	}
	docs := decodeAll(t, text)
	if len(docs) != 2 || docs[0]["outcome"] != "0" || docs[1]["outcome"] != "8" {
		t.Errorf("outcomes %v and %v, want 0 and 8", docs[0]["outcome"], docs[1]["outcome"])
	}
}

// ocsfProblems holds one document to the required attributes of its class.
func ocsfProblems(m map[string]any, l *audit.Line) (bad []string) {
	report := func(format string, args ...any) { bad = append(bad, fmt.Sprintf(format, args...)) }
	number := func(k string) float64 {
		n, ok := m[k].(float64)
		if !ok {
			report("%s is no number", k)
		}
		return n
	}
	class, activity := number("class_uid"), number("activity_id")
	if number("category_uid") != float64(int(class)/1000) || number("type_uid") != class*100+activity {
		report("category or type do not follow from class %v, activity %v", class, activity)
	}
	if s := number("severity_id"); s < 1 || s > 6 {
		report("severity_id is %v", s)
	}
	if number("time") != float64(l.Time.UnixMilli()) {
		report("time is %v", m["time"])
	}
	for _, path := range [][]any{{"metadata", "version"}, {"metadata", "product", "vendor_name"}, {"metadata", "uid"}} {
		if at(m, path...) == nil {
			report("%v is missing", path)
		}
	}
	if at(m, "actor", "user", "uid") == nil && at(m, "actor", "app_name") == nil {
		report("actor is empty")
	}
	end, _ := m["src_endpoint"].(map[string]any)
	if len(end) == 0 {
		report("src_endpoint is empty")
	}
	required := map[float64][]string{3002: {"user", "service"}, 3005: {"user"}, 6003: {"api"}, 6005: {"table"}}[class]
	if required == nil {
		report("class %v", class)
	}
	for _, k := range required {
		if m[k] == nil {
			report("class %v without %s", class, k)
		}
	}
	if class == 6003 && at(m, "api", "operation") == nil {
		report("api.operation is missing")
	}
	if l.Leaf != [32]byte{} && (at(m, "raw_data_hash", "value") != hex.EncodeToString(l.Leaf[:]) || at(m, "raw_data_hash", "algorithm_id") != 3.0) {
		report("raw_data_hash is not the leaf")
	}
	return bad
}

func TestOCSFHasWhatItsClassesRequire(t *testing.T) {
	t.Parallel()
	classes := make(map[any]bool)
	for name, l := range samples() {
		text, err := Encoder{Format: OCSF}.Append(nil, l)
		if err != nil {
			t.Fatal(err)
		}
		docs := decodeAll(t, text)
		if len(docs) != 1 {
			t.Fatalf("%s: %d documents", name, len(docs))
		}
		for _, bad := range ocsfProblems(docs[0], &l) {
			t.Errorf("%s: %s", name, bad)
		}
		classes[docs[0]["class_uid"]] = true
	}
	if len(classes) != 4 {
		t.Errorf("the samples are of the classes %v", classes)
	}
}

// cefFields reads a record as a receiver does.
func cefFields(t testing.TB, text string) (header []string, extension map[string]string) {
	t.Helper()
	rest, ok := strings.CutPrefix(text, "CEF:0|")
	if !ok {
		t.Fatalf("no CEF: %q", text)
	}
	var field strings.Builder
	for len(header) < 6 {
		switch {
		case strings.HasPrefix(rest, `\|`), strings.HasPrefix(rest, `\\`):
			field.WriteByte(rest[1])
			rest = rest[2:]
		case strings.HasPrefix(rest, "|"):
			header = append(header, field.String())
			field.Reset()
			rest = rest[1:]
		case rest == "":
			t.Fatalf("the header has %d fields: %q", len(header), text)
		default:
			field.WriteByte(rest[0])
			rest = rest[1:]
		}
	}
	extension = make(map[string]string)
	keys := regexp.MustCompile(`(?:^| )([A-Za-z0-9]+)=`)
	escaped := regexp.MustCompile(`\\(.)`)
	// An equals sign that is escaped begins no key.
	masked := escaped.ReplaceAllString(rest, "\x00\x00")
	at := keys.FindAllStringSubmatchIndex(masked, -1)
	for i, m := range at {
		end := len(rest)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		key := rest[m[2]:m[3]]
		if _, twice := extension[key]; twice {
			t.Errorf("key %s stands twice", key)
		}
		extension[key] = escaped.ReplaceAllStringFunc(rest[m[1]:end], func(s string) string {
			switch s[1] {
			case 'n':
				return "\n"
			case 'r':
				return "\r"
			}
			return s[1:]
		})
	}
	return header, extension
}

func TestCEFEscapes(t *testing.T) {
	t.Parallel()
	// No journal holds such values: every one was checked. A Stored made by
	// hand must still not break out of its field.
	evil := "a|b\\c=d\ne\rf cs1=forged\x00\xff é"
	l := sample(1, audit.Stored{Type: audit.Type(evil), Outcome: audit.Outcome(evil), Reason: audit.Reason(evil), Decision: evil, Actor: access.Principal{ID: evil, Tenant: evil}})
	text, err := Encoder{Format: CEF}.Append(nil, l)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Count(text, []byte{'\n'}) != 1 {
		t.Fatalf("a value breaks the line: %q", text)
	}
	header, ext := cefFields(t, strings.TrimSuffix(string(text), "\n"))
	clean := strings.NewReplacer("\x00", " ", "\xff", "?").Replace(evil)
	if want := strings.NewReplacer("\n", " ", "\r", " ").Replace(clean); header[3] != want {
		t.Errorf("event class %q, want %q", header[3], want)
	}
	for _, k := range []string{"reason", "suid", "cs4", "cs6", "outcome"} {
		if ext[k] != clean {
			t.Errorf("%s = %q, want %q", k, ext[k], clean)
		}
	}
	if _, forged := ext["cs1"]; forged {
		t.Error("a value has made itself a field")
	}
}

func TestCEFNamesEveryPatient(t *testing.T) {
	t.Parallel()
	s := audit.Stored{Type: audit.Revealed, Actor: nurse(), Purpose: access.Treatment}
	for i := range 1000 {
		s.Objects = append(s.Objects, record(i, "name"))
	}
	text, err := Encoder{Format: CEF}.Append(nil, sample(1, s))
	if err != nil {
		t.Fatal(err)
	}
	seen, records := make(map[string]bool), 0
	for doc := range strings.Lines(string(text)) {
		_, ext := cefFields(t, strings.TrimSuffix(doc, "\n"))
		for p := range strings.SplitSeq(ext["cs2"], ",") {
			seen[p] = true
		}
		if len(ext["cs2"]) > 4000 {
			t.Errorf("cs2 has %d bytes: receivers cut it", len(ext["cs2"]))
		}
		records++
		if ext["cn2"] != "16" || ext["cn1"] != fmt.Sprint(records) {
			t.Errorf("record %d says part %s of %s", records, ext["cn1"], ext["cn2"])
		}
	}
	if len(seen) != 1000 {
		t.Errorf("%d patients, want 1000", len(seen))
	}
}

// TestNativeHoldsTheExactLine: whoever has the document can check its hash.
func TestNativeHoldsTheExactLine(t *testing.T) {
	t.Parallel()
	l := samples()["read"]
	l.Raw = []byte(`{"seq":0, "b":1,"a":"é","type":"reveal"}`)
	l.Leaf = sha256.Sum256(append([]byte{0}, l.Raw...))
	text, err := Encoder{}.Append([]byte("before"), l)
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.TrimPrefix(text, []byte("before"))
	_, rest, ok := bytes.Cut(text, []byte(`,"line":`))
	rest = bytes.TrimSuffix(rest, []byte("}\n"))
	if !ok || !bytes.Equal(rest, l.Raw) {
		t.Fatalf("the line stands there as %s", rest)
	}
	m := decodeAll(t, text)[0]
	if m["leaf"] != base64.RawURLEncoding.EncodeToString(l.Leaf[:]) || m["id"] != l.ID || m["writer"] != writer {
		t.Errorf("envelope %v", m)
	}
	for _, raw := range []string{"", "null", `"x"`, `{"a":1}{`, "{\"a\":\n1}", "{"} {
		l.Raw = []byte(raw)
		got, err := Encoder{}.Append([]byte("before"), l)
		if !errors.Is(err, ErrLine) || string(got) != "before" {
			t.Errorf("a line of %q: %q, %v", raw, got, err)
		}
	}
}

// The journal's own lines have no FHIR document.
func TestOwnLines(t *testing.T) {
	t.Parallel()
	for _, typ := range []audit.Type{"segment", "checkpoint", ""} {
		got, err := Encoder{Format: FHIR}.Append(nil, sample(1, audit.Stored{Type: typ}))
		if err != nil || len(got) != 0 {
			t.Errorf("%s: %s, %v", typ, got, err)
		}
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	for _, f := range all {
		if got, err := Parse(string(f)); got != f || err != nil || f.ContentType() == "" {
			t.Errorf("Parse(%s) = %s, %v", f, got, err)
		}
	}
	for _, bad := range []string{"", "xml", "FHIR", strings.Repeat("x", 1000)} {
		if _, err := Parse(bad); err == nil || len(err.Error()) > 200 {
			t.Errorf("Parse(%.10q) = %v", bad, err)
		}
	}
	if err := (Encoder{Format: "xml"}).Check(); err == nil {
		t.Error("an Encoder of an unknown format passes")
	}
	if err := (Encoder{Observer: "jane@example.org"}).Check(); err == nil || strings.Contains(err.Error(), "jane") {
		t.Errorf("an Observer that is an e-mail address: %v", err)
	}
	if _, err := (Encoder{Format: "xml"}).Append(nil, samples()["read"]); !errors.Is(err, ErrLine) {
		t.Errorf("an unknown format encodes: %v", err)
	}
}

// FuzzEncoders: whatever stands in a Stored, no encoder panics, breaks its
// line or makes what a receiver cannot read.
func FuzzEncoders(f *testing.F) {
	for _, l := range samples() {
		text, _ := json.Marshal(l.Stored)
		f.Add(text, l.Raw, int64(l.Time.Unix()))
	}
	f.Fuzz(func(t *testing.T, stored, raw []byte, at int64) {
		var l audit.Line
		if json.Unmarshal(stored, &l.Stored) != nil {
			l.Type, l.Reason, l.Actor.ID = audit.Type(stored), audit.Reason(raw), string(stored)
			l.Objects = []audit.Object{{Type: string(stored), Record: string(raw), Patient: string(stored), Fields: []string{string(raw)}}}
		}
		l.Raw, l.Time = raw, time.Unix(at, 0)
		l.Position.Writer, l.Leaf[0] = string(raw), 1
		for _, format := range all {
			got, err := Encoder{Format: format}.Append(nil, l)
			if err != nil {
				if !errors.Is(err, ErrLine) || got != nil {
					t.Fatalf("%s: %q, %v", format, got, err)
				}
				continue
			}
			switch format {
			case CEF:
				for doc := range strings.Lines(string(got)) {
					if !strings.HasPrefix(doc, "CEF:0|part164|part164|1|") || strings.ContainsAny(doc[:len(doc)-1], "\r\x00") {
						t.Fatalf("CEF %q", doc)
					}
				}
			case FHIR:
				for _, m := range decodeAll(t, got) {
					if bad := fhirProblems(m); len(bad) > 0 {
						t.Fatalf("FHIR: %v", bad)
					}
				}
			case OCSF:
				if bad := ocsfProblems(decodeAll(t, got)[0], &l); len(bad) > 0 {
					t.Fatalf("OCSF: %v", bad)
				}
			default:
				decodeAll(t, got)
			}
		}
	})
}
