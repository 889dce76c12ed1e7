// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"fmt"

	"gorm.io/gorm"

	"github.com/part164/part164/access"
)

// Merged returns the record IDs of the duplicates that are merged into a
// patient now, also of those merged into them, in no order. It is what a report
// over several writers' journals asks (audit/report.Config.Merged), for each of
// them names a patient by another pseudonym. The principal of ctx is of that
// tenant; else the error wraps [access.ErrDenied]. A row that no merge has
// written, or of a merge that was undone, is refused: the error wraps
// [ErrRefused].
func Merged(ctx context.Context, db *gorm.DB, tenant, patient string) ([]string, error) {
	p, err := pluginOf(db)
	if err != nil {
		return nil, err
	}
	s, err := access.From(ctx)
	if err != nil {
		return nil, fmt.Errorf("storage: merged: %w", err)
	}
	if s.Principal().Tenant != tenant {
		return nil, fmt.Errorf("storage: merged: %w: another tenant's patient", access.ErrDenied)
	}
	mac, err := p.metaMAC(ctx)
	if err != nil {
		return nil, fmt.Errorf("storage: merged: %w", err)
	}
	return p.mergedInto(ctx, "merged", mac, tenant, patient)
}
