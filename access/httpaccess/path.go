// SPDX-License-Identifier: Apache-2.0

package httpaccess

import (
	"errors"
	"net/url"
	"strings"
	"unicode/utf8"
)

// The longest path and segment that are served, in bytes. Ours: an ID has 64, and
// servers take 8 KiB of request line (RFC 9112 section 3).
const (
	maxPath    = 4 << 10
	maxSegment = 512
)

// checkPath says why a path is not served. Two readers of it must not come to two
// opinions of where it leads: a router and the file system, a proxy and this guard.
// The error does not hold the path.
func checkPath(u *url.URL) error {
	escaped := u.EscapedPath()
	switch {
	case len(escaped) > maxPath:
		return errors.New("the path is too long")
	case !strings.HasPrefix(u.Path, "/"):
		return errors.New("the path does not begin with a slash")
	case !utf8.ValidString(u.Path):
		return errors.New("the path is not UTF-8")
	case strings.ContainsFunc(u.Path, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return errors.New("the path has a control character")
	case strings.Contains(u.Path, `\`):
		return errors.New("the path has a backslash")
	}
	// What is encoded twice stays encoded once: %252f.
	lower := strings.ToLower(escaped + " " + u.Path)
	if strings.Contains(lower, "%2f") || strings.Contains(lower, "%5c") {
		return errors.New("the path has an encoded slash or backslash")
	}
	if strings.Contains(lower, "%2e") {
		return errors.New("the path has an encoded dot")
	}
	segments := strings.Split(u.Path[1:], "/")
	for i, s := range segments {
		switch {
		case s == "." || s == "..":
			return errors.New("the path has a segment of dots")
		case s == "" && i < len(segments)-1:
			return errors.New("the path has an empty segment")
		case len(s) > maxSegment:
			return errors.New("the path has a segment that is too long")
		case strings.HasPrefix(s, "..;") || strings.HasPrefix(s, ".;"):
			return errors.New("the path has a segment of dots with parameters")
		}
	}
	return nil
}
