// SPDX-License-Identifier: Apache-2.0

package policystore

import (
	"context"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/storage/internal/table"
)

// A Termination is what [Store.Terminate] ended.
type Termination struct {
	Revision  uint64    // from which on the policy has none of the user's roles
	At        time.Time // when
	Roles     []string  // that the user had
	Ended     int       // what Config.Holders ended: sessions, grants
	Proposals int       // by the user, or for it, that nobody can approve any more
}

// Terminate ends, in one transaction, all that a user may do: every role of the
// user in the tenant, what waits for approval by or for the user, and what
// Config.Holders keep: sessions, the right to sign in, live grants (termination
// procedures, 45 CFR 164.308(a)(3)(ii)(C)). It needs nobody's approval, and may
// be called again.
//
// It is in force in this process when it returns. Other processes ask the
// database for sessions and grants at each use, and have the policy within
// Config.Poll. Where it cannot be recorded in the trail it is done all the same,
// and the error says so beside a Termination: the history has it.
//
// The principal of ctx needs the right to access.Update on [Resource].
func (s *Store) Terminate(ctx context.Context, tenant, user string) (Termination, error) {
	scope, err := access.From(ctx)
	if err != nil {
		return Termination{}, err
	}
	for _, id := range []struct{ name, value string }{{"tenant", tenant}, {"user", user}} {
		if err := access.CheckID(id.value); err != nil {
			return Termination{}, fmt.Errorf("policystore: terminate: the %s %w", id.name, err)
		}
	}
	var out Termination
	var unrecorded error
	w := &writing{store: s, scope: scope, action: access.Delete, unrecorded: &unrecorded}
	w.prepare = func(ctx context.Context, base *state) (*change, error) {
		out, unrecorded = Termination{}, nil
		var edits []edit
		for _, r := range base.rows {
			if r.kind == userLink && r.f[0] == tenant && r.f[1] == user {
				edits = append(edits, edit{remove: true, row: r})
				out.Roles = append(out.Roles, r.f[2])
			}
		}
		about := edit{remove: true, row: row{kind: userLink, f: [6]string{tenant, user}}} // also where there is no role
		if err := s.may(ctx, scope, access.Update, []edit{about}); err != nil {
			return nil, err
		}
		c := s.newChange(scope, audit.ReasonLeft, "", edits)
		c.TerminatedTenant, c.Terminated = tenant, user
		return c, nil
	}
	w.also = func(ctx context.Context, tx *gorm.DB, c *change) error {
		out.At, out.Ended, out.Proposals = table.Time(c.DecidedAt), 0, 0
		mine := tx.Model(&editTable{}).Select("change_id").Where("kind = ? AND tenant = ? AND member = ?", string(userLink), tenant, user)
		q := tx.Model(&changeTable{}).Where("status = ?", proposed).Where("tenant = ? AND (author = ? OR on_behalf = ?) OR id IN (?)", tenant, user, user, mine).
			Updates(map[string]any{"status": rejected, "approver": c.Author, "approver_tenant": c.Tenant, "decided_at": c.DecidedAt, "mac": []byte{}})
		if q.Error != nil {
			return fmt.Errorf("policystore: update policy_changes: %w", q.Error)
		}
		out.Proposals = int(q.RowsAffected)
		for _, h := range s.cfg.Holders {
			n, err := h.Terminate(ctx, tx, tenant, user, out.At)
			if err != nil {
				return fmt.Errorf("policystore: terminate: %w", err)
			}
			out.Ended += n
		}
		return nil
	}
	if out.Revision, err = w.run(ctx); err != nil {
		return Termination{}, err
	}
	if unrecorded != nil {
		return out, fmt.Errorf("policystore: terminate: it is done, and not in the audit trail: %w", unrecorded)
	}
	return out, nil
}
