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
// bytes are the KEK's own.
const sealerAlgorithm byte = 0x40

func (s kekSealer) Seal(ctx context.Context, b Binding, plaintext []byte) ([]byte, error) {
	switch {
	case s.kek == nil:
		return nil, fmt.Errorf("crypto: seal secret: %w", ErrNoKey)
	case !b.valid():
		return nil, fmt.Errorf("crypto: seal secret: %w", ErrBinding)
	}
	c, err := s.kek.EncryptWithContext(ctx, plaintext, secretData(b))
	if err != nil {
		return nil, fmt.Errorf("crypto: seal secret: %w", err)
	}
	return append([]byte{CellVersion, sealerAlgorithm}, c...), nil
}

func (s kekSealer) Open(ctx context.Context, b Binding, sealed []byte) ([]byte, error) {
	switch {
	case s.kek == nil:
		return nil, fmt.Errorf("crypto: open secret: %w", ErrNoKey)
	case !b.valid():
		return nil, fmt.Errorf("crypto: open secret: %w", ErrBinding)
	case len(sealed) < 2 || sealed[0] < CellVersion:
		return nil, fmt.Errorf("crypto: open secret: %w", ErrFormat)
	case sealed[0] != CellVersion || sealed[1] != sealerAlgorithm:
		return nil, fmt.Errorf("crypto: open secret: %w", ErrVersion)
	}
	p, err := s.kek.DecryptWithContext(ctx, sealed[2:], secretData(b))
	if err != nil {
		return nil, fmt.Errorf("crypto: open secret: %w: %w", ErrOpen, err)
	}
	return p, nil
}

func secretData(b Binding) []byte {
	return joinParts("part164/secret", string([]byte{CellVersion, sealerAlgorithm}), b.Tenant, b.Field, b.Record, b.Subject)
}
