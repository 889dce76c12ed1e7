// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/witness"
)

func TestTheTrailIsWitnessed(t *testing.T) {
	base, err := os.MkdirTemp(".", "witness-*.tmp") // the one for temporary files may lie in memory
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(base)
	o := options{data: filepath.Join(base, "data"), witness: filepath.Join(base, "data", "witness.jsonl")}
	if a, err := open(t.Context(), o); err == nil {
		t.Errorf("a witness in the data folder: opens")
		_ = a.close()
	}
	o.witness = filepath.Join(base, "witness.jsonl")
	a, err := open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.close(); err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(filepath.Join(o.in("audit"), "verifier.pub"))
	if err != nil {
		t.Fatal(err)
	}
	anchors, err := witness.Read(o.witness, witness.Trust{Logs: []string{string(key)}})
	if err != nil {
		t.Fatal(err)
	}
	r, err := audit.Verify(t.Context(), o.in("audit"), audit.VerifyConfig{Anchors: anchors})
	if err != nil || r.Broken() || !r.Witnessed() || r.Completeness.Tail != 1 {
		t.Errorf("Verify = %v, %+v", err, r.Completeness)
	}
}
