// SPDX-License-Identifier: Apache-2.0

package accessstore

import (
	"slices"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/duty"
	"github.com/part164/part164/storage"
)

// A Column of an app's own table says who did Action to the record of a row, such
// as the author of a note, or who signed it.
type Column struct {
	Type   string        // of the records, as storage calls them
	Action access.Action // what they did who stand in the column
	Model  any           // the table's model, with its record's ID in the field ID
	Name   string        // the column with the principal's ID, as the database calls it
}

// Acts answers who did what to which record from the records themselves, in a
// Check as in the SQL of a list.
func (s *Store) Acts(columns ...Column) duty.Acts { return acts{s, slices.Clone(columns)} }

type acts struct {
	s       *Store
	columns []Column
}

// By implements [duty.Acts].
func (a acts) By(principals []string, resourceType string, actions []access.Action) access.Set {
	var sets access.Union
	if len(principals) == 0 {
		return nil
	}
	for _, c := range a.columns {
		if c.Type == resourceType && slices.Contains(actions, c.Action) {
			sets = append(sets, storage.Members(a.s.db, c.Model, "ID", c.Name+" IN ?", principals))
		}
	}
	if len(sets) == 0 {
		return nil
	}
	return sets
}
