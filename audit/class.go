// SPDX-License-Identifier: Apache-2.0

package audit

import "github.com/part164/part164/access"

// BestEffort reports whether a trail may take note of the event without making
// it durable first. Of every other type Record returns an error where the
// event is not durable, and the caller refuses what it was about to do: what
// opens or changes PHI, signs in, denies or administers.
//
// Recording such an event never holds up a request for more than a tenth of a
// second. What is not recorded is counted, and the count recorded as one
// [Dropped] event once the journal goes on. A crash loses the count.
func (t Type) BestEffort() bool {
	switch t {
	case SignInLocked, Alerted, ClockOff, Dropped:
		return true
	}
	return false
}

// refusal reports whether s refuses somebody whom nobody has to answer for:
// throttled, not signed in, or a program with a key that is over. Anybody, or a
// loop, can cause any number of them, so that they are recorded by the lane in a
// flood.
func (s *Stored) refusal() bool {
	switch s.Type {
	case SignInLocked:
		return true
	case Denied, SignInFailed:
		return s.Actor.ID == "" || s.Reason == ReasonThrottled || s.Type == SignInFailed && s.Actor.Kind == access.Service
	}
	return false
}

// yields reports whether s leaves the journal's reserve to others: a refusal
// opens nothing, whether or not it is recorded.
func (s *Stored) yields() bool {
	return s.Type == Denied || s.Type == SignInFailed || s.Type.BestEffort()
}
