// SPDX-License-Identifier: Apache-2.0

package crypto

import (
	"context"
	"fmt"
)

// A Sealer seals small secrets, such as TOTP seeds, straight under a KEK. It is
// safe for concurrent use.
type Sealer interface {
	// Seal returns the sealed form of plaintext at b.
	Seal(ctx context.Context, b Binding, plaintext []byte) ([]byte, error)

	// Open returns the plaintext of sealed, which must belong at b. The error
	// wraps [ErrFormat], [ErrVersion], [ErrBinding], or [ErrOpen] and the
	// KEK's own.
	Open(ctx context.Context, b Binding, sealed []byte) ([]byte, error)
}

// NewSealer returns a Sealer that calls kek once an operation. It suits what is
// read once a sign-in; for records use a [Keyring].
// With a nil kek every operation fails with [ErrNoKey].
func NewSealer(kek KEK) Sealer { return kekSealer{kek} }

type kekSealer struct{ kek KEK }

// sealerAlgorithm marks what is sealed straight under a KEK: the rest of the
// bytes are the KEK's own. Under a test's KEK it is sealerForTests.
const (
	sealerAlgorithm byte = 0x40
	sealerForTests  byte = 0x41
)

func (s kekSealer) Seal(ctx context.Context, b Binding, plaintext []byte) ([]byte, error) {
	switch {
	case s.kek == nil:
		return nil, fmt.Errorf("crypto: seal secret: %w", ErrNoKey)
	case !b.valid():
		return nil, fmt.Errorf("crypto: seal secret: %w", ErrBinding)
	}
	algorithm := sealerAlgorithm
	if marksOf(s.kek).seals {
		algorithm = sealerForTests
	}
	c, err := s.kek.EncryptWithContext(ctx, plaintext, secretData(b, algorithm))
	if err != nil {
		return nil, fmt.Errorf("crypto: seal secret: %w", told(err))
	}
	return append([]byte{CellVersion, algorithm}, c...), nil
}

func (s kekSealer) Open(ctx context.Context, b Binding, sealed []byte) ([]byte, error) {
	switch {
	case s.kek == nil:
		return nil, fmt.Errorf("crypto: open secret: %w", ErrNoKey)
	case !b.valid():
		return nil, fmt.Errorf("crypto: open secret: %w", ErrBinding)
	case len(sealed) < 2 || sealed[0] < CellVersion:
		return nil, fmt.Errorf("crypto: open secret: %w", ErrFormat)
	case sealed[0] != CellVersion || sealed[1] != sealerAlgorithm && sealed[1] != sealerForTests:
		return nil, fmt.Errorf("crypto: open secret: %w", ErrVersion)
	case sealed[1] == sealerForTests && !forTests(s.kek):
		return nil, fmt.Errorf("crypto: open secret: %w", ErrTestKey)
	}
	p, err := s.kek.DecryptWithContext(ctx, sealed[2:], secretData(b, sealed[1]))
	if err != nil {
		return nil, fmt.Errorf("crypto: open secret: %w: %w", ErrOpen, told(err))
	}
	return p, nil
}

func secretData(b Binding, algorithm byte) []byte {
	return joinParts("part164/secret", string([]byte{CellVersion, algorithm}), b.Tenant, b.Field, b.Record, b.Subject)
}
