// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/tink-crypto/tink-go/v2/key"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/mac"
	"github.com/tink-crypto/tink-go/v2/mac/hmac"
	"github.com/tink-crypto/tink-go/v2/prf"
	"github.com/tink-crypto/tink-go/v2/prf/hmacprf"
	"github.com/tink-crypto/tink-go/v2/signature"
	"github.com/tink-crypto/tink-go/v2/signature/ed25519"
	"github.com/tink-crypto/tink-go/v2/tink"
	"golang.org/x/mod/sumdb/note"

	"github.com/part164/part164/crypto"
)

const (
	keysFile     = "keys.json"     // the wrapped keys
	newKeysFile  = "keys.json.new" // the same, until the first segment is there
	verifierFile = "verifier.pub"  // the public key, for Verify
	keysFormat   = 1

	// pseudonymSize is the length of a pseudonym in bytes: 2^32 patients
	// collide with a probability under 2^-64.
	pseudonymSize = 16

	// kekTimeout bounds the calls of a remote KEK at Open.
	kekTimeout = 30 * time.Second
)

// keys are what a journal signs, pseudonymises and MACs with. They are safe
// for concurrent use.
type keys struct {
	writer   string
	verifier string // the note verifier key, in clear
	signer   note.Signer
	prf      *prf.Set
	mac      tink.MAC
}

// wrappedKeys is keys.json: three Tink keysets, each encrypted by the KEK with
// its purpose and the writer as associated data.
type wrappedKeys struct {
	Format    int    `json:"format"`
	Writer    string `json:"writer"`
	Verifier  string `json:"verifier"`
	Signing   []byte `json:"signing"`
	Pseudonym []byte `json:"pseudonym"`
	Outbox    []byte `json:"outbox"`
}

// newKeys makes the keys of a new journal.
func newKeys(kek crypto.KEK) (*wrappedKeys, error) {
	id := make([]byte, 16)
	rand.Read(id)
	w := &wrappedKeys{Format: keysFormat, Writer: "j" + hex.EncodeToString(id)}

	signing, err := ed25519.NewParameters(ed25519.VariantNoPrefix)
	if err != nil {
		return nil, err
	}
	pseudonym, err := hmacprf.NewParameters(32, hmacprf.SHA256)
	if err != nil {
		return nil, err
	}
	outbox, err := hmac.NewParameters(hmac.ParametersOpts{KeySizeInBytes: 32, TagSizeInBytes: 32, HashType: hmac.SHA256, Variant: hmac.VariantNoPrefix})
	if err != nil {
		return nil, err
	}
	for _, k := range []struct {
		purpose string
		params  key.Parameters
		wrapped *[]byte
	}{
		{"signing", &signing, &w.Signing}, {"pseudonym", pseudonym, &w.Pseudonym}, {"outbox", outbox, &w.Outbox},
	} {
		m := keyset.NewManager()
		id, err := m.AddNewKeyFromParameters(k.params)
		if err != nil {
			return nil, err
		}
		if err := m.SetPrimary(id); err != nil {
			return nil, err
		}
		h, err := m.Handle()
		if err != nil {
			return nil, err
		}
		if k.purpose == "signing" {
			if w.Verifier, err = verifierKey(h, w.origin()); err != nil {
				return nil, err
			}
		}
		var buf bytes.Buffer
		ctx, cancel := context.WithTimeout(context.Background(), kekTimeout)
		err = h.WriteWithContext(ctx, keyset.NewBinaryWriter(&buf), kek, w.associated(k.purpose))
		cancel()
		if err != nil {
			return nil, fmt.Errorf("%w: Config.KEK does not wrap: %w", ErrKEK, err)
		}
		*k.wrapped = buf.Bytes()
	}
	return w, nil
}

// origin names the log in its checkpoints (C2SP tlog-checkpoint).
func (w *wrappedKeys) origin() string { return "part164/" + w.Writer }

func (w *wrappedKeys) associated(purpose string) []byte {
	return []byte("part164 audit key 1\x00" + purpose + "\x00" + w.Writer)
}

// readKeys returns the wrapped keys in dir, nil where there are none. fresh
// means that the journal was being made when its process died.
func readKeys(dir string) (w *wrappedKeys, fresh bool, err error) {
	name := keysFile
	data, err := os.ReadFile(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		name, fresh = newKeysFile, true
		data, err = os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, true, nil
		}
	}
	if err != nil {
		return nil, false, err
	}
	w = new(wrappedKeys)
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(w); err != nil {
		return nil, false, &CorruptError{File: name, Problem: "it is no key file"}
	}
	if w.Format != keysFormat {
		return nil, false, &CorruptError{File: name, Problem: "its format is not known to this release"}
	}
	return w, fresh, nil
}

// unwrap opens the keys with kek.
func (w *wrappedKeys) unwrap(kek crypto.KEK) (*keys, error) {
	open := func(purpose string, wrapped []byte) (*keyset.Handle, error) {
		ctx, cancel := context.WithTimeout(context.Background(), kekTimeout)
		defer cancel()
		h, err := keyset.ReadWithContext(ctx, keyset.NewBinaryReader(bytes.NewReader(wrapped)), kek, w.associated(purpose))
		if err != nil {
			return nil, fmt.Errorf("%w with Config.KEK (%s key): use the KEK that the journal was made with: %w", ErrKEK, purpose, err)
		}
		return h, nil
	}
	signing, err := open("signing", w.Signing)
	if err != nil {
		return nil, err
	}
	pseudonym, err := open("pseudonym", w.Pseudonym)
	if err != nil {
		return nil, err
	}
	outbox, err := open("outbox", w.Outbox)
	if err != nil {
		return nil, err
	}
	k := &keys{writer: w.Writer}
	if k.verifier, err = verifierKey(signing, w.origin()); err != nil {
		return nil, err
	}
	if k.verifier != w.Verifier {
		return nil, &CorruptError{File: keysFile, Problem: "the verifier key is not that of the signing key"}
	}
	verifier, err := note.NewVerifier(k.verifier)
	if err != nil {
		return nil, err
	}
	signer, err := signature.NewSigner(signing)
	if err != nil {
		return nil, err
	}
	k.signer = noteSigner{signer, verifier}
	if k.prf, err = prf.NewPRFSet(pseudonym); err != nil {
		return nil, err
	}
	if k.mac, err = mac.New(outbox); err != nil {
		return nil, err
	}
	return k, nil
}

// A noteSigner signs C2SP notes with a Tink key.
type noteSigner struct {
	tink.Signer
	verifier note.Verifier
}

func (s noteSigner) Name() string    { return s.verifier.Name() }
func (s noteSigner) KeyHash() uint32 { return s.verifier.KeyHash() }

// verifierKey returns the public half of h as a C2SP note verifier key.
func verifierKey(h *keyset.Handle, name string) (string, error) {
	public, err := h.Public()
	if err != nil {
		return "", err
	}
	primary, err := public.Primary()
	if err != nil {
		return "", err
	}
	pub, ok := primary.Key().(*ed25519.PublicKey)
	if !ok {
		return "", errors.New("the signing key is not Ed25519")
	}
	return note.NewEd25519VerifierKey(name, pub.KeyBytes())
}

// pseudonym returns the keyed pseudonym of id in tenant. Whether id is a
// record or a patient makes no difference, so that both can be joined.
func (k *keys) pseudonym(tenant, id string) (string, error) {
	input := make([]byte, 0, 160)
	input = binary.BigEndian.AppendUint16(input, uint16(len(tenant)))
	input = append(input, tenant...)
	input = append(input, id...)
	sum, err := k.prf.ComputePrimaryPRF(input, pseudonymSize)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(sum), nil
}

// ticketInput is what a ticket's MAC is computed over.
func ticketInput(t Ticket) []byte {
	input := []byte("part164 outbox ticket 1\x00")
	for _, part := range [...]string{t.Attempt, t.Writer, string(t.Digest)} {
		input = binary.BigEndian.AppendUint32(input, uint32(len(part)))
		input = append(input, part...)
	}
	return input
}
