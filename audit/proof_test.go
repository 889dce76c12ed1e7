// SPDX-License-Identifier: Apache-2.0

package audit_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/part164/part164/audit"
)

func publicKey(t testing.TB, dir string) string {
	t.Helper()
	key, err := os.ReadFile(filepath.Join(dir, "verifier.pub"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(key))
}

func TestEachEventIsProved(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{small(t), segmented(t)} {
		all, err := readAll(t, dir, audit.Position{})
		if err != nil {
			t.Fatal(err)
		}
		key := publicKey(t, dir)
		last, err := audit.LastCheckpoint(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range all {
			p, err := audit.Prove(t.Context(), dir, l.ID, nil)
			if err != nil {
				t.Fatalf("%s: %v", l.ID, err)
			}
			data, err := json.Marshal(p)
			if err != nil {
				t.Fatal(err)
			}
			ev, cp, err := audit.VerifyProof(data, key)
			if err != nil || ev.ID != l.ID || ev.Type != l.Type || cp.Size != last.Size || cp.Root != last.Root || p.Line != string(l.Raw) {
				t.Fatalf("%s: %+v, %v", l.ID, ev, err)
			}
		}
	}
}

func TestAProofOfAnythingElseIsRefused(t *testing.T) {
	t.Parallel()
	dir, other := small(t), small(t)
	all, err := readAll(t, dir, audit.Position{})
	if err != nil {
		t.Fatal(err)
	}
	id := all[3].ID
	good, err := audit.Prove(t.Context(), dir, id, nil)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := audit.LastCheckpoint(t.Context(), other)
	if err != nil {
		t.Fatal(err)
	}
	key := publicKey(t, dir)
	check := func(name string, change func(*audit.Proof)) {
		t.Helper()
		p := good
		p.Inclusion = append([][]byte(nil), good.Inclusion...)
		change(&p)
		data, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := audit.VerifyProof(data, key); (err == nil) != (name == "good") {
			t.Errorf("%s: %v", name, err)
		}
	}
	check("good", func(*audit.Proof) {})
	check("edited line", func(p *audit.Proof) {
		p.Line = string(audit.Rechecksum([]byte(strings.Replace(p.Line, "u-17", "u-18", 1))))
	})
	check("another line", func(p *audit.Proof) { p.Line = string(all[4].Raw) })
	check("another event", func(p *audit.Proof) { p.Event = all[4].ID })
	check("a hash less", func(p *audit.Proof) { p.Inclusion = p.Inclusion[1:] })
	check("a hash more", func(p *audit.Proof) { p.Inclusion = append(p.Inclusion, p.Inclusion[0]) })
	check("another hash", func(p *audit.Proof) {
		p.Inclusion[0] = bytes.Clone(p.Inclusion[0])
		p.Inclusion[0][0] ^= 1
	})
	check("another size", func(p *audit.Proof) { p.Size-- })
	check("another journal's checkpoint", func(p *audit.Proof) { p.Checkpoint = string(foreign.Note) })
	check("another root", func(p *audit.Proof) { p.Checkpoint = strings.Replace(p.Checkpoint, "\n12\n", "\n11\n", 1) })
	check("future format", func(p *audit.Proof) { p.Format = 2 })
	data, err := json.Marshal(good)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{
		"nothing": nil, "cut": data[:len(data)-2], "more": append(bytes.Clone(data), '{'), "field": []byte(`{"x":1}`),
	} {
		if _, _, err := audit.VerifyProof(text, key); err == nil {
			t.Errorf("%s: passes", name)
		}
	}
	if _, _, err := audit.VerifyProof(data, publicKey(t, other)); err == nil {
		t.Error("another journal's key: passes")
	}
	for _, id := range []string{"", "x.3", all[0].Position.Writer + ".99", all[0].Position.Writer + ".-1"} {
		if _, err := audit.Prove(t.Context(), dir, id, nil); err == nil {
			t.Errorf("%q is proved", id)
		}
	}
	if _, err := audit.Prove(t.Context(), dir, id, foreign.Note); err == nil {
		t.Error("proved under another journal's checkpoint")
	}
	// The line was changed since: the journal itself does not prove it.
	f := takeApart(t, dir)
	lines := append([][]byte(nil), f.lines...)
	at := all[3].Seq
	lines[at] = audit.Rechecksum(bytes.Replace(lines[at], []byte("u-17"), []byte("u-18"), 1))
	f.write(t, audit.Rechain(lines, int(at)))
	if _, err := audit.Prove(t.Context(), dir, id, nil); err == nil {
		t.Error("an edited journal proves the edited line")
	}
}

func TestConsistencyIsProvedBetweenAllCheckpoints(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{small(t), segmented(t)} {
		all := anchors(t, dir)
		for i, a := range all {
			for _, b := range all[i:] {
				p, err := audit.Consistency(t.Context(), dir, a.Size, b.Size)
				if err != nil {
					t.Fatal(err)
				}
				if err := proof.VerifyConsistency(rfc6962.DefaultHasher, a.Size, b.Size, p, a.Root[:], b.Root[:]); err != nil {
					t.Errorf("%d to %d: %v", a.Size, b.Size, err)
				}
			}
		}
		last := all[len(all)-1].Size
		if _, err := audit.Consistency(t.Context(), dir, last, last+100); err == nil {
			t.Error("proved to a size that the journal does not have")
		}
		if _, err := audit.Consistency(t.Context(), dir, last, 1); err == nil {
			t.Error("proved backwards")
		}
	}
}

// A checkpoint that is not durable must not reach a witness: after a power cut
// the journal would look truncated.
func TestLastCheckpointIsDurable(t *testing.T) {
	t.Parallel()
	j, dir := open(t, audit.Config{CheckpointEvery: time.Minute})
	own, err := j.LastCheckpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	outside, err := audit.LastCheckpoint(t.Context(), dir)
	if err != nil || outside.Size >= own.Size || own.Size != 5 {
		t.Errorf("in use: %d lines outside, %d inside, %v; want the one before the last group, and the last", outside.Size, own.Size, err)
	}
	record(t, j, reveal("r-1"))
	if outside, err = audit.LastCheckpoint(t.Context(), dir); err != nil || outside.Size != own.Size {
		t.Errorf("with another group behind it: %d, %v", outside.Size, err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	all := anchors(t, dir)
	if outside, err = audit.LastCheckpoint(t.Context(), dir); err != nil || outside.Size != all[len(all)-1].Size {
		t.Errorf("closed: %d, %v", outside.Size, err)
	}
}
