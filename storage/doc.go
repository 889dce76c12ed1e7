// SPDX-License-Identifier: Apache-2.0

// Package storage keeps PHI in GORM models sealed until somebody with a purpose
// reveals it (45 CFR 164.312(a)(1), (a)(2)(iv), (c)(1)).
//
//	type Patient struct {
//		storage.PatientRecord
//		MRN       storage.Sealed[string] `phi:"mrn,search=exact,unique"`
//		Name      storage.Sealed[string] `phi:"name,search=name"`
//		NextVisit time.Time              `phi:"date,clear"`
//	}
//
// [Open] wraps a GORM database. Models with phi tags are from then on sealed
// under the key of their patient, scoped to the tenant of the context's
// principal, checked against the policies, and recorded in the audit trail;
// models without are left to GORM. [Migrate] makes the tables, [Reveal] opens
// what was read, [Match] searches.
//
// # What happens on each path
//
// A read returns sealed cells, bound to the record that they came from. PHI
// columns that the tag marks clear are checked and recorded as they are read.
// A write selects and locks the rows that it will touch, records the attempt
// with their patients, and carries a ticket in its own transaction, from which
// the trail learns that it committed. Only columns that were read and have
// changed are written; a version that is not the stored one is [ErrConflict].
//
// What storage cannot make safe it refuses, and the error says what to do
// instead: raw SQL that names a PHI table, upserts, bare values for sealed
// fields, conditions on sealed columns, joins and subqueries, reads into
// another type than the model.
//
// # Values
//
// A [Sealed] holds a string, []byte, integer, float, bool, [time.Time], [Date],
// or what encoding/json writes and reads back, such as a struct or a slice. How
// a release encodes a value every later one reads; a type that marshals itself
// answers for that by itself. The option pad of a tag hides how long a value
// is: see minimize.ParseTag.
//
// # Files
//
// [Files] keeps scans, letters and other files of any size in a folder or an
// S3-compatible store (storage/s3files), sealed, each about one patient:
//
//	files, err := storage.OpenFiles(db, storage.FilesConfig{Folder: "data/files"})
//	id, err := files.Put(ctx, patient.ID, minimize.Clinical, upload)
//	f, err := files.Open(ctx, id) // authorised, minimised, recorded
//	http.ServeContent(w, r, "", time.Time{}, f)
//
// # Limits
//
// Go cannot keep plaintext out of a memory dump. A value that was revealed and
// taken with Get is the app's to guard. PHI stored in clear is printed by fmt
// like any Go field. An older cell of the same record and field, put back by
// somebody who can write to the database, opens. The pool of db.DB() is not
// guarded: what it reads is sealed, and what it writes is stopped only by the
// constraints.
package storage
