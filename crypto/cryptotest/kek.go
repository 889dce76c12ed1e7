// SPDX-License-Identifier: Apache-2.0

package cryptotest

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/part164/part164/crypto"
)

// What a [KEK] answers when it is told to fail.
var (
	// ErrDown is what a KMS gives that cannot be reached.
	ErrDown = fmt.Errorf("cryptotest: the KMS is down: %w", crypto.ErrUnreachable)

	// ErrThrottled is what a KMS gives that is asked too often. It counts as
	// one that cannot be reached.
	ErrThrottled = fmt.Errorf("cryptotest: the KMS is asked too often: %w", crypto.ErrUnreachable)

	// ErrRevoked is what a KMS gives whose key may not be used any more.
	ErrRevoked = errors.New("cryptotest: the key is revoked")
)

// KEK is a KMS in memory, with a random key. It counts its calls, and fails, is
// slow, throttles and revokes on demand. What is sealed under it carries the
// mark of tests (crypto.ErrTestKey). It is safe for concurrent use; make one
// with [NewKEK].
type KEK struct {
	aead cipher.AEAD

	mu       sync.Mutex
	encrypts int
	decrypts int
	fail     error
	after    int // calls before it fails
	revoked  bool
	delay    time.Duration
	limit    int // calls in a period; 0 = any number
	period   time.Duration
	answered []time.Time // in the last period
	before   func(context.Context)
}

var _ crypto.KEK = (*KEK)(nil)

// NewKEK returns a KEK with a new key.
func NewKEK() *KEK {
	raw := make([]byte, 32)
	rand.Read(raw) // never fails: it crashes the program instead
	block, err := aes.NewCipher(raw)
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return &KEK{aead: aead}
}

// ForTestsOnly marks what is sealed under the KEK.
func (k *KEK) ForTestsOnly() {}

// Fail makes every following call return err, such as [ErrDown]; nil mends it.
func (k *KEK) Fail(err error) { k.FailAfter(0, err) }

// FailAfter lets n more calls through and makes every later one return err;
// nil mends the KEK.
func (k *KEK) FailAfter(n int, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.after, k.fail = n, err
}

// Revoke makes every following call return [ErrRevoked], whatever else is set,
// until [KEK.Restore].
func (k *KEK) Revoke() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.revoked = true
}

// Restore ends a revocation.
func (k *KEK) Restore() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.revoked = false
}

// Delay makes every following call take d, or until its context is done.
func (k *KEK) Delay(d time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.delay = d
}

// Throttle answers at most n calls in any period, and the others with
// [ErrThrottled]. Zero calls means any number.
func (k *KEK) Throttle(n int, period time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.limit, k.period, k.answered = n, period, nil
}

// Before has f run at the start of every following call, outside any lock.
func (k *KEK) Before(f func(context.Context)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.before = f
}

// Encrypts returns how many calls of EncryptWithContext there were.
func (k *KEK) Encrypts() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.encrypts
}

// Decrypts returns how many calls of DecryptWithContext there were.
func (k *KEK) Decrypts() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.decrypts
}

// call counts a call and says how it ends.
func (k *KEK) call(ctx context.Context, count *int) error {
	k.mu.Lock()
	*count++
	before, delay := k.before, k.delay
	err := k.answer(time.Now())
	k.mu.Unlock()
	if before != nil {
		before(ctx)
	}
	if delay > 0 {
		t := time.NewTimer(delay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func (k *KEK) answer(now time.Time) error {
	if k.revoked {
		return ErrRevoked
	}
	if k.fail != nil {
		if k.after == 0 {
			return k.fail
		}
		k.after--
	}
	if k.limit == 0 {
		return nil
	}
	k.answered = slices.DeleteFunc(k.answered, func(t time.Time) bool { return now.Sub(t) >= k.period })
	if len(k.answered) >= k.limit {
		return ErrThrottled
	}
	k.answered = append(k.answered, now)
	return nil
}

// EncryptWithContext implements crypto.KEK.
func (k *KEK) EncryptWithContext(ctx context.Context, plaintext, associatedData []byte) ([]byte, error) {
	if err := k.call(ctx, &k.encrypts); err != nil {
		return nil, err
	}
	return k.aead.Seal(nil, nil, plaintext, associatedData), nil
}

// DecryptWithContext implements crypto.KEK.
func (k *KEK) DecryptWithContext(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	if err := k.call(ctx, &k.decrypts); err != nil {
		return nil, err
	}
	p, err := k.aead.Open(nil, nil, ciphertext, associatedData)
	if err != nil {
		return nil, errors.New("cryptotest: the ciphertext does not open")
	}
	return p, nil
}

// Format prints nothing of the key.
func (k *KEK) Format(s fmt.State, _ rune) { fmt.Fprint(s, "[cryptotest.KEK]") }
