// SPDX-License-Identifier: Apache-2.0

package duty_test

import (
	"context"
	"fmt"

	"github.com/part164/part164/access/duty"
)

// Who writes the policy does not approve it, not even by a grant.
func Example() {
	assigned := map[string][]string{"u-1": {"policy-author"}}
	duties, err := duty.New(duty.Config{
		Exclusive: []duty.Exclusion{{Name: "policy", Roles: []string{"policy-author", "policy-approver"}}},
		Assigned:  func(_ context.Context, _, who string) ([]string, error) { return assigned[who], nil },
		Elevated:  func(context.Context, string, string) ([]string, error) { return nil, nil }, // desk.Elevated
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(duties.Elevate(context.Background(), "elm-street", "u-1", []string{"policy-approver"}))
	fmt.Println(duties.Elevate(context.Background(), "elm-street", "u-2", []string{"policy-approver"}))
	// Output:
	// duty: separation of duties: policy: ["policy-approver" "policy-author"]
	// <nil>
}
