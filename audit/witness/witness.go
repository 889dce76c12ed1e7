// SPDX-License-Identifier: Apache-2.0

package witness

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/transparency-dev/formats/log"
	fnote "github.com/transparency-dev/formats/note"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"

	"github.com/part164/part164/audit"
)

// Errors of a [Submitter]. Each is a finding about journal or witness; any
// other error means that the witness could not be asked, and to try again.
var (
	// ErrUnknownLog: the witness does not take checkpoints of this journal.
	ErrUnknownLog = errors.New("the witness does not know the journal: add the journal's public key to its configuration")

	// ErrSignature: the checkpoint is not signed with a key that the witness
	// trusts for the journal. A rotation of that key is shown to a witness of
	// this package by itself; another one must be given the new key.
	ErrSignature = errors.New("the witness does not trust the checkpoint's signature: where the journal's key was rotated, give its verifier.pub to whoever runs the witness")

	// ErrFork: the checkpoint does not go on from the one that the witness
	// saw. The journal was set back, rewritten or doubled; or the witness
	// lies. Stop and look.
	ErrFork = errors.New("the journal is not the one that the witness saw: it was set back, rewritten or doubled, or the witness lies")

	// ErrTruncated: the journal is shorter than the witness saw it, or says
	// that it did.
	ErrTruncated = errors.New("the journal is shorter than the witness saw it: its tail was cut off, or it was set back to a copy, or the witness lies")

	// ErrSetBack: the witness says that it saw fewer lines than it has
	// cosigned. What it forgot it would take again, from a fork as well.
	ErrSetBack = errors.New("the witness has forgotten what it cosigned: it was set back to a copy, or lies")

	// ErrCosignature: the witness answered with no signature of its own over
	// the checkpoint: it lies, or is another one than the key says.
	ErrCosignature = errors.New("the witness's answer is not signed with its key")

	// ErrRequest: the request is malformed.
	ErrRequest = errors.New("the request is malformed")
)

// A SizeError means that the witness saw the journal at another size than the
// one that the proof starts from. Where it is over the journal's size the
// journal lost lines.
type SizeError struct {
	Size uint64 // lines that the witness saw last
}

func (e *SizeError) Error() string {
	return fmt.Sprintf("the witness saw the journal at %d lines", e.Size)
}

// A Submitter takes checkpoints: a [Witness] in this process, a [Client] of
// one elsewhere, or [Lines]. It is safe for concurrent use.
type Submitter interface {
	// AddCheckpoint submits the signed note of a checkpoint, with the RFC 6962
	// consistency proof from the tree of old lines, and returns the signature
	// lines of its cosignatures, none where it does not sign. Errors wrap
	// those above.
	AddCheckpoint(ctx context.Context, old uint64, consistency [][]byte, signed []byte) (cosignatures []byte, err error)
}

// Config configures [Open]. All fields are required.
type Config struct {
	// Key is the witness's signing key, as [GenerateKey] makes it: a C2SP note
	// signer key. Only the witness may have it.
	Key string

	// Logs are the public keys of the journals whose checkpoints it takes, as
	// in their verifier.pub. A later key of a journal that has one here is
	// taken by itself, once the journal has proved the rotation
	// ([Witness.AddRotation]). Where a key may have been stolen put the new one
	// here in its place: what follows from it is then no longer taken.
	Logs []string
}

// GenerateKey makes the key of a new witness: the signer key, which only it
// may have, and the verifier key, which auditors and journals need. name is a
// URL without its scheme, such as "witness.example/w1".
func GenerateKey(name string) (signer, verifier string, err error) {
	if signer, verifier, err = note.GenerateKey(rand.Reader, name); err != nil {
		return "", "", fmt.Errorf("witness: make key: %w", err)
	}
	if verifier, err = fnote.VKeyToCosignatureV1(verifier); err != nil {
		return "", "", fmt.Errorf("witness: make key: the name is no key name: use a URL without its scheme")
	}
	return signer, verifier, nil
}

// A Witness remembers in a file the newest checkpoint of each journal that it
// was shown, and cosigns what goes on from it. It is safe for concurrent use;
// one process opens one file.
type Witness struct {
	signer *fnote.Signer
	store  *store

	mu     sync.Mutex
	keys   map[string][]string // origin -> verifier keys, of Config.Logs and by rotations from those
	newest map[string]audit.Checkpoint
}

// Open opens the witness whose memory is the file at path, or makes it. The
// file is only ever appended to, one JSON line a checkpoint, each synced
// before it is answered for; what a crash left unfinished at its end is
// dropped, and anything else that is wrong in it is an error.
func Open(path string, cfg Config) (*Witness, error) {
	w := &Witness{keys: make(map[string][]string), newest: make(map[string]audit.Checkpoint)}
	var err error
	if w.signer, err = fnote.NewSignerForCosignatureV1(cfg.Key); err != nil {
		return nil, errors.New("witness: open: Config.Key is not a C2SP note signer key: make one with GenerateKey")
	}
	if len(cfg.Logs) == 0 {
		return nil, errors.New("witness: open: Config.Logs is empty: give the journals' verifier.pub")
	}
	for i, keys := range cfg.Logs {
		for _, key := range strings.Fields(keys) {
			v, err := note.NewVerifier(key)
			if err != nil {
				return nil, fmt.Errorf("witness: open: Config.Logs[%d] is not a C2SP note verifier key: take the journal's verifier.pub", i)
			}
			w.keys[v.Name()] = append(w.keys[v.Name()], key)
		}
	}
	w.store, err = openStore(path, func(l line) error {
		// A journal that is no longer among Logs stays in the roster.
		cp, err := w.own(l)
		if err == nil && cp.Size < w.newest[cp.Origin].Size {
			err = errors.New("it is smaller than one before it")
		}
		if err == nil {
			w.newest[cp.Origin] = cp
			err = w.resume(l)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("witness: open %s: %w", path, err)
	}
	return w, nil
}

// Close closes the file.
func (w *Witness) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.store.Close()
}

// own reads a line of the witness's own file by its own signature.
func (w *Witness) own(l line) (audit.Checkpoint, error) {
	n, err := note.Open([]byte(l.Checkpoint), note.VerifierList(w.signer.Verifier()))
	if err != nil {
		return audit.Checkpoint{}, errors.New("it has not this witness's signature")
	}
	var cp log.Checkpoint
	if _, err := cp.Unmarshal([]byte(n.Text)); err != nil || len(cp.Hash) != 32 {
		return audit.Checkpoint{}, errors.New("it is no checkpoint")
	}
	return audit.Checkpoint{Origin: cp.Origin, Size: cp.Size, Root: [32]byte(cp.Hash), Note: []byte(l.Checkpoint)}, nil
}

// AddCheckpoint implements [Submitter] by the rules of C2SP tlog-witness.
func (w *Witness) AddCheckpoint(_ context.Context, old uint64, consistency [][]byte, signed []byte) ([]byte, error) {
	origin, _, _ := strings.Cut(string(signed), "\n")
	w.mu.Lock()
	keys, known := w.keys[origin]
	w.mu.Unlock()
	if !known {
		return nil, ErrUnknownLog
	}
	cp, err := audit.ParseCheckpoint(signed, strings.Join(keys, "\n"))
	switch {
	case err != nil:
		return nil, ErrSignature
	case old > cp.Size || cp.Size == 0:
		return nil, fmt.Errorf("%w: the old size is over the checkpoint's", ErrRequest)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	last := w.newest[origin]
	if old != last.Size {
		return nil, &SizeError{last.Size}
	}
	if err := goesOn(last, cp, consistency); err != nil {
		return nil, err
	}
	cosigned, err := note.Sign(&note.Note{Text: text(signed)}, w.signer)
	if err != nil {
		return nil, fmt.Errorf("witness: sign: %w", err)
	}
	cosignatures := cosigned[len(text(signed))+1:]
	cp.Note = append(bytes.Clone(signed), cosignatures...)
	if err := w.store.append(line{Checkpoint: string(cp.Note)}); err != nil {
		return nil, fmt.Errorf("witness: %w", err)
	}
	w.newest[origin] = cp
	return cosignatures, nil
}

// goesOn says why cp does not go on from last.
func goesOn(last, cp audit.Checkpoint, consistency [][]byte) error {
	switch {
	case last.Size == 0 && len(consistency) > 0:
		return fmt.Errorf("%w: there is a proof from nothing", ErrFork)
	case last.Size == 0:
		return nil
	case last.Size == cp.Size && last.Root != cp.Root:
		return ErrFork
	}
	err := proof.VerifyConsistency(rfc6962.DefaultHasher, last.Size, cp.Size, consistency, last.Root[:], cp.Root[:])
	if err != nil {
		return ErrFork
	}
	return nil
}

// text returns what a signed note says, without its signatures.
func text(signed []byte) string { return string(signed[:bytes.LastIndex(signed, []byte("\n\n"))+1]) }

// Roster returns the newest checkpoint of every journal that the witness
// knows, as anchors.
func (w *Witness) Roster() []audit.Anchor {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []audit.Anchor
	for _, cp := range w.newest {
		out = append(out, anchors(cp.Note, w.signer.Verifier())...)
	}
	slices.SortFunc(out, func(a, b audit.Anchor) int { return strings.Compare(a.Origin, b.Origin) })
	return out
}
