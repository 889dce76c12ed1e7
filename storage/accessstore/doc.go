// SPDX-License-Identifier: Apache-2.0

// Package accessstore keeps what access decisions rest on in the database of the
// records: who cares for whom, and what patients restrict and authorise. It
// runs on SQLite, PostgreSQL and MariaDB, and any number of nodes may share it:
// what one writes, each sees with its next question.
//
// Its sets are [storage.SetCondition]s, so that they answer a Check and are part
// of the SQL of a list. For that they stand in the same database, on the same
// *sql.DB: open it with GORM, make the store, the decision point over it, and
// then install storage, which asks that:
//
//	db, err := gorm.Open(sqlite.Open("data/app.db"), &gorm.Config{Logger: logger.Discard})
//	err = accessstore.Migrate(ctx, db)
//	store := accessstore.New(db)
//	relations, err := relation.New(relation.Config{Store: store.Relations(), Audit: journal})
//	point, err := pdp.New(pdp.Config{Policy: engine, Relations: relations})
//	plugin, err := storage.New(storage.Config{Access: point, Audit: journal, ...})
//	err = db.Use(plugin)
//
// The tables hold IDs, codes and times. Who treats whom, and that somebody
// restricts a use, is PHI all the same: give no other program the right to read
// them, nor to write them, since a row is the right to read a chart. Packages
// relation and directive record each change in the audit trail; a row that was
// written past them is not there.
package accessstore
