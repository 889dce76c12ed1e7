// SPDX-License-Identifier: Apache-2.0

// Package audittest holds the in-memory [Trail] for users' tests, the
// conformance suite [TestTrail] that it and the journal pass, [Want] to say
// which events a test expects, and [NoPHI] to search output for what must not
// be in it.
package audittest
