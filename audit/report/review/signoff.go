// SPDX-License-Identifier: Apache-2.0

package review

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/report"
)

// Errors of [SignOff] and [Dispose].
var (
	// ErrOwnReview means that there is nothing in the review but what the
	// signer did, or that an alert is about whoever disposes of it: somebody
	// else does.
	ErrOwnReview = errors.New("review: nobody reviews themselves")

	// ErrChanged means that the review is not the one that the signer saw:
	// make it again, and look.
	ErrChanged = errors.New("review: it has changed since it was read")

	// ErrNoAlert means that there is no alert of that ID in the reader's tenant.
	ErrNoAlert = errors.New("review: there is no such alert")
)

// A Signature is a [audit.Reviewed] event about the period.
type Signature struct {
	By      report.Who `json:"by"`
	Time    time.Time  `json:"time"`
	Current bool       `json:"current"` // it signs what stands in the review now
}

// SignOff records that the principal of ctx has reviewed the activity, as a
// [audit.Reviewed] event, and returns the review with it. seen is the Digest
// of the review that was looked at. The authorizer is asked for [access.Review]
// of "audit". The signature counts for everybody but the signer, whose own
// activity stays open until somebody else signs. An error wraps
// [ErrOwnReview], [ErrChanged], or one of [report.Reporter.Open].
func SignOff(ctx context.Context, r *report.Reporter, q Query, seen string) (*Report, error) {
	rev, err := signOff(ctx, r, q, seen)
	if err != nil {
		return nil, fmt.Errorf("review: sign off: %w", err)
	}
	return rev, nil
}

func signOff(ctx context.Context, r *report.Reporter, q Query, seen string) (*Report, error) {
	if q.Until.After(r.Now()) {
		return nil, errors.New("Query.Until is in the future: the period is not over")
	}
	rev, trail, err := of(ctx, r, q, access.Review)
	if err != nil {
		return nil, err
	}
	me := trail.Reader().ID
	switch {
	case seen != rev.Digest:
		return nil, ErrChanged
	case len(rev.People) > 0 && !slices.ContainsFunc(rev.People, func(a Activity) bool { return a.Who.ID != me }):
		return nil, ErrOwnReview
	}
	err = trail.Record(ctx, audit.Event{Type: audit.Reviewed, Outcome: audit.Success, Citation: citation, Since: q.Since, Until: q.Until,
		Count: len(rev.People), Objects: []audit.Object{{Type: "audit", Fields: []string{"review"}, Digests: []string{rev.Digest}}}})
	if err != nil {
		return nil, err
	}
	return rev, rev.signatures(ctx, trail)
}

// digest is what a sign-off signs: the activity without how it is called.
func (rev *Report) digest() (string, error) {
	signed := struct {
		Period  report.Period
		People  []Activity
		Signals []Signal
	}{rev.Period, slices.Clone(rev.People), slices.Clone(rev.Signals)}
	for i := range signed.People {
		signed.People[i].Who.Name = ""
	}
	for i := range signed.Signals {
		signed.Signals[i].Who.Name, signed.Signals[i].About.Name = "", ""
	}
	text, err := json.Marshal(signed)
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8]), err
}

// signatures finds who has signed the period off.
func (rev *Report) signatures(ctx context.Context, trail *report.Trail) error {
	rev.SignOffs = nil
	for i := range rev.People {
		rev.People[i].ReviewedBy = nil
	}
	for ev, err := range trail.Events(ctx, audit.Query{Types: []audit.Type{audit.Reviewed}, Since: rev.Period.Until}) {
		if err != nil {
			return err
		}
		if !ev.Since.Equal(rev.Period.Since) || !ev.Until.Equal(rev.Period.Until) || ev.Actor.Tenant != trail.Tenant() || len(ev.Objects) != 1 {
			continue
		}
		current := slices.Equal(ev.Objects[0].Digests, []string{rev.Digest})
		rev.SignOffs = append(rev.SignOffs, Signature{By: trail.Who(ctx, ev.Actor), Time: ev.Time, Current: current})
		for i := range rev.People {
			a := &rev.People[i]
			if current && a.Who.ID != ev.Actor.ID && !slices.Contains(a.ReviewedBy, ev.Actor.ID) {
				a.ReviewedBy = append(a.ReviewedBy, ev.Actor.ID)
			}
		}
	}
	slices.Reverse(rev.SignOffs)
	rev.Complete = slices.ContainsFunc(rev.SignOffs, func(s Signature) bool { return s.Current }) &&
		!slices.ContainsFunc(rev.People, func(a Activity) bool { return len(a.ReviewedBy) == 0 })
	return nil
}
