// SPDX-License-Identifier: Apache-2.0

// Package document prints reports: as text, and as one HTML page that needs
// nothing else, no script and no other file.
//
//	err := seen.Document().WriteHTML(w) // seen is one of the reports below audit/report
//
// A page names its language and its landmarks, its tables have captions and
// scoped headers, and the chart, an SVG element, has a text that says the same
// and a table of its figures.
package document
