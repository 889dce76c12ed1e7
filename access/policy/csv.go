// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxLine bounds a line of CSV, in bytes.
const maxLine = 1 << 20

// ReadCSV reads the rows of a policy as Casbin's file adapter does: a row a
// line, comments behind #. Errors name the line.
func ReadCSV(r io.Reader) ([]Row, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	var rows []Row
	n := 0
	for lines.Scan() {
		n++
		if n == 1 && strings.HasPrefix(lines.Text(), byteOrderMark) {
			return nil, fmt.Errorf("policy: read rows: %w", errMark)
		}
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		in := csv.NewReader(strings.NewReader(line))
		in.Comment = '#'
		in.TrimLeadingSpace = true
		fields, err := in.Read()
		if bad := (*csv.ParseError)(nil); errors.As(err, &bad) {
			err = bad.Err // without the text
		}
		if err != nil {
			return nil, fmt.Errorf("policy: read rows: line %d: %w", n, err)
		}
		rows = append(rows, Row{Fields: fields, From: fmt.Sprintf("line %d", n)})
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("policy: read rows: line %d: %w", n+1, err)
	}
	return rows, nil
}
