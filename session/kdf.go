// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
)

// KDF holds the cost of checking a password. The zero value is the default:
// argon2id with 19 MiB, 2 passes and 1 lane, and, in a FIPS-only process,
// PBKDF2-HMAC-SHA256 with 600,000 iterations. Both are the figures of the
// OWASP Password Storage Cheat Sheet; OWASP ASVS 5.0 (appendix on
// cryptography) lists the same ones. Less is refused but in development.
type KDF struct {
	Memory     uint32 // argon2id memory in KiB; zero means 19,456
	Time       uint32 // argon2id passes; zero means 2
	Threads    uint8  // argon2id lanes; zero means 1
	Iterations int    // PBKDF2 iterations; zero means 600,000
}

const (
	minMemory, minTime, minIterations = 19 * 1024, 2, 600_000

	// Bounds on what a stored hash may ask for, so that a changed row cannot
	// exhaust the process.
	maxMemory, maxTime, maxIterations = 256 * 1024, 16, 10_000_000
	maxThreads                        = 64

	blocksPerLane = 8 // KiB that argon2 needs a lane: RFC 9106 section 3.1

	saltSize, hashSize = 16, 32
)

func (k KDF) withDefaults() KDF {
	if k.Memory == 0 {
		k.Memory = minMemory
	}
	if k.Time == 0 {
		k.Time = minTime
	}
	if k.Threads == 0 {
		k.Threads = 1
	}
	if k.Iterations == 0 {
		k.Iterations = minIterations
	}
	return k
}

func (k KDF) validate(development bool) error {
	switch {
	case k.Memory > maxMemory || k.Time > maxTime || k.Iterations > maxIterations || k.Iterations < 0:
		return fmt.Errorf("session: Config.KDF asks for more than %d KiB, %d passes or %d iterations", maxMemory, maxTime, maxIterations)
	case k.Threads > maxThreads || k.Memory < blocksPerLane*uint32(k.Threads):
		return fmt.Errorf("session: Config.KDF has more than %d lanes, or less than %d KiB a lane", maxThreads, blocksPerLane)
	case !development && (uint64(k.Memory)*uint64(k.Time) < minMemory*minTime || k.Iterations < minIterations):
		return errors.New("session: Config.KDF is weaker than the OWASP minimum: leave it zero, or set Config.Development in tests")
	}
	return nil
}

// A phc is a password hash in the PHC string format.
type phc struct {
	pbkdf2 bool // else argon2id
	kdf    KDF
	salt   []byte
	hash   []byte
}

func (p *phc) derive(password string) ([]byte, error) {
	if p.pbkdf2 {
		return pbkdf2.Key(sha256.New, password, p.salt, p.kdf.Iterations, hashSize)
	}
	return argon2.IDKey([]byte(password), p.salt, p.kdf.Time, p.kdf.Memory, p.kdf.Threads, hashSize), nil
}

var b64 = base64.RawStdEncoding.Strict()

func (p *phc) String() string {
	salt, hash := b64.EncodeToString(p.salt), b64.EncodeToString(p.hash)
	if p.pbkdf2 {
		return fmt.Sprintf("$pbkdf2-sha256$i=%d$%s$%s", p.kdf.Iterations, salt, hash)
	}
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, p.kdf.Memory, p.kdf.Time, p.kdf.Threads, salt, hash)
}

var errPHC = errors.New("session: stored password hash has an unknown form")

// parsePHC reads the two forms that String writes, and no other.
func parsePHC(s string) (*phc, error) {
	f := strings.Split(s, "$")
	p := &phc{}
	var err error
	switch {
	case len(f) == 6 && f[0] == "" && f[1] == "argon2id" && f[2] == "v="+strconv.Itoa(argon2.Version):
		var n [3]uint64
		costs := strings.Split(f[3], ",")
		if len(costs) != 3 {
			return nil, errPHC
		}
		for i, name := range []string{"m=", "t=", "p="} {
			digits, ok := strings.CutPrefix(costs[i], name)
			if n[i], err = strconv.ParseUint(digits, 10, 32); !ok || err != nil {
				return nil, errPHC
			}
		}
		if n[0] < blocksPerLane*n[2] || n[0] > maxMemory || n[1] < 1 || n[1] > maxTime || n[2] < 1 || n[2] > maxThreads {
			return nil, errPHC
		}
		p.kdf = KDF{Memory: uint32(n[0]), Time: uint32(n[1]), Threads: uint8(n[2])}
	case len(f) == 5 && f[0] == "" && f[1] == "pbkdf2-sha256":
		digits, ok := strings.CutPrefix(f[2], "i=")
		n, err := strconv.ParseUint(digits, 10, 32)
		if !ok || err != nil || n < 1 || n > maxIterations {
			return nil, errPHC
		}
		p.pbkdf2, p.kdf.Iterations = true, int(n)
	default:
		return nil, errPHC
	}
	if p.salt, err = b64.DecodeString(f[len(f)-2]); err != nil || len(p.salt) != saltSize {
		return nil, errPHC
	}
	if p.hash, err = b64.DecodeString(f[len(f)-1]); err != nil || len(p.hash) != hashSize {
		return nil, errPHC
	}
	return p, nil
}

// A hasher makes and checks password hashes, no more at a time than there is
// memory and processor for.
type hasher struct {
	kdf   KDF
	fips  bool
	line  chan struct{} // all who run or wait
	slots chan struct{} // all who run
	ran   func(*phc)    // set by tests: sees what was derived
}

// queuePerSlot bounds how many wait for one slot: at about 50 ms a hash the
// last one waits under half a second.
const queuePerSlot = 8

func newHasher(k KDF, slots int, fips bool) *hasher {
	return &hasher{
		kdf: k, fips: fips,
		slots: make(chan struct{}, slots),
		line:  make(chan struct{}, slots*(1+queuePerSlot)),
	}
}

// run derives p's hash from the password when there is a free slot. It gives
// [ErrBusy] when too many wait.
func (h *hasher) run(ctx context.Context, p *phc, password string) ([]byte, error) {
	select {
	case h.line <- struct{}{}:
		defer func() { <-h.line }()
	default:
		return nil, ErrBusy
	}
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if h.ran != nil {
		h.ran(p)
	}
	return p.derive(password)
}

// fresh returns the current parameters with a new salt.
func (h *hasher) fresh() *phc {
	p := &phc{pbkdf2: h.fips, salt: make([]byte, saltSize)}
	if p.pbkdf2 {
		p.kdf.Iterations = h.kdf.Iterations
	} else {
		p.kdf = KDF{Memory: h.kdf.Memory, Time: h.kdf.Time, Threads: h.kdf.Threads}
	}
	rand.Read(p.salt)
	return p
}

func (h *hasher) hash(ctx context.Context, password string) (string, error) {
	p := h.fresh()
	var err error
	if p.hash, err = h.run(ctx, p, password); err != nil {
		return "", err
	}
	return p.String(), nil
}

// verify compares the password with a stored hash. Where there is none that
// this process can check, it spends what the current parameters cost and says
// no.
func (h *hasher) verify(ctx context.Context, stored, password string) (bool, error) {
	p, err := parsePHC(stored)
	if err != nil || (h.fips && !p.pbkdf2) {
		p = h.fresh() // hash is nil: nothing compares equal
	}
	got, err := h.run(ctx, p, password)
	if err != nil {
		return false, err
	}
	return subtle.ConstantTimeCompare(got, p.hash) == 1, nil
}
