// SPDX-License-Identifier: Apache-2.0

package access

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// An Action is what is done to a resource. It passes [CheckName].
type Action string

// The actions that the SDK itself asks for. An app may add its own.
const (
	Read     Action = "read"
	Search   Action = "search"
	Create   Action = "create"
	Update   Action = "update"
	Delete   Action = "delete"
	Maintain Action = "maintain" // run a job over every record of the type: it opens cells, and shows none of them to anybody
	Shred    Action = "shred"    // destroy a patient's keys, and so the data, for good
	Disclose Action = "disclose" // send to somebody outside the covered entity: access/egress asks for it
	Review   Action = "review"   // sign off a review of activity, or say what came of an alert: reading it is Read
)

// A Resource is one thing that a request is about.
type Resource struct {
	Type    string // the kind, such as "patient": storage uses the table's resource name; passes CheckName
	ID      string // the record ID; empty asks about the type as a whole
	Patient string // the subject's record ID; empty for what is not about one patient
	Tenant  string // the record's tenant; empty denies
}

// A Request asks for one action on a batch of resources, for the principal
// and purpose of the context.
type Request struct {
	Action    Action
	Resources []Resource

	// Recipient is the ID of whom access/egress would disclose them to: what
	// patients restrict and authorise may name it. Empty: a use inside.
	Recipient string
}

// A Verdict is the answer for one resource. The zero Verdict denies.
type Verdict struct {
	Allow bool
	Code  Code
	Rule  string   // the deciding rule, for auditors; empty when none
	Path  []string // role path from the principal to the rule, for auditors; not to be changed
	Grant string   // ID of the grant without which it would be denied; empty where none was needed
	Role  string   // the role that the grant brings, by which the minimum necessary is measured too; empty where it brings none
	Near  string   // of a denial: what would have allowed it, for auditors; never for the caller
}

// A Decision answers a [Request], one verdict a resource in the same order.
// The zero Decision denies.
type Decision struct {
	ID       string // random; names the decision to auditors and to callers; passes CheckDecisionID
	Verdicts []Verdict
	Revision uint64 // of the policy that decided; 0 where it has none
}

// CheckDecisionID reports why id cannot name a [Decision] in an audit record: it
// is neither 128 bits in 32 lower-case hexadecimal digits nor a UUID. The error
// does not hold id.
func CheckDecisionID(id string) error {
	if len(id) == 32 && strings.Trim(id, "0123456789abcdef") == "" || isUUID(id) {
		return nil
	}
	return errors.New("is neither 32 hexadecimal digits nor a UUID")
}

// Allow reports whether resource i of the request is allowed.
func (d Decision) Allow(i int) bool { return i >= 0 && i < len(d.Verdicts) && d.Verdicts[i].Allow }

// AllowAll reports whether all n resources of the request are allowed. It is
// false for n = 0.
func (d Decision) AllowAll(n int) bool {
	for i := range n {
		if !d.Allow(i) {
			return false
		}
	}
	return n > 0
}

// An Authorizer decides. Implementations are safe for concurrent use and
// return an error only when they cannot decide; callers treat it as a denial
// of everything. The conformance suite is accesstest.TestAuthorizer.
type Authorizer interface {
	// Check decides a batch for the scope of ctx. Without a valid scope every
	// verdict denies with [DenyInvalid].
	Check(ctx context.Context, req Request) (Decision, error)

	// Filter says which rows of a resource type the scope of ctx may touch
	// with action. Rows outside it are denied by Check, and rows inside it are
	// allowed: one definition feeds both. Where nothing is in reach it returns
	// the zero Filter and a [*DeniedError], so that the caller can record the
	// denial by its decision ID.
	Filter(ctx context.Context, action Action, resourceType string) (Filter, error)
}

// An Invalidator ends what a principal holds; session implements it.
// Implementations are safe for concurrent use.
type Invalidator interface {
	// Invalidate ends every sign-in of the principal in the tenant.
	Invalidate(ctx context.Context, tenant, principalID string) error
}

// ErrDenied is what every [DeniedError] is.
var ErrDenied = errors.New("access: denied")

// A DeniedError carries what was refused. It names the kind of resource and
// never a record, so its text is safe to log. It is not for the caller, whom its
// code would tell why: a restriction, for instance, which is the patient's own
// affair. The guards of access/httpaccess and access/grpcaccess answer with the
// decision's ID, and nothing of why.
type DeniedError struct {
	Action   Action
	Resource string // the kind, such as "patient"
	Code     Code
	Decision string // the decision's ID
}

func (e *DeniedError) Error() string {
	return fmt.Sprintf("access: %s %s: denied (%s, decision %s)", e.Action, e.Resource, e.Code, e.Decision)
}

// Is makes errors.Is(err, ErrDenied) true for every DeniedError.
func (e *DeniedError) Is(target error) bool { return target == ErrDenied }
