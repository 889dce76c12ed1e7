// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	casbin2 "github.com/casbin/casbin/v2"
	model2 "github.com/casbin/casbin/v2/model"
	casbin3 "github.com/casbin/casbin/v3"
	model3 "github.com/casbin/casbin/v3/model"
	"github.com/cedar-policy/cedar-go"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"

	"github.com/part164/part164/access/policy"
)

// A decider answers a request of its world, by its number.
type decider func(n int) (bool, error)

// ours decides by access/policy, each request by its four strings.
func ours(w *world) (decider, error) {
	p, err := policy.Compile(policy.Config{Model: worldModel, Rows: w.rows()})
	if err != nil {
		return nil, err
	}
	return func(n int) (bool, error) {
		r := &w.requests[n]
		d, err := p.Decide(r[0], r[1], r[2], r[3])
		return d.Allow, err
	}, nil
}

// oursBySubject decides as access/rbac does: who asks, and where, was looked up
// when the scope began.
func oursBySubject(w *world) (decider, error) {
	p, err := policy.Compile(policy.Config{Model: worldModel, Rows: w.rows()})
	if err != nil {
		return nil, err
	}
	subjects := make([]policy.Subject, len(w.requests))
	for i, r := range w.requests {
		if subjects[i], err = p.Subject(r[0], r[1]); err != nil {
			return nil, err
		}
	}
	return func(n int) (bool, error) {
		r := &w.requests[n]
		d, err := subjects[n].Decide(r[2], r[3])
		return d.Allow, err
	}, nil
}

// hand is the index that somebody would write by hand for this one model: two
// maps, and the roles of a user followed up beforehand.
func hand(w *world) (decider, error) {
	type permission struct{ dom, obj, act string }
	type member struct{ sub, dom string }
	ids := make(map[string]uint32)
	id := func(role string) uint32 {
		if _, ok := ids[role]; !ok {
			ids[role] = uint32(len(ids))
		}
		return ids[role]
	}
	above := make(map[uint32][]uint32)
	for _, l := range w.links {
		above[id(l[0])] = append(above[id(l[0])], id(l[1]))
	}
	allowed := make(map[permission][]uint32)
	for _, r := range w.rules {
		k := permission{r[1], r[2], r[3]}
		allowed[k] = append(allowed[k], id(r[0]))
	}
	members := make(map[member][]uint32)
	for _, u := range w.users {
		k := member{u[0], u[2]}
		for queue := []uint32{id(u[1])}; len(queue) > 0; queue = queue[1:] {
			if !slices.Contains(members[k], queue[0]) {
				members[k] = append(members[k], queue[0])
				queue = append(queue, above[queue[0]]...)
			}
		}
	}
	return func(n int) (bool, error) {
		r := &w.requests[n]
		roles := members[member{r[0], r[1]}]
		for _, role := range allowed[permission{r[1], r[2], r[3]}] {
			for _, has := range roles {
				if has == role {
					return true, nil
				}
			}
		}
		return false, nil
	}, nil
}

// stock is Casbin with the model as its documentation has it.
func stock(w *world) (decider, error) { return casbinWith(w, worldModel) }

// tuned is Casbin with the equalities first.
func tuned(w *world) (decider, error) {
	head, _, _ := strings.Cut(worldModel, "m = ")
	return casbinWith(w, head+"m = "+tunedMatcher+"\n")
}

func casbinWith(w *world, model string) (decider, error) {
	m, err := model2.NewModelFromString(model)
	if err != nil {
		return nil, err
	}
	e, err := casbin2.NewEnforcer(m)
	if err != nil {
		return nil, err
	}
	e.EnableAutoBuildRoleLinks(false)
	_, err1 := e.AddPolicies(w.rules)
	_, err2 := e.AddGroupingPolicies(slices.Concat(w.links, w.users))
	if err := errors.Join(err1, err2, e.BuildRoleLinks()); err != nil {
		return nil, err
	}
	return func(n int) (bool, error) {
		r := &w.requests[n]
		return e.Enforce(r[0], r[1], r[2], r[3])
	}, nil
}

// stock3 is Casbin v3.
func stock3(w *world) (decider, error) {
	m, err := model3.NewModelFromString(worldModel)
	if err != nil {
		return nil, err
	}
	e, err := casbin3.NewEnforcer(m)
	if err != nil {
		return nil, err
	}
	e.EnableAutoBuildRoleLinks(false)
	_, err1 := e.AddPolicies(w.rules)
	_, err2 := e.AddGroupingPolicies(slices.Concat(w.links, w.users))
	if err := errors.Join(err1, err2, e.BuildRoleLinks()); err != nil {
		return nil, err
	}
	return func(n int) (bool, error) {
		r := &w.requests[n]
		return e.Enforce(r[0], r[1], r[2], r[3])
	}, nil
}

// cedarPolicies has one Cedar policy a rule, as its users write roles: a group
// for each role in each tenant.
func cedarPolicies(w *world) (decider, error) {
	group := func(role, dom string) cedar.EntityUID { return cedar.NewEntityUID("Role", cedar.String(dom+"/"+role)) }
	object := func(dom, obj string) cedar.EntityUID { return cedar.NewEntityUID("Type", cedar.String(dom+"/"+obj)) }
	var text strings.Builder
	for _, r := range w.rules {
		fmt.Fprintf(&text, "permit(principal in %s, action == %s, resource == %s);\n", group(r[0], r[1]), cedar.NewEntityUID("Action", cedar.String(r[3])), object(r[1], r[2]))
	}
	policies, err := cedar.NewPolicySetFromBytes("rules", []byte(text.String()))
	if err != nil {
		return nil, err
	}
	parents := make(map[cedar.EntityUID][]cedar.EntityUID)
	for _, l := range w.links {
		parents[group(l[0], l[2])] = append(parents[group(l[0], l[2])], group(l[1], l[2]))
	}
	user := func(name, dom string) cedar.EntityUID { return cedar.NewEntityUID("User", cedar.String(dom+"/"+name)) }
	for _, u := range w.users {
		parents[user(u[0], u[2])] = append(parents[user(u[0], u[2])], group(u[1], u[2]))
	}
	entities := make(cedar.EntityMap, len(parents))
	for uid, above := range parents {
		entities[uid] = cedar.Entity{UID: uid, Parents: cedar.NewEntityUIDSet(above...)}
	}
	return func(n int) (bool, error) {
		r := &w.requests[n]
		d, _ := cedar.Authorize(policies, entities, cedar.Request{
			Principal: user(r[0], r[1]), Action: cedar.NewEntityUID("Action", cedar.String(r[3])), Resource: object(r[1], r[2]),
		})
		return bool(d), nil
	}, nil
}

// opaQuery is OPA with a prepared query over indexed data: the roles of a user
// are followed up beforehand, as its documentation of performance asks.
func opaQuery(w *world) (decider, error) {
	const module = `package decide

default allow := false

allow if {
	some role in data.members[input.dom][input.sub]
	data.rules[input.dom][input.obj][input.act][role]
}
`
	rules, members := make(map[string]any), make(map[string]any)
	at := func(m map[string]any, path ...string) map[string]any {
		for _, k := range path {
			next, ok := m[k].(map[string]any)
			if !ok {
				next = make(map[string]any)
				m[k] = next
			}
			m = next
		}
		return m
	}
	for _, r := range w.rules {
		at(rules, r[1], r[2], r[3])[r[0]] = true
	}
	above := make(map[string][]string)
	for _, l := range w.links {
		above[l[0]] = append(above[l[0]], l[1])
	}
	for _, u := range w.users {
		of := at(members, u[2])
		all, _ := of[u[0]].([]any)
		for queue := []string{u[1]}; len(queue) > 0; queue = queue[1:] {
			if !slices.Contains(all, any(queue[0])) {
				all = append(all, queue[0])
				queue = append(queue, above[queue[0]]...)
			}
		}
		of[u[0]] = all
	}
	ctx := context.Background()
	q, err := rego.New(rego.Query("data.decide.allow"), rego.Module("decide.rego", module),
		rego.Store(inmem.NewFromObject(map[string]any{"rules": rules, "members": members}))).PrepareForEval(ctx)
	if err != nil {
		return nil, err
	}
	return func(n int) (bool, error) {
		r := &w.requests[n]
		rs, err := q.Eval(ctx, rego.EvalInput(map[string]any{"sub": r[0], "dom": r[1], "obj": r[2], "act": r[3]}))
		return rs.Allowed(), err
	}, nil
}
