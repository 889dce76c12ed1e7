// SPDX-License-Identifier: Apache-2.0

// Package audit records who did what to whose record, for which purpose, and
// whether it was allowed (45 CFR 164.312(b), audit controls).
//
// A [Journal] is a folder on the local disk:
//
//	journal, err := audit.Open("data/audit", audit.Config{KEK: kek})
//
// Its Record returns once the event is on the disk. An error means that it is
// not, and that the caller must refuse what it was about to do: no record, no
// access. Nothing remote is waited for, unless Config.Durability asks for it,
// and no call takes longer than Config.Timeout. [Journal.Ready] says whether
// events can be recorded, a whole segment before a full disk refuses them;
// docs/availability.md says what works while what is down.
//
// Refusals of people who are not signed in, and of programs by their keys, are
// counted when they come in floods, and a few types are best effort
// ([Type.BestEffort]). With Config.EmergencyOpen break-glass goes on without a
// journal, and leaves a [Gap] behind.
//
// # What an event holds
//
// An [Event] is a closed struct of enums, names and references; there is no
// free text and no map. Who and why come from the context ([access.With]) and
// cannot be set. Every patient of a batch is named, by a keyed pseudonym that
// only the journal's keys can compute; so are principals who are patients or
// proxies, and individuals on whose behalf others act. [Journal.Events] finds a
// patient's events again.
//
// Some of what a caller gives stands in a line as it is: the IDs of members of
// the workforce, services, tenants, sessions, requests, nodes, recipients of
// disclosures and research protocols; roles; and the names of resource types,
// fields, actions, rules and clocks. All of it is of one alphabet, ASCII
// letters, digits and "._:-", 64 bytes at most, and IDs in the shape of a social
// security, phone or labelled number, an e-mail address or a date are refused
// ([access.CheckID]). That stops mistakes. It does not stop an app that spells
// somebody's name as an ID or as the name of a field: nobody can tell
// "jane-roe" from an opaque ID.
//
// What may identify and an accounting of disclosures must hold (45 CFR
// 164.528(b)(2)) goes into an event's [Detail]. It is sealed in a file of its
// own, under a key of the tenant; the line has a salted commitment to it only.
// [Journal.Detail] records who opens it, and [Journal.Erase] destroys it
// without a change to any line.
//
// The journal has no direct identifier of a patient that the app did not put
// into one of those, and it is still PHI: it says that
// a pseudonymous person had an encounter, when, and with whom. Treat it, and
// every copy of it, as such.
//
// # Writes
//
// A write is recorded before its SQL runs ([Journal.Attempt]) and settled
// after its transaction ([Journal.Commit], [Journal.Rollback]). The [Ticket]
// between the two travels in an outbox table of the data's own database; it
// holds an HMAC, so that a row which somebody put there is refused and
// recorded. An attempt that nothing settled stays open: [Verify] counts it.
//
// # The folder
//
//	00000001.jsonl …  the segments: one JSON object a line, then zeros
//	keys.json         the journal's keys, wrapped by Config.KEK
//	verifier.pub      the public keys of its signatures, oldest first
//	detail/           sealed details, each named by its commitment
//	purged            the signed record of what was purged, where something was
//	carried-4         what that purge, up to segment 4, carried forward
//	next              the next segment, being made ahead of need
//	owner             the process that has the folder's lock
//
// Each line holds the hash of the line before it. The same hash is the line's
// leaf in an RFC 6962 Merkle tree, whose root is signed each second in a C2SP
// checkpoint, a line of the journal like any other. [Verify], and auditctl
// verify, check all of it without the journal's keys.
//
// After a crash [Open] drops what can only be the remains of the last write,
// which nobody was told about and which lacks its HMAC, and records that it did. Anything else that is
// wrong stops it with a [CorruptError]; it repairs nothing. A full disk
// refuses events and goes on as soon as there is room. After a failed sync
// the segment is given up, since a second sync may succeed without having
// written anything.
//
// # Keeping it
//
// [Journal.RotateKeys] goes on with new keys: the old and the new key sign the
// same checkpoint, so that either is enough to verify both sides of it, and
// pseudonyms of older lines are brought forward to the newest key where the
// journal is read. What [Journal.Events] and the others read back is proven by
// the chain, from the newest line backward, before it is shown.
//
// [Journal.Purge] removes whole segments that are older than six years, of
// which no line is under a legal hold ([Journal.Hold]) and that every required
// sink has passed. The head of what is left has the tree of what went, so that
// everything later verifies as before, and a signed record tells a purge from a
// loss.
//
// # What this does not do
//
//   - Without a witness a cut tail cannot be seen: a journal that lost its last
//     lines looks like one that never had them. Package audit/witness keeps
//     checkpoints where the writer's administrators cannot reach, and
//     VerifyConfig.Anchors holds the journal against them.
//   - Whoever holds the signing key, or can use the KEK, can rewrite
//     everything since the last checkpoint that somebody outside has seen.
//   - The lines after the last checkpoint, a second's worth, are chained, and
//     end in an HMAC, but are not signed. Open goes on from those that the HMAC
//     proves; whoever has no keys, Verify included, cannot tell them from lines
//     that somebody put there, and says how many they are.
//   - The public key in the folder proves nothing to somebody who can replace
//     the folder: keep a copy of verifier.pub elsewhere.
//   - A rotation of keys does not take back what the old ones were used for:
//     whoever has them can tell whose the older pseudonyms are.
//   - Erasing overwrites and removes a file. A backup, a snapshot, and a disk
//     that does not write in place may still have it, and it opens with the KEK.
//     With Config.Durability the remote has the lines, and not the details.
//   - A purge carries forward the newest digests that storage.Check holds old
//     records against, and not all that were before them ([Journal.Purge]).
//   - One process writes one folder. A flush that the disk confirms and does
//     not do is not seen; the folder's files can be removed by whoever may
//     write to it.
//
// The package imports no database: storage makes the outbox table, and a test
// uses the trail in memory of package audittest.
package audit
