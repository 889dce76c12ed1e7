// SPDX-License-Identifier: Apache-2.0

package policystore

import (
	"fmt"
	"io"

	"github.com/part164/part164/access/rbac"
)

// ReadCSV reads rows from a policy.csv, for [Store.Init] or a [Change], as
// rbac.ReadCSV does:
//
//	p, r:nurse, clinic-7, patient, read, TREAT          a rule; allow or deny may follow
//	g, r:charge-nurse, r:nurse, clinic-7                a role link; the tenant may be left out
//	g, u:u-17, r:nurse, clinic-7                        an assignment: user u-17 has the role nurse
//
// As a rule's or link's tenant * stands for every tenant. An error names the line
// that is no such row. Whether the policy is valid is said where it is written.
func ReadCSV(r io.Reader) (Rows, error) {
	cfg, err := rbac.ReadCSV(r)
	if err != nil {
		return Rows{}, fmt.Errorf("policystore: %w", err)
	}
	return Rows{Rules: cfg.Rules, Links: cfg.Links, Assignments: cfg.Assignments}, nil
}
