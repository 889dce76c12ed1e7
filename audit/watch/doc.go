// SPDX-License-Identifier: Apache-2.0

// Package watch looks for accesses that want a look: rules over the stream of
// audit events, as they come.
//
//	watcher, err := watch.New(watch.Config{Relations: relations, Audit: journal})
//	in, err := watch.NewSink(ctx, watcher, journal, service)
//	pipe, err := sink.Open(journal, in, sink.Config{}) // of package audit/sink: no event is missed
//
// An [Alert] is recorded as an [audit.Alerted] event, about the event that
// raised it. What came of it is an [audit.Disposed] event
// (review.Dispose), by somebody else than the one it is about; the
// weekly review lists those that nobody has disposed of.
//
// What the rules must know about people, such as who lives with whom, comes
// from the application's [Relations], so that no PHI enters this package:
// patients are named by their pseudonym in the trail.
//
// # State
//
// An actor takes less than a kilobyte, however long and busy: counters, a
// sketch of the patients of the hour, a histogram of the hours of the week.
// Config.MaxActors bounds how many are kept; the one not seen for longest is
// forgotten, and begins anew. Distinct patients are counted by a sketch: within
// a few per cent up to some 5,000 an hour, and at least that many beyond.
//
// State is in memory. A [Sink] learns it again at each start, from the last 30
// days of the journal, and what was raised before is not raised again; who feeds
// a Watcher by hand passes the history to [Watcher.Learn].
//
// # What it cannot do
//
// The rules find what stands out. Whoever looks at few records, in the usual
// hours, of patients that the relations call theirs, is not found. In the study
// of Hedda and others (AMIA 2017) simple rules raised more than people could
// look at, and simple reasons explained 16 to 43 per cent of it: hence
// [Explainer]. Measure the rules on your own trail before you rely on them.
package watch
