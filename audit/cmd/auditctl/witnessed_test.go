// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/witness"
)

// A watched is a journal that a witness saw.
type watched struct {
	dir, file, key, pub string // folder, and files of the witness and of the keys
	w                   *witness.Witness
}

func watch(t *testing.T, dirs ...string) *watched {
	t.Helper()
	base := t.TempDir()
	x := &watched{dir: dirs[0], file: filepath.Join(base, "witness.jsonl"), key: filepath.Join(base, "witness.pub"), pub: filepath.Join(base, "verifier.pub")}
	signer, verifier, err := witness.GenerateKey("witness.test/w1")
	if err != nil {
		t.Fatal(err)
	}
	var pubs []string
	for _, dir := range dirs {
		pub, err := os.ReadFile(filepath.Join(dir, "verifier.pub"))
		if err != nil {
			t.Fatal(err)
		}
		pubs = append(pubs, string(pub))
	}
	for path, text := range map[string]string{x.key: verifier, x.pub: strings.Join(pubs, "")} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if x.w, err = witness.Open(x.file, witness.Config{Key: signer, Logs: pubs}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = x.w.Close() })
	for _, dir := range dirs {
		if _, err := witness.Submit(t.Context(), witness.Folder(dir), x.w); err != nil {
			t.Fatal(err)
		}
	}
	return x
}

func TestVerifyWithAWitness(t *testing.T) {
	t.Parallel()
	dir, other := journal(t), journal(t)
	x := watch(t, dir, other)
	all := []string{"verify", dir, other, "--pubkey", x.pub, "--witness", x.file, "--witness-key", x.key, "--require-witness"}
	code, out, errs := ctl(t, all...)
	if code != exitOK || strings.Count(out, "\ncompleteness   witnessed at 11 lines by witness.test/w1 at ") != 2 || strings.Count(out, "UNWITNESSED tail of 1 since") != 2 || strings.Contains(out, "folder:") {
		t.Errorf("exit %d, %s:\n%s", code, errs, out)
	}
	// By the file's place only.
	if code, out, errs := ctl(t, "verify", dir, other, "--witness", x.file); code != exitOK || !strings.Contains(out, "by witness.jsonl") {
		t.Errorf("no witness key: exit %d, %s:\n%s", code, errs, out)
	}
	// A folder less.
	code, out, _ = ctl(t, "verify", dir, "--pubkey", x.pub, "--witness", x.file, "--witness-key", x.key)
	if code != exitBroken || !strings.Contains(out, "\nABSENT: part164/j") {
		t.Errorf("a folder less: exit %d:\n%s", code, out)
	}
	// Over HTTPS, from the authority that is given.
	srv := httptest.NewTLSServer(http.StripPrefix("/w1", x.w))
	defer srv.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out, errs := ctl(t, "verify", dir, other, "--witness", srv.URL+"/w1", "--witness-key", x.key, "--witness-ca", ca, "--require-witness"); code != exitOK {
		t.Errorf("https: exit %d, %s:\n%s", code, errs, out)
	}
	_, stranger, err := witness.GenerateKey("witness.test/w2")
	if err != nil {
		t.Fatal(err)
	}
	strange := filepath.Join(t.TempDir(), "strange.pub")
	if err := os.WriteFile(strange, []byte(stranger), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"another witness's key":   {"--witness", x.file, "--witness-key", strange},
		"another witness's URL":   {"--witness", srv.URL, "--witness-key", strange, "--witness-ca", ca},
		"a URL without a key":     {"--witness", srv.URL},
		"an unknown authority":    {"--witness", srv.URL + "/w1", "--witness-key", x.key},
		"a key without a witness": {"--witness-key", x.key},
		"no such file":            {"--witness", x.file + "x"},
		"http":                    {"--witness", "http://witness.example", "--witness-key", x.key},
		"a CA that is none":       {"--witness", srv.URL, "--witness-key", x.key, "--witness-ca", x.key},
	} {
		if code, out, errs := ctl(t, append([]string{"verify", dir, other}, args...)...); code != exitCannotRun || out != "" || errs == "" {
			t.Errorf("%s: exit %d, %q, %q", name, code, out, errs)
		}
	}
	// The tail is cut at the end of a line.
	path := filepath.Join(dir, "00000001.jsonl")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(data[:bytes.LastIndexByte(data, '\n')+1], []byte("\n"))
	cut := make([]byte, len(data))
	copy(cut, bytes.Join(lines[:8], nil))
	if err := os.WriteFile(path, cut, 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, _ := ctl(t, "verify", dir); code != exitOK {
		t.Errorf("cut, without a witness: exit %d", code)
	}
	code, out, _ = ctl(t, all...)
	if code != exitBroken || !strings.Contains(out, "completeness   TRUNCATED: 3 lines are missing that witness.test/w1 saw") {
		t.Errorf("cut: exit %d:\n%s", code, out)
	}
	_, out, _ = ctl(t, append(all, "--json")...)
	var sum summary
	if err := json.Unmarshal([]byte(out), &sum); err != nil || sum.OK || sum.Journals[0].Completeness != "truncated" || sum.Journals[0].Missing != 3 || !sum.Journals[1].Witnessed {
		t.Errorf("cut, --json: %v %s", err, out)
	}
}

func TestProveAndVerifyProof(t *testing.T) {
	t.Parallel()
	dir, other := journal(t), journal(t)
	x := watch(t, dir)
	event := ""
	for l, err := range audit.Read(t.Context(), dir, audit.Position{}) {
		if err != nil {
			t.Fatal(err)
		}
		if l.Type == audit.Searched {
			event = l.ID
		}
	}
	write := func(data string) string {
		path := filepath.Join(t.TempDir(), "proof.json")
		if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	code, bare, errs := ctl(t, "prove", dir, event)
	if code != exitOK {
		t.Fatalf("exit %d, %s", code, errs)
	}
	code, seen, errs := ctl(t, "prove", dir, event, "--witness", x.file, "--witness-key", x.key)
	if code != exitOK {
		t.Fatalf("exit %d, %s", code, errs)
	}
	code, out, _ := ctl(t, "verify-proof", write(bare), "--pubkey", x.pub)
	if code != exitOK || !strings.Contains(out, event) || !strings.Contains(out, "u-1 of t-1, for TREAT") || !strings.Contains(out, "UNWITNESSED") {
		t.Errorf("exit %d:\n%s", code, out)
	}
	if code, _, _ := ctl(t, "verify-proof", write(bare), "--pubkey", x.pub, "--witness-key", x.key, "--require-witness"); code != exitUnwitnessed {
		t.Errorf("bare, a witness required: exit %d", code)
	}
	code, out, _ = ctl(t, "verify-proof", write(seen), "--pubkey", x.pub, "--witness-key", x.key, "--require-witness")
	if code != exitOK || !strings.Contains(out, "witnessed  by witness.test/w1 at ") || strings.Contains(out, "UNWITNESSED") {
		t.Errorf("exit %d:\n%s", code, out)
	}
	code, out, _ = ctl(t, "verify-proof", write(seen), "--pubkey", x.pub, "--json")
	var v struct {
		OK    bool   `json:"ok"`
		Event string `json:"event"`
	}
	if err := json.Unmarshal([]byte(out), &v); err != nil || code != exitOK || !v.OK || v.Event != event {
		t.Errorf("--json: exit %d, %s", code, out)
	}
	edited := strings.Replace(bare, "u-1", "u-2", 1)
	for name, args := range map[string][]string{
		"edited": {write(edited), "--pubkey", x.pub},
		"junk":   {write("junk"), "--pubkey", x.pub},
	} {
		if code, out, errs := ctl(t, append([]string{"verify-proof"}, args...)...); code != exitBroken || out != "" || !strings.Contains(errs, "BROKEN") {
			t.Errorf("%s: exit %d, %q, %q", name, code, out, errs)
		}
	}
	// With another journal's key it can be said neither way.
	if code, out, errs := ctl(t, "verify-proof", write(bare), "--pubkey", filepath.Join(other, "verifier.pub")); code != exitCannotRun || out != "" ||
		strings.Contains(errs, "BROKEN") || !strings.Contains(errs, "newest verifier.pub") {
		t.Errorf("another key: exit %d, %q, %q", code, out, errs)
	}
	for _, args := range [][]string{
		{"verify-proof"}, {"verify-proof", write(bare)}, {"verify-proof", write(bare), "--pubkey", x.pub, "--require-witness"},
		{"verify-proof", write(bare) + "x", "--pubkey", x.pub}, {"prove", dir}, {"prove", dir, event + "9"}, {"prove", other, event},
		{"prove", other, event, "--witness", x.file, "--witness-key", x.key},
	} {
		if code, out, errs := ctl(t, args...); code != exitCannotRun || out != "" || errs == "" {
			t.Errorf("%v: exit %d, %q, %q", args, code, out, errs)
		}
	}
}
