// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"testing"
	"time"

	"github.com/part164/part164/session"
	"github.com/part164/part164/session/sessiontest"
)

// config stands for an app's own: a database store, the audit journal, and a
// sealer under its KEK.
func config() (session.Config, *sessiontest.Clock) {
	cfg, _, clock := sessiontest.Config(&testing.T{})
	return cfg, clock
}

// A sign-in is a password, then a code, then a session.
func Example() {
	ctx := context.Background()
	cfg, clock := config()
	m, err := session.New(cfg)
	if err != nil {
		log.Fatal(err)
	}
	nora, err := m.CreateUser(ctx, session.NewUser{Tenant: "elm-street", Login: "nora@clinic.example", Password: "a long phrase of hers", Roles: []string{"nurse"}})
	if err != nil {
		log.Fatal(err)
	}
	// She scans e.URI as a QR code and types the code that her phone shows.
	e, err := m.BindTOTP(ctx, nora.Tenant, nora.ID)
	if err != nil {
		log.Fatal(err)
	}
	if err := m.ConfirmTOTP(ctx, nora.Tenant, nora.ID, sessiontest.Code(&testing.T{}, e, clock.Now())); err != nil {
		log.Fatal(err)
	}
	clock.Advance(30 * time.Second) // the next code

	in, err := m.Password(ctx, session.Attempt{Tenant: "elm-street", Login: "Nora@clinic.example", Password: "a long phrase of hers", Addr: sessiontest.Addr()})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("next:", in.Next)
	code := sessiontest.Code(&testing.T{}, e, clock.Now())
	done, err := m.TOTP(ctx, in.Token, code, sessiontest.Addr())
	if err != nil {
		log.Fatal(err)
	}
	p, err := m.Authenticate(ctx, done.Token, sessiontest.Addr())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("signed in:", p.ID == nora.ID, p.Roles, "at assurance level", p.Assurance)

	clock.Advance(15 * time.Minute)
	_, err = m.Authenticate(ctx, done.Token, sessiontest.Addr())
	fmt.Println("15 minutes later:", err)
	// Output:
	// next: totp
	// signed in: true [nurse] at assurance level 2
	// 15 minutes later: session: no live session: sign in
}

func ExampleNew() {
	_, err := session.New(session.Config{})
	fmt.Println(err)
	// Output: session: Config.Store is nil: use sessionstore.New, or NewMemory for a trial
}

func ExampleManager_Middleware() {
	cfg, _ := config()
	m, err := session.New(cfg)
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /signin", func(w http.ResponseWriter, r *http.Request) {
		next, err := m.PostPassword(w, r, "elm-street", r.PostFormValue("login"), r.PostFormValue("password"))
		switch {
		case err != nil:
			session.WriteError(w, err)
		case next == session.StepTOTP:
			http.Redirect(w, r, "/code", http.StatusSeeOther)
		default:
			http.Redirect(w, r, "/", http.StatusSeeOther)
		}
	})
	mux.HandleFunc("POST /code", func(w http.ResponseWriter, r *http.Request) {
		if err := m.PostTOTP(w, r, r.PostFormValue("code")); err != nil {
			session.WriteError(w, err)
			return
		}
		http.Redirect(w, r, "/", http.StatusSeeOther)
	})
	var handler http.Handler = m.Middleware(mux)
	fmt.Println(handler != nil)
	// Output: true
}
