// SPDX-License-Identifier: Apache-2.0

package witness_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/witness"
)

// A first witness: a file on a disk or share that the journal's administrators
// do not administer. auditctl verify reads it with --witness and --witness-key.
func Example() {
	base, err := os.MkdirTemp(".", "example-*.tmp")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(base)
	dir, mount := filepath.Join(base, "audit"), base // the mount of other people's disk
	journal, err := audit.Open(dir, audit.Config{Development: true})
	if err != nil {
		log.Fatal(err)
	}

	// Once: the witness's key stays with it; the auditor gets verifier.
	key, verifier, err := witness.GenerateKey("auditor.example/w1")
	if err != nil {
		log.Fatal(err)
	}
	logs, err := os.ReadFile(filepath.Join(dir, "verifier.pub"))
	if err != nil {
		log.Fatal(err)
	}
	w, err := witness.Open(filepath.Join(mount, "witness.jsonl"), witness.Config{Key: key, Logs: []string{string(logs)}})
	if err != nil {
		log.Fatal(err)
	}
	// go witness.Run(ctx, journal, w, witness.RunConfig{}) shows it a checkpoint a
	// minute; Submit shows it one.
	ctx := context.Background()
	if _, err := witness.Submit(ctx, journal, w); err != nil {
		log.Fatal(err)
	}
	if err := journal.Close(); err != nil {
		log.Fatal(err)
	}
	if _, err := witness.Submit(ctx, witness.Folder(dir), w); err != nil {
		log.Fatal(err)
	}
	if err := w.Close(); err != nil {
		log.Fatal(err)
	}

	anchors, err := witness.Read(filepath.Join(mount, "witness.jsonl"), witness.Trust{Witnesses: []string{verifier}})
	if err != nil {
		log.Fatal(err)
	}
	report, err := audit.Verify(ctx, dir, audit.VerifyConfig{Verifier: string(logs), Anchors: anchors})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(report.Completeness.Length, "by", report.Completeness.Anchor.By)
	// Output: witnessed by auditor.example/w1
}
