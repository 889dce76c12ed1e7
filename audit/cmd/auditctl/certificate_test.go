// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
)

// A certificate of storage.Shred holds against the journal that recorded it,
// and each thing in it that was changed is named.
func TestCertificate(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(audittest.Dir(t), "audit")
	j, err := audit.Open(dir, audit.Config{Development: true, SegmentSize: 256 << 10})
	if err != nil {
		t.Fatal(err)
	}
	ctx := access.With(t.Context(), access.Principal{ID: "u-9", Tenant: "t-1", Kind: access.Human}, access.Compliance)
	objects := []audit.Object{
		{Type: "patient", Tenant: "t-1", Record: "r-1", Patient: "r-1"},
		{Type: "patient", Tenant: "t-1", Record: "r-2", Patient: "r-2"},
		{Type: "database", Record: "db-1"}, {Type: "approver", Record: "u-3"}, {Type: "authority.court_order", Record: "order-7"},
	}
	receipt, err := j.Record(ctx, audit.Event{Type: audit.Shredded, Outcome: audit.Success, Reason: audit.ReasonPending, Action: access.Shred, Objects: objects})
	if err != nil {
		t.Fatal(err)
	}
	other, err := j.Record(ctx, audit.Event{Type: audit.Searched, Outcome: audit.Success})
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	certificate := func(change func(c map[string]any)) string {
		c := map[string]any{
			"event": receipt.ID, "database": "db-1", "tenant": "t-1", "subject": "r-1", "method": "x", "by": "u-9", "keys": 1, "mac": "AA==",
			"authority": map[string]any{"basis": "court_order", "approver": "u-3", "reference": "order-7"},
			"shredded":  time.Now().Add(-time.Second).Format(time.RFC3339), "merged": []string{"r-2"}, "state": "pending",
		}
		change(c)
		text, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "certificate.json")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	keyed := []string{"--kek", dir + ".kek", "--tenant", "t-1", "--purpose", "HCOMPL"}
	check := func(path string) (int, string, string) {
		return ctl(t, append([]string{"certificate", dir, path}, keyed...)...)
	}
	good := certificate(func(map[string]any) {})
	if code, out, errs := check(good); code != exitOK || !strings.Contains(out, receipt.ID) || strings.Contains(out, "BROKEN") {
		t.Errorf("exit %d, %s%s", code, out, errs)
	}
	set := func(key string, value any) func(map[string]any) { return func(c map[string]any) { c[key] = value } }
	authority := func(key string) func(map[string]any) {
		return func(c map[string]any) { c["authority"].(map[string]any)[key] = "x-1" }
	}
	for name, tt := range map[string]struct {
		change func(map[string]any)
		says   string
	}{
		"another event":    {set("event", other.ID), "no shred event"},
		"no such event":    {set("event", receipt.ID+"9"), "no shred event"},
		"another patient":  {set("subject", "r-3"), "another patient"},
		"another merge":    {set("merged", []string{"r-4"}), "merged is not in the event"},
		"a merge less":     {set("merged", nil), "more or fewer patients"},
		"another database": {set("database", "db-2"), "another database"},
		"another doer":     {set("by", "u-8"), "another principal"},
		"another time":     {set("shredded", "2020-01-01T00:00:00Z"), "another time"},
		"another basis":    {authority("basis"), "another authority"},
		"another approver": {authority("approver"), "somebody else approved"},
		"another order":    {authority("reference"), "another authority"},
		"not confirmed":    {set("state", "complete"), "no event of its confirmation"},
	} {
		if code, out, errs := check(certificate(tt.change)); code != exitBroken || !strings.Contains(out, "BROKEN") || !strings.Contains(out, tt.says) {
			t.Errorf("%s: exit %d, %s%s", name, code, out, errs)
		}
	}
	for name, path := range map[string]string{
		"no file": good + "x", "no certificate": dir + "/verifier.pub", "another tenant": certificate(set("tenant", "t-2")),
	} {
		if code, out, errs := check(path); code != exitCannotRun || out != "" || errs == "" {
			t.Errorf("%s: exit %d, %q, %q", name, code, out, errs)
		}
	}
	// Once it was confirmed.
	if j, err = audit.Open(dir, audit.Config{Development: true, SegmentSize: 256 << 10}); err != nil {
		t.Fatal(err)
	}
	if _, err := j.Record(ctx, audit.Event{Type: audit.Shredded, Outcome: audit.Success, Action: access.Shred, Objects: []audit.Object{objects[0], objects[2]}}); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	code, out, errs := ctl(t, append([]string{"certificate", dir, certificate(set("state", "complete")), "--json"}, keyed...)...)
	var v struct {
		OK       bool     `json:"ok"`
		Findings []string `json:"findings"`
	}
	if err := json.Unmarshal([]byte(out), &v); err != nil || code != exitOK || !v.OK || v.Findings == nil {
		t.Errorf("confirmed: exit %d, %s%s", code, out, errs)
	}
	if n := len(recorded(t, dir, audit.Reported)); n < 14 {
		t.Errorf("%d openings are recorded", n)
	}
}
