// SPDX-License-Identifier: Apache-2.0

package audit_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// As many roles as a principal may have stand in every line of a batch; more
// are refused, and so is whatever else leaves a line no room.
func TestRolesLeaveALineRoom(t *testing.T) {
	t.Parallel()
	j, dir := open(t, audit.Config{})
	ev := reveal("r-1")
	ev.Objects = nil
	for i := range 2500 {
		id := fmt.Sprintf("r-%d", i)
		ev.Objects = append(ev.Objects, audit.Object{Type: "patient", Record: id, Patient: id})
	}
	p := nurse
	p.Roles = nil
	for len(p.Roles) < 64 {
		p.Roles = append(p.Roles, fmt.Sprintf("role-%02d-%s", len(p.Roles), strings.Repeat("x", 56)))
	}
	if _, err := j.Record(access.With(t.Context(), p, access.Treatment), ev); err != nil {
		t.Errorf("Record(64 roles) = %v", err)
	}
	for len(p.Roles) < 2000 {
		p.Roles = append(p.Roles, fmt.Sprintf("role-%05d-%s", len(p.Roles), strings.Repeat("x", 50)))
	}
	if _, err := j.Record(access.With(t.Context(), p, access.Treatment), ev); !errors.Is(err, audit.ErrEvent) {
		t.Errorf("Record(2,000 roles) = %v, want ErrEvent", err)
	}
	if _, err := j.Record(t.Context(), audit.Event{Type: audit.SignIn, Outcome: audit.Success, Actor: p}); !errors.Is(err, audit.ErrEvent) {
		t.Errorf("Record(the sign-in of 2,000 roles) = %v, want ErrEvent", err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	objects := 0
	for _, s := range ofType(t, dir, audit.Revealed) {
		objects += len(s.Objects)
		if len(s.Actor.Roles) != 64 {
			t.Errorf("a line has %d roles, want 64", len(s.Actor.Roles))
		}
	}
	if objects != 2500 {
		t.Errorf("%d objects are kept, want 2,500", objects)
	}
	sound(t, dir)
}
