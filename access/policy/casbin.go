// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"sync"

	"github.com/casbin/casbin/v2"
	conf "github.com/casbin/casbin/v2/model"
	"github.com/casbin/casbin/v2/persist"
)

// A casbinPolicy is the policy in Casbin itself, made when it is first asked:
// that takes seconds where a policy has 100,000 users.
type casbinPolicy struct {
	text string
	rows []Row

	once     sync.Once
	enforcer *casbin.Enforcer
	err      error
}

// rows are an adapter of Casbin that cannot be written to.
type rowsAdapter []Row

func (a rowsAdapter) LoadPolicy(m conf.Model) error {
	for _, r := range a {
		if err := persist.LoadPolicyArray(r.Fields, m); err != nil {
			return err
		}
	}
	return nil
}

func (a rowsAdapter) SavePolicy(conf.Model) error                               { return errReadOnly }
func (a rowsAdapter) AddPolicy(string, string, []string) error                  { return errReadOnly }
func (a rowsAdapter) RemovePolicy(string, string, []string) error               { return errReadOnly }
func (a rowsAdapter) RemoveFilteredPolicy(string, string, int, ...string) error { return errReadOnly }

var errReadOnly = errors.New("policy: the policy cannot be written to")

func (c *casbinPolicy) load() (err error) {
	defer noPanic(&err)
	m, err := conf.NewModelFromString(c.text)
	if err != nil {
		return err
	}
	c.enforcer, err = casbin.NewEnforcer(m, rowsAdapter(c.rows))
	return err
}

// decide asks Casbin, whose answer never changes since its rows never do.
func (c *casbinPolicy) decide(request []string) (Decision, error) {
	c.once.Do(func() { c.err = c.load() })
	if c.err != nil {
		return Decision{By: ByCasbin}, c.err
	}
	values := make([]any, len(request))
	for i, v := range request {
		values[i] = v
	}
	allow, rule, err := c.enforcer.EnforceEx(values...)
	if err != nil {
		return Decision{By: ByCasbin}, errEvaluate // its own text holds the request
	}
	if len(rule) == 0 {
		rule = nil
	}
	return Decision{Allow: allow, Rule: rule, By: ByCasbin}, nil
}
