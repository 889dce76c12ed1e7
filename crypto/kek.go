// SPDX-License-Identifier: Apache-2.0

package crypto

import (
	"context"

	"github.com/tink-crypto/tink-go/v2/tink"
)

// A KEK is a key-encryption key: it wraps the keys of tenants and never sees
// data. Tink's modules for AWS and Google Cloud KMS give one, and [WithoutContext]
// turns any other Tink AEAD into one; docs/guide-keys.md has the recipes.
// [LocalKEK] names one in a file, for development. Implementations are safe for concurrent use. The conformance
// suite is cryptotest.TestKEK.
type KEK = tink.AEADWithContext

// WithoutContext makes a KEK of an AEAD whose calls take no context. A call
// under a context that is done fails; one that has begun is not cut short. A
// nil AEAD makes a nil KEK, which [NewKeyring] refuses.
func WithoutContext(a tink.AEAD) KEK {
	if a == nil {
		return nil
	}
	return withoutContext{a}
}

type withoutContext struct{ aead tink.AEAD }

func (w withoutContext) EncryptWithContext(ctx context.Context, plaintext, associatedData []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return w.aead.Encrypt(plaintext, associatedData)
}

func (w withoutContext) DecryptWithContext(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return w.aead.Decrypt(ciphertext, associatedData)
}
