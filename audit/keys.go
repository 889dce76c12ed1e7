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
	"slices"
	"strings"
	"sync/atomic"
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
	keysFormat   = 2

	// pseudonymSize is the length of a pseudonym in bytes: 2^32 patients
	// collide with a probability under 2^-64.
	pseudonymSize = 16

	// kekTimeout bounds the calls of a remote KEK at Open.
	kekTimeout = 30 * time.Second
)

// keys are what a journal signs, pseudonymises, MACs and seals details with.
// They are safe for concurrent use.
type keys struct {
	writer string
	origin string // names the log in its checkpoints (C2SP tlog-checkpoint)
	kek    crypto.KEK

	now atomic.Pointer[keyState]
}

// A keyState is every version of the keys, and which one is in use. It does
// not change.
type keyState struct {
	wrapped *wrappedKeys
	handles map[purpose]*keyset.Handle

	version int  // in use, from 1; what stands behind it is not used yet
	both    bool // the next checkpoint is signed by the version before too

	signers    []noteSigner // by version
	pseudonyms []prf.PRF
	details    []prf.PRF
	mac        tink.MAC // computes under the version in use, and verifies under every one

	plain bool // what is written holds pseudonyms already
}

// asIs returns a state that writes pseudonyms as they are given.
func (s *keyState) asIs() *keyState {
	out := *s
	out.plain = true
	return &out
}

// A purpose is what a keyset of a journal serves.
type purpose string

const (
	forSigning   purpose = "signing"
	forPseudonym purpose = "pseudonym"
	forOutbox    purpose = "outbox"
	forDetail    purpose = "detail"
)

// wrappedKeys is keys.json: four Tink keysets, each encrypted by the KEK with
// its purpose and the writer as associated data. The keys of a keyset are its
// versions, oldest first; all four have the same number of them.
type wrappedKeys struct {
	Format    int      `json:"format"`
	Writer    string   `json:"writer"`
	Verifiers []string `json:"verifiers"` // the public key of each version
	Signing   []byte   `json:"signing"`
	Pseudonym []byte   `json:"pseudonym"`
	Outbox    []byte   `json:"outbox"`
	Detail    []byte   `json:"detail"`
}

// keyset returns the wrapped keyset that serves p.
func (w *wrappedKeys) keyset(p purpose) *[]byte {
	switch p {
	case forSigning:
		return &w.Signing
	case forPseudonym:
		return &w.Pseudonym
	case forOutbox:
		return &w.Outbox
	}
	return &w.Detail
}

// keyParameters says which key each purpose takes.
func keyParameters() (map[purpose]key.Parameters, error) {
	signing, err := ed25519.NewParameters(ed25519.VariantNoPrefix)
	if err != nil {
		return nil, err
	}
	prf, err := hmacprf.NewParameters(32, hmacprf.SHA256)
	if err != nil {
		return nil, err
	}
	outbox, err := hmac.NewParameters(hmac.ParametersOpts{KeySizeInBytes: 32, TagSizeInBytes: 32, HashType: hmac.SHA256, Variant: hmac.VariantNoPrefix})
	if err != nil {
		return nil, err
	}
	return map[purpose]key.Parameters{forSigning: &signing, forPseudonym: prf, forOutbox: outbox, forDetail: prf}, nil
}

// newKeys makes the keys of a new journal.
func newKeys(kek crypto.KEK) (*wrappedKeys, error) {
	id := make([]byte, 16)
	rand.Read(id)
	return addVersion(&wrappedKeys{Format: keysFormat, Writer: "j" + hex.EncodeToString(id)}, nil, kek)
}

// addVersion returns w with a new version of every key behind those of
// handles.
func addVersion(w *wrappedKeys, handles map[purpose]*keyset.Handle, kek crypto.KEK) (*wrappedKeys, error) {
	params, err := keyParameters()
	if err != nil {
		return nil, err
	}
	out := *w
	for p, param := range params {
		m := keyset.NewManager()
		if h := handles[p]; h != nil {
			m = keyset.NewManagerFromHandle(h)
		}
		id, err := m.AddNewKeyFromParameters(param)
		if err != nil {
			return nil, err
		}
		if handles[p] == nil {
			if err := m.SetPrimary(id); err != nil {
				return nil, err
			}
		}
		h, err := m.Handle()
		if err != nil {
			return nil, err
		}
		if p == forSigning {
			if out.Verifiers, err = verifierKeys(h, out.origin()); err != nil {
				return nil, err
			}
		}
		var buf bytes.Buffer
		ctx, cancel := context.WithTimeout(context.Background(), kekTimeout)
		err = h.WriteWithContext(ctx, keyset.NewBinaryWriter(&buf), kek, out.associated(p))
		cancel()
		if err != nil {
			return nil, fmt.Errorf("%w: Config.KEK does not wrap: %w", ErrKEK, err)
		}
		*out.keyset(p) = buf.Bytes()
	}
	return &out, nil
}

// origin names the log in its checkpoints (C2SP tlog-checkpoint).
func (w *wrappedKeys) origin() string { return originPrefix + w.Writer }

func (w *wrappedKeys) associated(p purpose) []byte {
	return []byte("part164 audit key 1\x00" + string(p) + "\x00" + w.Writer)
}

// write makes w the keys in dir, under name.
func (w *wrappedKeys) write(dir, name string) error {
	data, err := json.MarshalIndent(w, "", "\t")
	if err != nil {
		return err
	}
	return writeFile(dir, name, data, 0o600)
}

// readKeys returns the wrapped keys in dir, nil where there are none. fresh
// means that the journal was being made when its process died.
func readKeys(dir string) (w *wrappedKeys, fresh bool, err error) {
	name := keysFile
	data, err := readSmall(dir, name)
	if errors.Is(err, fs.ErrNotExist) {
		name, fresh = newKeysFile, true
		data, err = readSmall(dir, name)
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
	if err := dec.Decode(w); err != nil && w.Format <= keysFormat {
		return nil, false, &CorruptError{File: name, Problem: "it is no key file"}
	}
	if w.Format > keysFormat {
		return nil, false, fmt.Errorf("%s: its format is %d: %w", name, w.Format, ErrNewer)
	}
	if w.Format != keysFormat {
		return nil, false, &CorruptError{File: name, Problem: "its format was never one"}
	}
	if !isWriter(w.Writer) {
		return nil, false, &CorruptError{File: name, Problem: "its writer is not one that a journal has"}
	}
	return w, fresh, nil
}

// unwrap opens the keys with kek. The newest version is in use unless the
// journal says otherwise.
func (w *wrappedKeys) unwrap(kek crypto.KEK) (*keys, error) {
	k := &keys{writer: w.Writer, origin: w.origin(), kek: kek}
	s, err := w.state(kek)
	if err != nil {
		return nil, err
	}
	k.now.Store(s)
	return k, nil
}

func (w *wrappedKeys) state(kek crypto.KEK) (*keyState, error) {
	s := &keyState{wrapped: w, handles: make(map[purpose]*keyset.Handle)}
	for _, p := range [...]purpose{forSigning, forPseudonym, forOutbox, forDetail} {
		ctx, cancel := context.WithTimeout(context.Background(), kekTimeout)
		h, err := keyset.ReadWithContext(ctx, keyset.NewBinaryReader(bytes.NewReader(*w.keyset(p))), kek, w.associated(p))
		cancel()
		if err != nil {
			return nil, fmt.Errorf("%w with Config.KEK (%s key): use the KEK that the journal was made with: %w", ErrKEK, p, err)
		}
		if h.Len() != len(w.Verifiers) {
			return nil, &CorruptError{File: keysFile, Problem: "its keys have different versions"}
		}
		s.handles[p] = h
	}
	verifiers, err := verifierKeys(s.handles[forSigning], w.origin())
	if err != nil {
		return nil, err
	}
	if !slices.Equal(verifiers, w.Verifiers) {
		return nil, &CorruptError{File: keysFile, Problem: "the verifier keys are not those of the signing keys"}
	}
	for i, text := range verifiers {
		verifier, err := note.NewVerifier(text)
		if err != nil {
			return nil, err
		}
		h, err := withPrimary(s.handles[forSigning], i)
		if err != nil {
			return nil, err
		}
		signer, err := signature.NewSigner(h)
		if err != nil {
			return nil, err
		}
		s.signers = append(s.signers, noteSigner{signer, verifier})
	}
	if s.pseudonyms, err = prfs(s.handles[forPseudonym]); err != nil {
		return nil, err
	}
	if s.details, err = prfs(s.handles[forDetail]); err != nil {
		return nil, err
	}
	return s.use(len(verifiers))
}

// use returns s with another version in use.
func (s *keyState) use(version int) (*keyState, error) {
	out := *s
	out.version, out.both = version, false
	h, err := withPrimary(s.handles[forOutbox], version-1)
	if err != nil {
		return nil, err
	}
	if out.mac, err = mac.New(h); err != nil {
		return nil, err
	}
	return &out, nil
}

// withPrimary returns h with its key number i as the primary one.
func withPrimary(h *keyset.Handle, i int) (*keyset.Handle, error) {
	e, err := h.Entry(i)
	if err != nil {
		return nil, err
	}
	m := keyset.NewManagerFromHandle(h)
	if err := m.SetPrimary(e.KeyID()); err != nil {
		return nil, err
	}
	return m.Handle()
}

// prfs returns the PRF of each version in h.
func prfs(h *keyset.Handle) ([]prf.PRF, error) {
	set, err := prf.NewPRFSet(h)
	if err != nil {
		return nil, err
	}
	var out []prf.PRF
	for i := range h.Len() {
		e, err := h.Entry(i)
		if err != nil {
			return nil, err
		}
		out = append(out, set.PRFs[e.KeyID()])
	}
	return out, nil
}

// signer is the one of the version in use.
func (s *keyState) signer() noteSigner { return s.signers[s.version-1] }

// verifiers returns the public keys of the versions up to the one in use, as
// verifier.pub has them.
func (s *keyState) verifiers() []byte {
	return []byte(strings.Join(s.wrapped.Verifiers[:s.version], "\n") + "\n")
}

// A noteSigner signs C2SP notes with a Tink key.
type noteSigner struct {
	tink.Signer
	verifier note.Verifier
}

func (s noteSigner) Name() string    { return s.verifier.Name() }
func (s noteSigner) KeyHash() uint32 { return s.verifier.KeyHash() }

// allVerifiers is verifiers with those of versions that are not in use yet.
func (s *keyState) allVerifiers() []byte {
	return []byte(strings.Join(s.wrapped.Verifiers, "\n") + "\n")
}

// verifierKeys returns the public half of each key of h as a C2SP note
// verifier key.
func verifierKeys(h *keyset.Handle, name string) ([]string, error) {
	public, err := h.Public()
	if err != nil {
		return nil, err
	}
	var out []string
	for i := range public.Len() {
		e, err := public.Entry(i)
		if err != nil {
			return nil, err
		}
		pub, ok := e.Key().(*ed25519.PublicKey)
		if !ok {
			return nil, errors.New("a signing key is not Ed25519")
		}
		text, err := note.NewEd25519VerifierKey(name, pub.KeyBytes())
		if err != nil {
			return nil, err
		}
		out = append(out, text)
	}
	return out, nil
}

// pseudonym returns the keyed pseudonym of id in tenant under the version in
// use. Whether id is a record or a patient makes no difference, so that both
// can be joined.
func (k *keys) pseudonym(tenant, id string) (string, error) {
	return k.now.Load().pseudonym(tenant, id)
}

// pseudonym returns that of the first key, put through the key of each later
// version: an old pseudonym can be brought forward by who has the keys, and
// without knowing whose it is ([keyState.forward]).
func (s *keyState) pseudonym(tenant, id string) (string, error) {
	if s.plain {
		return id, nil
	}
	all, err := s.everyPseudonym(tenant, id)
	if err != nil {
		return "", err
	}
	return all[len(all)-1], nil
}

// everyPseudonym returns the pseudonyms of id in tenant under every version up
// to the one in use, oldest first.
func (s *keyState) everyPseudonym(tenant, id string) ([]string, error) {
	input := make([]byte, 0, 160)
	input = binary.BigEndian.AppendUint16(input, uint16(len(tenant)))
	input = append(input, tenant...)
	input = append(input, id...)
	var out []string
	for _, p := range s.pseudonyms[:s.version] {
		sum, err := p.ComputePRF(input, pseudonymSize)
		if err != nil {
			return nil, err
		}
		out = append(out, base64.RawURLEncoding.EncodeToString(sum))
		input = sum
	}
	return out, nil
}

// forward returns what a pseudonym of an older version is under the one in
// use. What is no pseudonym is returned as it is.
func (s *keyState) forward(pseudonym string, version int) (string, error) {
	if version < 1 || version >= s.version {
		return pseudonym, nil
	}
	sum, err := base64.RawURLEncoding.Strict().DecodeString(pseudonym)
	if err != nil || len(sum) != pseudonymSize {
		return pseudonym, nil
	}
	for _, p := range s.pseudonyms[version:s.version] {
		if sum, err = p.ComputePRF(sum, pseudonymSize); err != nil {
			return "", err
		}
	}
	return base64.RawURLEncoding.EncodeToString(sum), nil
}

// bringForward puts the pseudonyms of s under the version in use.
func (s *keyState) bringForward(ev *Stored) error {
	if ev.KeyVersion > s.version {
		return errors.New("it was written under a later key: open the journal again")
	}
	if ev.KeyVersion == s.version {
		return nil
	}
	var err error
	forward := func(p *string) {
		if err == nil && *p != "" {
			*p, err = s.forward(*p, ev.KeyVersion)
		}
	}
	if individual(ev.Actor.Kind) {
		forward(&ev.Actor.ID)
	}
	if individual(ev.Actor.OnBehalfKind) {
		forward(&ev.Actor.OnBehalf)
	}
	if individual(ev.UserKind) {
		forward(&ev.User)
	}
	for i := range ev.Objects {
		o := &ev.Objects[i]
		same := o.Record == o.Patient
		forward(&o.Record)
		if same {
			o.Patient = o.Record
		} else {
			forward(&o.Patient)
		}
	}
	ev.KeyVersion = s.version
	return err
}

// ticketInput is what a ticket's MAC is computed over.
// groupInput is what the MAC of a group is over: its last line up to the MAC.
func (k *keys) groupInput(line []byte) []byte {
	return append([]byte("part164 audit group 1\x00"+k.writer+"\x00"), line...)
}

// endGroup returns the MAC of a group.
func (k *keys) endGroup(line []byte) ([]byte, error) {
	return k.now.Load().mac.ComputeMAC(k.groupInput(line))
}

// ended reports whether line is the last of a group that the journal wrote.
func (k *keys) ended(w *lineWriter, line []byte) bool {
	open, mac := w.ended(line)
	return open != nil && k.now.Load().mac.VerifyMAC(mac, k.groupInput(open)) == nil
}

func ticketInput(t Ticket) []byte {
	input := []byte("part164 outbox ticket 1\x00")
	for _, part := range [...]string{t.Attempt, t.Writer, string(t.Digest)} {
		input = binary.BigEndian.AppendUint32(input, uint32(len(part)))
		input = append(input, part...)
	}
	return input
}
