// SPDX-License-Identifier: Apache-2.0

package cryptotest

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"

	"github.com/part164/part164/crypto"
)

// KEK is a key-encryption key in memory, with a random key. It counts its
// calls, and fails on demand. It is safe for concurrent use; make one with
// [NewKEK].
type KEK struct {
	aead cipher.AEAD

	mu       sync.Mutex
	encrypts int
	decrypts int
	fail     error
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

// Fail makes every following call return err; nil mends the KEK.
func (k *KEK) Fail(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fail = err
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

func (k *KEK) call(ctx context.Context, count *int) error {
	k.mu.Lock()
	*count++
	before, fail := k.before, k.fail
	k.mu.Unlock()
	if before != nil {
		before(ctx)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return fail
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
