// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"strings"

	"github.com/part164/part164/access"
)

// A caseless authorizer serves a database that compares text without regard to
// case, as MariaDB does by default: there the tenants ACME and acme would be
// one. It decides for tenants in lower case only.
type caseless struct{ access.Authorizer }

func (c caseless) fits(ctx context.Context) error {
	s, err := access.From(ctx)
	if err != nil {
		return nil // the authorizer says so in its own words
	}
	if t := s.Principal().Tenant; t != strings.ToLower(t) {
		return &RefusedError{Op: "access", Why: "the tenant has upper-case letters, and this database would take it for the one in lower case", Mend: "name tenants in lower case"}
	}
	return nil
}

// Check implements access.Authorizer.
func (c caseless) Check(ctx context.Context, req access.Request) (access.Decision, error) {
	if err := c.fits(ctx); err != nil {
		return access.Decision{}, err
	}
	return c.Authorizer.Check(ctx, req)
}

// Filter implements access.Authorizer.
func (c caseless) Filter(ctx context.Context, action access.Action, resourceType string) (access.Filter, error) {
	if err := c.fits(ctx); err != nil {
		return access.Filter{}, err
	}
	return c.Authorizer.Filter(ctx, action, resourceType)
}
