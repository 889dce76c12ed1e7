// SPDX-License-Identifier: Apache-2.0

package machinetest

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/machine"
)

// TestStore runs the contract of machine.Store. open is called once a subtest and
// returns an empty store. PART164_TEST_LONG=1 asks for the full counts of its
// races.
func TestStore(t *testing.T, open func(t *testing.T) machine.Store) {
	for _, sub := range []struct {
		name string
		run  func(*testing.T, machine.Store)
	}{
		{"keys come back whole", testKeys},
		{"IDs are compared byte by byte", testBytes},
		{"a rotation makes one successor", testRotate},
		{"of parallel rotations one succeeds", testRotateRace},
		{"a revocation is once and of its tenant", testRevoke},
		{"a service's keys end together", testRevokeService},
		{"no rotation outruns the end of a service", testRevokeServiceRace},
		{"last use moves forward", testTouch},
		{"certificates are revoked for good", testCertificates},
	} {
		t.Run(sub.name, func(t *testing.T) { sub.run(t, open(t)) })
	}
}

// start is when the suite begins.
func start() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 678901234, time.UTC) }

// key returns a whole key.
func key(id, tenant, service string) machine.Key {
	return machine.Key{
		ID: id, Tenant: tenant, Service: service, Hash: [32]byte{1, 2, 31: 9}, Roles: []string{"importer", "reader"},
		Purposes: []access.Purpose{access.Treatment, access.Payment},
		Networks: []netip.Prefix{netip.MustParsePrefix("10.1.2.0/24"), netip.MustParsePrefix("2001:db8::/32")},
		Created:  start(), Expires: start().Add(time.Hour),
	}
}

func create(t *testing.T, st machine.Store, keys ...machine.Key) {
	t.Helper()
	for _, k := range keys {
		if err := st.CreateKey(t.Context(), k); err != nil {
			t.Fatal(err)
		}
	}
}

func get(t *testing.T, st machine.Store, id string) machine.Key {
	t.Helper()
	k, err := st.Key(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func testKeys(t *testing.T, st machine.Store) {
	a, b := key("a", "t-1", "svc-1"), key("b", "t-1", "svc-2")
	b.Networks, b.Created = nil, start().Add(-time.Hour)
	create(t, st, a, b, key("c", "t-2", "svc-1"))
	if got := get(t, st, "a"); !reflect.DeepEqual(got, a) {
		t.Errorf("Key = %+v, want %+v", got, a)
	}
	if err := st.CreateKey(t.Context(), key("a", "t-2", "svc-9")); !errors.Is(err, machine.ErrExists) {
		t.Errorf("a second key of one ID: %v, want ErrExists", err)
	}
	if _, err := st.Key(t.Context(), "x"); !errors.Is(err, machine.ErrNotFound) {
		t.Errorf("no key: %v, want ErrNotFound", err)
	}
	list, err := st.Keys(t.Context(), "t-1")
	if err != nil || !reflect.DeepEqual(list, []machine.Key{b, a}) {
		t.Errorf("Keys = %+v, %v, want the tenant's, oldest first", list, err)
	}
	if list, err := st.Keys(t.Context(), "t-3"); err != nil || len(list) != 0 {
		t.Errorf("Keys of nobody = %+v, %v", list, err)
	}
	got := get(t, st, "a")
	got.Roles[0] = "admin"
	if get(t, st, "a").Roles[0] != "importer" {
		t.Error("a key shares memory with its store")
	}
}

func testBytes(t *testing.T, st machine.Store) {
	create(t, st, key("k-a", "t-1", "svc-1"), key("K-A", "t-1", "SVC-1"), key("k-b", "T-1", "svc-1"))
	if n, err := st.RevokeService(t.Context(), "t-1", "svc-1", start()); err != nil || n != 1 {
		t.Errorf("RevokeService ended %d, %v, want 1", n, err)
	}
	for _, id := range []string{"K-a", "k-a ", "k-ä"} {
		if _, err := st.Key(t.Context(), id); !errors.Is(err, machine.ErrNotFound) {
			t.Errorf("Key(%q) = %v, want ErrNotFound", id, err)
		}
	}
}

func testRotate(t *testing.T, st machine.Store) {
	at := start().Add(time.Minute)
	rotate := func(tenant, id, next string, until time.Time) error {
		return st.RotateKey(t.Context(), tenant, id, key(next, "t-1", "svc-1"), until, at)
	}
	expired, early, revoked := key("expired", "t-1", "svc-1"), key("early", "t-1", "svc-1"), key("revoked", "t-1", "svc-1")
	expired.Expires, early.Created = at, at.Add(1)
	create(t, st, key("a", "t-1", "svc-1"), key("b", "t-1", "svc-1"), expired, early, revoked)
	if _, err := st.RevokeKey(t.Context(), "t-1", "revoked", start()); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"expired", "early", "revoked", "nobody"} {
		if err := rotate("t-1", id, "n-"+id, at); !errors.Is(err, machine.ErrNotFound) {
			t.Errorf("rotating %s: %v, want ErrNotFound", id, err)
		}
		if _, err := st.Key(t.Context(), "n-"+id); !errors.Is(err, machine.ErrNotFound) {
			t.Errorf("rotating %s left a successor: %v", id, err)
		}
	}
	if err := rotate("t-2", "a", "n", at); !errors.Is(err, machine.ErrNotFound) {
		t.Errorf("rotating another tenant's: %v, want ErrNotFound", err)
	}
	if err := rotate("t-1", "a", "b", at); !errors.Is(err, machine.ErrExists) || get(t, st, "a").Next != "" {
		t.Errorf("a successor whose ID is taken: %v, want ErrExists and nothing done", err)
	}
	until := at.Add(time.Minute)
	if err := rotate("t-1", "a", "n", until); err != nil {
		t.Fatal(err)
	}
	want := key("a", "t-1", "svc-1")
	want.Next, want.Expires = "n", until
	if got := get(t, st, "a"); !reflect.DeepEqual(got, want) {
		t.Errorf("the old key is %+v, want %+v", got, want)
	}
	if got := get(t, st, "n"); !reflect.DeepEqual(got, key("n", "t-1", "svc-1")) {
		t.Errorf("the new key is %+v", got)
	}
	if err := rotate("t-1", "a", "n2", until); !errors.Is(err, machine.ErrNotFound) {
		t.Errorf("a second successor: %v, want ErrNotFound", err)
	}
	if err := rotate("t-1", "b", "n3", start().Add(100*time.Hour)); err != nil || !get(t, st, "b").Expires.Equal(start().Add(time.Hour)) {
		t.Errorf("%v; an overlap made a key live longer, until %v", err, get(t, st, "b").Expires)
	}
}

// rounds is how often a race is run.
func rounds() int {
	if os.Getenv("PART164_TEST_LONG") == "1" {
		return 50
	}
	return 5
}

func testRotateRace(t *testing.T, st machine.Store) {
	for round := range rounds() {
		id := fmt.Sprintf("k%d", round)
		create(t, st, key(id, "t-1", "svc-1"))
		var won atomic.Int64
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				err := st.RotateKey(t.Context(), "t-1", id, key(fmt.Sprintf("n%d-%d", round, i), "t-1", "svc-1"), start().Add(time.Minute), start())
				switch {
				case err == nil:
					won.Add(1)
				case !errors.Is(err, machine.ErrNotFound):
					t.Error(err)
				}
			})
		}
		wg.Wait()
		list, err := st.Keys(t.Context(), "t-1")
		if err != nil || won.Load() != 1 || len(list) != 2*(round+1) {
			t.Fatalf("%d rotations of one key succeeded, %d keys, %v; want 1 and %d", won.Load(), len(list), err, 2*(round+1))
		}
	}
}

func testRevoke(t *testing.T, st machine.Store) {
	create(t, st, key("a", "t-1", "svc-1"))
	if ok, err := st.RevokeKey(t.Context(), "t-2", "a", start()); ok || err != nil {
		t.Errorf("another tenant: %v, %v", ok, err)
	}
	if ok, err := st.RevokeKey(t.Context(), "t-1", "x", start()); ok || err != nil {
		t.Errorf("no key: %v, %v", ok, err)
	}
	var won atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			ok, err := st.RevokeKey(t.Context(), "t-1", "a", start().Add(time.Second))
			if err != nil {
				t.Error(err)
			}
			if ok {
				won.Add(1)
			}
		})
	}
	wg.Wait()
	if k := get(t, st, "a"); won.Load() != 1 || !k.Revoked.Equal(start().Add(time.Second)) || k.Live(start().Add(time.Second)) {
		t.Errorf("revoked %d times, at %v", won.Load(), k.Revoked)
	}
}

func testRevokeService(t *testing.T, st machine.Store) {
	create(t, st, key("a", "t-1", "svc-1"), key("b", "t-1", "svc-1"), key("c", "t-1", "svc-2"), key("d", "t-2", "svc-1"))
	if _, err := st.RevokeKey(t.Context(), "t-1", "a", start()); err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{1, 0} {
		if n, err := st.RevokeService(t.Context(), "t-1", "svc-1", start().Add(time.Duration(i+1)*time.Second)); err != nil || n != want {
			t.Errorf("RevokeService = %d, %v, want %d", n, err, want)
		}
	}
	for id, want := range map[string]time.Time{"a": start(), "b": start().Add(time.Second), "c": {}, "d": {}} {
		if got := get(t, st, id).Revoked; !got.Equal(want) {
			t.Errorf("%s was revoked at %v, want %v", id, got, want)
		}
	}
}

func testRevokeServiceRace(t *testing.T, st machine.Store) {
	for round := range rounds() {
		service := fmt.Sprintf("svc-%d", round)
		id := service + "-0"
		create(t, st, key(id, "t-1", service))
		var wg sync.WaitGroup
		wg.Go(func() {
			for i := 1; i < 10; i++ {
				next := fmt.Sprintf("%s-%d", service, i)
				err := st.RotateKey(t.Context(), "t-1", id, key(next, "t-1", service), start().Add(time.Minute), start())
				if errors.Is(err, machine.ErrNotFound) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				id = next
			}
		})
		wg.Go(func() {
			if _, err := st.RevokeService(t.Context(), "t-1", service, start()); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		list, err := st.Keys(t.Context(), "t-1")
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range list {
			if k.Service == service && k.Revoked.IsZero() {
				// One that was made before RevokeService began would be revoked: it
				// went through a key that was live, and so before the end.
				t.Errorf("%s outlives the end of its service", k.ID)
			}
		}
	}
}

func testTouch(t *testing.T, st machine.Store) {
	create(t, st, key("a", "t-1", "svc-1"))
	for _, tt := range []struct{ at, want time.Duration }{{2, 2}, {1, 2}, {3, 3}} {
		if err := st.TouchKey(t.Context(), "a", start().Add(tt.at)); err != nil {
			t.Fatal(err)
		}
		if got := get(t, st, "a").LastUsed; !got.Equal(start().Add(tt.want)) {
			t.Errorf("last used %v, want %v", got, start().Add(tt.want))
		}
	}
	if err := st.TouchKey(t.Context(), "x", start()); err != nil {
		t.Errorf("no key: %v", err)
	}
	if _, err := st.Key(t.Context(), "x"); !errors.Is(err, machine.ErrNotFound) {
		t.Errorf("a touch made a key: %v", err)
	}
}

func testCertificates(t *testing.T, st machine.Store) {
	a, b, c := machine.CertificateID{1}, machine.CertificateID{2}, machine.CertificateID{3}
	for _, id := range []machine.CertificateID{a, a, b} {
		if err := st.RevokeCertificate(t.Context(), id, start()); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		ids  []machine.CertificateID
		want bool
	}{{nil, false}, {[]machine.CertificateID{c}, false}, {[]machine.CertificateID{a}, true}, {[]machine.CertificateID{c, b}, true}, {[]machine.CertificateID{{}}, false}} {
		if got, err := st.CertificateRevoked(t.Context(), tt.ids...); err != nil || got != tt.want {
			t.Errorf("CertificateRevoked(%v) = %v, %v, want %v", tt.ids, got, err, tt.want)
		}
	}
}
