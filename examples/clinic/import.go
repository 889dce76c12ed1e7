// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/storage"
)

// A summary is what became of an import.
type summary struct {
	files, patients, others int // imported
	there                   int // resources that were there already
	leftOut                 int // resources of types that have no model
	failed                  int // files and resources
}

func (s summary) String() string {
	return fmt.Sprintf("imported %d files: %d patients, %d other resources; %d already there, %d of other types left out; %d failed",
		s.files, s.patients, s.others, s.there, s.leftOut, s.failed)
}

// A kind is how the resources of one FHIR type get into their model.
type kind struct {
	read   func(text []byte) (model placed, subject string, err error)
	there  func(db *gorm.DB, ids []string) ([]string, error)       // which of the record IDs exist
	find   func(db *gorm.DB, source string) (id string, err error) // the record of a source, or ""
	create func(db *gorm.DB, models []placed) error
}

var kinds = map[string]kind{
	"Patient":            kindOf(readPatient),
	"Encounter":          kindOf(readEncounter),
	"Condition":          kindOf(readCondition),
	"Observation":        kindOf(readObservation),
	"MedicationRequest":  kindOf(readMedication),
	"AllergyIntolerance": kindOf(readAllergy),
	"DocumentReference":  kindOf(readDocument),
}

// batch is how many rows one INSERT has: databases bound its parameters.
const batch = 200

func kindOf[T any, M interface {
	*T
	placed
}](read func([]byte) (M, string, error)) kind {
	ids := func(db *gorm.DB) ([]string, error) {
		var rows []T
		err := db.Select("id").Find(&rows).Error
		out := make([]string, len(rows))
		for i := range rows {
			out[i] = M(&rows[i]).place().record.ID
		}
		return out, err
	}
	return kind{
		read: func(text []byte) (placed, string, error) { return read(text) },
		there: func(db *gorm.DB, list []string) ([]string, error) {
			return ids(db.Where("id IN ?", list))
		},
		find: func(db *gorm.DB, source string) (string, error) {
			found, err := ids(db.Where(storage.Match("Source", source)))
			return strings.Join(found[:min(1, len(found))], ""), err
		},
		create: func(db *gorm.DB, models []placed) error {
			rows := make([]M, len(models))
			for i, m := range models {
				rows[i] = m.(M)
			}
			return db.CreateInBatches(rows, batch).Error
		},
	}
}

// An importing is one run of -import.
type importing struct {
	db       *gorm.DB
	assign   func(patient string) error // the care team
	sum      summary
	patients map[string]string // key: record ID, of those seen in this run
	report   func(format string, args ...any)
}

// importFolder imports the *.json files of a folder as a job: patients first,
// each with what its own file says of them, in one transaction a patient; then
// the resources whose patient stands in another file. What fails is reported
// by the name of its file, and the rest goes on.
func (a *app) importFolder(ctx context.Context, dir string, out io.Writer) (summary, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err == nil && len(files) == 0 {
		err = errors.New("there is no *.json file")
	}
	if err != nil {
		return summary{failed: 1}, fmt.Errorf("clinic: import %s: %w", dir, err)
	}
	ctx, done := access.Job(ctx, importer(), access.RecordManagement)
	defer done()
	b := newBar(out, files)
	defer b.clear()
	im := &importing{db: a.db.WithContext(ctx), patients: map[string]string{}, report: b.report,
		assign: func(patient string) error { return a.assign(ctx, patient) }}
	var later []string
	for _, name := range files {
		if ctx.Err() != nil {
			return im.sum, ctx.Err()
		}
		rest := im.file(name, false)
		if rest > 0 {
			later = append(later, name)
		}
		b.add(name, im.sum)
	}
	for _, name := range later {
		if ctx.Err() != nil {
			return im.sum, ctx.Err()
		}
		im.file(name, true)
		b.add("", im.sum)
	}
	return im.sum, nil
}

// file imports what it can of a file, and returns how much waits for a patient
// of another one. The second time, with all patients there, nothing waits.
func (im *importing) file(path string, again bool) (waiting int) {
	name := filepath.Base(path)
	fail := func(n int, err error) {
		im.sum.failed += n
		im.report("%s: %v", name, err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		fail(1, errors.New("cannot be read"))
		return 0
	}
	found, leftOut, bad, err := readFile(text)
	if err != nil {
		fail(1, err)
		return 0
	}
	if !again {
		im.sum.files++
		im.sum.leftOut += leftOut
		for _, err := range bad {
			fail(1, err)
		}
	}
	groups := map[string][]*resource{} // by key of the patient
	var order []string
	for _, r := range found {
		key := r.subject
		if r.kind == "Patient" {
			key = r.key
		}
		if groups[key] == nil {
			order = append(order, key)
		}
		groups[key] = append(groups[key], r)
	}
	for _, key := range order {
		own := groups[key]
		hasPatient := false
		for _, r := range own {
			hasPatient = hasPatient || r.kind == "Patient"
		}
		switch {
		case hasPatient == again: // the other pass's
			if !again {
				waiting += len(own)
			}
			continue
		}
		if err := im.patient(key, own); err != nil {
			fail(len(own), fmt.Errorf("%d of one patient, from resource %d (%s) on: %w", len(own), own[0].number, own[0].kind, err))
		}
	}
	return waiting
}

// patient imports the resources of one patient, in one transaction.
func (im *importing) patient(key string, own []*resource) error {
	sum, added := im.sum, ""
	err := im.db.Transaction(func(tx *gorm.DB) error {
		fresh, err := im.fresh(tx, own)
		if err != nil {
			return err
		}
		im.sum.there += len(own) - len(fresh)
		id, err := im.patientID(tx, key)
		if err != nil {
			return err
		}
		byKind := map[string][]placed{}
		var order []string
		for _, r := range fresh {
			at := r.model.place()
			at.record.ID = r.id
			if r.id == "" {
				*at.source = storage.Seal(sourceOf(r.key))
			}
			if r.kind == "Patient" {
				im.sum.patients++
				if err := kinds[r.kind].create(tx, []placed{r.model}); err != nil {
					return err
				}
				id = at.record.ID
				added = id
				continue
			}
			if id == "" {
				return errors.New("the patient is neither in the folder nor in the database")
			}
			*at.subject = id
			im.sum.others++
			if byKind[r.kind] == nil {
				order = append(order, r.kind)
			}
			byKind[r.kind] = append(byKind[r.kind], r.model)
		}
		for _, k := range order {
			if err := kinds[k].create(tx, byKind[k]); err != nil {
				return err
			}
		}
		im.patients[key] = id
		return nil
	})
	if err != nil {
		im.sum = sum
		return err
	}
	if added != "" {
		return im.assign(added)
	}
	return nil
}

// fresh returns those of own that are not in the database yet, patients first.
func (im *importing) fresh(tx *gorm.DB, own []*resource) ([]*resource, error) {
	ids := map[string][]string{}
	there := map[*resource]bool{}
	for _, r := range own {
		if r.id != "" {
			ids[r.kind] = append(ids[r.kind], r.id)
			continue
		}
		id, err := kinds[r.kind].find(tx, sourceOf(r.key))
		if err != nil {
			return nil, err
		}
		there[r] = id != ""
	}
	have := map[string]bool{} // kind and record ID
	for k, list := range ids {
		for ; len(list) > 0; list = list[min(batch, len(list)):] {
			found, err := kinds[k].there(tx, list[:min(batch, len(list))])
			if err != nil {
				return nil, err
			}
			for _, id := range found {
				have[k+id] = true
			}
		}
	}
	var patients, others []*resource
	for _, r := range own {
		switch {
		case there[r] || r.id != "" && have[r.kind+r.id]:
		case r.kind == "Patient":
			patients = append(patients, r)
		default:
			others = append(others, r)
		}
	}
	return append(patients, others...), nil
}

// patientID returns the record ID of a patient who is in the database, or "".
func (im *importing) patientID(tx *gorm.DB, key string) (string, error) {
	if id := im.patients[key]; id != "" {
		return id, nil
	}
	id := strings.TrimPrefix(key, "Patient/")
	found, err := kinds["Patient"].there(tx, []string{id})
	if err != nil || len(found) > 0 {
		return strings.Join(found, ""), err
	}
	return kinds["Patient"].find(tx, sourceOf(key))
}

// sourceOf is how the key of a FHIR resource is kept: in hexadecimal, because
// an exact search leaves out case and punctuation, which tell FHIR ids apart.
func sourceOf(key string) string { return hex.EncodeToString([]byte(key)) }

// A bar shows progress on a terminal, and nothing in a pipe.
type bar struct {
	out         io.Writer
	live        bool
	total, done int64
	sizes       map[string]int64
	start, last time.Time
	rows        int
}

func newBar(out io.Writer, files []string) *bar {
	b := &bar{out: out, sizes: map[string]int64{}, start: time.Now()}
	if f, ok := out.(*os.File); ok {
		info, err := f.Stat()
		b.live = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	for _, name := range files {
		if info, err := os.Stat(name); err == nil {
			b.sizes[name] = info.Size()
			b.total += info.Size()
		}
	}
	return b
}

func (b *bar) add(name string, sum summary) {
	b.done += b.sizes[name]
	b.rows = sum.patients + sum.others + sum.there
	if now := time.Now(); b.live && now.Sub(b.last) > 100*time.Millisecond {
		b.last = now
		b.draw(now)
	}
}

func (b *bar) draw(now time.Time) {
	const width = 30
	part := 1.0
	if b.total > 0 {
		part = float64(b.done) / float64(b.total)
	}
	spent := now.Sub(b.start)
	left := time.Duration(float64(spent) * (1/max(part, 0.001) - 1)).Round(time.Second)
	filled := int(part * width)
	fmt.Fprintf(b.out, "\r[%s%s] %3.0f%%  %d rows, %.0f rows/s, %s left\x1b[K",
		strings.Repeat("#", filled), strings.Repeat(".", width-filled), part*100, b.rows, float64(b.rows)/spent.Seconds(), left)
}

func (b *bar) clear() {
	if b.live {
		fmt.Fprint(b.out, "\r\x1b[K")
	}
}

func (b *bar) report(format string, args ...any) {
	b.clear()
	fmt.Fprintf(b.out, format+"\n", args...)
}
