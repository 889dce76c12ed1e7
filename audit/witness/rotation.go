// SPDX-License-Identifier: Apache-2.0

package witness

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/part164/part164/audit"
)

// rotationPath is of this package: C2SP tlog-witness knows no rotation.
const rotationPath = "/add-rotation"

// A follower is a witness that learns a journal's next key from the journal.
type follower interface {
	AddRotation(ctx context.Context, proof []byte) error
}

var (
	_ follower = (*Witness)(nil)
	_ follower = (*Client)(nil)
)

// AddRotation takes the proof, the JSON of [audit.ProveRotation], that a
// journal went on with another key, and trusts that key from then on. The
// event that names the new key must stand in the tree of the checkpoint that
// the witness saw last, and both keys must have signed that checkpoint. So who
// has neither the old key nor a line in the journal can do nothing, and who
// stole the old key no more than before: what they show must go on from what
// the witness saw, and the real journal's next checkpoint is then an [ErrFork].
func (w *Witness) AddRotation(_ context.Context, proof []byte) error {
	origin, to, cp, err := w.rotation(proof)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	last := w.newest[origin]
	switch {
	case last.Size != cp.Size || last.Root != cp.Root:
		return fmt.Errorf("%w: the rotation is not under the checkpoint that the witness saw last", ErrRequest)
	case slices.Contains(w.keys[origin], to):
		return nil
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, proof); err != nil {
		return fmt.Errorf("%w: it is no JSON", ErrRequest)
	}
	if err := w.store.append(line{Checkpoint: string(last.Note), Rotation: compact.Bytes()}); err != nil {
		return fmt.Errorf("witness: %w", err)
	}
	w.keys[origin] = append(slices.Clip(w.keys[origin]), to)
	return nil
}

// rotation checks what a proof shows by itself: that a trusted key goes on
// with the key to.
func (w *Witness) rotation(proof []byte) (origin, to string, cp audit.Checkpoint, err error) {
	fail := func(err error) (string, string, audit.Checkpoint, error) { return "", "", audit.Checkpoint{}, err }
	var p audit.Proof
	if err := json.Unmarshal(proof, &p); err != nil {
		return fail(fmt.Errorf("%w: it is no proof", ErrRequest))
	}
	origin, _, _ = strings.Cut(p.Checkpoint, "\n")
	w.mu.Lock()
	keys, known := w.keys[origin]
	w.mu.Unlock()
	if !known {
		return fail(ErrUnknownLog)
	}
	ev, cp, err := audit.VerifyProof(proof, strings.Join(keys, "\n"))
	if err != nil {
		return fail(fmt.Errorf("%w: the rotation is not proved: %w", ErrSignature, err))
	}
	r := ev.Rotation
	if ev.Type != audit.JournalKeyRotated || r == nil {
		return fail(fmt.Errorf("%w: the event is no rotation", ErrRequest))
	}
	if !slices.Contains(keys, r.From) {
		return fail(fmt.Errorf("%w: the rotation is from a key that it does not trust", ErrSignature))
	}
	for _, key := range []string{r.From, r.To} {
		if _, err := audit.ParseCheckpoint(cp.Note, key); err != nil {
			return fail(fmt.Errorf("%w: the old and the new key have not both signed", ErrSignature))
		}
	}
	return origin, r.To, cp, nil
}

// resume takes the rotation in a line of the witness's own file. One from a
// key that is no longer trusted is passed over.
func (w *Witness) resume(l line) error {
	if l.Rotation == nil {
		return nil
	}
	origin, to, cp, err := w.rotation(l.Rotation)
	switch {
	case errors.Is(err, ErrUnknownLog), errors.Is(err, ErrSignature):
		return nil
	case err != nil:
		return err
	case text(cp.Note) != text([]byte(l.Checkpoint)):
		return errors.New("its rotation is under another checkpoint")
	}
	if !slices.Contains(w.keys[origin], to) {
		w.keys[origin] = append(w.keys[origin], to)
	}
	return nil
}

// AddRotation shows the witness the proof that a journal went on with another
// key; see [Witness.AddRotation]. A witness that is not of this package does
// not take it.
func (c *Client) AddRotation(ctx context.Context, proof []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.prefix+rotationPath, bytes.NewReader(proof))
	if err != nil {
		return fmt.Errorf("witness: %w", err)
	}
	a, err := c.do(req)
	if err == nil && a.status != http.StatusOK {
		err = fmt.Errorf("witness: it takes no rotation of the journal's key: %w", a.err())
	}
	return err
}

func (w *Witness) serveRotation(rw http.ResponseWriter, r *http.Request) {
	if body, ok := readRequest(rw, r); ok {
		if err := w.AddRotation(r.Context(), body); err != nil {
			refuse(rw, err, http.StatusUnprocessableEntity)
		}
	}
}

// follow shows w the rotations of j's key that it has not seen, each after the
// checkpoint that both keys signed, and returns how many lines it had seen
// before and how many after.
func follow(ctx context.Context, j Journal, w Submitter, seen uint64) (before, after uint64, err error) {
	f, ok := w.(follower)
	if !ok {
		return seen, seen, nil
	}
	text, err := os.ReadFile(filepath.Join(j.Dir(), "verifier.pub"))
	if err != nil {
		return seen, seen, err
	}
	keys := strings.Fields(string(text))
	before = math.MaxUint64
	for _, to := range keys[min(1, len(keys)):] {
		p, err := audit.ProveRotation(ctx, j.Dir(), to)
		if err != nil {
			return before, seen, err
		}
		from, _, err := show(ctx, j, w, seen, audit.Checkpoint{Size: p.Size, Note: []byte(p.Checkpoint)})
		before = min(before, from)
		if errors.Is(err, ErrTruncated) { // it saw lines behind this rotation: it knows of it
			seen = from
			continue
		}
		if err != nil {
			return before, seen, err
		}
		seen = p.Size
		proof, err := json.Marshal(p)
		if err != nil {
			return before, seen, err
		}
		if err := f.AddRotation(ctx, proof); err != nil {
			return before, seen, err
		}
	}
	return before, seen, nil
}
