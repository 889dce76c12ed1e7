// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// The file in which a sink of package audit/sink keeps how far it is.
const (
	cursorPrefix = "sink-"
	cursorSuffix = ".json"
)

// Cursors returns, by the sink's name, how far each sink of the journal in dir
// is: the last event that it has accepted, or that was parked. A purge keeps
// what lies behind the least of them, for somebody has yet to get it. A sink
// that is no longer wanted holds purges back until its file, sink-NAME.json,
// is removed.
func Cursors(dir string) (map[string]Position, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("audit: read cursors: %w", err)
	}
	out := make(map[string]Position)
	for _, e := range entries {
		name, ok := strings.CutPrefix(e.Name(), cursorPrefix)
		if !ok {
			continue
		}
		if name, ok = strings.CutSuffix(name, cursorSuffix); !ok {
			continue
		}
		text, err := readSmall(dir, e.Name())
		if err != nil {
			return nil, fmt.Errorf("audit: read cursors: %w", err)
		}
		var pos Position
		if err := json.Unmarshal(text, &pos); err != nil {
			return nil, fmt.Errorf("audit: read cursors: %s is no cursor: remove it, and the sink gets every event again", e.Name())
		}
		out[name] = pos
	}
	return out, nil
}
