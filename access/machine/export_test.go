// SPDX-License-Identifier: Apache-2.0

package machine

// Check is the checksum of a token's text.
func Check(text string) string { return check(text) }
