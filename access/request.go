// SPDX-License-Identifier: Apache-2.0

package access

import "context"

type requestKey struct{}

// WithRequestID returns a context whose audit events carry id, so that what
// one request did can be found together. Take a random value, as httpaccess
// does: what a client sends may name somebody. An id that [CheckID] refuses is
// left out, and ctx returned as it is.
func WithRequestID(ctx context.Context, id string) context.Context {
	if CheckID(id) != nil {
		return ctx
	}
	return context.WithValue(ctx, requestKey{}, id)
}

// RequestID returns the ID that [WithRequestID] gave; empty where there is
// none.
func RequestID(ctx context.Context) string {
	if ctx == nil {
		return ""
	}
	id, _ := ctx.Value(requestKey{}).(string)
	return id
}
