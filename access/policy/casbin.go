// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"strings"
	"sync"

	"github.com/casbin/casbin/v2"
	conf "github.com/casbin/casbin/v2/model"
	"github.com/casbin/casbin/v2/persist"
)

// A casbinPolicy is the policy in Casbin itself, made when it is first asked:
// that takes seconds where a policy has 100,000 users.
type casbinPolicy struct {
	text  string
	rows  []Row
	rules []Row // of p
	links map[string]string
	sure  bool // an answer without a row is no permission

	once     sync.Once
	err      error
	enforcer *casbin.Enforcer
	places   map[string]int // of the rules, by the text that Casbin tells rows apart by

	mu    sync.RWMutex // writing: forget
	asked int
	count sync.Mutex // of asked
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
	c.places = make(map[string]int, len(c.rules))
	for i, r := range c.rules {
		c.places[strings.Join(r.Fields[1:], ",")] = i
	}
	c.enforcer, err = casbin.NewEnforcer(m, rowsAdapter(c.rows))
	return err
}

// decide asks Casbin, whose answer never changes since its rows never do.
func (c *casbinPolicy) decide(request []string) (Decision, error) {
	no := Decision{By: ByCasbin}
	c.once.Do(func() { c.err = c.load() })
	if c.err != nil {
		return no, errors.New("policy: decide: Casbin cannot load the policy")
	}
	values := make([]any, len(request))
	for i, v := range request {
		values[i] = strings.Clone(v) // Casbin remembers it
	}
	c.forget()
	c.mu.RLock()
	allow, fields, err := c.enforcer.EnforceEx(values...)
	c.mu.RUnlock()
	if err != nil {
		return no, errEvaluate // its own text holds the request
	}
	var rule *Row
	if len(fields) > 0 {
		if i, ok := c.places[strings.Join(fields, ",")]; ok {
			rule = &c.rules[i]
		}
	}
	if allow && rule == nil && c.sure {
		return no, errors.New("policy: decide: Casbin allowed without a row")
	}
	return Decision{Allow: allow, Rule: rule, By: ByCasbin}, nil
}

// remembered is how many answers of g Casbin may keep, of about 150 bytes each.
// It keeps one for every name asked and every rule, and never drops any by
// itself.
const remembered = 1 << 14

// forget drops what Casbin remembers, when that could have grown too long.
func (c *casbinPolicy) forget() {
	c.count.Lock()
	defer c.count.Unlock()
	if c.asked++; c.asked*(1+len(c.rules)) < remembered {
		return
	}
	c.asked = 0
	c.mu.Lock()
	defer c.mu.Unlock()
	for g := range c.links { // any one: it drops the compiled matcher, and with it what that remembers
		c.enforcer.SetNamedRoleManager(g, c.enforcer.GetNamedRoleManager(g))
		return
	}
}
