// SPDX-License-Identifier: Apache-2.0

package witness

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	fnote "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"

	"github.com/part164/part164/audit"
)

const (
	addPath    = "/add-checkpoint" // C2SP tlog-witness
	rosterPath = "/checkpoints"    // of this package: the newest checkpoint of each journal, as in the file
	sizeType   = "text/x.tlog.size"
	maxProof   = 63 // lines, C2SP tlog-witness

	maxAnswer = 16 << 20 // bytes: the roster of some 20,000 journals
)

// ServeHTTP serves C2SP tlog-witness: POST add-checkpoint under any prefix.
// Two paths are this package's own: GET checkpoints returns the newest cosigned
// checkpoint of each journal, and POST add-rotation is [Witness.AddRotation]. The signatures are what authenticates requests;
// serve it over TLS, and to whom it concerns: it tells how much is recorded.
func (w *Witness) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	for _, route := range []struct {
		path, method string
		serve        http.HandlerFunc
	}{
		{addPath, http.MethodPost, w.serveAdd},
		{rotationPath, http.MethodPost, w.serveRotation},
		{rosterPath, http.MethodGet, w.serveRoster},
	} {
		if !strings.HasSuffix(r.URL.Path, route.path) {
			continue
		}
		if r.Method != route.method {
			rw.Header().Set("Allow", route.method)
			http.Error(rw, "method not allowed", http.StatusMethodNotAllowed)
			return
		}
		route.serve(rw, r)
		return
	}
	http.NotFound(rw, r)
}

func (w *Witness) serveAdd(rw http.ResponseWriter, r *http.Request) {
	body, ok := readRequest(rw, r)
	if !ok {
		return
	}
	old, consistency, signed, err := parseRequest(body)
	if err != nil {
		refuse(rw, err, 0)
		return
	}
	cosignatures, err := w.AddCheckpoint(r.Context(), old, consistency, signed)
	if err != nil {
		fork := http.StatusUnprocessableEntity
		if errors.Is(err, ErrFork) && sizeOf(signed) == old {
			fork = http.StatusConflict
		}
		refuse(rw, err, fork)
		return
	}
	rw.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = rw.Write(cosignatures)
}

func readRequest(rw http.ResponseWriter, r *http.Request) (body []byte, ok bool) {
	body, err := io.ReadAll(http.MaxBytesReader(rw, r.Body, maxRequest))
	if err != nil {
		http.Error(rw, "the request is too long", http.StatusRequestEntityTooLarge)
	}
	return body, err == nil
}

// refuse answers with what C2SP tlog-witness has for err; fork is the status of
// an ErrFork.
func refuse(rw http.ResponseWriter, err error, fork int) {
	var size *SizeError
	switch {
	case errors.As(err, &size):
		rw.Header().Set("Content-Type", sizeType)
		rw.WriteHeader(http.StatusConflict)
		fmt.Fprintf(rw, "%d\n", size.Size)
	case errors.Is(err, ErrUnknownLog):
		http.Error(rw, err.Error(), http.StatusNotFound)
	case errors.Is(err, ErrSignature):
		http.Error(rw, err.Error(), http.StatusForbidden)
	case errors.Is(err, ErrRequest):
		http.Error(rw, err.Error(), http.StatusBadRequest)
	case errors.Is(err, ErrFork):
		http.Error(rw, err.Error(), fork)
	default: // the file: its path is nobody's concern
		http.Error(rw, "the witness cannot keep the checkpoint", http.StatusInternalServerError)
	}
}

func (w *Witness) serveRoster(rw http.ResponseWriter, _ *http.Request) {
	var out []byte
	w.mu.Lock()
	for _, cp := range w.newest {
		text, err := line{Checkpoint: string(cp.Note)}.bytes()
		if err == nil {
			out = append(out, text...)
		}
	}
	w.mu.Unlock()
	rw.Header().Set("Content-Type", "application/jsonl")
	_, _ = rw.Write(out)
}

// sizeOf returns the size in a checkpoint that was read before.
func sizeOf(signed []byte) uint64 {
	lines := strings.SplitN(string(signed), "\n", 3)
	n, _ := strconv.ParseUint(lines[1], 10, 64)
	return n
}

// parseRequest reads the body of add-checkpoint.
func parseRequest(body []byte) (old uint64, consistency [][]byte, signed []byte, err error) {
	fail := func(what string) (uint64, [][]byte, []byte, error) {
		return 0, nil, nil, fmt.Errorf("%w: %s", ErrRequest, what)
	}
	head, signed, ok := bytes.Cut(body, []byte("\n\n"))
	lines := strings.Split(string(head), "\n")
	digits, isOld := strings.CutPrefix(lines[0], "old ")
	old, perr := strconv.ParseUint(digits, 10, 64)
	switch {
	case !ok || !isOld || perr != nil || digits != strconv.FormatUint(old, 10):
		return fail("it does not start with the old size")
	case len(lines)-1 > maxProof:
		return fail("the proof has more than 63 lines")
	}
	for _, text := range lines[1:] {
		h, err := base64.StdEncoding.Strict().DecodeString(text)
		if err != nil || len(h) != 32 {
			return fail("a line of the proof is no hash")
		}
		consistency = append(consistency, h)
	}
	return old, consistency, signed, nil
}

func appendRequest(b []byte, old uint64, consistency [][]byte, signed []byte) []byte {
	b = append(b, "old "...)
	b = strconv.AppendUint(b, old, 10)
	b = append(b, '\n')
	for _, h := range consistency {
		b = base64.StdEncoding.AppendEncode(b, h)
		b = append(b, '\n')
	}
	b = append(b, '\n')
	return append(b, signed...)
}

// A Client speaks C2SP tlog-witness to a witness elsewhere. It is safe for
// concurrent use.
type Client struct {
	prefix   string
	verifier note.Verifier
	http     *http.Client
}

// NewClient returns a client of the witness whose submission prefix is prefix
// and whose verifier key is key: only answers that it signed count. The prefix
// is https, or http on loopback; redirects are not followed. A nil config is
// the system's roots; set RootCAs for a private authority.
func NewClient(prefix, key string, config *tls.Config) (*Client, error) {
	u, err := url.Parse(prefix)
	if err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return nil, errors.New("witness: client: the prefix is no URL of a witness")
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname())) {
		return nil, errors.New("witness: client: the prefix is not https, and not on loopback")
	}
	if config != nil && config.InsecureSkipVerify {
		return nil, errors.New("witness: client: InsecureSkipVerify is set: set RootCAs to the witness's authority instead")
	}
	c := &Client{prefix: strings.TrimSuffix(prefix, "/")}
	if c.verifier, err = fnote.NewVerifierForCosignatureV1(strings.TrimSpace(key)); err != nil {
		return nil, errors.New("witness: client: the key is not a C2SP verifier key of cosignatures")
	}
	c.http = &http.Client{
		Timeout:       30 * time.Second,
		Transport:     &http.Transport{TLSClientConfig: config, MaxIdleConnsPerHost: 1, IdleConnTimeout: 2 * time.Minute},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// AddCheckpoint implements [Submitter]. The cosignatures that it returns are
// this witness's own, and verified.
func (c *Client) AddCheckpoint(ctx context.Context, old uint64, consistency [][]byte, signed []byte) ([]byte, error) {
	body := appendRequest(nil, old, consistency, signed)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.prefix+addPath, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("witness: %w", err)
	}
	a, err := c.do(req)
	if err != nil {
		return nil, err
	}
	if a.status != http.StatusConflict || a.contentType != sizeType {
		if err := a.err(); err != nil {
			return nil, err
		}
		return c.own(signed, a.body)
	}
	size, err := strconv.ParseUint(strings.TrimSuffix(string(a.body), "\n"), 10, 64)
	switch {
	case err != nil:
		return nil, errors.New("witness: it answers that it saw another size, and names none")
	case size == old: // at this very size: its tree is another
		return nil, ErrFork
	}
	return nil, &SizeError{size}
}

// own returns those of the answer's signature lines that are this witness's.
func (c *Client) own(signed, answer []byte) ([]byte, error) {
	n, err := note.Open(append([]byte(text(signed)+"\n"), answer...), note.VerifierList(c.verifier))
	if err != nil {
		return nil, ErrCosignature
	}
	var out []byte
	for _, sig := range n.Sigs {
		out = fmt.Appendf(out, "— %s %s\n", sig.Name, sig.Base64)
	}
	return out, nil
}

// Roster asks a witness of this package for the newest checkpoint of each
// journal that it knows, and checks its signatures.
func (c *Client) Roster(ctx context.Context) ([]audit.Anchor, error) {
	out, _, err := c.roster(ctx)
	return out, err
}

// Notes asks for the same and returns the signed notes, each with a
// cosignature of the witness that was checked; the journal's own signature was
// not.
func (c *Client) Notes(ctx context.Context) ([][]byte, error) {
	_, out, err := c.roster(ctx)
	return out, err
}

func (c *Client) roster(ctx context.Context) (out []audit.Anchor, notes [][]byte, err error) {
	fail := func(err error) ([]audit.Anchor, [][]byte, error) {
		return nil, nil, fmt.Errorf("witness: roster: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.prefix+rosterPath, nil)
	if err != nil {
		return fail(err)
	}
	a, err := c.do(req)
	if err != nil {
		return nil, nil, err
	}
	switch a.status {
	case http.StatusOK:
	case http.StatusNotFound:
		return fail(errors.New("it has none: give the file that it keeps, or that was kept of its answers beside the journal"))
	default:
		return fail(a.err())
	}
	err = readWhole(bytes.NewReader(a.body), func(l line) error {
		as := anchors([]byte(l.Checkpoint), c.verifier)
		if len(as) == 0 {
			return ErrCosignature
		}
		out, notes = append(out, as...), append(notes, []byte(l.Checkpoint))
		return nil
	})
	if err != nil {
		return fail(err)
	}
	return out, notes, nil
}

// An answer is what a witness said.
type answer struct {
	status      int
	contentType string
	body        []byte
}

// err is what the status means; nil for 200.
func (a *answer) err() error {
	switch {
	case a.status == http.StatusOK:
		return nil
	case a.status == http.StatusNotFound:
		return ErrUnknownLog
	case a.status == http.StatusForbidden:
		return ErrSignature
	case a.status == http.StatusUnprocessableEntity, a.status == http.StatusConflict:
		return ErrFork
	case a.status == http.StatusBadRequest:
		return ErrRequest
	case a.status >= 300 && a.status < 400:
		return fmt.Errorf("witness: it answers with status %d: redirections are not followed", a.status)
	}
	return fmt.Errorf("witness: it answers with status %d", a.status)
}

func (c *Client) do(req *http.Request) (*answer, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("witness: it does not answer: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("witness: its answer is cut off: %w", err)
	}
	if len(body) > maxAnswer {
		return nil, fmt.Errorf("witness: its answer is longer than %d MiB", maxAnswer>>20)
	}
	return &answer{resp.StatusCode, resp.Header.Get("Content-Type"), body}, nil
}
