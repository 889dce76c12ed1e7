// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
)

// ReadCSV reads the rows of a policy as Casbin's file adapter does: a row a
// line, comments behind #. Errors name the line.
func ReadCSV(r io.Reader) ([]Row, error) {
	in := csv.NewReader(r)
	in.Comment = '#'
	in.TrimLeadingSpace = true
	in.FieldsPerRecord = -1
	var rows []Row
	for {
		fields, err := in.Read()
		if err == io.EOF {
			return rows, nil
		}
		if bad := (*csv.ParseError)(nil); errors.As(err, &bad) {
			return nil, fmt.Errorf("policy: read rows: line %d: %w", bad.Line, bad.Err)
		} else if err != nil {
			return nil, fmt.Errorf("policy: read rows: %w", err)
		}
		line, _ := in.FieldPos(0)
		last := len(fields) - 1
		fields[last] = strings.TrimRight(fields[last], " \t\r")
		rows = append(rows, Row{fields, fmt.Sprintf("line %d", line)})
	}
}
