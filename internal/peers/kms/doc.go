// SPDX-License-Identifier: Apache-2.0

// Package kms holds only tests: that the key services which docs/guide-keys.md
// names are KEKs, through Tink's own modules, with the code that it shows.
package kms
