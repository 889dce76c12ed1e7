// SPDX-License-Identifier: Apache-2.0

// Package audit records who did what to whose record, for which purpose, and
// whether it was allowed (45 CFR 164.312(b), audit controls).
package audit
