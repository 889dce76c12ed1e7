// SPDX-License-Identifier: Apache-2.0

// Package crypto seals single values, each under the key of the person it is
// about (45 CFR 164.312(a)(2)(iv), 164.312(c)(1)).
//
// Apps seldom call it: storage does, and asks it for keys on the connection of
// the statement at hand. An app names a [KEK], and may use a [Sealer] for small
// secrets of its own.
//
// # Layers
//
//	KEK            a KMS key, or a file in development; wraps tenant keys only
//	├ tenant key   a Tink keyset for each tenant; unwrapped once a TTL, cached
//	│ └ subject key   32 bytes a patient and version, wrapped under the tenant's
//	│   └ cell        one value of one field of one record
//	└ index key    a second keyset for each tenant; makes search tokens
//
// Everything wrapped or sealed is bound to its place by associated data:
// a tenant key to tenant and use, a subject key to tenant, subject and version,
// a cell to its whole header, tenant, field, record and subject. A copy in
// another place does not open ([ErrOpen], [ErrUnwrap]). An older cell or row
// put back in its own place does open: that is for storage.Check to find.
//
// To destroy a patient's data is to destroy the patient's wrapped keys:
// [ErrShredded] from then on, in every process within
// [Config].GenerationInterval. It is complete once no copy of the key table,
// such as a backup, holds them.
//
// # Keys and transactions
//
// A [Keyring] caches keys for opening. A [KeyTx], from [Keyring.Begin], gives
// the keys for sealing: it reads their rows locked in the statement's own
// transaction each time, and makes those that are missing. What it makes serves
// that transaction alone until its COMMIT is known: a key that is used by
// others and then rolled back would seal rows that nobody can ever open.
//
// # Rotation
//
// Each key can be replaced while others read and write. A subject's key gets a
// new version ([KeyTx.RotateSubjects]), what it sealed is sealed anew, and the
// old version goes ([KeyTx.RetireSubjects]). A tenant's keyset gets a new key
// ([KeyTx.AddTenantKey]); once every process knows it ([Keyring.Bound]) it
// becomes the primary one ([KeyTx.PromoteTenantKey]), the subjects' keys are
// rewrapped, and the old one goes. Under another KEK ([RotatingKEK]) only the
// tenants' keysets are wrapped anew. Each change takes a lock for which those
// who seal wait and which waits for them, so nobody seals under a key that is
// about to go. storage.RunJob does all of it.
//
// There is no count of seals: the bound for a random 96-bit IV is 2^32 cells a
// key (NIST SP 800-38D section 8.3), and one patient's key, or one tenant's
// wrapping key, never comes near it.
//
// # Files
//
// A [StreamKey] seals one file of any size by Tink's streaming AEAD, in segments
// that can be read from any place and not be cut, moved or repeated. The key is
// kept in a cell under the patient's key, so that a rotation wraps it anew and
// leaves the file alone, and a file dies with its patient's key.
//
// # Old cells
//
// Every cell and stream format that a release of this package has written opens
// in every later release. The format and the algorithm are in the cell, never in
// configuration, and testdata/golden.json holds cells of each.
//
// # FIPS 140-3
//
// Cells, wrapped keys, [FileKEK] and search tokens use the standard library's
// AES-256-GCM (with the IV chosen inside) and HMAC-SHA256 only, so all of it
// runs in a process with GODEBUG=fips140=only. Whether those come from a
// validated module depends on how the app is built (GOFIPS140) and on that
// module's certificate. Tink, which holds the keysets, is not a validated
// module. A KMS has its own certificate; a Tink AES-GCM primitive given to
// [WithoutContext] does not run in such a process.
//
// # Memory
//
// Unwrapped keys, and the plaintext that was opened, are in this process's
// memory, and Go's garbage collector may have moved and copied them before: they
// cannot be wiped for certain. Raw key bytes are cleared where this package
// holds them; the expanded keys of cached ciphers stay until they are evicted
// and the memory is used again. So whoever reads the process's memory, swap or
// core dump reads keys. No type here prints one.
//
// # Errors
//
// Failures are told apart by errors.Is with the Err variables. Error texts name
// no record and hold no plaintext and no key. Where a KMS is behind a failure,
// its own error is in the chain.
package crypto
