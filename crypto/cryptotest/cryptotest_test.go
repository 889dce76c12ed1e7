// SPDX-License-Identifier: Apache-2.0

package cryptotest_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/part164/part164/crypto"
	"github.com/part164/part164/crypto/cryptotest"
)

func TestFakeKEKKeepsTheContract(t *testing.T) {
	t.Parallel()
	cryptotest.TestKEK(t, func(*testing.T) crypto.KEK { return cryptotest.NewKEK() })
}

func TestFileKEKKeepsTheContract(t *testing.T) {
	t.Parallel()
	cryptotest.TestKEK(t, func(t *testing.T) crypto.KEK {
		k, err := crypto.LocalKEK(filepath.Join(t.TempDir(), "kek.json"))
		if err != nil {
			t.Fatal(err)
		}
		if err := k.Generate(); err != nil {
			t.Fatal(err)
		}
		return k
	})
}

func TestStoreKeepsTheContract(t *testing.T) {
	t.Parallel()
	cryptotest.TestKeyRows(t, func(*testing.T) cryptotest.DB { return cryptotest.NewStore() })
}

func TestKEKCountsAndFails(t *testing.T) {
	t.Parallel()
	k, down := cryptotest.NewKEK(), errors.New("down")
	c, err := k.EncryptWithContext(t.Context(), []byte("p"), nil)
	if err != nil {
		t.Fatal(err)
	}
	k.Fail(down)
	if _, err := k.DecryptWithContext(t.Context(), c, nil); !errors.Is(err, down) {
		t.Errorf("DecryptWithContext() = %v, want the failure set", err)
	}
	k.Fail(nil)
	if _, err := k.DecryptWithContext(t.Context(), c, nil); err != nil {
		t.Errorf("DecryptWithContext(mended) = %v", err)
	}
	if e, d := k.Encrypts(), k.Decrypts(); e != 1 || d != 2 {
		t.Errorf("counted %d and %d calls, want 1 and 2", e, d)
	}
}

func TestKEKFailsAsAKMSDoes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := cryptotest.NewKEK()
		call := func(want error) {
			t.Helper()
			if _, err := k.EncryptWithContext(t.Context(), []byte("p"), nil); !errors.Is(err, want) {
				t.Errorf("call %d = %v, want %v", k.Encrypts(), err, want)
			}
		}
		k.FailAfter(2, cryptotest.ErrDown)
		call(nil)
		call(nil)
		call(cryptotest.ErrDown)
		call(crypto.ErrUnreachable)
		k.Revoke()
		call(cryptotest.ErrRevoked)
		k.Restore()
		k.Fail(nil)
		call(nil)

		k.Throttle(2, time.Second)
		call(nil)
		call(nil)
		call(cryptotest.ErrThrottled)
		time.Sleep(time.Second)
		call(nil)
		k.Throttle(0, 0)

		k.Delay(time.Second)
		begin := time.Now()
		call(nil)
		if d := time.Since(begin); d != time.Second {
			t.Errorf("a call took %v, want a second", d)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := k.EncryptWithContext(ctx, nil, nil); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != time.Second+time.Millisecond {
			t.Errorf("a call with less time = %v after %v", err, time.Since(begin))
		}
	})
}
