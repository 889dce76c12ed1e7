// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/crypto"
)

// The variable by which a test starts itself as a node of the clinic.
const nodeArgs = "PART164_TEST_CLINIC_NODE"

// TestNodeProcess is a node of the clinic, until its input ends. Started by nobody
// it does nothing.
func TestNodeProcess(t *testing.T) {
	args := os.Getenv(nodeArgs)
	if args == "" {
		t.Skip("it is a process of TestThreeNodes, which starts it")
	}
	o, err := parse(strings.Split(args, "\n"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	if ok, err := run(ctx, o, os.Stdout, os.Stderr); !ok || err != nil {
		t.Fatal(ok, err)
	}
}

// A node is a process of the clinic.
type node struct {
	url, data string
	said      *lines // what it has written
	stop      func()
}

// lines is a buffer that one writes while others read.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func startNode(t *testing.T, args ...string) *node {
	t.Helper()
	n := &node{said: &lines{}}
	for i, a := range args {
		if a == "-data" {
			n.data = args[i+1]
		}
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestNodeProcess$", "-test.count=1")
	cmd.Env = append(os.Environ(), nodeArgs+"="+strings.Join(append(args, "-addr", "127.0.0.1:0"), "\n"))
	cmd.Stderr = n.said
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	done := make(chan struct{})
	n.stop = func() {
		once.Do(func() {
			_ = in.Close()
			<-done // all that it says is read
			if err := cmd.Wait(); err != nil {
				t.Errorf("a node ended badly: %v\n%s", err, n.said)
			}
		})
	}
	t.Cleanup(n.stop)
	ready := make(chan string, 1)
	go func() {
		defer close(done)
		scan := bufio.NewScanner(io.TeeReader(out, n.said))
		for scan.Scan() {
			if m := regexp.MustCompile(`^Elm Street Clinic: (\S+)`).FindStringSubmatch(scan.Text()); m != nil {
				ready <- m[1]
			}
		}
		close(ready)
	}()
	n.url = <-ready
	if n.url == "" {
		t.Fatalf("a node does not start:\n%s", n.said)
	}
	return n
}

// at is the same browser at another node: a session is everywhere, as behind a
// balancer.
func (b *browser) at(n *node) *browser { return &browser{base: n.url, http: b.http} }

// A walk is what a person does with pages: it follows the link, or sends the
// form, that the expression finds. It counts.
type walk struct {
	t     *testing.T
	b     *browser
	steps int
	page  answer
}

func (p *walk) follow(link string) {
	p.t.Helper()
	m := regexp.MustCompile(link).FindStringSubmatch(p.page.body)
	if m == nil {
		p.t.Fatalf("the page (%d) has no %s", p.page.status, link)
	}
	p.steps++
	p.land(p.b.get(m[1]))
}

func (p *walk) send(form string, values url.Values) {
	p.t.Helper()
	m := regexp.MustCompile(form).FindStringSubmatch(p.page.body)
	if m == nil {
		p.t.Fatalf("the page (%d) has no %s", p.page.status, form)
	}
	p.steps++
	p.land(p.b.post(m[1], values))
}

// land follows redirects, as browsers do by themselves.
func (p *walk) land(a answer, err error) {
	p.t.Helper()
	for err == nil && a.status == http.StatusSeeOther {
		a, err = p.b.get(a.location)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	p.page = a
}

// threeNodes starts three nodes on one database, each of which reads the others'
// trails.
func threeNodes(t *testing.T) (nodes []*node, kek string) {
	t.Helper()
	dsn := os.Getenv("PART164_TEST_POSTGRES")
	if dsn == "" {
		t.Skip("no PostgreSQL: PART164_TEST_POSTGRES is empty")
	}
	dsn = ownSchema(t, dsn)
	root := t.TempDir()
	kek = filepath.Join(root, "kek.json")
	dirs := []string{filepath.Join(root, "a"), filepath.Join(root, "b"), filepath.Join(root, "c")}
	for i, dir := range dirs {
		var others []string
		for k, other := range dirs {
			if k != i {
				others = append(others, filepath.Join(other, "audit"))
			}
		}
		nodes = append(nodes, startNode(t, "-data", dir, "-dsn", dsn, "-kek", kek, "-trails", strings.Join(others, ",")))
	}
	return nodes, kek
}

// Glass that is broken on one node is broken on all at once; its end is
// everywhere, too; and the review on the third sees what was opened on each.
func TestThreeNodes(t *testing.T) {
	t.Parallel()
	slow(t)
	nodes, kek := threeNodes(t)
	first, second, third := nodes[0], nodes[1], nodes[2]
	v := &visit{base: first.url}
	nurse, _, err := v.signIn("nurse")
	if err != nil {
		t.Fatal(err)
	}
	physician, _, err := (&visit{base: second.url}).signIn("physician")
	if err != nil {
		t.Fatal(err)
	}
	officer, _, err := (&visit{base: third.url}).signIn("officer")
	if err != nil {
		t.Fatal(err)
	}
	chart, other := strangerAt(t, nurse, 3), strangerAt(t, nurse, 7)
	status := func(b *browser, n *node, path string, want int) answer {
		t.Helper()
		a, err := b.at(n).get(path)
		if err := a.want(err, want); err != nil {
			t.Errorf("node %s: %v", filepath.Base(n.data), err)
		}
		return a
	}
	for _, n := range nodes {
		there, not := status(nurse, n, chart, http.StatusForbidden), status(nurse, n, "/patients/01890a5d-ac96-774b-bcce-b302099a8057", http.StatusForbidden)
		if there.plain() != not.plain() || !strings.Contains(there.body, `data-offer="breakglass"`) {
			t.Errorf("the refusal tells whether the record exists, or offers nothing:\n%s\n%s", there.body, not.body)
		}
	}

	p := &walk{t: t, b: nurse}
	p.land(nurse.get(chart))
	p.follow(`href="(/patients/[^"]*)" data-offer="breakglass"`)
	p.send(`action="(/patients/[^"]*/emergency)"`, url.Values{"reason": {"emergency"}, "password": {"demo nurse 164"}})
	if err := p.page.with(nil, "Emergency access until", "Observations"); err != nil || p.page.status != http.StatusOK {
		t.Fatalf("%d, %v", p.page.status, err)
	}
	if p.steps > 3 {
		t.Errorf("it took %d interactions, want 3 at most", p.steps)
	}
	id := regexp.MustCompile(`action="/emergencies/([^"/]*)/end"`).FindStringSubmatch(p.page.body)[1]
	for _, n := range nodes {
		if a := status(nurse, n, chart, http.StatusOK); !strings.Contains(a.body, id) {
			t.Errorf("node %s opens the chart by something else", filepath.Base(n.data))
		}
		status(nurse, n, other, http.StatusForbidden)         // one patient
		status(nurse, n, chart+"/edit", http.StatusForbidden) // to read
		status(physician, n, chart, http.StatusForbidden)     // to who broke it
		status(nurse, n, "/emergencies/"+id, http.StatusForbidden)
	}

	a := status(officer, third, "/emergencies", http.StatusOK)
	if err := a.with(nil, id, "nurse", "Medical emergency", "in force"); err != nil {
		t.Error(err)
	}
	a = status(officer, third, "/emergencies/"+id, http.StatusOK)
	if n := strings.Count(a.body, "<code>reveal</code>"); n < 4*len(nodes) {
		t.Errorf("the officer sees %d openings, want those of three nodes:\n%s", n, a.body)
	}
	if err := a.with(nil, "observation", "medication"); err != nil {
		t.Error(err)
	}

	// What the watch of one node finds, the officer reads on any.
	status(nurse, second, "/patients/"+nobody, http.StatusForbidden)
	waitFor(t, "the alert of another node", func() bool {
		a, err := officer.at(third).get("/review?week=" + time.Now().UTC().Format(time.DateOnly))
		return a.with(a.want(err, http.StatusOK), "</code> honey", "<td>nurse</td>") == nil
	})

	review := url.Values{"finding": {"explained"}}
	if a, err := officer.at(third).post("/emergencies/"+id+"/review", review); a.want(err, http.StatusConflict) != nil {
		t.Errorf("reviewed while it is in force: %d, %v", a.status, err)
	}

	a, err = officer.at(third).post("/emergencies/"+id+"/end", nil)
	if err := a.want(err, http.StatusSeeOther); err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		status(nurse, n, chart, http.StatusForbidden)
	}
	for _, b := range []*browser{nurse, physician} {
		a, err := b.at(second).post("/emergencies/"+id+"/review", review)
		if err := a.want(err, http.StatusForbidden); err != nil {
			t.Errorf("who is no officer reviews it: %v", err)
		}
	}
	a, err = officer.at(third).post("/emergencies/"+id+"/review", review)
	if err := a.want(err, http.StatusSeeOther); err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		if err := status(officer, n, "/emergencies", http.StatusOK).without(id); err != nil {
			t.Errorf("node %s still has it to review", filepath.Base(n.data))
		}
	}

	// Who leaves is out everywhere, also out of what they broke.
	p.land(nurse.at(second).get(other))
	p.b = nurse.at(second)
	p.follow(`href="(/patients/[^"]*)" data-offer="breakglass"`)
	p.send(`action="(/patients/[^"]*/emergency)"`, url.Values{"reason": {"covering"}, "password": {"demo nurse 164"}})
	status(nurse, third, other, http.StatusOK)
	admin, _, err := (&visit{base: first.url}).signIn("admin")
	if err != nil {
		t.Fatal(err)
	}
	a, err = admin.post("/users/end", url.Values{"login": {"nurse"}})
	if err := a.with(err, "can do nothing any more", "ended: 2."); err != nil {
		t.Error(err)
	}
	for _, n := range nodes {
		status(nurse, n, other, http.StatusSeeOther) // to the sign-in
	}
	waitFor(t, "an alert", func() bool {
		for _, n := range nodes {
			if strings.Contains(n.said.String(), "the glass was broken") && strings.Contains(n.said.String(), id) {
				return true
			}
		}
		return false
	})
	for _, n := range nodes {
		n.stop()
	}

	// Each trail has what its node did, and verifies.
	key, err := crypto.LocalKEK(kek)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range [][]audit.Type{{audit.GlassBroken, audit.Revealed, audit.Denied}, {audit.Revealed, audit.Denied}, {audit.Revealed, audit.Denied, audit.GrantEnded, audit.GrantReviewed}} {
		dir := filepath.Join(nodes[i].data, "audit")
		r, err := audit.OpenReader(dir, key)
		if err != nil {
			t.Fatal(err)
		}
		seen := map[audit.Type]int{}
		for ev, err := range r.Events(t.Context(), audit.Query{Tenant: tenant}) {
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case ev.Type == audit.Denied && ev.Code == access.DenySubject && len(ev.Objects) == 1 && ev.Objects[0].Patient == r.Pseudonym(tenant, strings.TrimPrefix(chart, "/patients/")):
				seen[ev.Type]++ // by name, as the patient stands in the trail
			case ev.Grant == id && ev.Outcome == audit.Success && (ev.Type != audit.Revealed || ev.Code == access.AllowBreakGlass && ev.Purpose == access.BreakGlass):
				seen[ev.Type]++
			}
		}
		for _, typ := range want {
			if seen[typ] == 0 {
				t.Errorf("node %s has no %s on record: %v", filepath.Base(nodes[i].data), typ, seen)
			}
		}
		if err := verify(nodes[i].data); err != nil {
			t.Errorf("node %s: %v", filepath.Base(nodes[i].data), err)
		}
	}
}

// strangerAt returns the chart of seeded patient i, for whom somebody else cares.
func strangerAt(t *testing.T, b *browser, i int) string {
	t.Helper()
	if i%strangers != strangers-1 {
		t.Fatalf("the team cares for patient %d", i)
	}
	a, err := b.post("/patients/search", url.Values{"mrn": {fmt.Sprintf("MRN-%06d", 100_000+7919*i)}})
	path := chartPath.FindString(a.body)
	if err := errors.Join(a.want(err, http.StatusOK)); err != nil || path == "" {
		t.Fatalf("patient %d is not found: %v", i, err)
	}
	return path
}

func waitFor(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !f(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
