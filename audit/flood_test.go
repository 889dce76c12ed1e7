// SPDX-License-Identifier: Apache-2.0

package audit_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
)

// refusal is a denial of somebody who is not signed in.
func refusal(from string) audit.Event {
	return audit.Event{Type: audit.Denied, Outcome: audit.Failure, Reason: audit.ReasonPolicy,
		Actor: access.Principal{Tenant: "t-1", Addr: netip.MustParseAddr(from)}}
}

// refusals adds up what the events of dir count.
func refusals(t *testing.T, dir string) (events, refused int) {
	t.Helper()
	for _, typ := range []audit.Type{audit.Denied, audit.SignInFailed, audit.SignInLocked} {
		for _, s := range ofType(t, dir, typ) {
			events++
			refused += max(1, s.Count)
		}
	}
	return events, refused
}

func TestAFloodOfRefusalsHoldsNothingUp(t *testing.T) {
	t.Parallel()
	j, dir := open(t, audit.Config{})
	const flood, lanes = 100_000, 5000 // more lanes than are counted apart
	ctx := doctor(t)
	begin := time.Now()
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := w; i < flood; i += 4 {
				ev := refusal(fmt.Sprintf("10.%d.%d.%d", i%lanes/256, i%lanes%256, i%7))
				if i%3 == 0 {
					ev.Type, ev.Reason = audit.SignInLocked, audit.ReasonThrottled
				}
				if _, err := j.Record(context.Background(), ev); err != nil {
					t.Errorf("Record(refusal) = %v", err)
					return
				}
			}
		})
	}
	ended := make(chan struct{})
	go func() { wg.Wait(); close(ended) }()
	reveals, longest := 0, time.Duration(0)
	for running := true; running || reveals < 50; reveals++ {
		at := time.Now()
		if _, err := j.Record(ctx, wide(1)); err != nil {
			t.Fatalf("Record(reveal in the flood) = %v", err)
		}
		longest = max(longest, time.Since(at))
		select {
		case <-ended:
			running = false
		default:
		}
	}
	<-ended
	took := time.Since(begin)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	events, refused := refusals(t, dir)
	if refused != flood {
		t.Errorf("%d refusals are recorded, want %d", refused, flood)
	}
	// One event opens a lane, one a minute counts the others, and the end one.
	if most := (1024 + 3) * (2 + int(took/time.Minute)); events > most {
		t.Errorf("%d events hold the refusals, want at most %d", events, most)
	}
	if got := len(ofType(t, dir, audit.Revealed)); got != reveals {
		t.Errorf("%d reveals are kept, want %d", got, reveals)
	}
	sound(t, dir)
	t.Logf("%d refusals in %d events; %d reveals meanwhile, the longest %v", refused, events, reveals, longest)
}

func TestRefusalsOfALaneAreOneEventAMinute(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		j, dir := open(t, audit.Config{})
		begin := time.Now()
		for i := range 300 { // five minutes
			if _, err := j.Record(t.Context(), refusal(fmt.Sprintf("192.0.2.%d", i%250))); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		time.Sleep(3 * time.Minute)
		if r, err := j.Record(t.Context(), refusal("192.0.2.9")); err != nil || r.ID == "" {
			t.Errorf("Record(refusal, quiet lane) = %v, %v, want it recorded at once", r, err)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		got := ofType(t, dir, audit.Denied)
		if events, refused := refusals(t, dir); refused != 301 || events < 6 || events > 8 {
			t.Errorf("%d refusals in %d events, want 301 in about 7", refused, events)
		}
		if s := got[0]; s.Count != 0 || s.Actor.Addr.String() != "192.0.2.0" || !s.Since.IsZero() {
			t.Errorf("the first: %+v", s)
		}
		s := got[1]
		if s.Actor.Addr.String() != "192.0.2.0" || s.Actor.Tenant != "t-1" || s.Reason != audit.ReasonPolicy ||
			s.Since.Before(begin.Truncate(time.Second)) || s.Until.Sub(s.Since) > time.Minute || s.Count < 55 {
			t.Errorf("aggregated: %+v", s)
		}
	})
}

// A flood of strangers, from more networks than there are lanes, does not hide
// that the key of a program is tried which is no more.
func TestAFloodDoesNotHideAProgram(t *testing.T) {
	t.Parallel()
	j, dir := open(t, audit.Config{})
	fail := func(p access.Principal, r audit.Reason) {
		t.Helper()
		if _, err := j.Record(t.Context(), audit.Event{Type: audit.SignInFailed, Outcome: audit.Failure, Reason: r, Actor: p}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 1100 {
		fail(access.Principal{Addr: netip.AddrFrom4([4]byte{11, byte(i >> 8), byte(i), 1})}, audit.ReasonForged)
	}
	for i := range 20 {
		fail(access.Principal{ID: "svc-importer", Tenant: "t-1", Kind: access.Service, Addr: netip.AddrFrom4([4]byte{203, 0, byte(i), 9})}, audit.ReasonRevoked)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	events, count := 0, 0
	for _, s := range ofType(t, dir, audit.SignInFailed) {
		if s.Actor.ID == "svc-importer" && s.Actor.Tenant == "t-1" && s.Reason == audit.ReasonRevoked {
			events++
			count += max(s.Count, 1)
		}
	}
	if count != 20 || events > 3 {
		t.Errorf("%d events name 20 uses of a revoked key as %d", events, count)
	}
}

// Who is signed in has to answer for each denial: none is aggregated.
func TestDenialsOfAPrincipalStandAlone(t *testing.T) {
	t.Parallel()
	j, dir := open(t, audit.Config{})
	for range 20 {
		if r, err := j.Record(doctor(t), audit.Event{Type: audit.Denied, Outcome: audit.Failure, Reason: audit.ReasonPolicy}); err != nil || r.ID == "" {
			t.Fatalf("Record(denial) = %v, %v", r, err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if got := ofType(t, dir, audit.Denied); len(got) != 20 || got[7].Count != 0 {
		t.Errorf("%d denials are kept, want 20", len(got))
	}
}

// What is not required is dropped while the disk hangs or is full, quickly,
// and counted.
func TestBestEffortIsDroppedAndCounted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d, dir := onDisk(t)
		j := openOn(t, d, dir, audit.Config{CheckpointEvery: 5 * time.Millisecond, Timeout: 2 * time.Second})
		d.Fail(func(op audittest.Op, name string) (int, error) {
			if op == audittest.DiskWrite || op == audittest.DiskCreate {
				return 0, syscall.ENOSPC
			}
			return 0, nil
		})
		alert := audit.Event{Type: audit.Alerted, Outcome: audit.Success, Rule: "bulk"}
		for i := range 40 {
			at := time.Now()
			if r, err := j.Record(doctor(t), alert); err != nil || r.ID != "" {
				t.Fatalf("Record(alert, disk full) = %v, %v, want neither an ID nor an error", r, err)
			}
			if _, err := j.Record(t.Context(), refusal("192.0.2.7")); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(at); took > 2*100*time.Millisecond {
				t.Errorf("best effort took %v", took)
			}
			if i == 0 {
				if _, err := j.Record(doctor(t), search(1)); !errors.Is(err, audit.ErrUnavailable) {
					t.Errorf("Record(search, disk full) = %v, want ErrUnavailable", err)
				}
			}
		}
		d.Fail(nil)
		waitFor(t, func() bool { _, err := j.Record(doctor(t), search(2)); return err == nil })
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		dropped := 0
		for _, s := range ofType(t, dir, audit.Dropped) {
			dropped += s.Count
		}
		if n := len(ofType(t, dir, audit.Alerted)); n != 0 || dropped != 40 {
			t.Errorf("%d alerts are kept and %d counted as dropped, want 0 and 40", n, dropped)
		}
		if _, refused := refusals(t, dir); refused != 40 {
			t.Errorf("%d refusals are counted, want 40", refused)
		}
		sound(t, dir)
	})
}

// A disk that hangs holds nobody up for long who records what is not required.
func TestBestEffortIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d, dir := onDisk(t)
		j := openOn(t, d, dir, audit.Config{CheckpointEvery: time.Minute, Timeout: 2 * time.Second})
		answers := hang(d)
		begin := time.Now()
		if _, err := j.Record(doctor(t), audit.Event{Type: audit.Alerted, Outcome: audit.Success, Rule: "bulk"}); err != nil {
			t.Errorf("Record(alert, disk hangs) = %v, want no error", err)
		}
		if took := time.Since(begin); took != 100*time.Millisecond {
			t.Errorf("Record took %v, want 100ms", took)
		}
		answers()
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
}

// The last quarter of the last segment is kept for what opens records.
func TestRefusalsLeaveTheReserve(t *testing.T) {
	t.Parallel()
	d, dir := onDisk(t)
	j := openOn(t, d, dir, audit.Config{CheckpointEvery: 10 * time.Millisecond})
	d.SetFree(1000)
	// Until it is known that there is no room, nothing is kept for anybody.
	waitFor(t, func() bool {
		record(t, j, search(1))
		return errors.Is(j.Ready(), audit.ErrDiskFull)
	})
	denial := audit.Event{Type: audit.Denied, Outcome: audit.Failure, Reason: audit.ReasonPolicy, Objects: wide(700).Objects}
	denials, err := 0, error(nil)
	for ; err == nil && denials < 100; denials++ {
		_, err = j.Record(doctor(t), denial)
	}
	if !errors.Is(err, audit.ErrUnavailable) || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("Record(denial, disk full) = %v, want ErrUnavailable and ENOSPC", err)
	}
	alert := audit.Event{Type: audit.Alerted, Outcome: audit.Success, Rule: "bulk", Objects: denial.Objects}
	if r, err := j.Record(doctor(t), alert); err != nil || r.ID != "" {
		t.Errorf("Record(alert, disk full) = %v, %v, want neither an ID nor an error", r, err)
	}
	reveals := 0
	for ; reveals < 20; reveals++ {
		if _, err := j.Record(doctor(t), wide(40)); err != nil {
			break
		}
	}
	if reveals < 10 {
		t.Errorf("%d reveals are recordable after refusals filled the disk", reveals)
	}
	d.SetFree(1 << 40)
	waitFor(t, func() bool { _, err := j.Record(doctor(t), denial); return err == nil })
}

// waitFor waits for something that the journal does by itself.
func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not happen")
		}
	}
}

func TestTheListOfBestEffortIsClosed(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("event.go")
	if err != nil {
		t.Fatal(err)
	}
	all := regexp.MustCompile(`(?m)^\s+\w+\s+Type = "([^"]+)"`).FindAllSubmatch(source, -1)
	if len(all) < 40 {
		t.Fatalf("event.go has %d types", len(all))
	}
	var got []audit.Type
	for _, m := range all {
		if typ := audit.Type(m[1]); typ.BestEffort() {
			got = append(got, typ)
		}
	}
	slices.Sort(got)
	if want := []audit.Type{audit.Alerted, audit.ClockOff, audit.Dropped, audit.SignInLocked}; !slices.Equal(got, want) {
		t.Errorf("best effort: %v, want %v", got, want)
	}
}
