// SPDX-License-Identifier: Apache-2.0

package witness

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// keptFile is where a journal's folder keeps what the witness of that key hash
// cosigned last.
func keptFile(dir string, hash []byte) string {
	return filepath.Join(dir, "witness-"+hex.EncodeToString(hash)+".jsonl")
}

// keep puts the cosigned note in the place of the one before. A crash leaves
// the one or the other.
func keep(dir string, signed, cosignatures []byte) error {
	if len(cosignatures) == 0 {
		return nil
	}
	fields := strings.Fields(string(cosignatures)) // "— name base64", whose first four bytes are the key hash
	if len(fields) < 3 {
		return errors.New("the answer is no signature line")
	}
	sig, err := base64.StdEncoding.DecodeString(fields[2])
	if err != nil || len(sig) < 4 {
		return errors.New("the answer is no signature line")
	}
	body, err := line{Checkpoint: string(slices.Concat(signed, cosignatures))}.bytes()
	if err != nil {
		return err
	}
	path := keptFile(dir, sig[:4])
	f, err := os.OpenFile(path+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(body)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(path+".tmp", path)
	}
	return errors.Join(err, syncFolder(dir))
}

// kept returns how many lines of the journal w cosigned last, by what is kept
// in its folder and w signed; 0 where that is not known.
func kept(dir, origin string, w Submitter) (size uint64) {
	s, ok := w.(interface{ signs() note.Verifier })
	if !ok {
		return 0
	}
	hash := s.signs().KeyHash()
	text, err := os.ReadFile(keptFile(dir, []byte{byte(hash >> 24), byte(hash >> 16), byte(hash >> 8), byte(hash)}))
	if err != nil {
		return 0
	}
	_, _ = readLines(bytes.NewReader(text), func(l line) error {
		for _, a := range anchors([]byte(l.Checkpoint), s.signs()) {
			if a.Origin == origin {
				size = max(size, a.Size)
			}
		}
		return nil
	})
	return size
}

func (w *Witness) signs() note.Verifier { return w.signer.Verifier() }

func (c *Client) signs() note.Verifier { return c.verifier }
