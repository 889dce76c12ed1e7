// SPDX-License-Identifier: Apache-2.0

// Package minimizetest has a fake [Value] for the tests of what renders PHI,
// and the conformance suite [TestValue] that every implementation of
// [minimize.Value] passes, the fake included. Production code does not import
// it.
package minimizetest
