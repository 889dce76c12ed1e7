// SPDX-License-Identifier: Apache-2.0

package witness

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// A line is one line of a witness's file.
type line struct {
	Checkpoint string          `json:"checkpoint"`         // the signed note with its cosignatures
	Rotation   json.RawMessage `json:"rotation,omitempty"` // the proof under it that the journal went on with another key
}

// maxLine bounds a line, and maxRequest a request: a checkpoint is under 1 KiB.
const (
	maxLine    = 64 << 10
	maxRequest = 64 << 10
)

// A store is a file that is only appended to. It refuses to go on in a file
// that somebody else changed.
type store struct {
	path string
	f    *os.File
	size int64
	bad  error // the file cannot be trusted to end with a whole line
}

// openStore calls each with the file's lines.
func openStore(path string, each func(line) error) (_ *store, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	s := &store{path: path, f: f}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	whole, err := readLines(f, each)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if s.size = whole; info.Size() > whole {
		// The crash came before the answer: nobody was told of this line.
		if err := f.Truncate(whole); err != nil {
			return nil, err
		}
	}
	if err := f.Sync(); err != nil {
		return nil, err
	}
	return s, syncFolder(filepath.Dir(path))
}

var errTorn = errors.New("its last line is cut off")

// readWhole is readLines for whoever did not write them: half a line at the end
// says that more was there, or is being written.
func readWhole(r io.Reader, each func(line) error) error {
	n := &counter{r: r}
	whole, err := readLines(n, each)
	if err == nil && whole != n.n {
		err = errTorn
	}
	return err
}

type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// readLines calls each with the lines of r and returns how many bytes they
// are. What follows the last newline is left out.
func readLines(r io.Reader, each func(line) error) (whole int64, err error) {
	in := bufio.NewReaderSize(r, maxLine)
	for n := 1; ; n++ {
		text, err := in.ReadSlice('\n')
		switch {
		case err == io.EOF:
			return whole, nil
		case err != nil:
			return whole, fmt.Errorf("line %d: %w", n, err)
		}
		l, err := parseLine(text)
		if err == nil {
			err = each(l)
		}
		if err != nil {
			return whole, fmt.Errorf("line %d: %w", n, err)
		}
		whole += int64(len(text))
	}
}

func parseLine(text []byte) (line, error) {
	var l line
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&l); err != nil || !strings.Contains(l.Checkpoint, "\n\n") || len(bytes.TrimSpace(text[dec.InputOffset():])) > 0 {
		return line{}, errors.New("it is no line of a witness")
	}
	return l, nil
}

func (l line) bytes() ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	err := enc.Encode(l)
	return buf.Bytes(), err
}

// append makes l durable.
func (s *store) append(l line) error {
	if s.bad != nil {
		return s.bad
	}
	text, err := l.bytes()
	if err != nil {
		return err
	}
	if err := s.same(); err != nil {
		return err
	}
	_, err = s.f.Write(text)
	if err == nil {
		err = s.f.Sync()
	}
	if err != nil {
		if terr := s.f.Truncate(s.size); terr != nil {
			s.bad = fmt.Errorf("write %s: it may end with half a line: %w", s.path, errors.Join(err, terr))
			return s.bad
		}
		return fmt.Errorf("write %s: %w", s.path, err)
	}
	s.size += int64(len(text))
	return nil
}

// same reports whether the file is as this process left it.
func (s *store) same() error {
	have, err := s.f.Stat()
	if err != nil {
		return err
	}
	named, err := os.Stat(s.path)
	switch {
	case err != nil:
		return fmt.Errorf("the file is gone: %w", err)
	case !os.SameFile(have, named):
		return errors.New("another file was put in the place of the witness's")
	case have.Size() != s.size:
		return errors.New("somebody else changed the witness's file: one process opens one file")
	}
	return nil
}

func (s *store) Close() error { return s.f.Close() }

// syncFolder makes the file's name durable, where the system can.
func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	_ = d.Sync() // not every system and share has it
	return d.Close()
}
