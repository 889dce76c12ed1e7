// SPDX-License-Identifier: Apache-2.0

// Package review is the regular review of information system activity of 45
// CFR 164.308(a)(1)(ii)(D): who did what in a week, and what wants a look.
//
//	week, err := review.Of(ctx, reports, review.Week(lastMonday))
//	signed, err := review.SignOff(ctx, reports, review.Week(lastMonday), week.Digest)
//
// Nobody signs for themselves, and nobody disposes of an alert about themselves.
package review
