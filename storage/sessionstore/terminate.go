// SPDX-License-Identifier: Apache-2.0

package sessionstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/part164/part164/session"
	"github.com/part164/part164/storage/internal/table"
)

// Terminate disables a user, ends the user's sessions and removes what waits for
// a second factor, on the open transaction tx of the same database, so that it
// is one step with what else the user held: see policystore.Config.Holders. It
// returns how many sessions it ended; it is no error where there is no such
// user. Each session is owed an event, which Manager.Sweep records.
func (s *Store) Terminate(ctx context.Context, tx *gorm.DB, tenant, userID string, at time.Time) (ended int, err error) {
	in := &Store{db: table.Quiet(tx), inTx: true}
	sessions, err := in.change(ctx, tenant, userID, map[string]any{"epoch": gorm.Expr("epoch + 1"), "disabled": true}, at)
	if errors.Is(err, session.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("sessionstore: terminate: %w", err)
	}
	return len(sessions), nil
}
