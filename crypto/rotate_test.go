// SPDX-License-Identifier: Apache-2.0

package crypto_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/part164/part164/crypto"
	"github.com/part164/part164/crypto/cryptotest"
)

func TestRotatingKEK(t *testing.T) {
	t.Parallel()
	cryptotest.TestKEK(t, func(*testing.T) crypto.KEK {
		return crypto.RotatingKEK(cryptotest.NewKEK(), cryptotest.NewKEK())
	})
	if k := crypto.RotatingKEK(cryptotest.NewKEK(), nil); k != nil {
		t.Error("a nil KEK among those of RotatingKEK is taken")
	}
	ctx, current, old := t.Context(), cryptotest.NewKEK(), cryptotest.NewKEK()
	k := crypto.RotatingKEK(current, old)
	c, err := old.EncryptWithContext(ctx, []byte("key"), []byte("data"))
	if err != nil {
		t.Fatal(err)
	}
	if p, err := k.DecryptWithContext(ctx, c, []byte("data")); err != nil || string(p) != "key" {
		t.Errorf("what the old KEK wrapped = %q, %v", p, err)
	}
	if c, err = k.EncryptWithContext(ctx, []byte("key"), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := current.DecryptWithContext(ctx, c, nil); err != nil {
		t.Errorf("what it wraps does not open under the current KEK: %v", err)
	}
	down := errors.New("down")
	current.Fail(down)
	if _, err := k.DecryptWithContext(ctx, c, nil); !errors.Is(err, down) {
		t.Errorf("with the current KEK down = %v, want its error", err)
	}
	if s := fmt.Sprintf("%v %+v %#v", k, k, k); strings.Contains(s, "0x") {
		t.Errorf("it prints %s", s)
	}
}

// A new keyset that the current KEK cannot open must not replace the old one.
func TestRewrapReadsBack(t *testing.T) {
	t.Parallel()
	old := cryptotest.NewKEK()
	s := newStack(t, old)
	s.store(t, "t1", "p1")
	before := mustKeyset(t, s.db.Rows(), "t1", "wrap")
	ring, err := crypto.NewKeyring(crypto.Config{KEK: crypto.RotatingKEK(&forgetful{KEK: cryptotest.NewKEK()}, old)})
	if err != nil {
		t.Fatal(err)
	}
	tx, err := s.db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := ring.Begin(tx).RewrapTenant(t.Context(), "t1", crypto.UseWrap); !errors.Is(err, crypto.ErrUnwrap) {
		t.Errorf("RewrapTenant() under a KEK that does not decrypt = %v, want ErrUnwrap", err)
	}
	commit(t, tx)
	if !bytes.Equal(before, mustKeyset(t, s.db.Rows(), "t1", "wrap")) {
		t.Error("the keyset was replaced by one that does not open")
	}
}

// A forgetful KEK may encrypt and not decrypt, as a KMS grant may be.
type forgetful struct{ crypto.KEK }

func (f *forgetful) DecryptWithContext(context.Context, []byte, []byte) ([]byte, error) {
	return nil, errors.New("not granted")
}

func TestAClosedSubjectOpensAndSealsNoMore(t *testing.T) {
	t.Parallel()
	s := newStack(t, cryptotest.NewKEK())
	s.store(t, "t1", "p1")
	rows := closedRows{s.db.Rows()}
	if _, err := s.newRing(t).Begin(rows).SealingKeys(t.Context(), "t1", []string{"p1"}); !errors.Is(err, crypto.ErrClosed) {
		t.Errorf("SealingKeys() of a closed subject = %v, want ErrClosed", err)
	}
	found, err := s.newRing(t).Lookup(t.Context(), rows, "t1", []crypto.KeyRef{{Subject: "p1", Version: 1}})
	if err != nil || found[0].Key == nil {
		t.Errorf("Lookup() of a closed subject = %v, %v; want its key", found, err)
	}
}

type closedRows struct{ crypto.KeyRows }

func (r closedRows) SubjectKeys(ctx context.Context, tenant string, subjects []string, lock bool) ([]crypto.KeyRow, error) {
	rows, err := r.KeyRows.SubjectKeys(ctx, tenant, subjects, lock)
	for i := range rows {
		rows[i].Closed = true
	}
	return rows, err
}
