// SPDX-License-Identifier: Apache-2.0

// Package accesses says who saw, searched or changed a patient's record, or was
// refused: the report that the patient reads, with no right over the trail.
//
//	seen, err := accesses.Of(ctx, reports, accesses.Query{Patient: id})
//	err = seen.Document().WriteHTML(w)
//
// That it was read stands in the next one.
package accesses
