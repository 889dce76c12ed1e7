// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A Remote keeps a journal's lines where they outlast the machine that writes
// them: see Config.Durability. sink.Durable makes one of a sink.
type Remote interface {
	// Deliver returns once all lines are as durable as an event must be. The
	// lines are those of writer's journal in their order, headers and
	// checkpoints included, each without its newline; they may not be kept
	// after the return, nor changed. [LineEvents] reads the events in them.
	//
	// After an error, and after a restart, the same lines come again. A Remote
	// keeps a line once by its writer and sequence, and answers with an
	// error where it has another line by that name: the folder was then set
	// back to an old copy. Calls never overlap. Deliver gives up when ctx
	// ends.
	Deliver(ctx context.Context, writer string, lines [][]byte) error
}

// An outbound is what a journal's remote has not confirmed. Only the committer
// uses it.
type outbound struct {
	pending []byte // whole lines, written to the segment
	failed  bool   // the last delivery
}

// forward delivers what is pending, and lines after it. What is not confirmed
// stays pending, for the remote may have it: its sequences are used up.
func (j *Journal) forward(lines []byte) error {
	if j.cfg.Durability == nil {
		return nil
	}
	o := &j.outbound
	if len(o.pending) > 0 {
		lines = append(o.pending, lines...)
	}
	if len(lines) == 0 {
		return nil
	}
	o.pending, o.failed = nil, false
	if err := j.deliver(lines); err != nil {
		o.pending, o.failed = lines, true
		return fmt.Errorf("remote: %w", err)
	}
	return nil
}

// deliver gives the whole lines of data to the remote.
func (j *Journal) deliver(data []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), j.cfg.Timeout)
	defer cancel()
	return j.cfg.Durability.Deliver(ctx, j.keys.writer, bytes.Split(bytes.TrimSuffix(data, []byte("\n")), []byte("\n")))
}

// redeliver gives the remote what it may not have of the last segment, whose
// valid bytes are data. Nothing is written while something before is pending,
// so that this is the last group, and a header before it.
func (j *Journal) redeliver(data []byte) error {
	if j.cfg.Durability == nil {
		return nil
	}
	w, from, groups := newLineWriter(), len(data), 0
	for text := range linesBackward(data) {
		from -= len(text) + 1
		if f, err := w.parse(text); err != nil {
			return err
		} else if f.sync {
			if groups++; groups == 2 {
				break
			}
		}
	}
	if err := j.deliver(data[from:]); err != nil {
		return fmt.Errorf("%w: remote: %w", ErrUnavailable, err)
	}
	return nil
}

// keepsDetails says why no detail can be kept: a Remote gets lines, and the
// sealed details beside them, which must stay erasable, would be gone with the
// folder.
func (j *Journal) keepsDetails() error {
	if j.cfg.Durability == nil {
		return nil // Open has looked at the folder
	}
	name, kind, err := fileSystem(j.dir)
	if err != nil {
		return err
	}
	if kind == fsMemory || kind == fsLayer && !j.cfg.Development {
		return fmt.Errorf("Detail cannot be kept: the folder lies on %s and the Remote takes lines only: mount a volume there", name)
	}
	return nil
}

// LineEvents returns the events of writer's journal in lines, which a
// [Remote] was given; headers and checkpoints are left out. Raw is the line
// itself, not a copy.
func LineEvents(writer string, lines [][]byte) ([]Line, error) {
	w := newLineWriter()
	events := make([]Line, 0, len(lines))
	for _, raw := range lines {
		f, err := w.parse(raw)
		if err != nil {
			return nil, fmt.Errorf("audit: read lines: %w", err)
		}
		if t := Type(f.typ); t == typeSegment || t == typeCheckpoint {
			continue
		}
		s, err := decode(writer, raw)
		if err != nil {
			return nil, fmt.Errorf("audit: read lines: %w", err)
		}
		events = append(events, Line{Stored: s, Raw: raw, Leaf: w.leaf(raw), Position: Position{Writer: writer, Seq: f.seq}})
	}
	return events, nil
}

// keysEvent puts the journal's wrapped keys among its lines. Without them
// nobody could find a patient's events again, or go on, once the folder is
// gone; who has Config.KEK can.
func (j *Journal) keysEvent() (entry, error) {
	data, err := readSmall(j.dir, keysFile)
	if err != nil {
		return entry{}, err
	}
	body := appendString(nil, "type", string(KeysKept))
	body = appendString(body, "outcome", string(Success))
	body = appendString(body, "keys", base64.StdEncoding.EncodeToString(data))
	return entry{bodies: [][]byte{body}}, nil
}

// Restore makes a journal's folder anew from all its lines, as its Remote
// keeps them, in their order. dir must not exist. [Verify] then says whether
// it is sound, and [Open] goes on in it where the keys were the Remote's too:
// they are of a journal with Config.Durability.
//
// Open it only where nothing of the journal is missing: what was lost with
// the last lines would be written again, and refused by the Remote.
func Restore(dir string, lines iter.Seq2[[]byte, error]) error {
	r := restoring{dir: dir}
	err := r.run(lines)
	if err != nil {
		return fmt.Errorf("audit: restore %s: %w", dir, err)
	}
	return nil
}

type restoring struct {
	dir      string
	file     *os.File
	size     int64 // of the segment, once it is full
	segments int
}

func (r *restoring) run(lines iter.Seq2[[]byte, error]) error {
	if err := os.MkdirAll(filepath.Dir(r.dir), 0o700); err != nil {
		return err
	}
	if err := os.Mkdir(r.dir, 0o700); err != nil {
		return err
	}
	w := newLineWriter()
	for text, err := range lines {
		if err == nil {
			err = r.line(w, text)
		}
		if err != nil {
			return errors.Join(err, r.end(false))
		}
	}
	if r.segments == 0 {
		return errors.New("there is no line")
	}
	return r.end(true)
}

func (r *restoring) line(w *lineWriter, text []byte) error {
	f, err := w.parse(text)
	if err != nil {
		return err
	}
	switch Type(f.typ) {
	case typeSegment:
		h, err := parseHeader(&f)
		if err != nil {
			return err
		}
		if err := r.end(false); err != nil {
			return err
		}
		r.segments, r.size = r.segments+1, h.Size
		if r.file, err = os.OpenFile(filepath.Join(r.dir, segmentName(h.Segment)), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
			return err
		}
	case KeysKept:
		if err := r.keys(text); err != nil {
			return err
		}
	}
	if r.file == nil {
		return errors.New("the first line is no segment's header: of events alone, as a sink keeps them, no journal can be made: go on in a new folder")
	}
	_, err = r.file.Write(append(text[:len(text):len(text)], '\n'))
	return err
}

// keys writes the key file; the newest is the one that stays.
func (r *restoring) keys(text []byte) error {
	var l struct {
		Keys []byte `json:"keys"`
	}
	var wrapped wrappedKeys
	if json.Unmarshal(text, &l) != nil || json.Unmarshal(l.Keys, &wrapped) != nil {
		return errors.New("the line of the journal's keys is malformed")
	}
	if err := writeFile(r.dir, keysFile, l.Keys, 0o600); err != nil {
		return err
	}
	return writeFile(r.dir, verifierFile, []byte(strings.Join(wrapped.Verifiers, "\n")+"\n"), 0o644)
}

// end completes the segment that is written.
func (r *restoring) end(last bool) error {
	if r.file == nil {
		return nil
	}
	var err error
	if last { // zeros behind its lines: it is not full
		err = r.file.Truncate(r.size)
	} else {
		err = r.file.Chmod(0o400)
	}
	err = errors.Join(err, r.file.Sync(), r.file.Close())
	r.file = nil
	if last {
		err = errors.Join(err, syncFolder(r.dir))
	}
	return err
}

// busy notes that the committer waits for the disk or the remote since t; the
// zero time that it does not.
func (j *Journal) busy(t time.Time) {
	j.mu.Lock()
	j.health.busy = t
	j.mu.Unlock()
}
