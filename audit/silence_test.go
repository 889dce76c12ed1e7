// SPDX-License-Identifier: Apache-2.0

package audit_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/part164/part164/audit"
)

// silences verifies the journal in dir in both ways, and returns what it says of
// silences.
func silences(t *testing.T, dir string) []audit.Silence {
	t.Helper()
	fast, slow, err := audit.VerifyBothWays(t.Context(), dir, nil)
	if err != nil || fast.Broken() || slow.Broken() {
		t.Fatalf("Verify = %v %v, %v", fast.Defects, slow.Defects, err)
	}
	if len(fast.Silences) != len(slow.Silences) || len(fast.Silences) > 0 && fast.Silences[0] != slow.Silences[0] {
		t.Errorf("quickly %v, slowly %v", fast.Silences, slow.Silences)
	}
	return fast.Silences
}

// A tail that is cut off while nothing runs, and a journal that then goes on,
// verify clean (CVE-2023-31438), but for the time in which nothing was signed:
// an idle journal signs, and one that was closed says so.
func TestVerifyNamesTheTimesWithoutAHeartbeat(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		cfg := audit.Config{CheckpointEvery: time.Minute}
		const rest = 5 * time.Hour
		j, idle := open(t, cfg)
		kek, err := os.ReadFile(idle + ".kek")
		if err != nil {
			t.Fatal(err)
		}
		resume := func(dir string) string {
			t.Helper()
			put(t, dir+".kek", kek)
			j := reopen(t, dir, cfg)
			record(t, j, reveal("r-3"))
			time.Sleep(2 * time.Minute)
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
			return dir
		}

		record(t, j, reveal("r-1"), reveal("r-2"))
		time.Sleep(2 * time.Minute)
		killed := copied(t, idle)
		time.Sleep(10 * time.Minute)
		if got := silences(t, resume(copied(t, killed))); len(got) != 0 {
			t.Errorf("killed, and up again 10 minutes later: %v", got)
		}
		time.Sleep(rest)
		if err := j.Roll(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(rest)
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		if r := verify(t, idle); r.Checkpoints < 40 || len(silences(t, idle)) != 0 {
			t.Errorf("idle: %d checkpoints in 10 hours, %v", r.Checkpoints, r.Silences)
		}
		time.Sleep(rest)
		closed := copied(t, idle)
		if got := silences(t, resume(closed)); len(got) != 0 {
			t.Errorf("closed in order: %v", got)
		}

		// The attack: the last lines go, and the journal goes on.
		data := readSegment(t, idle, 2)
		lines := bytes.SplitAfter(data, []byte("\n"))
		closing := lines[len(lines)-3:] // journal.closed and its checkpoint, and what is behind the last newline
		if !strings.Contains(string(closing[0]), `"type":"journal.closed"`) {
			t.Fatalf("%s", closing)
		}
		put(t, segmentFile(idle, 2), bytes.Join(lines[:len(lines)-3], nil))
		if got := silences(t, resume(idle)); len(got) != 1 || !got[0].Reopened || got[0].To.Sub(got[0].From) < rest || got[0].File != "00000002.jsonl" || !strings.Contains(got[0].String(), "its end was cut off") {
			t.Errorf("cut, and gone on with: %v", got)
		}
		if got := silences(t, resume(killed)); len(got) != 1 || !got[0].Reopened || got[0].File != "00000001.jsonl" {
			t.Errorf("killed, and up again the next day: %v", got)
		}
	})
}

// A journal that runs and does not sign; that its clock was set forward is a
// reason which it records itself.
func TestVerifyNamesATimeInWhichNobodySigned(t *testing.T) {
	t.Parallel()
	dir := small(t)
	f := takeApart(t, dir)
	key, err := os.ReadFile(filepath.Join(dir, "verifier.pub"))
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []string{"", "3600000", "36000000"} { // in milliseconds
		lines, vkey := audit.Anew(t, f.lines, strings.TrimSpace(string(key)), func(i int, at *[]byte, body []byte) []byte {
			if i > 5 {
				was, err := time.Parse("2006-01-02T15:04:05.000000Z", string(*at))
				if err != nil {
					t.Fatal(err)
				}
				*at = []byte(was.Add(2 * time.Hour).Format("2006-01-02T15:04:05.000000Z"))
			}
			if i == 6 && step != "" {
				return []byte(`,"type":"clock.off","outcome":"failure","reason":"set.forward","count":` + step)
			}
			return body
		})
		f.write(t, lines)
		put(t, filepath.Join(dir, "verifier.pub"), []byte(vkey+"\n"))
		got := silences(t, dir)
		if want := step != "36000000"; (len(got) == 1) != want || want && (got[0].Reopened || got[0].Seq != 12) {
			t.Errorf("a step of %q ms: %v", step, got)
		}
	}
}
