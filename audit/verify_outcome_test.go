// SPDX-License-Identifier: Apache-2.0

package audit_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/part164/part164/audit"
)

// A write has one outcome. It may be said twice, and by another writer; that it
// was committed and rolled back cannot both be true.
func TestVerifyFindsAWriteWithTwoOutcomes(t *testing.T) {
	t.Parallel()
	dir := small(t)
	f := takeApart(t, dir)
	key, err := os.ReadFile(filepath.Join(dir, "verifier.pub"))
	if err != nil {
		t.Fatal(err)
	}
	// 8 is an attempt, 9 its commit, 10 another attempt.
	const committed, rolledBack = "write.committed", "write.rolled_back"
	if !bytes.Contains(f.lines[9], []byte(`"type":"`+committed+`"`)) {
		t.Fatalf("%s", f.lines[9])
	}
	own := string(f.lines[9][bytes.Index(f.lines[9], []byte(`"attempt":"`))+len(`"attempt":"`):])
	own, _, _ = strings.Cut(own, `"`)
	other := strings.Repeat("9", len(own)-2) + ".8"
	for name, tt := range map[string]struct {
		attempt string
		types   [3]string // of lines 6, 7 and 11, the last two about it
		seq     uint64    // of the defect; 0 for none
	}{
		"committed twice":                   {own, [3]string{"", "", committed}, 0},
		"committed, and then rolled back":   {own, [3]string{"", "", rolledBack}, 11},
		"another's, committed twice":        {other, [3]string{committed, committed, committed}, 0},
		"another's, rolled back twice":      {other, [3]string{rolledBack, "", rolledBack}, 0},
		"another's, and then rolled back":   {other, [3]string{"", committed, rolledBack}, 11},
		"another's, committed after all":    {other, [3]string{"", rolledBack, committed}, 11},
		"another's, rolled back in between": {other, [3]string{rolledBack, committed, rolledBack}, 7},
	} {
		lines, vkey := audit.Anew(t, f.lines, strings.TrimSpace(string(key)), func(i int, _ *[]byte, body []byte) []byte {
			for n, at := range []int{6, 7, 11} {
				if i == at && tt.types[n] != "" {
					return []byte(`,"type":"` + tt.types[n] + `","attempt":"` + tt.attempt + `","outcome":"success"`)
				}
			}
			return body
		})
		d := copied(t, dir)
		g := f
		g.path = segmentFile(d, 1)
		g.write(t, lines)
		put(t, filepath.Join(d, "verifier.pub"), []byte(vkey+"\n"))
		fast, slow, err := audit.VerifyBothWays(t.Context(), d, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range []audit.Report{fast, slow} {
			if tt.seq == 0 && r.Broken() || tt.seq > 0 && (len(r.Defects) != 1 || r.Defects[0].Seq != tt.seq || !strings.Contains(r.Defects[0].Problem, tt.attempt) || !strings.Contains(r.Defects[0].Problem, "only one can be true")) {
				t.Errorf("%s: %v", name, r.Defects)
			}
		}
	}
}

func TestVerifyAllFindsAWriteWithTwoOutcomes(t *testing.T) {
	t.Parallel()
	for name, rolledBack := range map[string]bool{"rolled back by its own writer": true, "committed twice": false} {
		j, dir := open(t, audit.Config{})
		ticket, err := j.Attempt(treat(t), attempt("r-1"))
		if err != nil {
			t.Fatal(err)
		}
		if rolledBack {
			err = j.Rollback(t.Context(), []audit.Ticket{ticket})
		} else {
			_, err = j.Commit(t.Context(), []audit.Ticket{ticket})
		}
		if err != nil {
			t.Fatal(err)
		}
		other, otherDir := open(t, audit.Config{})
		if err := audit.SettleFor(other, ticket); err != nil {
			t.Fatal(err)
		}
		for _, x := range []*audit.Journal{j, other} {
			if err := x.Close(); err != nil {
				t.Fatal(err)
			}
		}
		for _, dirs := range [][]string{{dir, otherDir}, {otherDir, dir}} {
			s, err := audit.VerifyAll(t.Context(), dirs, audit.VerifyConfig{})
			if err != nil || s.Broken() != rolledBack {
				t.Fatalf("%s: %+v, %v", name, s.Reports, err)
			}
			for _, r := range s.Reports {
				if want := rolledBack && r.Dir == otherDir; (len(r.Defects) == 1) != want || want && !strings.Contains(r.Defects[0].Problem, ticket.Attempt) {
					t.Errorf("%s: %s: %v", name, r.Origin, r.Defects)
				}
			}
		}
	}
}
