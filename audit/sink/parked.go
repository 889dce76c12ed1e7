// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/part164/part164/audit"
)

// A parkedLine is a line of the file of what was parked: an event, as it was
// offered, or the note that a later try was accepted. It is never removed.
type parkedLine struct {
	ID       string          `json:"id"`
	Time     time.Time       `json:"time"`
	Accepted bool            `json:"accepted,omitempty"`
	Position *audit.Position `json:"position,omitempty"`
	Leaf     string          `json:"leaf,omitempty"`
	Line     string          `json:"line,omitempty"` // its exact bytes
}

// parking is the file of what was parked.
type parking struct {
	file    string
	waiting map[string]bool // ID to whether it still waits
	order   []string
}

func openParking(dir, name string) (*parking, error) {
	p := &parking{file: filepath.Join(dir, filePrefix+name+parkedSuffix), waiting: make(map[string]bool)}
	err := p.each(func(l *parkedLine) error {
		if _, known := p.waiting[l.ID]; !known {
			p.order = append(p.order, l.ID)
		}
		p.waiting[l.ID] = !l.Accepted
		return nil
	})
	return p, err
}

// each reads the file. A last line without its newline is the rest of a write
// that was never counted on.
func (p *parking) each(f func(*parkedLine) error) error {
	text, err := os.ReadFile(p.file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for n := 1; ; n++ {
		line, rest, ok := bytes.Cut(text, []byte{'\n'})
		if !ok {
			return nil
		}
		text = rest
		if len(line) == 0 {
			continue
		}
		var l parkedLine
		if err := json.Unmarshal(line, &l); err != nil {
			return fmt.Errorf("%s: line %d is damaged: restore it from a copy: %w", filepath.Base(p.file), n, err)
		}
		if err := f(&l); err != nil {
			return err
		}
	}
}

// add appends one line, durably.
func (p *parking) add(l parkedLine) error {
	text, err := json.Marshal(l)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(p.file, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	end, err := f.Seek(0, io.SeekEnd)
	if err == nil && end > 0 {
		last := make([]byte, 1)
		if _, err = f.ReadAt(last, end-1); err == nil && last[0] != '\n' {
			// A write that a crash cut short: it was not counted on.
			end, err = wholeLines(f, end)
		}
	}
	if err == nil {
		_, err = f.WriteAt(append(text, '\n'), end)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close(), syncFolder(filepath.Dir(p.file))); err != nil {
		return err
	}
	if _, known := p.waiting[l.ID]; !known {
		p.order = append(p.order, l.ID)
	}
	p.waiting[l.ID] = !l.Accepted
	return nil
}

// wholeLines cuts off what stands behind the last newline.
func wholeLines(f *os.File, end int64) (int64, error) {
	text := make([]byte, end)
	if _, err := f.ReadAt(text, 0); err != nil {
		return 0, err
	}
	end = int64(bytes.LastIndexByte(text, '\n') + 1)
	return end, f.Truncate(end)
}

// put parks a line. One that is parked already is not put there again.
func (p *parking) put(l *audit.Line, now time.Time) error {
	if _, known := p.waiting[l.ID]; known {
		return nil
	}
	return p.add(parkedLine{
		ID: l.ID, Time: now.UTC(), Position: &l.Position,
		Leaf: base64.RawURLEncoding.EncodeToString(l.Leaf[:]), Line: string(l.Raw),
	})
}

// left returns the IDs of what waits, oldest first.
func (p *parking) left() []string {
	var out []string
	for _, id := range p.order {
		if p.waiting[id] {
			out = append(out, id)
		}
	}
	return out
}
