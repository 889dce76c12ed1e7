// SPDX-License-Identifier: Apache-2.0

package storagetest

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"gorm.io/gorm"

	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/storage"
)

// A recorder is a test that may fail.
type recorder struct {
	testing.TB
	mu     sync.Mutex
	faults []string
}

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = append(r.faults, fmt.Sprintf(format, args...))
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

func (r *recorder) Logf(string, ...any) {}

// record runs a check and returns what it found.
func record(t *testing.T, f func(t testing.TB)) []string {
	t.Helper()
	r := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(r)
	}()
	<-done
	return r.faults
}

// A victim has what each path needs.
type victim struct {
	storage.PatientRecord
	MRN    storage.Sealed[string] `phi:"mrn,search=exact,unique"`
	Name   storage.Sealed[string] `phi:"name,search=name"`
	SSN    storage.Sealed[string] `phi:"ssn"`
	Status string                 `phi:"operational,clear" gorm:"size:40"`
}

func (victim) TableName() string { return "victims" }

// sql runs statements past GORM and storage.
func (c *checked) sql(statements ...string) {
	c.Helper()
	for _, s := range statements {
		if _, err := c.plain.ExecContext(c.Context(), s); err != nil {
			c.Fatalf("%s: %v", s, err)
		}
	}
}

// unguard drops the constraints of Migrate.
func (c *checked) unguard() {
	c.Helper()
	for _, column := range []string{"mrn", "name", "ssn"} {
		c.sql("DROP TRIGGER phi_cell_victims_"+column+"_i", "DROP TRIGGER phi_cell_victims_"+column+"_u")
	}
}

// says is what CheckModel must say of each path that is broken.
func says() map[string]string {
	return map[string]string{
		"Create":                    "bytes that are no cell",
		"Reveal":                    "another tenant reveals it",
		"print":                     "printed by",
		"Save":                      "that are no cell",
		"Updates by a struct":       "that are no cell",
		"Updates by a map":          "that are no cell",
		"UpdateColumn":              "that are no cell",
		"bare values":               "with a bare text in a map was not refused",
		"Save of what was withheld": "want ErrWithheld",
		"a mask sent back":          "sent back as the value, was not refused",
		"upsert":                    "victim.Status: it was written all the same",
		"raw SQL":                   "Exec with a text was not refused",
		"another client":            "another client writes plaintext into it",
		"a cell of another record":  "the cell of another record opens",
		"conditions":                "IS NULL was not refused",
		"search":                    "and not this one",
		"another tenant":            "another tenant reads it",
		"NULL":                      "stored as something else than NULL",
		"rollback":                  "undone is stored",
		"Delete":                    "Delete: storage: conflict",
		"the stored bytes":          "the database holds",
		"the statements' log":       "GORM's log holds",
		"the trail":                 "Create is not in the trail",
		"Outside and Bind":          "another tenant binds it",
	}
}

// saboteurs break what each path looks at.
func saboteurs(t *testing.T) map[string]func(*checked) {
	t.Helper()
	onUpdate := func(c *checked) {
		c.unguard()
		c.sql("CREATE TRIGGER t AFTER UPDATE ON victims BEGIN UPDATE victims SET ssn = x'00' WHERE id = NEW.id; END")
	}
	lenient := func(c *checked) { // an app that means to help
		err := c.db.Callback().Update().Before("gorm:update").Register("t", func(db *gorm.DB) {
			if set, ok := db.Statement.Dest.(map[string]any); ok {
				for k := range set {
					set[k] = storage.Seal("anything")
				}
			}
		})
		if err != nil {
			c.Fatalf("%v", err)
		}
	}
	must := func(c *checked, err error) {
		if err != nil {
			c.Fatalf("%v", err)
		}
	}
	return map[string]func(*checked){
		"Create": func(c *checked) {
			c.unguard()
			c.sql("CREATE TRIGGER t AFTER INSERT ON victims BEGIN UPDATE victims SET ssn = x'00' WHERE id = NEW.id; END")
		},
		"Reveal":                    func(c *checked) { c.other = c.ctx },
		"print":                     func(c *checked) { c.fill.hidden = append(c.fill.hidden, "PHI:name") },
		"Save":                      onUpdate,
		"Updates by a struct":       onUpdate,
		"Updates by a map":          onUpdate,
		"UpdateColumn":              onUpdate,
		"bare values":               lenient,
		"Save of what was withheld": func(c *checked) { c.hidden = c.ctx },
		"a mask sent back":          lenient,
		"upsert": func(c *checked) {
			must(c, c.db.Callback().Create().After("gorm:commit_or_rollback_transaction").Register("t", func(db *gorm.DB) {
				if _, ok := db.Statement.Clauses["ON CONFLICT"]; ok && db.Statement.Table == "victims" {
					c.sql("UPDATE victims SET status = 'x'")
				}
			}))
		},
		"raw SQL":          func(c *checked) { c.ctx = storage.Outside(c.ctx, audit.ReasonRepair) },
		"Outside and Bind": func(c *checked) { c.other = c.ctx },
		"another client":   func(c *checked) { c.unguard() },
		"a cell of another record": func(c *checked) {
			c.sql("CREATE TRIGGER t BEFORE UPDATE ON victims WHEN NEW.version = OLD.version BEGIN SELECT RAISE(IGNORE); END")
		},
		"conditions": func(c *checked) {
			must(c, c.db.Callback().Query().Before("gorm:query").Register("t", func(db *gorm.DB) {
				if db.Statement.Table == "victims" {
					clear(db.Statement.Clauses)
				}
			}))
		},
		"search": func(c *checked) {
			c.sql("CREATE TRIGGER t AFTER INSERT ON phi_index BEGIN DELETE FROM phi_index; END")
		},
		"another tenant": func(c *checked) { c.other = c.ctx },
		"NULL": func(c *checked) {
			c.unguard()
			c.sql("CREATE TRIGGER t AFTER INSERT ON victims WHEN NEW.ssn IS NULL BEGIN UPDATE victims SET ssn = x'00' WHERE id = NEW.id; END")
		},
		"rollback": func(c *checked) {
			must(c, c.db.Callback().Create().After("gorm:create").Register("t", func(db *gorm.DB) {
				if _, own := db.InstanceGet("gorm:started_transaction"); !own && db.Statement.Table == "victims" {
					must(c, db.Statement.ConnPool.(gorm.TxCommitter).Commit())
				}
			}))
		},
		"Delete": func(c *checked) {
			c.sql("CREATE TRIGGER t BEFORE DELETE ON victims BEGIN SELECT RAISE(IGNORE); END")
		},
		"the stored bytes": func(c *checked) { c.fill.hidden = append(c.fill.hidden, "CREATE TABLE `victims`") },
		"the statements' log": func(c *checked) {
			c.create()
			_, _ = c.log.Write([]byte(c.fill.hidden[0])) // storage itself refuses a logger that prints arguments
		},
		"the trail": func(c *checked) { c.trail = audittest.New(c) },
	}
}

// TestCheckModelNotices breaks what each path looks at, and wants it to say so:
// a path that is left out, or looks away, is found here.
func TestCheckModelNotices(t *testing.T) {
	t.Parallel()
	sab := saboteurs(t)
	for _, p := range checkPaths() {
		if sab[p.name] == nil || says()[p.name] == "" {
			t.Errorf("nobody breaks the path %s", p.name)
		}
	}
	for name, doctor := range sab {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			paths := checkPaths()
			i := slices.IndexFunc(paths, func(p checkPath) bool { return p.name == name })
			if i < 0 {
				t.Fatal("CheckModel has no such path")
			}
			try := func(doctor func(*checked)) []string {
				return record(t, func(tb testing.TB) {
					path := filepath.Join(t.TempDir(), "check.db")
					c := newChecked(tb, unsynced(path), &victim{}, nil)
					c.files = []string{path, path + "-wal"}
					c.only, c.doctor = name, doctor
					c.run()
				})
			}
			if faults := try(nil); len(faults) > 0 {
				t.Fatalf("before anything is broken: %s", faults)
			}
			faults := try(doctor)
			if !slices.ContainsFunc(faults, func(f string) bool {
				return strings.HasPrefix(f, "CheckModel: "+name+": victim") && strings.Contains(f, says()[name]) && strings.Contains(f, "\n\tmend: ")
			}) {
				t.Errorf("it is broken, and CheckModel does not say %q but %s", says()[name], faults)
			}
		})
	}
}

// Models that are not as they should be.
type (
	untagged struct {
		ID   uint
		Name string
		SSN  string
	}
	emptied struct { // a patient whose tags were all dropped
		storage.PatientRecord
		Name string
	}
	oneLost struct {
		storage.PatientRecord
		Name storage.Sealed[string] `phi:"name"`
		SSN  string
	}
	inClear struct {
		storage.PatientRecord
		Name storage.Sealed[string] `phi:"name"`
		SSN  string                 `phi:"ssn,clear"`
		MRN  string                 `phi:"mrn,clear"`
	}
	lossy struct {
		storage.PatientRecord
		Vitals storage.Sealed[vitals] `phi:"clinical"`
	}
	vitals struct {
		Systolic int
		Arm      string `json:"-"`
	}
	copied struct { // keeps what it reveals to itself
		storage.PatientRecord
		Name  storage.Sealed[string] `phi:"name"`
		Shown string                 `phi:"-" gorm:"-"`
	}
	picky struct {
		storage.PatientRecord
		Code storage.Sealed[code] `phi:"problem"`
	}
	code     string
	required struct {
		storage.PatientRecord
		Name   storage.Sealed[string] `phi:"name"`
		Status string                 `phi:"operational,clear" gorm:"not null;check:status IN ('in','out')"`
	}
)

func (c *code) UnmarshalText(text []byte) error {
	if !strings.HasPrefix(string(text), "ICD:") {
		return errors.New("no code")
	}
	*c = code(text)
	return nil
}

func (c *copied) AfterFind(tx *gorm.DB) error {
	_ = storage.Reveal(tx.Statement.Context, c)
	c.Shown, _ = c.Name.Get(tx.Statement.Context)
	return nil
}

func TestCheckModelTurnsRed(t *testing.T) {
	t.Parallel()
	for name, try := range map[string]struct {
		model any
		want  []string
	}{
		"no tags":            {&untagged{}, []string{"tags: untagged: it has no phi tags"}},
		"all tags dropped":   {&emptied{}, []string{"tags: emptied: it has no phi tags"}},
		"one tag dropped":    {&oneLost{}, []string{"Migrate refuses it: storage: model oneLost: field SSN has no phi tag"}},
		"direct identifiers": {&inClear{}, []string{"inClear.SSN: ssn is stored in clear", "inClear.MRN: mrn is stored in clear"}},
		"a type that loses":  {&lossy{}, []string{"Create: lossy.Vitals: what is revealed is not what was sealed"}},
		"a copy":             {&copied{}, []string{"Reveal: copied.Name: before Reveal Get gives <nil>, want ErrSealed", "print: copied: revealed, as"}},
		"no value":           {&picky{}, []string{"picky.Code: no value of type storagetest.code could be made", "mend: set a value in the model given"}},
		"a rule of the database": {&required{Status: "gone"}, []string{
			"Create: create a required: ", "mend: set in the model given to CheckModel what the database insists on"}},
		"no model": {victim{}, []string{"want a pointer to a model, such as &Patient{}; got storagetest.victim"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			faults := strings.Join(record(t, func(tb testing.TB) { CheckModel(tb, try.model) }), "\n")
			for _, w := range try.want {
				if !strings.Contains(faults, w) {
					t.Errorf("want %q among\n%s", w, faults)
				}
			}
			if strings.Contains(faults, "Qxveiled") && name != "a copy" {
				t.Errorf("a value is in the report:\n%s", faults)
			}
		})
	}
	for _, given := range []any{&required{Status: "in"}, &picky{Code: storage.Seal(code("ICD:J45"))}} {
		if faults := record(t, func(tb testing.TB) { CheckModel(tb, given) }); len(faults) > 0 {
			t.Errorf("with a value of the list: %s", faults)
		}
	}
}

// TestShortNumbersAreFoundAlone: a day in digits is found wherever it stands by
// itself, and not within a UUID.
func TestShortNumbersAreFoundAlone(t *testing.T) {
	t.Parallel()
	c := &checked{fill: filler{hidden: []string{"19310205", "164000000001", "Zebediah"}}}
	for text, want := range map[string]bool{
		"01a20698-e631-763e-8954-75b19310205d": false, "119310205": false, "aZebediahb": true, "f164000000001a": true,
		"19310205": true, "x19310205": true, "born=19310205,": true, "dob19310205": true, "01a20698-e631-763e-8954-75b19310205d 19310205": true,
	} {
		if got := c.leaks([]byte(text)) != ""; got != want {
			t.Errorf("%s: found %v, want %v", text, got, want)
		}
	}
}
