// SPDX-License-Identifier: Apache-2.0

package machine_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/access/machine"
	"github.com/part164/part164/access/machine/machinetest"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
)

func TestMemoryKeepsTheContract(t *testing.T) {
	t.Parallel()
	machinetest.TestStore(t, func(*testing.T) machine.Store { return machine.NewMemory() })
}

// bench is a Keys with its surroundings.
type bench struct {
	*machine.Keys
	store    *machinetest.Store
	trail    *audittest.Trail
	accounts map[string]access.Kind
	down     error // of the accounts
	now      time.Time
}

func setup(t *testing.T) *bench {
	t.Helper()
	b := &bench{store: machinetest.NewStore(), trail: audittest.New(t), now: time.Now().UTC(),
		accounts: map[string]access.Kind{"u-nora": access.Human, "p-jane": access.Patient, "x-joe": access.Proxy, "svc-known": access.Service}}
	keys, err := machine.New(b.config())
	if err != nil {
		t.Fatal(err)
	}
	b.Keys = keys
	return b
}

func (b *bench) config() machine.Config {
	return machine.Config{Store: b.store, Audit: b.trail, Now: func() time.Time { return b.now }, Accounts: b.kind}
}

func (b *bench) kind(_ context.Context, tenant, id string) (access.Kind, error) {
	if tenant != accesstest.Tenant {
		return "", b.down
	}
	return b.accounts[id], b.down
}

func importer() machine.NewKey {
	return machine.NewKey{Tenant: accesstest.Tenant, Service: "svc-importer", Roles: []string{"importer"}, Purposes: []access.Purpose{access.Treatment}}
}

func (b *bench) issue(t *testing.T, n machine.NewKey) (machine.Key, string) {
	t.Helper()
	k, token, err := b.Issue(accesstest.As(t, t.Context(), "admin", access.SystemAdmin), n)
	if err != nil {
		t.Fatal(err)
	}
	return k, token
}

var here = netip.MustParseAddr("10.1.2.3")

func TestAKeyIsAService(t *testing.T) {
	t.Parallel()
	b := setup(t)
	k, token := b.issue(t, importer())
	if !regexp.MustCompile(`^part164_[a-z2-7]{16}_[a-z2-7]{59}$`).MatchString(token) || !strings.Contains(token, k.ID) {
		t.Errorf("token is %q", token)
	}
	p, err := b.Authenticate(t.Context(), token, here)
	want := access.Principal{ID: "svc-importer", Tenant: accesstest.Tenant, Kind: access.Service, Roles: []string{"importer"},
		Purposes: []access.Purpose{access.Treatment}, Session: "k-" + k.ID, Addr: here}
	if err != nil || !reflect.DeepEqual(p, want) || p.Validate() != nil {
		t.Errorf("Authenticate = %+v, %v, want %+v", p, err, want)
	}
	if _, err := access.From(access.With(t.Context(), p, access.Treatment)); err != nil {
		t.Error(err)
	}
	if _, err := access.From(access.With(t.Context(), p, access.Payment)); !errors.Is(err, access.ErrPurpose) {
		t.Errorf("for a purpose that the key has not: %v", err)
	}
	if !k.Expires.Equal(b.now.Add(90 * 24 * time.Hour)) {
		t.Errorf("expires %v, want in 90 days", k.Expires)
	}
}

func TestNoSecretIsStored(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, token := b.issue(t, importer())
	secret := strings.Split(token, "_")[2]
	list, err := b.List(t.Context(), accesstest.Tenant)
	if err != nil || len(list) != 1 || strings.Contains(fmt.Sprintf("%+v %q", list, list[0].Hash[:]), secret[:20]) {
		t.Errorf("stored: %+v, %v", list, err)
	}
	for _, ev := range b.trail.Events() {
		if strings.Contains(fmt.Sprintf("%+v", ev), secret[:20]) {
			t.Errorf("the trail has it: %+v", ev)
		}
	}
	seen := map[string]bool{token: true}
	for range 50 {
		_, other := b.issue(t, importer())
		if seen[other] || seen[strings.Split(other, "_")[2]] {
			t.Fatal("two keys have one secret")
		}
		seen[other], seen[strings.Split(other, "_")[2]] = true, true
	}
}

// TestWhatDoesNotAuthenticate is recorded, and answered with one error.
func TestWhatDoesNotAuthenticate(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		spoil  func(b *bench, k machine.Key, token string) string
		addr   string
		reason audit.Reason
		who    string
	}{
		{"nothing", func(*bench, machine.Key, string) string { return "" }, "", audit.ReasonForged, ""},
		{"text", func(*bench, machine.Key, string) string { return "part164_Jane Roe" }, "", audit.ReasonForged, ""},
		{"half a token", func(_ *bench, _ machine.Key, s string) string { return s[:40] }, "", audit.ReasonForged, ""},
		{"more than a token", func(_ *bench, _ machine.Key, s string) string { return s + "a" }, "", audit.ReasonForged, ""},
		{"in capitals", func(_ *bench, _ machine.Key, s string) string { return "part164" + strings.ToUpper(s[7:]) }, "", audit.ReasonForged, ""},
		{"another application's", func(_ *bench, _ machine.Key, s string) string { return "acme" + s[7:] }, "", audit.ReasonForged, ""},
		{"another checksum", func(_ *bench, _ machine.Key, s string) string { return s[:len(s)-1] + flip(s[len(s)-1]) }, "", audit.ReasonForged, ""},
		{"another key's secret", func(b *bench, k machine.Key, _ string) string {
			_, other := b.issue(t, importer())
			return withCheck("part164_" + k.ID + "_" + strings.Split(other, "_")[2][:52])
		}, "", audit.ReasonForged, ""},
		{"an unknown key", func(_ *bench, _ machine.Key, _ string) string {
			return withCheck("part164_" + strings.Repeat("b", 16) + "_" + strings.Repeat("a", 52))
		}, "", audit.ReasonForged, ""},
		{"an expired key", func(b *bench, k machine.Key, s string) string { b.now = k.Expires; return s }, "", audit.ReasonExpired, "svc-importer"},
		{"a key of the future", func(b *bench, k machine.Key, s string) string { b.now = k.Created.Add(-1); return s }, "", audit.ReasonExpired, "svc-importer"},
		{"a revoked key", func(b *bench, k machine.Key, s string) string {
			if err := b.Revoke(t.Context(), k.Tenant, k.ID); err != nil {
				t.Error(err)
			}
			return s
		}, "", audit.ReasonRevoked, "svc-importer"},
		{"a service that was ended", func(b *bench, k machine.Key, s string) string {
			if err := b.Invalidate(t.Context(), k.Tenant, k.Service); err != nil {
				t.Error(err)
			}
			return s
		}, "", audit.ReasonRevoked, "svc-importer"},
		{"from elsewhere", nil, "10.1.3.3", audit.ReasonPolicy, "svc-importer"},
		{"from elsewhere in IPv6", nil, "2001:db8::1", audit.ReasonPolicy, "svc-importer"},
		{"from nowhere", nil, "none", audit.ReasonPolicy, "svc-importer"},
		{"a person's meanwhile", func(b *bench, _ machine.Key, s string) string { b.accounts["svc-importer"] = access.Human; return s }, "", audit.ReasonPolicy, "svc-importer"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			n := importer()
			n.Networks = []netip.Prefix{netip.MustParsePrefix("10.1.2.0/24")}
			k, token := b.issue(t, n)
			for _, addr := range []netip.Addr{here, netip.MustParseAddr("::ffff:10.1.2.3")} {
				if _, err := b.Authenticate(t.Context(), token, addr); err != nil {
					t.Fatalf("a good key from %v: %v", addr, err)
				}
			}
			if tt.spoil != nil {
				token = tt.spoil(b, k, token)
			}
			addr := here
			if tt.addr == "none" {
				addr = netip.Addr{}
			} else if tt.addr != "" {
				addr = netip.MustParseAddr(tt.addr)
			}
			b.trail.Reset()
			p, err := b.Authenticate(t.Context(), token, addr)
			if err != machine.ErrRefused || !reflect.DeepEqual(p, access.Principal{}) {
				t.Fatalf("Authenticate = %+v, %v, want ErrRefused itself", p, err)
			}
			events := b.trail.Events()
			if len(events) != 1 || events[0].Type != audit.SignInFailed || events[0].Reason != tt.reason || events[0].Actor.ID != tt.who {
				t.Errorf("recorded %+v, want one refusal of %q for %s", events, tt.who, tt.reason)
			}
		})
	}
}

// TestRefusalsDoNotFillTheTrail: of any number of bad tokens the journal has the
// first and how many more there were, apart for who sent which kind from where.
func TestRefusalsDoNotFillTheTrail(t *testing.T) {
	t.Parallel()
	dir := audittest.Dir(t)
	open := func() *audit.Journal {
		t.Helper()
		j, err := audit.Open(dir, audit.Config{Development: true})
		if err != nil {
			t.Fatal(err)
		}
		return j
	}
	b, j := setup(t), open()
	cfg := b.config()
	cfg.Audit = j
	keys, err := machine.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	_, token, err := keys.Issue(accesstest.As(t, t.Context(), "admin", access.SystemAdmin), importer())
	if err != nil {
		t.Fatal(err)
	}
	_, unknown := setup(t).issue(t, importer())
	b.now = b.now.Add(365 * 24 * time.Hour)
	const each = 500
	elsewhere := netip.MustParseAddr("192.0.2.7")
	for range each {
		for _, sent := range []struct {
			token string
			from  netip.Addr
		}{{"part164_malformed", here}, {unknown, here}, {token, here}, {token, elsewhere}} {
			if _, err := keys.Authenticate(t.Context(), sent.token, sent.from); err != machine.ErrRefused {
				t.Fatalf("Authenticate = %v, want ErrRefused", err)
			}
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	j = open()
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	type sender struct {
		id     string
		reason audit.Reason
		net    netip.Addr
	}
	events, refused := 0, make(map[sender]int)
	for s, err := range j.Replay(t.Context(), "", audit.SignInFailed) {
		if err != nil {
			t.Fatal(err)
		}
		events++
		net, err := s.Actor.Addr.Prefix(24)
		if err != nil {
			t.Fatal(err)
		}
		refused[sender{s.Actor.ID, s.Reason, net.Addr()}] += max(1, s.Count)
	}
	want := map[sender]int{
		{"", audit.ReasonForged, netip.MustParseAddr("10.1.2.0")}:               2 * each,
		{"svc-importer", audit.ReasonExpired, netip.MustParseAddr("10.1.2.0")}:  each,
		{"svc-importer", audit.ReasonExpired, netip.MustParseAddr("192.0.2.0")}: each,
	}
	if !reflect.DeepEqual(refused, want) {
		t.Errorf("the trail has %v, want %v", refused, want)
	}
	if events > each/10 {
		t.Errorf("%d refusals are %d events", 4*each, events)
	}
}

func flip(c byte) string {
	if c == 'a' {
		return "b"
	}
	return "a"
}

// withCheck ends a token's text with its checksum, as whoever knows the format can.
func withCheck(text string) string {
	return text + machine.Check(text)
}

func TestNoKeyForAPerson(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for id, ok := range map[string]bool{"u-nora": false, "p-jane": false, "x-joe": false, "svc-known": true, "svc-new": true} {
		n := importer()
		n.Service = id
		if _, token, err := b.Issue(t.Context(), n); (err == nil) != ok || (token != "") != ok {
			t.Errorf("%s: %v, want allowed %v", id, err, ok)
		}
	}
	k, _ := b.issue(t, importer())
	b.accounts["svc-importer"] = access.Human
	if _, _, err := b.Rotate(t.Context(), k.Tenant, k.ID, 0); err == nil || !strings.Contains(err.Error(), "a person's") {
		t.Errorf("rotating what is a person's: %v", err)
	}
	b.down = errors.New("down")
	if _, _, err := b.Issue(t.Context(), importer()); !errors.Is(err, b.down) {
		t.Errorf("nobody can tell: %v", err)
	}
}

func TestRotation(t *testing.T) {
	t.Parallel()
	b := setup(t)
	n := importer()
	n.Life = 10 * 24 * time.Hour
	old, oldToken := b.issue(t, n)
	b.now = b.now.Add(24 * time.Hour)
	next, token, err := b.Rotate(t.Context(), old.Tenant, old.ID, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if !next.Expires.Equal(b.now.Add(n.Life)) || next.ID == old.ID || !slices.Equal(next.Roles, old.Roles) || !slices.Equal(next.Purposes, old.Purposes) {
		t.Errorf("successor is %+v", next)
	}
	both := func(wantOld bool) {
		t.Helper()
		if _, err := b.Authenticate(t.Context(), token, here); err != nil {
			t.Errorf("the new token: %v", err)
		}
		if _, err := b.Authenticate(t.Context(), oldToken, here); (err == nil) != wantOld {
			t.Errorf("the old token: %v, want good %v", err, wantOld)
		}
	}
	both(true)
	if _, _, err := b.Rotate(t.Context(), old.Tenant, old.ID, time.Hour); !errors.Is(err, machine.ErrNotFound) {
		t.Errorf("a second successor: %v", err)
	}
	b.now = b.now.Add(time.Hour - 1)
	both(true)
	b.now = b.now.Add(1)
	both(false)
	if _, _, err := b.Rotate(t.Context(), next.Tenant, next.ID, 0); err != nil {
		t.Error(err)
	}
	if _, err := b.Authenticate(t.Context(), token, here); err != machine.ErrRefused {
		t.Errorf("after a rotation without overlap: %v", err)
	}
	for _, bad := range []time.Duration{-1, 31 * 24 * time.Hour} {
		if _, _, err := b.Rotate(t.Context(), next.Tenant, next.ID, bad); err == nil || !strings.Contains(err.Error(), "overlap") {
			t.Errorf("an overlap of %v: %v", bad, err)
		}
	}
	if _, _, err := b.Rotate(t.Context(), "t-other", next.ID, 0); !errors.Is(err, machine.ErrNotFound) {
		t.Errorf("another tenant's: %v", err)
	}
}

func TestWhatHappensToKeysIsRecorded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := accesstest.As(t, t.Context(), "admin", access.SystemAdmin)
	k, _, err := b.Issue(admin, importer())
	if err != nil {
		t.Fatal(err)
	}
	next, _, err := b.Rotate(admin, k.Tenant, k.ID, 0)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time changes nothing
		if err := errors.Join(b.Revoke(admin, next.Tenant, next.ID), b.Invalidate(admin, k.Tenant, k.Service)); err != nil {
			t.Fatal(err)
		}
	}
	want := []struct {
		reason audit.Reason
		record string
	}{{audit.ReasonEnrolled, k.ID}, {audit.ReasonRotation, next.ID}, {audit.ReasonRevoked, next.ID}, {audit.ReasonRevoked, ""}}
	events := b.trail.Events()
	if len(events) != len(want) {
		t.Fatalf("%d events, want %d", len(events), len(want))
	}
	for i, ev := range events {
		record := ""
		if len(ev.Objects) == 1 && ev.Objects[0].Type == "api_key" {
			record = strings.TrimPrefix(ev.Objects[0].Record, "k-")
		}
		if ev.Type != audit.FactorChanged || ev.Reason != want[i].reason || record != want[i].record || ev.User != "svc-importer" ||
			ev.UserKind != access.Service || ev.Actor.ID != accesstest.Principal(accesstest.Tenant, "admin").ID {
			t.Errorf("event %d = %+v, want %+v", i, ev, want[i])
		}
	}
}

// No record, no key; an end is an end, recorded or not.
func TestWithoutATrail(t *testing.T) {
	t.Parallel()
	b := setup(t)
	k, token := b.issue(t, importer())
	b.trail.Fail(errors.New("disk full"))
	if _, other, err := b.Issue(t.Context(), importer()); !errors.Is(err, audit.ErrUnavailable) || other != "" {
		t.Errorf("Issue = %q, %v", other, err)
	}
	list, err := b.List(t.Context(), accesstest.Tenant)
	if err != nil || len(list) != 2 || list[1].Revoked.IsZero() && list[0].Revoked.IsZero() {
		t.Errorf("a key that is not recorded is left: %+v, %v", list, err)
	}
	if err := b.Revoke(t.Context(), k.Tenant, k.ID); !errors.Is(err, audit.ErrUnavailable) {
		t.Errorf("Revoke = %v", err)
	}
	if _, err := b.Authenticate(t.Context(), token, here); err == nil || errors.Is(err, machine.ErrRefused) || !errors.Is(err, audit.ErrUnavailable) {
		t.Errorf("a refusal that is not recorded: %v", err)
	}
	b.trail.Fail(nil)
	if _, err := b.Authenticate(t.Context(), token, here); err != machine.ErrRefused {
		t.Errorf("after a revocation that was not recorded: %v", err)
	}
}

func TestWithoutAStore(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, token := b.issue(t, importer())
	down := errors.New("down")
	b.store.Fail(down)
	if _, err := b.Authenticate(t.Context(), token, here); !errors.Is(err, down) || errors.Is(err, machine.ErrRefused) {
		t.Errorf("Authenticate = %v", err)
	}
	b.store.FailAfter(1, down) // the note of its use
	if _, err := b.Authenticate(t.Context(), token, here); err != nil {
		t.Errorf("a use that cannot be noted: %v", err)
	}
	b.store.Fail(nil)
	b.down = down
	if _, err := b.Authenticate(t.Context(), token, here); !errors.Is(err, down) || errors.Is(err, machine.ErrRefused) {
		t.Errorf("without accounts: %v", err)
	}
}

func TestLastUse(t *testing.T) {
	t.Parallel()
	b := setup(t)
	k, token := b.issue(t, importer())
	first := b.now
	for _, tt := range []struct {
		after time.Duration
		want  time.Time
	}{{0, first}, {59 * time.Second, first}, {60 * time.Second, first.Add(time.Minute)}} {
		b.now = first.Add(tt.after)
		if _, err := b.Authenticate(t.Context(), token, here); err != nil {
			t.Fatal(err)
		}
		if got, err := b.store.Key(t.Context(), k.ID); err != nil || !got.LastUsed.Equal(tt.want) {
			t.Errorf("after %v it was used at %v, %v, want %v", tt.after, got.LastUsed, err, tt.want)
		}
	}
}

func TestBadKeysAreRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for says, change := range map[string]func(*machine.NewKey){
		"Roles is empty":    func(n *machine.NewKey) { n.Roles = nil },
		"Purposes is empty": func(n *machine.NewKey) { n.Purposes = nil },
		"Purposes has":      func(n *machine.NewKey) { n.Purposes = []access.Purpose{"CURIOSITY"} },
		"ID is empty":       func(n *machine.NewKey) { n.Service = "" },
		"e-mail":            func(n *machine.NewKey) { n.Service = "nora@clinic.example" },
		"Tenant":            func(n *machine.NewKey) { n.Tenant = "" },
		"Networks[0]":       func(n *machine.NewKey) { n.Networks = []netip.Prefix{netip.MustParsePrefix("10.1.2.3/24")} },
		"more than 64":      func(n *machine.NewKey) { n.Networks = make([]netip.Prefix, 65) },
		"Life":              func(n *machine.NewKey) { n.Life = 366 * 24 * time.Hour },
		"NewKey.Life":       func(n *machine.NewKey) { n.Life = -1 },
	} {
		n := importer()
		change(&n)
		if _, token, err := b.Issue(t.Context(), n); err == nil || token != "" || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "nora") {
			t.Errorf("%s: %q, %v", says, token, err)
		}
	}
	other := accesstest.AsIn(t, t.Context(), "t-other", "admin", access.SystemAdmin)
	if _, _, err := b.Issue(other, importer()); err == nil || !strings.Contains(err.Error(), "another tenant") {
		t.Errorf("another tenant's admin: %v", err)
	}
}

func TestNewNamesTheBadField(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for field, change := range map[string]func(*machine.Config){
		"Store":    func(c *machine.Config) { c.Store = nil },
		"Audit":    func(c *machine.Config) { c.Audit = nil },
		"Accounts": func(c *machine.Config) { c.Accounts = nil },
		"Prefix":   func(c *machine.Config) { c.Prefix = "My_App" },
		".Prefix":  func(c *machine.Config) { c.Prefix = "ab" },
		"MaxLife":  func(c *machine.Config) { c.MaxLife = -1 },
	} {
		cfg := b.config()
		change(&cfg)
		if _, err := machine.New(cfg); err == nil || !strings.Contains(err.Error(), "Config"+"."+strings.Trim(field, ".")) {
			t.Errorf("%s: %v", field, err)
		}
	}
}

func TestMiddleware(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, token := b.issue(t, importer())
	var got access.Principal
	var inside http.Header
	served := 0
	h := b.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		served++
		got, _ = access.PrincipalFrom(req.Context())
		inside = req.Header
	}))
	for _, tt := range []struct {
		name   string
		ctx    context.Context
		values []string
		status int
		who    string
	}{
		{"a key", t.Context(), []string{"Bearer " + token}, 200, "svc-importer"},
		{"in another case", t.Context(), []string{"bearer  " + token}, 200, "svc-importer"},
		{"nothing", t.Context(), nil, 200, ""},
		{"another scheme", t.Context(), []string{"Basic " + token}, 200, ""},
		{"another's token", t.Context(), []string{"Bearer eyJhbGciOi"}, 200, ""},
		{"a bad key", t.Context(), []string{"Bearer part164_x"}, 401, ""},
		{"two keys", t.Context(), []string{"Bearer " + token, "Bearer " + token}, 401, ""},
		{"a key and another scheme", t.Context(), []string{"Basic x", "Bearer " + token}, 401, ""},
		{"beside somebody", accesstest.As(t, t.Context(), "nurse", ""), []string{"Bearer " + token}, 401, ""},
		{"somebody alone", accesstest.As(t, t.Context(), "nurse", ""), nil, 200, accesstest.Principal(accesstest.Tenant, "nurse").ID},
	} {
		got, inside, served = access.Principal{}, nil, 0
		req := httptest.NewRequestWithContext(tt.ctx, "GET", "/?access_token="+token, nil)
		req.Header["Authorization"] = tt.values
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		if w.Code != tt.status || got.ID != tt.who || (served == 1) != (tt.status == 200) {
			t.Errorf("%s: %d, served %d for %q; want %d for %q", tt.name, w.Code, served, got.ID, tt.status, tt.who)
		}
		if tt.status == 401 && (w.Body.String() != "{\"error\":\"signin\"}\n" || w.Header().Get("WWW-Authenticate") != "Bearer") {
			t.Errorf("%s: %q %v", tt.name, w.Body, w.Header())
		}
		if tt.who == "svc-importer" && (inside.Get("Authorization") != "" || w.Header().Get("Cache-Control") != "no-store") {
			t.Errorf("%s: the handler sees %q", tt.name, inside)
		}
	}
	b.store.Fail(errors.New("down"))
	req := httptest.NewRequestWithContext(t.Context(), "GET", "/", nil)
	req.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	if h.ServeHTTP(w, req); w.Code != 503 || w.Body.String() != "{\"error\":\"unavailable\"}\n" {
		t.Errorf("without a store: %d %q", w.Code, w.Body)
	}
}

func FuzzToken(f *testing.F) {
	f.Add("part164_aaaaaaaaaaaaaaaa_" + strings.Repeat("a", 59))
	f.Add(withCheck("part164_aaaaaaaaaaaaaaaa_" + strings.Repeat("a", 52)))
	f.Fuzz(func(t *testing.T, token string) {
		b := setup(t)
		if _, err := b.Authenticate(context.Background(), token, here); err != machine.ErrRefused {
			t.Fatalf("%v, want ErrRefused", err)
		}
	})
}
