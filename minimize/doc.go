// SPDX-License-Identifier: Apache-2.0

// Package minimize decides how much of each field a caller sees and may
// change: the minimum necessary standard of 45 CFR 164.502(b) and 164.514(d).
package minimize
