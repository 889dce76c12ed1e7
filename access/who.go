// SPDX-License-Identifier: Apache-2.0

package access

import "context"

// Who returns the valid principal of ctx and its purpose, also when their
// scope has ended: what a cancelled request did must still be recorded with
// its actor. It serves records only and grants nothing; decide with [From].
// The purpose is empty where none, or an unknown one, was given.
func Who(ctx context.Context) (p Principal, purpose Purpose, ok bool) {
	s, ok := ctx.Value(scopeKey{}).(*Scope)
	if !ok || s.principal.Validate() != nil {
		return Principal{}, "", false
	}
	if s.purpose.Valid() {
		purpose = s.purpose
	}
	return s.Principal(), purpose, true
}
