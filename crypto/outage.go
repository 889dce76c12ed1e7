// SPDX-License-Identifier: Apache-2.0

package crypto

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"
)

const (
	// kekTimeout is how long one call of the KEK may take, whatever the time
	// that its caller has.
	kekTimeout = 10 * time.Second

	// retryAfter is how long nobody asks a KEK again that did not answer, while
	// a cached key goes on.
	retryAfter = 10 * time.Second
)

// WithOutages tells a KEK's outages from its refusals: an error for which is
// reports true comes back with [ErrUnreachable] in its chain. Timeouts,
// network errors, and the codes by which AWS says that it is busy or broken are
// known without; for other clients, such as gRPC's, say which codes mean that
// there was no answer. Never count a denial: a revoked key would go on.
//
// A nil KEK stays nil, which [NewKeyring] refuses.
func WithOutages(k KEK, is func(error) bool) KEK {
	if k == nil {
		return nil
	}
	return &withOutages{k, is}
}

type withOutages struct {
	kek KEK
	is  func(error) bool
}

// KEKs returns the KEK inside, for those who ask what kind of KEK it is.
func (w *withOutages) KEKs() []KEK { return []KEK{w.kek} }

func (w *withOutages) EncryptWithContext(ctx context.Context, plaintext, associatedData []byte) ([]byte, error) {
	c, err := w.kek.EncryptWithContext(ctx, plaintext, associatedData)
	return c, w.told(err)
}

func (w *withOutages) DecryptWithContext(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	p, err := w.kek.DecryptWithContext(ctx, ciphertext, associatedData)
	return p, w.told(err)
}

func (w *withOutages) told(err error) error {
	if err != nil && w.is != nil && w.is(err) {
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	return err
}

// Format prints nothing of the KEK.
func (w *withOutages) Format(s fmt.State, _ rune) { fmt.Fprint(s, "[crypto.WithOutages]") }

// told adds ErrUnreachable to a KEK's error where that is what it means.
func told(err error) error {
	if err == nil || errors.Is(err, ErrUnreachable) || !unreachable(err) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnreachable, err)
}

func unreachable(err error) bool {
	var (
		op  *net.OpError
		dns *net.DNSError
		url *url.Error
		tmo interface{ Timeout() bool }
		aws interface{ ErrorCode() string }
	)
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &op), errors.As(err, &dns), errors.As(err, &url):
		return true
	case errors.As(err, &tmo) && tmo.Timeout():
		return true
	case errors.As(err, &aws):
		switch aws.ErrorCode() {
		// AWS KMS API Reference, "Decrypt" and "Common errors"
		case "ThrottlingException", "LimitExceededException", "KMSInternalException", "DependencyTimeoutException",
			"KeyUnavailableException", "InternalFailure", "ServiceUnavailable", "RequestTimeout", "RequestTimeoutException":
			return true
		}
	}
	return false
}
