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
//	relations, err := relation.New(relation.Config{Store: store.Relations(), Access: engine, Audit: journal})
//	point, err := pdp.New(pdp.Config{Policy: engine, Relations: relations})
//	plugin, err := storage.New(storage.Config{Access: point, Audit: journal, ...})
//	err = db.Use(plugin)
//
// The tables hold IDs, codes and times. Who treats whom, and that somebody
// restricts a use, is PHI all the same: give no other program the right to read
// them, nor to write them, since a row is the right to read a chart.
//
// # Rows that this package did not write
//
// Each row carries a MAC under a key that storage keeps wrapped by its KEK (see
// [storage.StatementMAC]), over everything that it says and its version. One that
// somebody put there or edited, with a password of the database or by an injected
// statement, is found when it is read, and recorded (audit.PolicyRefused, for
// audit.ReasonForged): a relation, an authorization and a grant count as if they
// were not there, a patient with such a directive as one who restricts, and whose
// data is on hold.
//
// What a MAC cannot tell: that a row is gone, and that a whole row is an older one
// of itself, put back with its old MAC. The trail has each change with the row's
// version and a digest of its MAC, and [Store.Verify] holds the tables against it:
// run it as often as you would want to know. A list's SQL reads columns, not MACs: it may name records that a
// forged relation reaches. What they hold is asked about by Check, which reads the
// MACs: clear columns before the list returns them, sealed ones in Reveal.
//
// # What is on record
//
// A change of a relation or a directive, and its event, are one transaction: the
// event goes through the outbox of storage, as a write of a record does. The
// steps of grants are recorded by package grant.
package accessstore
