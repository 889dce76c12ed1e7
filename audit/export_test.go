// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
)

// All reads every event of the journal in dir, newest first, without its keys
// and without checking anything.
func All(dir string) ([]Stored, error) {
	data, err := os.ReadFile(filepath.Join(dir, keysFile))
	if err != nil {
		return nil, err
	}
	var w wrappedKeys
	if err := json.Unmarshal(data, &w); err != nil {
		return nil, err
	}
	names, err := folder(dir).List()
	if err != nil {
		return nil, err
	}
	indexes, err := segments(names)
	if err != nil {
		return nil, err
	}
	slices.Reverse(indexes)
	j := &Journal{disk: folder(dir)}
	var out []Stored
	for i, index := range indexes {
		end := int64(-1)
		if i == 0 {
			end = maxSegment
		}
		data, err := j.readSegment(index, end)
		if err != nil {
			return nil, err
		}
		for text := range linesBackward(data) {
			s, err := decode(w.Writer, text)
			if err != nil {
				return nil, err
			}
			if s.Type != typeSegment && s.Type != typeCheckpoint {
				out = append(out, s)
			}
		}
	}
	return out, nil
}
