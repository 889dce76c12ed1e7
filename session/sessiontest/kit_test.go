// SPDX-License-Identifier: Apache-2.0

package sessiontest_test

import (
	"testing"

	"github.com/part164/part164/crypto"
	"github.com/part164/part164/session"
	"github.com/part164/part164/session/sessiontest"
)

func TestSealerBinds(t *testing.T) {
	t.Parallel()
	s := sessiontest.NewSealer()
	at := crypto.Binding{Tenant: "clinic", Field: "session.totp", Record: "u-1"}
	cell, err := s.Seal(t.Context(), at, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.Open(t.Context(), at, cell); err != nil || string(got) != "secret" {
		t.Errorf("Open = %q, %v", got, err)
	}
	for _, other := range []crypto.Binding{
		{Tenant: "other", Field: "session.totp", Record: "u-1"}, {Tenant: "clinic", Field: "other", Record: "u-1"},
		{Tenant: "clinic", Field: "session.totp", Record: "u-2"}, {Tenant: "clinic", Field: "session.totp", Record: "u-", Subject: "1"},
	} {
		if _, err := s.Open(t.Context(), other, cell); err == nil {
			t.Errorf("the cell opens at %+v", other)
		}
	}
}

func TestConfigIsReadyToUse(t *testing.T) {
	t.Parallel()
	cfg, rec, clock := sessiontest.Config(t)
	m, err := session.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	u, phone := sessiontest.NewUser(t, m, clock, "clinic", "nora", "nurse")
	p, err := m.Authenticate(t.Context(), sessiontest.SignIn(t, m, clock, u, phone), sessiontest.Addr())
	if err != nil || p.ID != u.ID {
		t.Errorf("Authenticate = %+v, %v", p, err)
	}
	if n := len(rec.Take()); n != 3 { // created, enrolled, signed in
		t.Errorf("%d events, want 3", n)
	}
}
