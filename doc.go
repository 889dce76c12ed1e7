// SPDX-License-Identifier: Apache-2.0

// Package part164 is the root of an SDK of the HIPAA technical safeguards (45
// CFR Part 164) that runs inside your own process. It holds no code: import
// the packages below it.
//
// The one idea: PHI stays sealed until someone with a purpose reveals it, and
// revealing is one act: authorise, minimise, record, open.
package part164
