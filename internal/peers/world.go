// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math/rand/v2"

	"github.com/part164/part164/access/policy"
)

// worldModel is Casbin's own example of roles in domains; tunedModel is the same
// with the equalities first, so that Casbin asks its role manager last.
const (
	worldModel = `[request_definition]
r = sub, dom, obj, act
[policy_definition]
p = sub, dom, obj, act
[role_definition]
g = _, _, _
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = g(r.sub, p.sub, r.dom) && r.dom == p.dom && r.obj == p.obj && r.act == p.act
`
	tunedMatcher = "r.act == p.act && r.obj == p.obj && r.dom == p.dom && g(r.sub, p.sub, r.dom)"
)

// requests is how many requests a world has.
const requests = 8192

// A world is a policy of a size, and requests for it.
type world struct {
	rules, users, links [][]string // sub, dom, obj, act; user, role, dom; role, role, dom
	requests            [][4]string
}

// newWorld makes the policy of a number of users and rules: a role for each ten
// rules, a tenant for each hundred, a tenth of the users with two roles, and
// half of the roles under another one. Most requests are allowed.
func newWorld(users, rules int) *world {
	rnd := rand.New(rand.NewPCG(164, uint64(users)))
	w := &world{}
	tenants, perRole := max(2, rules/100), 10
	acts := []string{"read", "search", "create", "update"}
	roles := rules / perRole
	tenantOf := func(role int) string { return fmt.Sprintf("t%d", role%tenants) }
	objOf := func(role, i int) string { return fmt.Sprintf("type%d", (role+i*7)%40) }
	for role := range roles {
		for i := range perRole {
			w.rules = append(w.rules, []string{fmt.Sprintf("r:%d", role), tenantOf(role), objOf(role, i/2), acts[(role+i)%len(acts)]})
		}
		if above := role + tenants; role%2 == 0 && above < roles {
			w.links = append(w.links, []string{fmt.Sprintf("r:%d", role), fmt.Sprintf("r:%d", above), tenantOf(role)})
		}
	}
	held := make([][]int, users)
	for u := range users {
		first := rnd.IntN(roles)
		held[u] = []int{first}
		if u%10 == 0 && first+tenants < roles {
			held[u] = append(held[u], first+tenants)
		}
		for _, role := range held[u] {
			w.users = append(w.users, []string{fmt.Sprintf("u:%d", u), fmt.Sprintf("r:%d", role), tenantOf(role)})
		}
	}
	for range requests {
		u := rnd.IntN(users)
		role := held[u][rnd.IntN(len(held[u]))]
		rule := w.rules[role*perRole+rnd.IntN(perRole)]
		request := [4]string{fmt.Sprintf("u:%d", u), rule[1], rule[2], rule[3]}
		if rnd.IntN(4) == 0 {
			request[2] = fmt.Sprintf("type%d", rnd.IntN(40))
		}
		w.requests = append(w.requests, request)
	}
	return w
}

// rows are the world as the rows of a Casbin policy.
func (w *world) rows() []policy.Row {
	var out []policy.Row
	for _, r := range w.rules {
		out = append(out, policy.Row{Fields: append([]string{"p"}, r...)})
	}
	for _, all := range [][][]string{w.links, w.users} {
		for _, r := range all {
			out = append(out, policy.Row{Fields: append([]string{"g"}, r...)})
		}
	}
	return out
}
