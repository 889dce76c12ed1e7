// SPDX-License-Identifier: Apache-2.0

// Package sessiontest helps to test apps that sign people in with package
// session: [Config] wires a manager with a [Store] in memory, a fast KDF and a
// [Clock] that the test moves; [Code] is the authenticator app. [TestStore] is
// the contract of session.Store. Fail, FailAfter and Delay of the fakes play
// what goes wrong.
package sessiontest
