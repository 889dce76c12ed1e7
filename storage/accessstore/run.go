// SPDX-License-Identifier: Apache-2.0

package accessstore

import (
	"context"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/internal/again"
	"github.com/part164/part164/storage/internal/table"
)

// transaction runs f in a transaction, within the one of ctx where there is one
// (see [storage.InTx]), again where the database has undone it in favour of
// another. f may run more than once.
func (s *Store) transaction(ctx context.Context, f func(tx *gorm.DB) error) error {
	if _, _, err := s.sign.get(ctx, false); err != nil { // not in the transaction: it may take a connection of its own
		return err
	}
	return again.Do(ctx, func() error { return table.Quiet(storage.Within(ctx, s.db)).WithContext(ctx).Transaction(f) })
}

// within is the condition that the ID in a column is that of a row of a table
// for which a condition holds. MariaDB would compare the IDs of an IN as the
// column does, in any case, although these are bytes.
func within(db *gorm.DB, column clause.Column, id, table, where string, vars []any) clause.Expression {
	sql := "? IN (SELECT " + id + " FROM " + table + " WHERE " + where + ")"
	if db.Name() == "mysql" {
		sql = "EXISTS (SELECT 1 FROM " + table + " WHERE " + id + " = CAST(? AS BINARY) AND " + where + ")"
	}
	return clause.Expr{SQL: sql, Vars: append([]any{column}, vars...)}
}

// chunk is how many IDs one statement asks about.
const chunk = 1000

// has answers Has by the IDs that ask finds among those that it is given.
func has(ids []string, ask func(some []key) ([]key, error)) ([]bool, error) {
	there := map[key]bool{}
	for from := 0; from < len(ids); from += chunk {
		var some []key
		for _, id := range ids[from:min(from+chunk, len(ids))] {
			if id != "" {
				some = append(some, key(id))
			}
		}
		if len(some) == 0 {
			continue
		}
		found, err := ask(some)
		if err != nil {
			return nil, err
		}
		for _, id := range found {
			there[id] = true
		}
	}
	out := make([]bool, len(ids))
	for i, id := range ids {
		out[i] = id != "" && there[key(id)]
	}
	return out, nil
}
