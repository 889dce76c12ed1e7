// SPDX-License-Identifier: Apache-2.0

package sessiontest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/part164/part164/session"
	"github.com/part164/part164/session/sessiontest"
)

func TestFakeKeepsTheContract(t *testing.T) {
	t.Parallel()
	sessiontest.TestStore(t, func(*testing.T) session.Store { return sessiontest.NewStore() })
}

// TestSignInWithoutItsStore shows what an app's users meet when the store is
// down.
func TestSignInWithoutItsStore(t *testing.T) {
	t.Parallel()
	cfg, _, clock := sessiontest.Config(t)
	store := cfg.Store.(*sessiontest.Store)
	m, err := session.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	u, phone := sessiontest.NewUser(t, m, clock, "clinic", "nora", "nurse")
	token := sessiontest.SignIn(t, m, clock, u, phone)
	down := errors.New("down")
	store.Fail(down)
	if _, err := m.Authenticate(t.Context(), token, sessiontest.Addr()); err == nil {
		t.Error("Authenticate succeeds without a store")
	}
	store.Fail(nil)
	if _, err := m.Authenticate(t.Context(), token, sessiontest.Addr()); err != nil {
		t.Errorf("Authenticate after the outage = %v", err)
	}
}

func ExampleStore_Fail() {
	store := sessiontest.NewStore()
	store.FailAfter(1, errors.New("connection lost")) // the second call and all later ones
	for range 3 {
		_, err := store.Account(context.Background(), "clinic", "u-17")
		fmt.Println(err)
	}
	store.Fail(nil)
	_, err := store.Account(context.Background(), "clinic", "u-17")
	fmt.Println(err)
	// Output:
	// session: not found
	// connection lost
	// connection lost
	// session: not found
}
