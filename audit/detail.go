// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A sealed detail is a file in the folder detail, named by its commitment:
//
//	format(1) keyVersion(4) seq(8) AES-256-GCM(salt(32) JSON)
//
// The key is the tenant's, derived from the version of the detail key. The
// header, the writer, the tenant and the commitment are in the associated data.
// seq is that of a line before the event's, to find it from.
const (
	detailFolder = "detail"
	detailFormat = 1
	detailHeader = 1 + 4 + 8
	detailSalt   = 32

	// A file has a suffix until its line is durable, and again once it is to be
	// destroyed: both are settled at Open.
	detailNew   = ".new"
	detailErase = ".erase"
)

// Detail implements [Details]: it records a [DetailOpened], and then opens what
// is sealed beside the event's line. The event's ID is that of its first line.
func (j *Journal) Detail(ctx context.Context, event string) (Detail, error) {
	d, err := j.detail(ctx, event)
	if err != nil {
		return Detail{}, fmt.Errorf("audit: open detail: %w", err)
	}
	return d, nil
}

func (j *Journal) detail(ctx context.Context, event string) (Detail, error) {
	s, err := Stamp(ctx, Event{Type: DetailOpened, Outcome: Success, About: event})
	if err != nil {
		return Detail{}, err
	}
	of, err := j.detailed(ctx, s.Actor.Tenant, event)
	if err != nil {
		return Detail{}, err
	}
	data, err := j.readDetail(of.Detail)
	if err != nil {
		return Detail{}, err
	}
	if _, _, err := j.record(&s, nil); err != nil {
		return Detail{}, err
	}
	plain, err := j.keys.openDetail(detailTenant(of), of.Detail, data)
	if err != nil {
		return Detail{}, err
	}
	var d Detail
	if err := json.Unmarshal(plain, &d); err != nil {
		return Detail{}, errors.New("its JSON is malformed")
	}
	return d, nil
}

// detailed returns the event that has a detail and is by or about tenant.
func (j *Journal) detailed(ctx context.Context, tenant, event string) (*Stored, error) {
	s, err := j.lineOf(ctx, event)
	if err != nil {
		return nil, err
	}
	mine := s != nil && (s.Actor.Tenant == tenant || slices.ContainsFunc(s.Objects, func(o Object) bool { return o.Tenant == tenant }))
	if !mine || s.Detail == "" || s.Part > 1 {
		return nil, ErrNoDetail
	}
	return s, nil
}

// lineOf returns the event with the given ID, nil where it is not in the
// journal.
func (j *Journal) lineOf(ctx context.Context, event string) (*Stored, error) {
	digits, ok := strings.CutPrefix(event, j.keys.writer+".")
	seq, err := strconv.ParseUint(digits, 10, 64)
	if !ok || err != nil || eventID(j.keys.writer, seq) != event {
		return nil, nil
	}
	var found *Stored
	err = j.since(ctx, seq, func(f *frame, text []byte) error {
		if f.seq == seq && Type(f.typ) != typeSegment && Type(f.typ) != typeCheckpoint {
			found, err = j.decoded(text)
			return err
		}
		return nil
	})
	return found, err
}

// linesOf returns the events of every line that s, the first of them, is recorded
// in.
func (j *Journal) linesOf(ctx context.Context, s *Stored) ([]*Stored, error) {
	out := []*Stored{s}
	if s.Parts < 2 {
		return out, nil
	}
	err := j.since(ctx, s.Seq, func(f *frame, text []byte) error {
		if f.batch.parts < 2 || f.batch.first != s.Seq || f.seq == s.Seq {
			return nil
		}
		more, err := j.decoded(text)
		out = append(out, more)
		return err
	})
	if err == nil && len(out) != s.Parts {
		err = fmt.Errorf("%d of the %d lines of the event are in the journal", len(out), s.Parts)
	}
	return out, err
}

// since calls fn with the durable lines of each segment that may hold lines
// from sequence seq on, the newest segment first, and in it the oldest line.
func (j *Journal) since(ctx context.Context, seq uint64, fn func(f *frame, text []byte) error) error {
	e, err := j.newest()
	if err != nil {
		return err
	}
	w := newLineWriter()
	return j.backward(ctx, e, func(index int, data []byte, _ head) (more bool, err error) {
		more = true
		for n := 0; len(data) > 0; n++ {
			var text []byte
			text, data = cutLine(data)
			f, err := w.parse(text)
			if err != nil {
				return false, &CorruptError{File: segmentName(index), Problem: err.Error()}
			}
			if n == 0 && f.seq <= seq {
				more = false // the last to look at
			}
			if err := fn(&f, text); err != nil {
				return false, err
			}
		}
		return more, nil
	})
}

// decoded returns the event of a line, under the keys in use.
func (j *Journal) decoded(text []byte) (*Stored, error) {
	s, err := decode(j.keys.writer, text)
	if err == nil {
		err = j.keys.now.Load().bringForward(&s)
	}
	return &s, err
}

// detailTenant is the tenant under whose key the detail of s is sealed.
func detailTenant(s *Stored) string {
	if s.Actor.Tenant != "" || len(s.Objects) == 0 {
		return s.Actor.Tenant
	}
	return s.Objects[0].Tenant
}

// isCommitment reports whether s can be the commitment to a sealed detail, which
// is also the name of its file.
func isCommitment(s string) bool {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return err == nil && len(b) == sha256.Size && len(s) == hashText // a decoder passes over newlines
}

// sealDetail makes the detail of s durable under a name that says that its line
// is not, and puts its commitment into s.
func (j *Journal) sealDetail(s *Stored, d *Detail) error {
	text, err := json.Marshal(d)
	if err != nil {
		return err
	}
	plain := make([]byte, detailSalt, detailSalt+len(text))
	rand.Read(plain)
	plain = append(plain, text...)
	sum := sha256.Sum256(plain)
	s.Detail = base64.RawURLEncoding.EncodeToString(sum[:])
	j.mu.Lock()
	seq := j.durable.seq
	j.mu.Unlock()
	data, err := j.keys.sealDetail(detailTenant(s), s.Detail, seq, plain)
	if err != nil {
		return err
	}
	dir := filepath.Join(j.dir, detailFolder)
	if err := os.Mkdir(dir, 0o700); err == nil {
		err = syncFolder(j.dir)
		if err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return err
	}
	return writeFile(dir, s.Detail+detailNew, data, 0o600)
}

// keepDetail drops the suffix of a detail whose line is durable. Where that
// fails the next Open does it.
func (j *Journal) keepDetail(commitment string) {
	name := filepath.Join(j.dir, detailFolder, commitment)
	_ = os.Rename(name+detailNew, name)
}

// readDetail returns the sealed detail of a commitment.
func (j *Journal) readDetail(commitment string) ([]byte, error) {
	for _, suffix := range [...]string{"", detailNew} {
		data, err := os.ReadFile(filepath.Join(j.dir, detailFolder, commitment+suffix))
		if !errors.Is(err, fs.ErrNotExist) {
			return data, err
		}
	}
	return nil, ErrErased
}

// detailCipher returns the key of a tenant's details under a version of the
// detail key.
func (k *keys) detailCipher(tenant string, version uint32) (cipher.AEAD, error) {
	details := k.now.Load().details
	if version < 1 || uint64(version) > uint64(len(details)) {
		return nil, errors.New("it is sealed under a key that this journal does not have")
	}
	key, err := details[version-1].ComputePRF([]byte("part164 audit detail key 1\x00"+tenant), 32)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func (k *keys) sealDetail(tenant, commitment string, seq uint64, plain []byte) ([]byte, error) {
	version := uint32(k.now.Load().version)
	aead, err := k.detailCipher(tenant, version)
	if err != nil {
		return nil, err
	}
	data := binary.BigEndian.AppendUint32([]byte{detailFormat}, version)
	data = binary.BigEndian.AppendUint64(data, seq)
	return aead.Seal(data, nil, plain, k.detailData(data, tenant, commitment)), nil
}

// openDetail returns the JSON of a sealed detail, which must be what the line
// commits to.
func (k *keys) openDetail(tenant, commitment string, data []byte) ([]byte, error) {
	if len(data) < detailHeader || data[0] != detailFormat {
		return nil, errors.New("the sealed detail is malformed, or of a later release")
	}
	header := data[:detailHeader]
	aead, err := k.detailCipher(tenant, binary.BigEndian.Uint32(header[1:]))
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(nil, nil, data[detailHeader:], k.detailData(header, tenant, commitment))
	if err != nil || len(plain) < detailSalt {
		return nil, errors.New("the sealed detail does not open: its bytes were changed, or it is another event's")
	}
	sum := sha256.Sum256(plain)
	want, err := base64.RawURLEncoding.Strict().DecodeString(commitment)
	if err != nil || subtle.ConstantTimeCompare(sum[:], want) != 1 {
		return nil, errors.New("the sealed detail is not the one that the event commits to")
	}
	return plain[detailSalt:], nil
}

// detailData is the associated data of a sealed detail.
func (k *keys) detailData(header []byte, tenant, commitment string) []byte {
	out := append([]byte("part164 audit detail 1\x00"), header[:detailHeader]...)
	for _, part := range [...]string{k.writer, tenant, commitment} {
		out = binary.BigEndian.AppendUint32(out, uint32(len(part)))
		out = append(out, part...)
	}
	return out
}

// settleDetails finishes what a crash cut short: a detail whose line was never
// written is removed, for nothing refers to it, and one that was to be
// destroyed is.
func (j *Journal) settleDetails() error {
	dir := filepath.Join(j.dir, detailFolder)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		commitment, isNew := strings.CutSuffix(name, detailNew)
		switch {
		case strings.HasSuffix(name, ".tmp"):
			err = destroyFile(dir, name)
		case isNew:
			var s *Stored
			if s, err = j.committer(name, commitment); err == nil && s != nil {
				err = os.Rename(filepath.Join(dir, name), filepath.Join(dir, commitment))
			} else if err == nil {
				err = destroyFile(dir, name)
			}
		case strings.HasSuffix(name, detailErase):
			err = j.finishErasure(name)
		}
		if err != nil {
			return fmt.Errorf("settle a sealed detail: %w", err)
		}
	}
	return nil
}

// committer returns the event whose line commits to a sealed detail, nil where
// there is none.
func (j *Journal) committer(name, commitment string) (*Stored, error) {
	data, err := os.ReadFile(filepath.Join(j.dir, detailFolder, name))
	if err != nil || len(data) < detailHeader {
		return nil, err
	}
	if !isCommitment(commitment) {
		return nil, nil
	}
	var found *Stored
	member := []byte(`,"detail":"` + commitment + `"`)
	err = j.since(context.Background(), binary.BigEndian.Uint64(data[5:]), func(f *frame, text []byte) error {
		if f.batch.part > 1 || !bytes.Contains(text, member) {
			return nil
		}
		found, err = j.decoded(text)
		return err
	})
	return found, err
}

// destroyFile overwrites a file of dir, so that its bytes are gone from a disk
// that writes in place, and removes it. Copies, and the blocks of a disk that
// does not, are not reached. A link is removed, and what it leads to stays.
func destroyFile(dir, name string) error {
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer root.Close()
	info, err := root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && info.Mode().IsRegular() {
		err = overwrite(root, name)
	}
	if err == nil {
		err = root.Remove(name)
	}
	if err != nil {
		return err
	}
	return syncFolder(dir)
}

func overwrite(root *os.Root, name string) error {
	f, err := root.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil {
		_, err = io.Copy(f, bytes.NewReader(make([]byte, info.Size())))
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
