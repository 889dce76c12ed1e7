// SPDX-License-Identifier: Apache-2.0

// Package readme holds the README to its word: its code compiles and runs, and
// the output that it shows is what comes out.
package readme
