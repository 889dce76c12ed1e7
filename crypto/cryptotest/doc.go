// SPDX-License-Identifier: Apache-2.0

// Package cryptotest is for tests of code that uses package crypto: fakes of
// its interfaces, and the suites that every implementation passes.
//
// [KEK] is a KMS that counts its calls and, on demand, fails, is slow, throttles
// and revokes. [Store] is the key tables in
// memory, with transactions and savepoints. [TestKEK] and [TestKeyRows] hold
// an implementation of crypto.KEK or crypto.KeyRows to its contract; the fakes
// pass them.
package cryptotest
