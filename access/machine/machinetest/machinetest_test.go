// SPDX-License-Identifier: Apache-2.0

package machinetest_test

import (
	"errors"
	"testing"
	"time"

	"github.com/part164/part164/access/machine"
	"github.com/part164/part164/access/machine/machinetest"
)

func TestFakeKeepsTheContract(t *testing.T) {
	t.Parallel()
	machinetest.TestStore(t, func(*testing.T) machine.Store { return machinetest.NewStore() })
}

func TestFakeFailsAsTold(t *testing.T) {
	t.Parallel()
	st, down := machinetest.NewStore(), errors.New("down")
	for name, call := range map[string]func() error{
		"CreateKey":          func() error { return st.CreateKey(t.Context(), machine.Key{}) },
		"Key":                func() error { _, err := st.Key(t.Context(), "a"); return err },
		"Keys":               func() error { _, err := st.Keys(t.Context(), "a"); return err },
		"RotateKey":          func() error { return st.RotateKey(t.Context(), "a", "a", machine.Key{}, time.Time{}, time.Time{}) },
		"RevokeKey":          func() error { _, err := st.RevokeKey(t.Context(), "a", "a", time.Time{}); return err },
		"RevokeService":      func() error { _, err := st.RevokeService(t.Context(), "a", "a", time.Time{}); return err },
		"TouchKey":           func() error { return st.TouchKey(t.Context(), "a", time.Time{}) },
		"RevokeCertificate":  func() error { return st.RevokeCertificate(t.Context(), machine.CertificateID{}, time.Time{}) },
		"CertificateRevoked": func() error { _, err := st.CertificateRevoked(t.Context()); return err },
	} {
		st.Fail(down)
		if err := call(); err != down {
			t.Errorf("%s = %v, want what it was told", name, err)
		}
	}
	st.Fail(nil)
	if _, err := st.Keys(t.Context(), "a"); err != nil {
		t.Error(err)
	}
}
