// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/part164/part164/access/policy"
)

// A form is a family of models, and makes rows and requests for it.
type form struct {
	name  string
	model string
	// p, g and ask make fields; a g that is nil has no links.
	p, g, ask func(w *world) []string
	compiled  bool
}

const (
	allowOverride = "some(where (p.eft == allow))"
	allowAndDeny  = "some(where (p.eft == allow)) && !some(where (p.eft == deny))"
	denyOverride  = "!some(where (p.eft == deny))"
	priority      = "priority(p.eft) || deny"
)

func conf(request, policy, role, effect, matcher string) string {
	if role != "" {
		role = "[role_definition]\n" + role + "\n"
	}
	return "[request_definition]\nr = " + request + "\n[policy_definition]\np = " + policy + "\n" + role +
		"[policy_effect]\ne = " + effect + "\n[matchers]\nm = " + matcher + "\n"
}

// A world makes names by chance, few enough that they meet.
type world struct {
	*rand.Rand
	size int
}

func (w *world) pick(from ...string) string { return from[w.IntN(len(from))] }
func (w *world) user() string               { return fmt.Sprintf("u%d", w.IntN(w.size)) }
func (w *world) role() string               { return fmt.Sprintf("r%d", w.IntN(w.size/2+1)) }
func (w *world) name() string {
	if w.IntN(3) == 0 {
		return w.user()
	}
	return w.role()
}
func (w *world) dom() string { return fmt.Sprintf("d%d", w.IntN(3)) }
func (w *world) obj() string { return fmt.Sprintf("o%d", w.IntN(w.size)) }
func (w *world) act() string { return w.pick("read", "write", "delete") }
func (w *world) eft() string {
	switch w.IntN(8) {
	case 0, 1:
		return "deny"
	case 2:
		if w.IntN(4) == 0 {
			return "maybe"
		}
	}
	return "allow"
}
func (w *world) orAny(s string) string {
	if w.IntN(4) == 0 {
		return "*"
	}
	return s
}
func (w *world) path() string {
	return "/" + w.pick("patients", "notes", "a.b") + "/" + w.pick("1", "2", "x") + w.pick("", "/edit", "/notes/1")
}
func (w *world) pattern() string {
	return w.pick("/patients/*", "/patients/:id", "/notes/:id/edit", "/*", "/notes/1", "/a.b/:x", "/:a/:b", "*", "/patients/*/edit")
}
func (w *world) braces() string {
	return w.pick("/patients/{id}", "/notes/{id}/edit", "/{a}/{b}", "/patients/*", "/{a}/1/notes/{a}", "/{a}/1/notes/{b}")
}
func (w *world) addr() string {
	return w.pick("10.0.0.1", "10.0.1.7", "192.168.2.9", "::1", "::ffff:10.0.0.1")
}
func (w *world) subnet() string {
	return w.pick("10.0.0.0/8", "10.0.0.1", "192.168.0.0/16", "::1", "0.0.0.0/0", "10.0.1.0/24")
}
func (w *world) regex() string {
	return w.pick("^(read|write)$", "^.*$", "read", "^w", "(a)|(delete)", "^read$")
}
func (w *world) glob() string { return w.pick("/patients/*", "/**/edit", "/notes/{1,2}", "/?*/1") }

func forms() []form {
	link := func(w *world) []string { return []string{w.name(), w.role()} }
	linkDom := func(w *world) []string { return []string{w.name(), w.role(), w.dom()} }
	ask3 := func(w *world) []string { return []string{w.name(), w.obj(), w.act()} }
	ask4 := func(w *world) []string { return []string{w.name(), w.dom(), w.obj(), w.act()} }
	p3 := func(w *world) []string { return []string{w.name(), w.obj(), w.act()} }
	p3e := func(w *world) []string { return []string{w.name(), w.obj(), w.act(), w.eft()} }
	p4 := func(w *world) []string { return []string{w.name(), w.dom(), w.obj(), w.act()} }
	path := func(make func(*world) string) func(*world) []string {
		return func(w *world) []string { return []string{w.name(), make(w), w.act()} }
	}
	var out []form
	add := func(name, model string, p, g, ask func(*world) []string, compiled bool) {
		out = append(out, form{name, model, p, g, ask, compiled})
	}
	add("basic", conf("sub, obj, act", "sub, obj, act", "", allowOverride, "r.sub == p.sub && r.obj == p.obj && r.act == p.act"), p3, nil, ask3, true)
	add("basic with deny", conf("sub, obj, act", "sub, obj, act, eft", "", allowAndDeny, "r.sub == p.sub && p.obj == r.obj && r.act == p.act"), p3e, nil, ask3, true)
	add("roles", conf("sub, obj, act", "sub, obj, act", "g = _, _", allowOverride, "g(r.sub, p.sub) && r.obj == p.obj && r.act == p.act"), p3, link, ask3, true)
	add("roles with deny", conf("sub, obj, act", "sub, obj, act, eft", "g = _, _", allowAndDeny, "g(r.sub, p.sub) && r.obj == p.obj && (r.act == p.act || p.act == '*')"),
		func(w *world) []string { return []string{w.name(), w.obj(), w.orAny(w.act()), w.eft()} }, link, ask3, true)
	add("domains", conf("sub, dom, obj, act", "sub, dom, obj, act", "g = _, _, _", allowOverride, "g(r.sub, p.sub, r.dom) && r.dom == p.dom && r.obj == p.obj && r.act == p.act"), p4, linkDom, ask4, true)
	add("domains, any", conf("sub, dom, obj, act", "sub, dom, obj, act, eft", "g = _, _, _", allowAndDeny, "g(r.sub, p.sub, r.dom) && (p.dom == '*' || r.dom == p.dom) && (r.obj == p.obj || p.obj == '*') && (r.act == p.act || '*' == p.act)"),
		func(w *world) []string {
			return []string{w.name(), w.orAny(w.dom()), w.orAny(w.obj()), w.orAny(w.act()), w.eft()}
		}, linkDom, ask4, true)
	add("resource roles", conf("sub, obj, act", "sub, obj, act", "g = _, _\ng2 = _, _", allowOverride, "g(r.sub, p.sub) && g2(r.obj, p.obj) && r.act == p.act"), p3, link, ask3, true)
	add("priority", conf("sub, obj, act", "sub, obj, act, eft", "g = _, _", priority, "g(r.sub, p.sub) && r.obj == p.obj && r.act == p.act"), p3e, link, ask3, true)
	add("explicit priority", conf("sub, obj, act", "priority, sub, obj, act, eft", "g = _, _", priority, "g(r.sub, p.sub) && r.obj == p.obj && r.act == p.act"),
		func(w *world) []string { return append([]string{fmt.Sprint(w.IntN(5))}, p3e(w)...) }, link, ask3, true)
	for _, f := range []string{"keyMatch", "keyMatch2"} {
		add(f, conf("sub, obj, act", "sub, obj, act", "g = _, _", allowOverride, "g(r.sub, p.sub) && "+f+"(r.obj, p.obj) && r.act == p.act"),
			path((*world).pattern), link, path((*world).path), true)
	}
	for _, f := range []string{"keyMatch3", "keyMatch4", "keyMatch5"} {
		add(f, conf("sub, obj, act", "sub, obj, act", "g = _, _", allowOverride, "g(r.sub, p.sub) && "+f+"(r.obj, p.obj) && r.act == p.act"),
			path((*world).braces), link, path((*world).path), true)
	}
	add("globMatch", conf("sub, obj, act", "sub, obj, act", "g = _, _", allowOverride, "g(r.sub, p.sub) && globMatch(r.obj, p.obj) && r.act == p.act"),
		path((*world).glob), link, path((*world).path), true)
	add("regexMatch", conf("sub, obj, act", "sub, obj, act, eft", "", allowAndDeny, "r.sub == p.sub && keyMatch(r.obj, p.obj) && regexMatch(r.act, p.act)"),
		func(w *world) []string { return []string{w.user(), w.pattern(), w.regex(), w.eft()} }, nil,
		func(w *world) []string { return []string{w.user(), w.path(), w.act()} }, true)
	add("ipMatch", conf("sub, ip, act", "sub, ip, act, eft", "g = _, _", allowAndDeny, "g(r.sub, p.sub) && ipMatch(r.ip, p.ip) && r.act == p.act"),
		func(w *world) []string { return []string{w.name(), w.subnet(), w.act(), w.eft()} }, link,
		func(w *world) []string {
			if w.IntN(20) == 0 {
				return []string{w.name(), "not an address", w.act()}
			}
			return []string{w.name(), w.addr(), w.act()}
		}, true)
	add("other terms", conf("sub, obj, act", "sub, obj, act, eft", "g = _, _", allowAndDeny, "r.act == p.act && (g(r.sub, p.sub) || p.sub == '*') && (r.obj == p.obj || keyMatch(r.obj, p.obj)) && p.obj != 'o1' && r.obj in ('o0', 'o2', 'o3')"),
		func(w *world) []string { return []string{w.orAny(w.name()), w.orAny(w.obj()), w.act(), w.eft()} }, link, ask3, true)
	add("superuser", conf("sub, obj, act", "sub, obj, act", "g = _, _", allowOverride, "g(r.sub, p.sub) && r.obj == p.obj && r.act == p.act || r.sub == 'u0'"), p3, link, ask3, false)
	add("default allow", conf("sub, obj, act", "sub, obj, act, eft", "g = _, _", denyOverride, "g(r.sub, p.sub) && r.obj == p.obj && r.act == p.act"), p3e, link, ask3, false)
	add("subject priority", conf("sub, obj, act", "sub, obj, act, eft", "g = _, _", "subjectPriority(p.eft) || deny", "g(r.sub, p.sub) && r.obj == p.obj && r.act == p.act"), p3e,
		func(w *world) []string { return []string{w.user(), "r0"} }, ask3, false)
	add("priority in domains", conf("sub, dom, obj, act", "sub, dom, obj, act, eft", "g = _, _, _", priority, "g(r.sub, p.sub, r.dom) && (r.dom == p.dom || p.dom == '*') && keyMatch2(r.obj, p.obj) && (r.act == p.act || p.act == '*')"),
		func(w *world) []string {
			return []string{w.name(), w.orAny(w.dom()), w.pattern(), w.orAny(w.act()), w.eft()}
		}, linkDom, func(w *world) []string { return []string{w.name(), w.dom(), w.path(), w.act()} }, true)
	add("three hierarchies", conf("sub, obj, act", "sub, obj, act, eft", "g = _, _\ng2 = _, _\ng3 = _, _", allowAndDeny, "g(r.sub, p.sub) && g2(r.obj, p.obj) && g3(r.act, p.act)"), p3e, link, ask3, true)
	add("domain of the row", conf("sub, dom, obj, act", "sub, dom, obj, act", "g = _, _, _", allowOverride, "g(r.sub, p.sub, p.dom) && r.obj == p.obj && r.act == p.act"), p4, linkDom, ask4, true)
	add("seven terms", conf("sub, dom, obj, act, a, b, c", "sub, dom, obj, act, a, b, c", "g = _, _", allowOverride, "g(r.sub, p.sub) && (r.dom == p.dom || p.dom == '*') && r.obj == p.obj && r.act == p.act && (r.a == p.a || p.a == '*') && (p.b == r.b || p.b == '*') && (r.c == p.c || p.c == '*') && r.c == p.a"),
		func(w *world) []string {
			return []string{w.name(), w.orAny("d0"), "o0", "read", w.orAny(w.dom()), w.orAny(w.dom()), w.orAny(w.dom())}
		}, link, func(w *world) []string { return []string{w.name(), "d0", "o0", "read", w.dom(), w.dom(), w.dom()} }, true)
	add("not", conf("sub, obj, act", "sub, obj, act", "g = _, _", allowOverride, "r.act == p.act && !g(r.sub, p.sub) && !(r.obj == p.obj)"), p3, link, ask3, true)
	add("address or any", conf("sub, ip, act", "sub, ip, act, eft", "", allowAndDeny, "r.sub == p.sub && (p.ip == '*' || ipMatch(r.ip, p.ip)) && r.act == p.act"),
		func(w *world) []string { return []string{w.user(), w.orAny(w.subnet()), w.act(), w.eft()} }, nil,
		func(w *world) []string { return []string{w.user(), w.addr(), w.act()} }, false)
	add("links in domains, asked without", conf("sub, obj, act", "sub, obj, act", "g = _, _, _", allowOverride, "g(r.sub, p.sub) && r.obj == p.obj && r.act == p.act"), p3, linkDom, ask3, false)
	add("choice", conf("sub, obj, act", "sub, obj, act", "", allowOverride, "r.act == p.act && (r.sub == 'u0' ? true : r.obj == p.obj && r.sub == p.sub)"), p3, nil, ask3, false)
	add("pattern domains", conf("sub, dom, obj, act", "sub, dom, obj, act", "g = _, _, _", allowOverride, "g(r.sub, p.sub, r.dom) && keyMatch(r.dom, p.dom) && r.obj == p.obj && r.act == p.act"),
		func(w *world) []string { return []string{w.name(), w.pick("d*", "d0", "*"), w.obj(), w.act()} },
		func(w *world) []string { return []string{w.name(), w.role(), w.pick("*", "d0", "d*")} }, ask4, false)
	return out
}

// build makes a policy of the form.
func (f form) build(w *world, asCasbin bool) policy.Config {
	cfg := policy.Config{Model: f.model, AsCasbin: asCasbin}
	add := func(fields ...string) {
		cfg.Rows = append(cfg.Rows, policy.Row{Fields: fields, From: fmt.Sprintf("row %d", len(cfg.Rows)+1)})
	}
	for range w.IntN(30) {
		add(append([]string{"p"}, f.p(w)...)...)
	}
	if f.g == nil {
		return cfg
	}
	for range w.IntN(20) {
		add(append([]string{"g"}, f.g(w)...)...)
	}
	for range w.IntN(8) {
		if strings.Contains(f.model, "g2 =") {
			add("g2", w.obj(), w.obj())
		}
		if strings.Contains(f.model, "g3 =") {
			add("g3", w.act(), w.act())
		}
	}
	if w.IntN(4) == 0 { // a chain that is deeper than Casbin follows
		for i := range 13 {
			fields := f.g(w)
			fields[0], fields[1] = fmt.Sprintf("chain%d", i), fmt.Sprintf("chain%d", i+1)
			if i == 0 {
				fields[0] = "u0"
			}
			if i >= 9 {
				fields[1] = fmt.Sprintf("r%d", i-9)
				fields[0] = "chain9"
			}
			add(append([]string{"g"}, fields...)...)
		}
	}
	return cfg
}

func text(rule *policy.Row) string {
	if rule == nil {
		return ""
	}
	return rule.String()
}

// TestAnswersAsCasbin holds the index against Casbin: the answer and the row
// that decided, in worlds made by chance.
func TestAnswersAsCasbin(t *testing.T) {
	t.Parallel()
	requests := 100_000
	if os.Getenv("PART164_TEST_LONG") != "" {
		requests = 10_000_000
	}
	all := forms()
	const perWorld = 200
	for n, f := range all {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			var asked, allowed, compiled, failed, strict, refused int
			for seed := uint64(0); asked < requests/len(all); seed++ {
				w := &world{rand.New(rand.NewPCG(seed, uint64(n))), 4 + int(seed%12)}
				cfg := f.build(w, true)
				p, err := policy.Compile(cfg)
				if err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
				cfg.AsCasbin = false
				safe, err := policy.Compile(cfg)
				if bad := (*policy.RefusedError)(nil); err != nil && !errors.As(err, &bad) {
					t.Fatalf("seed %d: %v", seed, err)
				}
				for range perWorld {
					req := f.ask(w)
					got, gotErr := p.Decide(req...)
					want, wantErr := p.Casbin(req...)
					asked++
					if wantErr != nil || gotErr != nil {
						failed++
					}
					// Casbin fails on the first row it tries; the index does not try rows
					// that other terms rule out. Neither allows.
					if got.Allow != want.Allow || wantErr == nil && (gotErr != nil || got.Rule != want.Rule) {
						t.Fatalf("seed %d: %q: got %+v, %v; Casbin %+v, %v\n%s", seed, req, got, gotErr, want, wantErr, f.model)
					}
					if got.Allow {
						allowed++
					}
					if safe != nil {
						d, err := safe.Decide(req...)
						strict++
						if d.Refused != "" {
							refused++
						}
						if d.Allow && !want.Allow || d.Refused == "" && wantErr == nil && (err != nil || d.Allow != want.Allow || text(d.Rule) != text(want.Rule)) {
							t.Fatalf("seed %d: %q, failing closed: got %+v, %v; Casbin %+v, %v\n%s", seed, req, d, err, want, wantErr, f.model)
						}
					}
					if got.By == policy.Compiled {
						compiled++
					}
				}
			}
			t.Logf("%d requests, %d allowed, %d by the index, %d errors; %d failing closed, of which %d refused", asked, allowed, compiled, failed, strict, refused)
			if allowed == 0 || allowed == asked || f.compiled != (compiled > asked/2) {
				t.Errorf("%d of %d are allowed, %d by the index", allowed, asked, compiled)
			}
		})
	}
}

// TestLargeBuckets asks where many roles have a right to one thing, and many
// users many roles.
func TestLargeBuckets(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(7, 64))
	for _, effect := range []string{allowAndDeny, priority} {
		cfg := policy.Config{Model: conf("sub, obj, act", "sub, obj, act, eft", "g = _, _\ng2 = _, _", effect, "g(r.sub, p.sub) && g2(r.obj, p.obj) && r.act == p.act"), AsCasbin: true}
		add := func(fields ...string) { cfg.Rows = append(cfg.Rows, policy.Row{Fields: fields}) }
		for range 300 {
			add("p", fmt.Sprintf("r%d", rnd.IntN(60)), fmt.Sprintf("k%d", rnd.IntN(30)), "read", []string{"allow", "allow", "allow", "allow", "deny"}[rnd.IntN(5)])
		}
		for range 900 {
			add("g", fmt.Sprintf("u%d", rnd.IntN(40)), fmt.Sprintf("r%d", rnd.IntN(60)))
			add("g2", fmt.Sprintf("o%d", rnd.IntN(40)), fmt.Sprintf("k%d", rnd.IntN(30)))
		}
		p, err := policy.Compile(cfg)
		if err != nil {
			t.Fatal(err)
		}
		allowed := 0
		for range 300 {
			request := []string{fmt.Sprintf("u%d", rnd.IntN(41)), fmt.Sprintf("o%d", rnd.IntN(41)), "read"}
			if rnd.IntN(3) == 0 {
				request[0], request[1] = fmt.Sprintf("r%d", rnd.IntN(60)), fmt.Sprintf("k%d", rnd.IntN(30))
			}
			got, err1 := p.Decide(request...)
			want, err2 := p.Casbin(request...)
			if err1 != nil || err2 != nil || got.By != policy.Compiled || got.Allow != want.Allow || text(got.Rule) != text(want.Rule) {
				t.Fatalf("%q: %+v, %v; Casbin %+v, %v", request, got, err1, want, err2)
			}
			if got.Allow {
				allowed++
			}
		}
		if allowed == 0 || allowed == 300 {
			t.Errorf("%d are allowed", allowed)
		}
	}
}
