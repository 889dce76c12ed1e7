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
// changed are written; a version that is not the stored one is [ErrConflict]. A
// write that fails leaves nothing, also in a transaction of the app's that goes
// on.
//
// Associations. New records that hang on one that is created or saved are
// created with it, about the same patient; what was read is left alone, or with
// FullSaveAssociations written where it was changed. A record of another patient
// or tenant is refused. What would take away the key that names the patient is
// refused: Association(...).Unscoped() deletes instead. The rows of join tables
// are in scope where the records that they link are.
//
// Joins and Preload. A joined association has tenant and relationship in its
// ON, and its cells are bound. Tables without PHI may be joined by text, and
// stand in subqueries.
//
// Other targets. Find reads into other structs, whose sealed fields are Sealed
// like the model's and which have the ID, and into maps, whose values are
// Sealed. Pluck, Scan, Row and Rows take columns that are not sealed. What is
// not read into the model is looked up first, so that the trail names whose PHI
// it was; count, min, max, sum and avg are the functions of a select list.
// [Bind] does it for what raw SQL has read in a context of [Outside].
//
// Upserts. OnConflict{DoNothing: true} stores nothing of what meets a duplicate:
// no row, no token, no key. Others would overwrite what nobody has read and are
// refused, as is Save of a slice. An ID that is taken is [ErrDuplicate] in the
// same words whoever has it.
//
// One sealed value for many records is sealed for each of them. A *Sealed that
// is nil is NULL. Setting a soft delete's column, or taking it back, needs the
// right to delete too.
//
// What storage cannot make safe it refuses, and the error says what to do
// instead: raw SQL that names a table with PHI, bare values for sealed fields,
// conditions on sealed columns or on what the caller does not see, joins of
// many records into one, subqueries on tables with PHI, RETURNING, LIMIT in a
// write, more than 10,000 records in one write.
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
// # Search and lists
//
// The database cannot compare what is sealed. A field with a search option in
// its tag has tokens, keyed hashes, in the table phi_index, written and deleted
// in the transactions of its record:
//
//	MRN   storage.Sealed[string]   `phi:"mrn,search=exact,unique"`
//	Name  storage.Sealed[string]   `phi:"name,search=name"`
//	Alias storage.Sealed[[]string] `phi:"name,search=name"`
//	Note  storage.Sealed[string]   `phi:"text,search=words"`
//
// [Match] and [SoundsLike] are conditions for GORM's Where; [List] sorts a
// page by sealed fields. Each needs the right to see the field in full, is
// recorded with the records that it found, and counts against
// Config.SearchLimits. Any other condition, order or group on a sealed column
// is refused.
//
// A unique field is unique within its tenant, NULL aside. A record that was
// soft-deleted keeps its tokens: it is not found, its unique values stay taken,
// and it is found again once it is restored. A hard delete frees them. Who is
// told that a value is taken has searched for it: [ErrDuplicate] is counted and
// recorded as a search.
//
// Tokens tell something to whoever has a copy of phi_index: docs/threat-model.md
// has measured how much. A search option on a field with few values is refused
// unless its tag says guessable. A search option that is added to a field with
// data, and a normal form that a release changes, need the index rebuilt.
//
// # Jobs
//
// [RunJob] does what goes over many records, while the app reads and writes:
// it seals existing columns, turns keys over, makes the index anew, merges the
// two records of one patient, and puts data back in clear for those who leave.
// A job may be killed at any point and is taken up where it was; nobody sees a
// record between two states, and an editor who has read a record that a job
// then seals anew saves it without a conflict.
//
// Plaintext that is in a database already is sealed in five steps:
//
//  1. Give each value a sealed field with a column of its own, and name the old
//     column in its tag: `gorm:"column:name_sealed" phi:"name,search=name,from=name"`.
//     Embed [PatientRecord], or [Record] with a `phi:"subject"`, in the model.
//     IDs must be UUIDs, in lower case.
//  2. Deploy it with [Migrate] on every node. Rows of a table that had no
//     tenant are seen by nobody until step 3. All other values are read from
//     the old column, in the same act of [Reveal], and each write moves the
//     field that it writes.
//  3. Run [SealColumns], with Adopt where the table had no tenant, and with
//     DryRun first. Searches find a record once it is sealed.
//  4. Run [DropColumns]. The database has refused new plaintext in the old
//     columns since the end of step 3.
//  5. Take from= out of the tags. Then destroy what still holds the plaintext
//     outside the tables: backups, replicas' log files, PostgreSQL's dead rows
//     until VACUUM FULL and its write-ahead log until it is recycled, MariaDB's
//     binary and undo logs and free pages until OPTIMIZE TABLE. storage/sqlite
//     overwrites what is deleted in its file.
//
// A rotation of patients' keys leaves the old key for [Job].Grace, and no row
// that does not open is left behind by it: the key then stays. Each kind walks
// every table with PHI that the database knows; one whose model this process
// has not been given is an error. The lasting damage of a stolen copy of the
// database is not undone by a rotation: whoever has cells and keys keeps them.
// # Shred
//
// [Shred] destroys a patient for good, and says under whose authority:
//
//	c, err := storage.Shred(ctx, db, patient.ID, storage.Authority{
//		Basis: storage.RetentionOver, Approver: "u-31", Reference: "schedule-2031",
//	})
//
// It deletes the patient's wrapped keys and search tokens and leaves a
// tombstone, under a lock that conflicts with sealing: a write of the patient
// commits before, and cannot be opened after, or gets crypto.ErrShredded. This
// is cryptographic erase in the sense of NIST SP 800-88 Rev. 2: the cells, in
// the database and in every copy of it, stay, and nobody can open them. What
// lies in clear stays readable; the [Certificate] names its columns. Other
// processes drop the key within Config.KeyBound.
//
// A copy of the key table brings the key back: in a backup, in the database's
// own logs, in the free space of its files. So a certificate is pending until
// Config.KeyBackups has passed, and then [Certificate.Confirm] makes it
// complete. An older copy that is put in the database's place is found by what
// is remembered outside of it, in Config.Tombstones or the audit trail: Open
// then gives [ErrRestored], and so does a process that runs on, until [Reapply]
// has shredded the same patients again. Without either nothing is found, and a
// deviation says so.
//
// # Check
//
// [Check] holds a tenant's rows, search tokens and keys against the audit trail,
// where each write has left the version and a digest of every cell, and names
// what does not fit: see the kinds of [Finding]. It sees what Reveal cannot: an
// older cell put back, a NULL, a row that is gone. Run it as a job, every night.
//
// # Limits
//
// Go cannot keep plaintext out of a memory dump. A value that was revealed and
// taken with Get is the app's to guard. PHI stored in clear is printed by fmt
// like any Go field. An older cell of the same record and field, put back by
// somebody who can write to the database, opens: Check names it. The pool of
// db.DB() is not guarded: what it reads is sealed, and what it writes is
// stopped only by the constraints.
package storage
