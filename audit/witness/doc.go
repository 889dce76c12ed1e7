// SPDX-License-Identifier: Apache-2.0

// Package witness keeps what an audit journal once was where the journal's
// writer cannot change it, so that a tail which was cut off, a folder set back
// to a copy and a journal deleted as a whole show.
//
// A [Witness] takes a journal's checkpoints, each with the proof that it goes
// on from the one before, refuses a smaller or another tree, and cosigns. Its
// file, of one line a checkpoint, is its memory and the roster of the journals
// that it knows:
//
//	w, err := witness.Open("/mnt/auditor/witness.jsonl", witness.Config{Key: key, Logs: logs})
//
// Where it stands decides what it is worth: on a disk, share or machine that
// the journal's administrators do not administer. It serves C2SP tlog-witness
// over HTTP ([Witness.ServeHTTP]), and [Client] speaks to it, or to any other
// witness of that protocol. [Lines] only writes checkpoints to a place that
// keeps them, such as a log collector.
//
// The journal's side is [Run]: it submits each new checkpoint in the
// background, never on the path of a request, says how far behind the witness
// is, keeps what it cosigned last in the journal's folder, and shows it when
// the journal's key was rotated.
//
// [Read] and [Client.Roster] return what a witness saw as anchors, which audit.Verify
// holds journals against.
//
// A witness does not see what a journal's writer never wrote, nor what is
// younger than the newest checkpoint that reached it.
package witness
