// SPDX-License-Identifier: Apache-2.0

package policystore_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/policystore"
)

// TestWhatSomebodyElseWrites: a row that SQL has put there, changed or taken
// away is not put in force, and Verify names it.
func TestWhatSomebodyElseWrites(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		w := initiated(t, d, nil)
		alice := as(t, "u-alice", access.SystemAdmin)
		id := propose(t, w.Store, "u-alice", give("u-fay", "nurse"))
		if _, err := w.Approve(as(t, "u-bob", access.SystemAdmin), id); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Apply(alice, take("u-fay", "nurse")); err != nil {
			t.Fatal(err)
		}
		if err := storage.Settle(t.Context(), w.db.DB); err != nil {
			t.Fatal(err)
		}
		const grab = "INSERT INTO policy_links (kind, tenant, member, role, revision) VALUES ('user', 't-1', 'u-mallory', 'nurse', 2)"
		for _, tt := range []struct {
			name, sql string
			undo      string
			want      []string
			starts    bool // a process that starts takes the policy: what was changed is history
		}{
			{"a role for a user", grab, "DELETE FROM policy_links WHERE member = 'u-mallory'",
				[]string{"row.unexplained", "u-mallory", "revision.forged"}, false},
			{"another role in place of one", "UPDATE policy_links SET role = 'security' WHERE member = 'u-nora'", "UPDATE policy_links SET role = 'nurse' WHERE member = 'u-nora'",
				[]string{"row.unexplained", "row.missing", "u-nora"}, false},
			{"a rule for more", "UPDATE policy_rules SET resource = '*' WHERE role = 'nurse' AND purpose = 'TREAT'", "UPDATE policy_rules SET resource = 'patient' WHERE role = 'nurse' AND purpose = 'TREAT'",
				[]string{"row.unexplained", "row.missing", "role nurse may read *"}, false},
			{"a rule taken away", "DELETE FROM policy_rules WHERE role = 'nurse' AND purpose = 'BTG'", "INSERT INTO policy_rules (role, tenant, resource, action, purpose, effect, revision) VALUES ('nurse', '*', 'patient', 'read', 'BTG', 'allow', 1)",
				[]string{"row.missing revision 1", "for BTG"}, false},
			{"a row that says it is older", "UPDATE policy_links SET revision = 2 WHERE member = 'u-nora'", "UPDATE policy_links SET revision = 1 WHERE member = 'u-nora'",
				[]string{"row.edited revision 2", "u-nora"}, true},
			{"no revision row", "UPDATE policy_revision SET revision = 4", "UPDATE policy_revision SET revision = 3",
				[]string{"revision.forged", "change.missing revision 4"}, false},
			{"a change by somebody else", "UPDATE policy_changes SET author = 'u-bob' WHERE revision = 3", "UPDATE policy_changes SET author = 'u-alice' WHERE revision = 3",
				[]string{"change.edited revision 3"}, true},
			{"a change without an approver", "UPDATE policy_changes SET approver = 'u-carol' WHERE revision = 2", "UPDATE policy_changes SET approver = 'u-bob' WHERE revision = 2",
				[]string{"change.edited revision 2", "trail.differs revision 2"}, true},
			{"an edit of history", "UPDATE policy_edits SET member = 'u-gus' WHERE member = 'u-fay' AND op = 'add'", "UPDATE policy_edits SET member = 'u-fay' WHERE member = 'u-gus' AND op = 'add'",
				[]string{"change.edited revision 2"}, true},
		} {
			if err := w.db.Exec(tt.sql).Error; err != nil {
				t.Fatal(tt.name, err)
			}
			fresh, err := policystore.New(w.config(nil))
			if err != nil {
				t.Fatal(err)
			}
			switch err := fresh.Open(t.Context(), w.db.DB); {
			case !tt.starts && !errors.Is(err, policystore.ErrForged):
				t.Errorf("%s: Open = %v, want ErrForged", tt.name, err)
			case tt.starts && err != nil:
				t.Errorf("%s: Open = %v", tt.name, err)
			}
			if got := code(t, w, as(t, "u-mallory", access.Treatment), access.Read, "patient"); got != access.DenyNoRule {
				t.Errorf("%s: mallory in a process that runs: %s", tt.name, got)
			}
			if !tt.starts {
				if got := code(t, fresh, as(t, "u-mallory", access.Treatment), access.Read, "patient"); !strings.Contains(string(got), "no database") {
					t.Errorf("%s: in one that starts: %s", tt.name, got)
				}
			}
			fresh.Close()
			v, err := w.Verify(alice, w.db.Trail)
			if err != nil {
				t.Fatal(tt.name, err)
			}
			text := fmt.Sprint(v.Findings)
			for _, want := range tt.want {
				if !strings.Contains(text, want) {
					t.Errorf("%s: no %q in %s", tt.name, want, text)
				}
			}
			if err := w.db.Exec(tt.undo).Error; err != nil {
				t.Fatal(tt.name, err)
			}
			if v, err := w.Verify(alice, w.db.Trail); err != nil || !v.OK() {
				t.Fatalf("%s, undone: %+v, %v", tt.name, v, err)
			}
		}
		// A change that somebody makes next does not launder a row.
		if err := w.db.Exec(grab).Error; err != nil {
			t.Fatal(err)
		}
		if _, err := w.Apply(alice, take("u-nora", "nurse")); err != nil {
			t.Fatal(err)
		}
		if err := newStore(t, w).Open(t.Context(), w.db.DB); !errors.Is(err, policystore.ErrForged) {
			t.Errorf("Open after another change = %v", err)
		}
		// Nor can what is forged be taken away as if it had been given.
		if _, err := w.Apply(alice, take("u-mallory", "nurse")); !errors.Is(err, policystore.ErrConflict) {
			t.Errorf("Apply to a forged row = %v", err)
		}
	})
}

func newStore(t *testing.T, w *world) *policystore.Store {
	t.Helper()
	s, err := policystore.New(w.config(nil))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestARunningProcessIsTold: where the revision row itself is forged, it keeps
// its policy, records it, and denies once it is stale.
func TestARunningProcessIsTold(t *testing.T) {
	t.Parallel()
	w := initiated(t, sqliteFile(t), nil)
	forge := func(sql string) {
		t.Helper()
		if err := w.db.Exec(sql).Error; err != nil {
			t.Fatal(err)
		}
	}
	recorded := func(reason audit.Reason) {
		t.Helper()
		eventually(t, "a record of "+string(reason), func() bool {
			for _, ev := range w.db.Trail.Events() {
				if ev.Type == audit.PolicyRefused && ev.Reason == reason {
					return true
				}
			}
			return false
		})
	}
	forge("INSERT INTO policy_links (kind, tenant, member, role, revision) VALUES ('user', 't-1', 'u-mallory', 'nurse', 1)")
	forge("UPDATE policy_revision SET revision = 7")
	recorded(audit.ReasonForged)
	if got := code(t, w, as(t, "u-mallory", access.Treatment), access.Read, "patient"); got != access.DenyNoRule {
		t.Errorf("mallory: %s", got)
	}
	w.clock.forward(2 * time.Minute)
	want(t, "a forged policy for too long", all(t, w.Store, as(t, "u-nora", access.Treatment)), access.DenyStale)
	forge("UPDATE policy_revision SET revision = 1")
	eventually(t, "it comes back", func() bool { return w.nora(t) == access.AllowRule })
	forge("UPDATE policy_revision SET revision = 0")
	recorded(audit.ReasonSetBack)
	forge("DELETE FROM policy_revision")
	w.clock.forward(2 * time.Minute)
	want(t, "without a revision", all(t, w.Store, as(t, "u-nora", access.Treatment)), access.DenyStale)
}

// TestAnOldStateUnderTheNewRevision: all of it was written by the store once, and
// never together.
func TestAnOldStateUnderTheNewRevision(t *testing.T) {
	t.Parallel()
	w := initiated(t, sqliteFile(t), nil)
	if err := w.db.Exec("CREATE TABLE old AS SELECT * FROM policy_revision").Error; err != nil {
		t.Fatal(err)
	}
	if _, err := w.Apply(as(t, "u-alice", access.SystemAdmin), take("u-nora", "nurse")); err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{
		"INSERT INTO policy_links (kind, tenant, member, role, revision) VALUES ('user', 't-1', 'u-nora', 'nurse', 1)",
		"UPDATE policy_revision SET state = (SELECT state FROM old)",
	} {
		if err := w.db.Exec(sql).Error; err != nil {
			t.Fatal(err)
		}
	}
	if err := newStore(t, w).Open(t.Context(), w.db.DB); !errors.Is(err, policystore.ErrForged) {
		t.Errorf("Open = %v, want ErrForged", err)
	}
	v, err := w.Verify(as(t, "u-alice", access.SystemAdmin))
	if err != nil || !strings.Contains(fmt.Sprint(v.Findings), "revision.forged") || !strings.Contains(fmt.Sprint(v.Findings), "row.unexplained") {
		t.Errorf("Verify = %+v, %v", v, err)
	}
}

// TestAForgedProposal is nothing that anybody can approve.
func TestAForgedProposal(t *testing.T) {
	t.Parallel()
	w := initiated(t, sqliteFile(t), nil)
	bob := as(t, "u-bob", access.SystemAdmin)
	for _, sql := range []string{
		"UPDATE policy_edits SET member = 'u-mallory' WHERE change_id = ?",
		"UPDATE policy_edits SET role = 'security' WHERE change_id = ?",
		"UPDATE policy_changes SET author = 'u-carol' WHERE id = ?",
		"UPDATE policy_changes SET reason = 'review' WHERE id = ?",
		"UPDATE policy_changes SET proposed_at = proposed_at + 1 WHERE id = ?",
		"DELETE FROM policy_edits WHERE change_id = ?",
		"UPDATE policy_changes SET on_behalf = 'u-dora' WHERE id = ?",
	} {
		id := propose(t, w.Store, "u-alice", give("u-fay", "nurse"))
		if err := w.db.Exec(sql, id).Error; err != nil {
			t.Fatal(err)
		}
		if _, err := w.Approve(bob, id); !errors.Is(err, policystore.ErrForged) {
			t.Errorf("after %s: %v", sql, err)
		}
	}
	if w.Current() != 1 {
		t.Errorf("revision %d", w.Current())
	}

	// What was decided is no proposal again by its status.
	rejected, left := propose(t, w.Store, "u-alice", give("u-fay", "nurse")), propose(t, w.Store, "u-alice", give("u-leaving", "nurse"))
	if err := w.Reject(bob, rejected); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Terminate(as(t, "u-alice", access.SystemAdmin), tenant, "u-leaving"); err != nil {
		t.Fatal(err)
	}
	for name, id := range map[string]string{"rejected": rejected, "ended by Terminate": left} {
		if err := w.db.Exec("UPDATE policy_changes SET status = 'proposed' WHERE id = ?", id).Error; err != nil {
			t.Fatal(err)
		}
		if _, err := w.Approve(bob, id); !errors.Is(err, policystore.ErrForged) {
			t.Errorf("what was %s, set back: %v", name, err)
		}
	}
}

// TestAnOlderCopy: a process that knows better refuses it, and the trail shows
// it.
func TestAnOlderCopy(t *testing.T) {
	t.Parallel()
	w := initiated(t, sqliteFile(t), nil)
	alice := as(t, "u-alice", access.SystemAdmin)
	tables := []string{"policy_rules", "policy_links", "policy_revision", "policy_changes", "policy_edits"}
	exec := func(format string, args ...any) {
		t.Helper()
		if err := w.db.Exec(fmt.Sprintf(format, args...)).Error; err != nil {
			t.Fatal(err)
		}
	}
	for _, table := range tables {
		exec("CREATE TABLE old_%s AS SELECT * FROM %s", table, table)
	}
	if _, err := w.Apply(alice, take("u-nora", "nurse")); err != nil {
		t.Fatal(err)
	}
	if err := storage.Settle(t.Context(), w.db.DB); err != nil {
		t.Fatal(err)
	}
	if err := w.db.Transaction(func(tx *gorm.DB) error {
		for _, table := range tables {
			if err := errors.Join(tx.Exec("DELETE FROM "+table).Error, tx.Exec("INSERT INTO "+table+" SELECT * FROM old_"+table).Error); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a record", func() bool {
		for _, ev := range w.db.Trail.Events() {
			if ev.Type == audit.PolicyRefused && ev.Reason == audit.ReasonSetBack {
				return true
			}
		}
		return false
	})
	want(t, "nora, in the process that knows", all(t, w.Store, as(t, "u-nora", access.Treatment)), access.DenyNoRule)
	if _, err := w.Apply(alice, take("u-carol", "security")); !errors.Is(err, policystore.ErrSetBack) {
		t.Errorf("Apply = %v, want ErrSetBack", err)
	}
	v, err := w.Verify(alice, w.db.Trail)
	if err != nil || v.OK() || !strings.Contains(fmt.Sprint(v.Findings), "database.setback revision 2") {
		t.Errorf("Verify = %+v, %v", v, err)
	}
	if v, err := w.Verify(alice); err != nil || !v.OK() {
		t.Errorf("Verify without a trail = %+v, %v: nothing there can tell", v, err)
	}
}

// TestAChangeThatNoTrailHas is named.
func TestAChangeThatNoTrailHas(t *testing.T) {
	t.Parallel()
	w := initiated(t, sqliteFile(t), nil)
	w.db.Trail.Reset()
	v, err := w.Verify(as(t, "u-alice", access.SystemAdmin), w.db.Trail)
	if err != nil || len(v.Findings) != 1 || v.Findings[0].String() != "trail.missing revision 1" {
		t.Errorf("Verify = %+v, %v", v, err)
	}
}

// TestManyChangesAtOnce: more than are followed one by one are read anew.
func TestManyChangesAtOnce(t *testing.T) {
	t.Parallel()
	w := initiated(t, sqliteFile(t), nil)
	idle := w.join(t, func(c *policystore.Config) { c.Poll, c.MaxStale = time.Hour, 24*time.Hour })
	var many policystore.Rows
	for i := range 1500 {
		many.Rules = append(many.Rules, rbac.Rule{Role: fmt.Sprintf("r%d", i), Resources: []string{"patient"}, Actions: []access.Action{access.Read}, Purposes: []access.Purpose{access.Treatment}})
	}
	id := propose(t, w.Store, "u-alice", policystore.Change{Add: many, Reason: audit.ReasonMigration, Reference: "import-1"})
	n, err := w.Approve(as(t, "u-bob", access.SystemAdmin), id)
	if err != nil {
		t.Fatal(err)
	}
	want(t, "nora", all(t, idle, policystore.RequireRevision(as(t, "u-nora", access.Treatment), n)), access.AllowRule)
	if idle.Current() != n {
		t.Errorf("revision %d, want %d", idle.Current(), n)
	}
}
