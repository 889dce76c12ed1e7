// SPDX-License-Identifier: Apache-2.0

package audit_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/crypto"
)

// Somebody who can write to a journal's folder, and has none of its keys.

// tamper changes the bytes of a segment.
func tamper(t testing.TB, path string, change func(data []byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err == nil {
		err = os.Chmod(path, 0o600)
	}
	if err == nil {
		err = os.WriteFile(path, change(data), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// eachLine is a change of every line, whose checksums are made to fit.
func eachLine(change func(line []byte) []byte) func([]byte) []byte {
	return func(data []byte) []byte {
		end := bytes.IndexByte(append(data, 0), 0)
		var out []byte
		for line := range bytes.Lines(data[:end]) {
			out = append(append(out, audit.Rechecksum(change(bytes.TrimSuffix(line, []byte("\n"))))...), '\n')
		}
		return append(out, data[end:]...)
	}
}

// inThePast makes the lines of a segment years older than they are.
func inThePast(line []byte) []byte {
	at := bytes.Index(line, []byte(`"time":"`)) + len(`"time":"`)
	return slices.Concat(line[:at], []byte("2018"), line[at+4:])
}

func otherActor(line []byte) []byte {
	return bytes.Replace(line, []byte(`"id":"u-17"`), []byte(`"id":"u-99"`), 1)
}

// twoSegments is an open journal with events and a hold in a segment that is
// complete, and one in the next.
func twoSegments(t *testing.T, cfg audit.Config) (*audit.Journal, string) {
	t.Helper()
	cfg.Timeout = time.Minute
	j, dir := open(t, cfg)
	record(t, j, reveal("r-1"), reveal("r-1"))
	if _, err := j.Hold(officer(t), audit.Hold{Patient: "r-1", Reason: audit.ReasonLitigation}); err != nil {
		t.Fatal(err)
	}
	if err := j.Roll(); err != nil {
		t.Fatal(err)
	}
	record(t, j, reveal("r-2"))
	return j, dir
}

// What is read back is what was recorded, or a CorruptError: never less of it,
// and never something else.
func TestNothingThatWasChangedIsRead(t *testing.T) {
	t.Parallel()
	changes := map[string]func([]byte) []byte{
		"a byte zeroed": func(data []byte) []byte {
			data[bytes.Index(data, []byte(`"type":"reveal"`))-40] = 0
			return data
		},
		"a byte flipped": func(data []byte) []byte {
			data[bytes.Index(data, []byte(`"type":"reveal"`))+9] ^= 1
			return data
		},
		"another actor":    eachLine(otherActor),
		"the last reveal":  func(data []byte) []byte { clear(data[bytes.LastIndex(data, []byte(`{"seq":`)):]); return data },
		"emptied":          func([]byte) []byte { return nil },
		"nothing but NULs": func(data []byte) []byte { clear(data); return data },
	}
	for name, change := range changes {
		for _, segment := range []string{"00000001.jsonl", "00000002.jsonl"} {
			t.Run(name+" in "+segment, func(t *testing.T) {
				t.Parallel()
				j, dir := twoSegments(t, audit.Config{CheckpointEvery: time.Minute})
				tamper(t, filepath.Join(dir, segment), change)
				var corrupt *audit.CorruptError
				for _, err := range j.Events(officer(t), audit.Query{Tenant: "t-1", Patient: "r-1"}) {
					if err != nil && !errors.As(err, &corrupt) {
						t.Fatal(err)
					}
				}
				if corrupt == nil || corrupt.File != segment {
					t.Errorf("Events: %v, want a CorruptError about %s", corrupt, segment)
				}
				if holds, err := j.Holds(officer(t)); !errors.As(err, &corrupt) {
					t.Errorf("Holds = %d, %v", len(holds), err)
				}
				if r, err := j.Purge(officer(t), audit.Purge{}); !errors.As(err, &corrupt) || r.Segments != 0 {
					t.Errorf("Purge = %+v, %v", r, err)
				}
				if err := j.Erase(officer(t), audit.Erasure{Event: j.Writer() + ".3", Reason: audit.ReasonCourt}); !errors.As(err, &corrupt) {
					t.Errorf("Erase = %v", err)
				}
				kek, err := crypto.LocalKEK(filepath.Clean(dir) + ".kek")
				if err != nil {
					t.Fatal(err)
				}
				r, err := audit.OpenReader(dir, kek)
				if err != nil {
					t.Fatal(err)
				}
				corrupt = nil
				for s, err := range r.Events(officer(t), audit.Query{Tenant: "t-1", Patient: "r-1"}) {
					if err == nil && s.Actor.ID == "u-99" || err != nil && !errors.As(err, &corrupt) {
						t.Fatalf("Reader: %+v, %v", s, err)
					}
				}
				// Without the memory of the process that writes, a last group that
				// is gone, or that its keys did not write, is not missed.
				last := segment == "00000002.jsonl" && (name == "the last reveal" || name == "another actor")
				if corrupt == nil && !last {
					t.Error("the Reader sees nothing")
				}
			})
		}
	}
}

// Open signs what its own keys prove, and nothing that somebody has put behind
// it: neither behind an end nor behind what a crash left.
func TestOpenSignsOnlyItsOwn(t *testing.T) {
	t.Parallel()
	for name, crashed := range map[string]bool{"closed": false, "crashed": true} {
		for _, groups := range []int{0, 1, 2} { // that the forgery begins; none: it goes on in the last
			t.Run(fmt.Sprintf("%s, %d groups", name, groups), func(t *testing.T) {
				t.Parallel()
				j, dir := open(t, audit.Config{CheckpointEvery: time.Minute})
				hold, err := j.Hold(officer(t), audit.Hold{Patient: "r-1", Reason: audit.ReasonLitigation})
				if err != nil {
					t.Fatal(err)
				}
				record(t, j, reveal("r-1"))
				if crashed {
					dir = copyOf(t, dir)
				} else if err := j.Close(); err != nil {
					t.Fatal(err)
				}
				f := takeApart(t, dir)
				first := len(f.lines)
				model := f.lines[slices.IndexFunc(f.lines, func(l []byte) bool { return bytes.Contains(l, []byte(`"type":"reveal"`)) })]
				lines := slices.Clone(f.lines)
				for i := range 200 {
					line := otherActor(model)
					if i == 100 {
						body := fmt.Sprintf(`,"type":"hold.released","outcome":"success","about":"%s","actor":{"id":"u-9","tenant":"t-1","kind":"human"},"purpose":"HLEGAL"`, hold.ID)
						at, end := bytes.Index(line, []byte(`,"type"`)), bytes.LastIndex(line, []byte(`,"crc"`))
						line = slices.Concat(line[:at], []byte(body), line[end:])
					}
					sync := i == 0 && groups > 0 || i == 150 && groups > 1
					line = bytes.Replace(line, []byte(`,"sync":true`), nil, 1)
					if sync {
						line = bytes.Replace(line, []byte(`,"prev"`), []byte(`,"sync":true,"prev"`), 1)
					}
					lines = append(lines, audit.Rechecksum(line))
				}
				f.write(t, audit.Renumber(lines, first))
				forged, err := audit.Open(dir, development)
				var corrupt *audit.CorruptError
				if groups == 2 || groups == 0 && crashed { // no crash leaves that
					if !errors.As(err, &corrupt) || corrupt.Seq != uint64(first) {
						t.Errorf("Open = %v, want a CorruptError at line %d", err, first)
					}
					return
				}
				if err != nil { // it looks like a write that was never acknowledged
					t.Fatal(err)
				}
				holds, err := forged.Holds(officer(t))
				if err != nil || len(holds) != 1 {
					t.Errorf("%d holds are in force, %v: somebody else released one", len(holds), err)
				}
				for s, err := range forged.Events(officer(t), audit.Query{Tenant: "t-1"}) {
					if err != nil || s.Actor.ID == "u-99" {
						t.Fatalf("forged: %+v, %v", s, err)
					}
				}
				if len(types(t, forged, audit.Recovered)) != 1 {
					t.Error("it is not recorded that something was dropped")
				}
				if n := len(types(t, forged, audit.Revealed)); n != 1 {
					t.Errorf("%d of its own events are left", n)
				}
				if err := forged.Close(); err != nil {
					t.Fatal(err)
				}
				if r := verify(t, dir); len(r.Defects) > 0 {
					t.Errorf("Verify: %+v", r.Defects)
				}
			})
		}
	}
}

// copyOf copies the folder of a journal that is in use, and its key: what a
// process leaves that is killed.
func copyOf(t *testing.T, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "audit")
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	kek, err := os.ReadFile(filepath.Clean(dir) + ".kek")
	if err == nil {
		err = os.WriteFile(to+".kek", kek, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// Purge believes no line that was made to look old, and destroys no file that a
// line names which is no detail.
func TestPurgeProvesWhatGoes(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func([]byte) []byte{
		"made old": inThePast,
		"made old, with a path for a detail": func(line []byte) []byte {
			if at := bytes.Index(line, []byte(`"detail":"`)); at >= 0 {
				line = slices.Concat(line[:at+10], []byte("../../audit.kek"), line[at+10+43:])
			}
			return inThePast(line)
		},
	} {
		for _, rechain := range []bool{false, true} {
			j, dir := open(t, audit.Config{Timeout: time.Minute})
			disclose(t, j, "r-1", "Jane Roe")
			if err := j.Roll(); err != nil {
				t.Fatal(err)
			}
			record(t, j, reveal("r-2"))
			tamper(t, filepath.Join(dir, "00000001.jsonl"), eachLine(change))
			if rechain {
				tamper(t, filepath.Join(dir, "00000001.jsonl"), func(data []byte) []byte {
					lines := bytes.Split(bytes.TrimSuffix(bytes.TrimRight(data, "\x00"), []byte("\n")), []byte("\n"))
					return append(bytes.Join(audit.Rechain(lines, 1), []byte("\n")), '\n')
				})
			}
			var corrupt *audit.CorruptError
			if r, err := j.Purge(officer(t), audit.Purge{}); !errors.As(err, &corrupt) || r.Segments != 0 {
				t.Errorf("%s: Purge = %+v, %v", name, r, err)
			}
			if _, err := os.Stat(filepath.Join(dir, "00000001.jsonl")); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if info, err := os.Stat(filepath.Clean(dir) + ".kek"); err != nil || info.Size() == 0 {
				t.Errorf("%s: the KEK: %v", name, err)
			}
		}
	}
}

// A sealed detail that was replaced by a link is gone; what the link leads to is
// not.
func TestNoLinkIsFollowedByAnErasure(t *testing.T) {
	t.Parallel()
	j, dir := open(t, audit.Config{})
	receipt := disclose(t, j, "r-1", "Jane Roe")
	kek := filepath.Clean(dir) + ".kek"
	before, err := os.ReadFile(kek)
	if err != nil {
		t.Fatal(err)
	}
	file := detailFiles(t, dir)[0]
	if err := errors.Join(os.Remove(file), os.Symlink(kek, file)); err != nil {
		t.Fatal(err)
	}
	_ = j.Erase(officer(t), audit.Erasure{Event: receipt, Reason: audit.ReasonMistake, Early: true})
	if after, err := os.ReadFile(kek); err != nil || !bytes.Equal(after, before) {
		t.Errorf("the KEK was written to: %v", err)
	}
}

// A clock that is years ahead lets nothing go, unless somebody has looked at it.
func TestPurgeAsksTheClock(t *testing.T) {
	t.Parallel()
	for name, between := range map[string]func(t *testing.T, j *audit.Journal, dir string, cfg audit.Config) *audit.Journal{
		"at once": func(_ *testing.T, j *audit.Journal, _ string, _ audit.Config) *audit.Journal { return j },
		"behind another line": func(t *testing.T, j *audit.Journal, _ string, _ audit.Config) *audit.Journal {
			record(t, j, reveal("r-3"))
			return j
		},
		"behind a restart": func(t *testing.T, j *audit.Journal, dir string, cfg audit.Config) *audit.Journal {
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
			return reopen(t, dir, cfg)
		},
	} {
		clock := new(wall)
		cfg := audit.Config{Now: clock.now, Timeout: time.Minute}
		j, dir := open(t, cfg)
		record(t, j, reveal("r-1"))
		if err := j.Roll(); err != nil {
			t.Fatal(err)
		}
		record(t, j, reveal("r-2"))
		clock.set(7 * 366 * 24 * time.Hour)
		j = between(t, j, dir, cfg)
		if r, err := j.Purge(officer(t), audit.Purge{}); !errors.Is(err, audit.ErrClock) || r.Segments != 0 {
			t.Errorf("%s: Purge = %+v, %v; want ErrClock", name, r, err)
		}
		if r, err := j.Purge(officer(t), audit.Purge{ClockChecked: true}); err != nil || r.Segments != 1 {
			t.Errorf("%s: Purge(ClockChecked) = %+v, %v", name, r, err)
		}
	}
}

// A hold on one patient of a list holds the list's detail, however many lines it
// takes, and in however many segments.
func TestAHoldReachesEveryLineOfAnEvent(t *testing.T) {
	t.Parallel()
	clock := new(wall)
	clock.set(-7 * 366 * 24 * time.Hour)
	j, dir := open(t, audit.Config{Now: clock.now, Timeout: time.Minute})
	ev := disclosed("r-0", "Jane Roe")
	ev.Objects = nil
	for i := range 6000 {
		id := fmt.Sprintf("r-%d", i)
		ev.Objects = append(ev.Objects, audit.Object{Type: "patient", Record: id, Patient: id})
	}
	receipt, err := j.Record(officer(t), ev)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Roll(); err != nil {
		t.Fatal(err)
	}
	if n := len(segmentFiles(t, dir)); n < 3 {
		t.Fatalf("%d segments: the event is in one", n)
	}
	clock.set(0)
	for _, patient := range []string{"r-0", "r-1400", "r-5999"} {
		hold, err := j.Hold(officer(t), audit.Hold{Patient: patient, Reason: audit.ReasonLitigation})
		if err != nil {
			t.Fatal(err)
		}
		if err := j.Erase(officer(t), audit.Erasure{Event: receipt.ID, Reason: audit.ReasonMistake, Early: true}); !errors.Is(err, audit.ErrHeld) {
			t.Errorf("Erase with a hold on %s = %v", patient, err)
		}
		if r, err := j.Purge(officer(t), audit.Purge{ClockChecked: true}); err != nil || r.Segments != 0 || len(detailFiles(t, dir)) != 1 {
			t.Errorf("Purge with a hold on %s = %+v, %v; %d details are left", patient, r, err, len(detailFiles(t, dir)))
		}
		if err := j.Release(officer(t), hold.ID); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := j.Purge(officer(t), audit.Purge{ClockChecked: true}); err != nil || r.Segments == 0 || len(detailFiles(t, dir)) != 0 {
		t.Errorf("Purge = %+v, %v; %d details are left", r, err, len(detailFiles(t, dir)))
	}
}

// A stuckDisk removes nothing while it is stuck.
type stuckDisk struct {
	audit.Disk
	stuck atomic.Bool
}

func (d *stuckDisk) Remove(name string) error {
	if d.stuck.Load() {
		return syscall.EIO
	}
	return d.Disk.Remove(name)
}

// about counts the events about a patient.
func about(t *testing.T, j *audit.Journal, patient string) (n int) {
	t.Helper()
	for _, err := range j.Events(officer(t), audit.Query{Tenant: "t-1", Patient: patient, Types: []audit.Type{audit.Disclosed}}) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

// What Hold says is held stays, also behind a purge that failed half-way.
func TestAHoldIsNotTooLate(t *testing.T) {
	t.Parallel()
	for _, obstacle := range []string{"detail", "segment"} {
		clock := new(wall)
		clock.set(-7 * 366 * 24 * time.Hour)
		dir := audittest.Dir(t) + "/audit"
		files, err := audittest.NewDisk(dir, 0)
		if err != nil {
			t.Fatal(err)
		}
		disk := &stuckDisk{Disk: files}
		cfg := audit.Config{Now: clock.now, Timeout: time.Minute, Disk: disk}
		j := reopen(t, dir, cfg)
		disclose(t, j, "r-1", "Jane Roe")
		if err := j.Roll(); err != nil {
			t.Fatal(err)
		}
		clock.set(0)
		record(t, j, reveal("r-2"))
		detail, aside := detailFiles(t, dir)[0], filepath.Join(t.TempDir(), "aside")
		if obstacle == "detail" {
			err = errors.Join(os.Rename(detail, aside), os.MkdirAll(filepath.Join(detail, "x"), 0o700))
		}
		if err != nil {
			t.Fatal(err)
		}
		disk.stuck.Store(obstacle == "segment")
		if _, err := j.Purge(officer(t), audit.Purge{ClockChecked: true}); err == nil {
			t.Fatalf("%s: the purge did not fail", obstacle)
		}
		_, err = j.Hold(officer(t), audit.Hold{Patient: "r-1", Reason: audit.ReasonLitigation})
		held := about(t, j, "r-1")
		if (err == nil) != (obstacle == "detail") || held != 1 {
			t.Errorf("%s: Hold = %v; %d events", obstacle, err, held)
		}
		disk.stuck.Store(false)
		if obstacle == "detail" {
			err = errors.Join(os.RemoveAll(detail), os.Rename(aside, detail))
		} else { // it is too late, and so nothing is left that is not held
			_, err = j.Hold(officer(t), audit.Hold{Patient: "r-1", Reason: audit.ReasonLitigation})
			held = about(t, j, "r-1")
		}
		if err = errors.Join(err, j.Close()); err != nil {
			t.Fatal(err)
		}
		if n := about(t, reopen(t, dir, cfg), "r-1"); n != held {
			t.Errorf("%s: %d of %d events that are held are left", obstacle, n, held)
		}
	}
}

// Reading while the keys are rotated finds no damage.
func TestReadingDuringRotations(t *testing.T) {
	t.Parallel()
	j, _ := open(t, audit.Config{Timeout: time.Minute})
	record(t, j, reveal("r-1"))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				n := 0
				for s, err := range j.Events(officer(t), audit.Query{Tenant: "t-1", Patient: "r-1"}) {
					if err != nil {
						t.Errorf("Events: %v", err)
						return
					}
					n += len(s.Objects)
				}
				if n == 0 {
					t.Error("the event is not found")
					return
				}
			}
		})
	}
	for range 12 {
		if err := j.RotateKeys(access.With(t.Context(), access.Principal{ID: "u-9", Tenant: "t-1", Kind: access.Human}, access.Compliance)); err != nil {
			t.Error(err)
		}
		record(t, j, reveal("r-1"))
	}
	close(stop)
	wg.Wait()
}
