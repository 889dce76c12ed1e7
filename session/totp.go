// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"

	"github.com/part164/part164/audit"
	"github.com/part164/part164/crypto"
)

// The parameters that authenticator apps read: RFC 6238 section 5.2 recommends
// a step of 30 s, RFC 4226 section 4 (R6) asks for a secret of at least 128
// bits and recommends 160.
const (
	totpPeriod = 30 * time.Second
	totpDigits = otp.DigitsSix
	secretSize = 20
)

// An Enrolment is a second factor that waits for its first code. It holds the
// secret in clear: show it to the user once, and do not keep it.
type Enrolment struct {
	URI    string // otpauth:// for a QR code
	Secret string // base32, for typing
}

// String hides the secret.
func (Enrolment) String() string { return "[TOTP enrolment]" }

// GoString hides the secret.
func (e Enrolment) GoString() string { return e.String() }

// A totpSecret is what is sealed: one byte for the algorithm, then the key.
type totpSecret []byte

const (
	algSHA1   = 1
	algSHA256 = 2
)

func (s totpSecret) base32() string {
	return base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(s[1:])
}

func (s totpSecret) algorithm() otp.Algorithm {
	if s[0] == algSHA256 {
		return otp.AlgorithmSHA256
	}
	return otp.AlgorithmSHA1
}

// code returns the code of a time step.
func (s totpSecret) code(step int64) (string, error) {
	return hotp.GenerateCodeCustom(s.base32(), uint64(step), hotp.ValidateOpts{Digits: totpDigits, Algorithm: s.algorithm()})
}

func step(at time.Time) int64 { return at.Unix() / int64(totpPeriod/time.Second) }

// match returns the newest step after last whose code is code: the current
// one or the one before it, which gives a phone that is slow, or a user who
// types slowly, 30 s of grace. RFC 6238 section 5.2 allows at most one step
// for that. Two neighbouring steps may have the same code, hence the newest.
func (s totpSecret) match(code string, last int64, at time.Time) (int64, bool) {
	code = strings.ReplaceAll(strings.TrimSpace(code), " ", "")
	now := step(at)
	for n := now; n >= now-1 && n > last; n-- {
		ok, err := hotp.ValidateCustom(code, uint64(n), s.base32(), hotp.ValidateOpts{Digits: totpDigits, Algorithm: s.algorithm()})
		if err == nil && ok {
			return n, true
		}
	}
	return 0, false
}

// totpBinding ties a sealed secret to its user: in another user's row it does
// not open.
func totpBinding(u User) crypto.Binding {
	return crypto.Binding{Tenant: u.Tenant, Field: "session.totp", Record: u.ID}
}

// openTOTP returns the secret in a cell of u.
func (m *Manager) openTOTP(ctx context.Context, u User, cell []byte) (totpSecret, error) {
	plain, err := m.sealer.Open(ctx, totpBinding(u), cell)
	if err != nil {
		return nil, fmt.Errorf("session: open TOTP secret: %w", err)
	}
	s := totpSecret(plain)
	if len(s) < 1+secretSize || (s[0] != algSHA1 && s[0] != algSHA256) {
		return nil, errors.New("session: open TOTP secret: unknown form")
	}
	if m.hasher.fips && s[0] == algSHA1 {
		return nil, ErrFIPS
	}
	return s, nil
}

// BindTOTP makes a new TOTP secret for a user and keeps it, sealed, until
// [Manager.ConfirmTOTP]. A factor that is confirmed already stays in force
// until then. In a FIPS-only process it gives [ErrFIPS] unless
// Config.SHA256TOTP is set.
func (m *Manager) BindTOTP(ctx context.Context, tenant, userID string) (Enrolment, error) {
	a, err := m.store.Account(ctx, tenant, userID)
	if err != nil {
		return Enrolment{}, fmt.Errorf("session: bind TOTP: %w", err)
	}
	s := totpSecret{algSHA1}
	if m.sha256 {
		s[0] = algSHA256
	} else if m.hasher.fips {
		return Enrolment{}, ErrFIPS
	}
	key := make([]byte, secretSize)
	rand.Read(key)
	s = append(s, key...)
	cell, err := m.sealer.Seal(ctx, totpBinding(a.User), s)
	if err != nil {
		return Enrolment{}, fmt.Errorf("session: bind TOTP: seal: %w", err)
	}
	if err := m.store.OfferTOTP(ctx, tenant, userID, cell); err != nil {
		return Enrolment{}, fmt.Errorf("session: bind TOTP: %w", err)
	}
	return Enrolment{URI: otpauthURI(m.issuer, a.Login, s), Secret: s.base32()}, nil
}

// ConfirmTOTP puts the factor of [Manager.BindTOTP] in force when code is one
// of its codes. The code is used up: it does not sign in. A wrong code gives
// [ErrSignIn], and is throttled like one at sign-in.
func (m *Manager) ConfirmTOTP(ctx context.Context, tenant, userID, code string) error {
	now := m.now()
	a, err := m.store.Account(ctx, tenant, userID)
	if err != nil {
		return fmt.Errorf("session: confirm TOTP: %w", err)
	}
	if len(a.TOTPNext) == 0 {
		return fmt.Errorf("session: confirm TOTP: no factor waits: %w", ErrNotFound)
	}
	who := m.principal(a.User, Session{})
	t, err := m.reserve(ctx, who, now, m.codeLane(a.User))
	if err != nil {
		return err
	}
	s, err := m.openTOTP(ctx, a.User, a.TOTPNext)
	if err != nil {
		return err
	}
	n, ok := s.match(code, 0, now)
	if !ok {
		return m.refuse(who, audit.ReasonTOTP, ErrSignIn)
	}
	if err := m.record(ctx, m.userEvent(audit.FactorChanged, audit.ReasonEnrolled, who)); err != nil {
		return err
	}
	ok, err = m.store.ConfirmTOTP(ctx, tenant, userID, a.TOTPNext, n)
	if err == nil && !ok {
		err = ErrStale
	}
	if err != nil {
		return m.failed(ctx, m.userEvent(audit.FactorChanged, audit.ReasonEnrolled, who), fmt.Errorf("session: confirm TOTP: %w", err))
	}
	return t.refund(ctx)
}

// DevelopmentCode returns the code that the user's authenticator shows now. It
// is for demonstrations and needs Config.Development; a production Manager
// refuses it.
func (m *Manager) DevelopmentCode(ctx context.Context, tenant, userID string) (string, error) {
	if !m.development {
		return "", errors.New("session: DevelopmentCode needs Config.Development")
	}
	a, err := m.store.Account(ctx, tenant, userID)
	if err != nil {
		return "", fmt.Errorf("session: development code: %w", err)
	}
	s, err := m.openTOTP(ctx, a.User, a.TOTP)
	if err != nil {
		return "", err
	}
	return s.code(step(m.now()))
}

// otpauthURI writes the key URI format that authenticator apps read. Neither
// part holds a colon or a control character: New and CreateUser see to it. It
// escapes by itself because the OTP library leaves "&" and ":" as they are
// and apps then read another issuer.
func otpauthURI(issuer, login string, s totpSecret) string {
	esc := func(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }
	return fmt.Sprintf("otpauth://totp/%s:%s?secret=%s&issuer=%s&algorithm=%s&digits=%d&period=%d",
		esc(issuer), esc(login), s.base32(), esc(issuer), s.algorithm(), totpDigits, totpPeriod/time.Second)
}

// DevelopmentEnrol binds a confirmed TOTP factor without a phone, for the demo
// users whose codes [Manager.DevelopmentCode] shows. It uses up the code of
// the step before, so the current one signs in. It needs Config.Development.
func (m *Manager) DevelopmentEnrol(ctx context.Context, tenant, userID string) error {
	if !m.development {
		return errors.New("session: DevelopmentEnrol needs Config.Development")
	}
	if _, err := m.BindTOTP(ctx, tenant, userID); err != nil {
		return err
	}
	a, err := m.store.Account(ctx, tenant, userID)
	if err != nil {
		return fmt.Errorf("session: development enrolment: %w", err)
	}
	s, err := m.openTOTP(ctx, a.User, a.TOTPNext)
	if err != nil {
		return err
	}
	code, err := s.code(step(m.now()) - 1)
	if err != nil {
		return fmt.Errorf("session: development enrolment: %w", err)
	}
	return m.ConfirmTOTP(ctx, tenant, userID, code)
}
