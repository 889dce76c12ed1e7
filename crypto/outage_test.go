// SPDX-License-Identifier: Apache-2.0

package crypto_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/part164/part164/crypto"
	"github.com/part164/part164/crypto/cryptotest"
)

// KMS down: tenants in memory go on for TTL + Outage, others get a clear error,
// and all come back without a restart.
func TestOutage(t *testing.T) {
	t.Parallel()
	for name, down := range map[string]error{"down": cryptotest.ErrDown, "throttled": cryptotest.ErrThrottled, "no route": &net.OpError{Op: "dial", Err: syscall.EHOSTUNREACH}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				kek := cryptotest.NewKEK()
				var told []time.Time
				s := newStack(t, kek, func(c *crypto.Config) {
					c.Outage = time.Hour
					c.Unreachable = func(tenant string, until time.Time, err error) {
						if tenant != "t1" || !errors.Is(err, crypto.ErrUnreachable) {
							t.Errorf("told of %s: %v", tenant, err)
						}
						told = append(told, until)
					}
				})
				s.store(t, "t1", "p1", "p2")
				s.store(t, "t2", "p1")
				lookup := func(tenant string, want ...error) {
					t.Helper()
					synctest.Wait()
					k, err := s.lookup(t, tenant, "p1")
					synctest.Wait()
					if len(want) == 0 && (err != nil || k == nil) {
						t.Fatalf("Lookup(%s) = %v", tenant, err)
					}
					for _, w := range want {
						if !errors.Is(err, w) {
							t.Fatalf("Lookup(%s) = %v, want %v", tenant, err, w)
						}
					}
				}
				lookup("t1")
				start := s.now
				kek.Fail(down)
				lookup("t2", crypto.ErrUnwrap, crypto.ErrUnreachable, down) // not in memory: a clear error at once
				asked := kek.Decrypts()
				for _, after := range []time.Duration{4 * time.Minute, 4*time.Minute + 30*time.Second, 5 * time.Minute, 5*time.Minute + 9*time.Second, 30 * time.Minute, 65*time.Minute - time.Nanosecond} {
					s.now = start.Add(after)
					lookup("t1")
					lookup("t1")
				}
				if n := kek.Decrypts() - asked; n != 4 {
					t.Errorf("the KEK was asked %d times, want 4: in the last tenth of the TTL, after it, and not within 10 s of an outage", n)
				}
				if len(told) != 4 || !told[0].Equal(start.Add(65*time.Minute)) {
					t.Errorf("told %v, want 4 times, and until 65 minutes after the key was unwrapped", told)
				}
				tx, dbtx := s.begin(t)
				if _, err := tx.SealingKeys(t.Context(), "t1", []string{"p2", "new"}); err != nil {
					t.Errorf("SealingKeys() of a tenant in memory = %v", err)
				}
				if _, err := tx.SealingKeys(t.Context(), "t3", []string{"p1"}); !errors.Is(err, crypto.ErrUnreachable) {
					t.Errorf("SealingKeys() of a new tenant = %v, want ErrUnreachable", err)
				}
				dbtx.Rollback()

				// A patient who is shredded meanwhile is not opened.
				if err := s.db.Shred(t.Context(), "t1", "p2"); err != nil {
					t.Fatal(err)
				}
				if _, err := s.lookup(t, "t1", "p2"); !errors.Is(err, crypto.ErrShredded) {
					t.Errorf("Lookup() of a shredded subject during the outage = %v, want ErrShredded", err)
				}

				s.now = start.Add(65 * time.Minute)
				lookup("t1", crypto.ErrUnwrap, crypto.ErrUnreachable, down)
				kek.Fail(nil)
				lookup("t1") // the same keyring
				lookup("t2")
			})
		})
	}
}

// A refusal is felt within the TTL, before, during and after an outage.
func TestRevocationIsNoOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		kek := cryptotest.NewKEK()
		s := newStack(t, kek)
		s.store(t, "t1", "p1")
		look := func() error {
			synctest.Wait()
			_, err := s.lookup(t, "t1", "p1")
			synctest.Wait()
			return err
		}
		if err := look(); err != nil {
			t.Fatal(err)
		}
		// the subject's key is read anew shortly before, and must not outlive the tenant's
		s.advance(4 * time.Minute)
		kek.Revoke()
		for range 2 {
			s.advance(30*time.Second - 1)
			if err := look(); err != nil {
				t.Errorf("within the TTL: %v", err)
			}
		}
		s.advance(2)
		for range 3 {
			if err := look(); !errors.Is(err, cryptotest.ErrRevoked) || !errors.Is(err, crypto.ErrUnwrap) || errors.Is(err, crypto.ErrUnreachable) {
				t.Errorf("after the TTL: %v, want ErrRevoked", err)
			}
		}
		kek.Restore()
		if err := look(); err != nil {
			t.Errorf("restored: %v", err)
		}
		kek.Fail(cryptotest.ErrDown)
		s.advance(10 * time.Minute)
		if err := look(); err != nil {
			t.Errorf("in an outage: %v", err)
		}
		kek.Revoke()
		s.advance(11 * time.Second)
		if err := look(); !errors.Is(err, cryptotest.ErrRevoked) {
			t.Errorf("revoked in an outage: %v, want ErrRevoked", err)
		}
		kek.Restore()
		kek.Fail(cryptotest.ErrDown)
		for range 5 {
			s.advance(11 * time.Second)
			if err := look(); err == nil {
				t.Error("an outage brought a revoked key back")
			}
		}
		kek.Fail(nil)
		s.advance(11 * time.Second)
		if err := look(); err != nil {
			t.Errorf("restored and reachable: %v", err)
		}
	})
}

// A KMS that hangs is asked once for all, and for 10 seconds at most.
func TestAHangingKMS(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		kek := cryptotest.NewKEK()
		s := newStack(t, kek)
		s.store(t, "t1", "p1")
		if _, err := s.lookup(t, "t1", "p1"); err != nil {
			t.Fatal(err)
		}
		kek.Delay(time.Hour)
		s.advance(6 * time.Minute)
		begin := time.Now()
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if _, err := s.lookup(t, "t1", "p1"); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if d := time.Since(begin); d != 10*time.Second || kek.Decrypts() != 2 {
			t.Errorf("100 waited %v for %d calls, want 10 s and one more than before", d, kek.Decrypts()-1)
		}
		if _, err := s.lookup(t, "t1", "p1"); err != nil || time.Since(begin) != 10*time.Second {
			t.Errorf("the next waited too: %v, %v", time.Since(begin), err)
		}
	})
}

// A key in use is asked for before its TTL ends: nobody waits for the KMS.
func TestRefreshAhead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		kek := cryptotest.NewKEK()
		s := newStack(t, kek)
		s.store(t, "t1", "p1")
		if _, err := s.lookup(t, "t1", "p1"); err != nil {
			t.Fatal(err)
		}
		kek.Delay(time.Second)
		begin, hours := time.Now(), 2
		for range hours * 360 {
			s.advance(10 * time.Second)
			if _, err := s.lookup(t, "t1", "p1"); err != nil {
				t.Fatal(err)
			}
			if time.Since(begin) != 0 {
				t.Fatal("a reader waited for the KMS")
			}
			time.Sleep(time.Second)
			begin = time.Now()
		}
		t.Logf("%d calls of the KMS an hour for a tenant in steady use", (kek.Decrypts()-1)/hours)
		if n := (kek.Decrypts() - 1) / hours; n > 14 {
			t.Errorf("%d calls an hour, want at most 14", n)
		}
	})
}

type coded string

func (c coded) Error() string     { return string(c) }
func (c coded) ErrorCode() string { return string(c) }

func TestWhatIsAnOutage(t *testing.T) {
	t.Parallel()
	busy := errors.New("rpc error: code = Unavailable")
	for _, tt := range []struct {
		err  error
		want bool
	}{
		{coded("ThrottlingException"), true},
		{coded("AccessDeniedException"), false},
		{coded("DisabledException"), false},
		{coded("KMSInvalidStateException"), false},
		{coded("InvalidCiphertextException"), false},
		{&url.Error{Op: "Post", URL: "https://kms.example", Err: errors.New("EOF")}, true},
		{&net.DNSError{Err: "no such host"}, true},
		{fmt.Errorf("kms: %w", context.DeadlineExceeded), true},
		{os.ErrDeadlineExceeded, true},
		{&os.PathError{Op: "open", Err: syscall.EACCES}, false},
		{context.Canceled, false},
		{errors.New("permission denied"), false},
		{busy, true},
	} {
		kek := cryptotest.NewKEK()
		kek.Fail(tt.err)
		k := crypto.WithOutages(kek, func(err error) bool { return errors.Is(err, busy) })
		s := newStack(t, k)
		tx, dbtx := s.begin(t)
		_, err := tx.SealingKeys(t.Context(), "t1", []string{"p1"})
		dbtx.Rollback()
		if !errors.Is(err, tt.err) || errors.Is(err, crypto.ErrUnreachable) != tt.want {
			t.Errorf("%v: %v, want ErrUnreachable %v", tt.err, err, tt.want)
		}
		if tt.want && !strings.Contains(err.Error(), "look at the KMS") {
			t.Errorf("the error names no mend: %v", err)
		}
	}
	if crypto.WithOutages(nil, nil) != nil {
		t.Error("no KEK became one")
	}
	cryptotest.TestKEK(t, func(*testing.T) crypto.KEK { return crypto.WithOutages(cryptotest.NewKEK(), nil) })
}
