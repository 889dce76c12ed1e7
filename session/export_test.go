// SPDX-License-Identifier: Apache-2.0

package session

import "time"

// A Derivation is one run of the KDF, as tests see it.
type Derivation struct {
	PBKDF2 bool
	KDF    KDF
}

// OnDerive makes m call f before each derivation.
func OnDerive(m *Manager, f func(Derivation)) {
	m.hasher.ran = func(p *phc) { f(Derivation{p.pbkdf2, p.kdf}) }
}

// InLine returns how many run or wait for the KDF.
func InLine(m *Manager) int { return len(m.hasher.line) }

// SetFIPS makes m act as in a FIPS-only process.
func SetFIPS(m *Manager, on bool) { m.hasher.fips = on }

// OTPAuthURI is otpauthURI with a fixed secret.
func OTPAuthURI(issuer, login string, key []byte) string {
	return otpauthURI(issuer, login, append(totpSecret{algSHA1}, key...))
}

// MatchTOTP is totpSecret.match.
var MatchTOTP = func(key []byte, code string, last, atUnix int64) (int64, bool) {
	return append(totpSecret{algSHA1}, key...).match(code, last, time.Unix(atUnix, 0))
}

// RoundTripPHC parses s and writes it again.
func RoundTripPHC(s string) (string, error) {
	p, err := parsePHC(s)
	if err != nil {
		return "", err
	}
	return p.String(), nil
}
