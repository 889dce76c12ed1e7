// SPDX-License-Identifier: Apache-2.0

// Package disclosures makes the accounting of disclosures of 45 CFR 164.528: to
// whom a patient's record, or a part of it, was disclosed.
//
//	given, err := disclosures.Of(ctx, reports, disclosures.Query{Patient: id})
//
// It rests on the [audit.Disclosed] events that the application records, each
// with its basis and recipient and, sealed, with the words of 164.528(b)(2); also
// those to and by business associates, (b)(1). The
// right to it may be suspended for a health oversight agency or law enforcement
// official, by an [audit.Suspended] event with ReasonWritten or ReasonOral, and is
// restored early by another one with ReasonRevoked, About the first.
package disclosures
