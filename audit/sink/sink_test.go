// SPDX-License-Identifier: Apache-2.0

package sink_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/audit/sink"
	"github.com/part164/part164/audit/sinktest"
)

func openJournal(t testing.TB, dir string) *audit.Journal {
	t.Helper()
	j, err := audit.Open(dir, audit.Config{Development: true, SegmentSize: 256 << 10, CheckpointEvery: 50 * time.Millisecond, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

func newJournal(t testing.TB) (*audit.Journal, string) {
	t.Helper()
	dir := filepath.Join(audittest.Dir(t), "audit")
	return openJournal(t, dir), dir
}

// newSibling returns a journal under the KEK of the one in own.
func newSibling(t testing.TB, own string) (*audit.Journal, string) {
	t.Helper()
	dir := filepath.Join(audittest.Dir(t), "audit")
	kek, err := os.ReadFile(own + ".kek")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+".kek", kek, 0o600); err != nil {
		t.Fatal(err)
	}
	return openJournal(t, dir), dir
}

func record(t testing.TB, j *audit.Journal, n int) (ids []string) {
	t.Helper()
	ctx, end := access.Job(context.Background(), access.Principal{ID: "s-test", Tenant: "t-1", Kind: access.Service}, access.Operations)
	defer end()
	for range n {
		r, err := j.Record(ctx, audit.Event{Type: audit.Searched, Outcome: audit.Success})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, r.ID)
	}
	return ids
}

func fast() sink.Config {
	return sink.Config{Timeout: 10 * time.Second, Retry: 5 * time.Millisecond, MaxRetry: 20 * time.Millisecond}
}

func openPipe(t testing.TB, j *audit.Journal, s sink.Sink, cfg sink.Config) *sink.Pipe {
	t.Helper()
	p, err := sink.Open(j, s, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func flush(t testing.TB, p *sink.Pipe) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := p.Flush(ctx); err != nil {
		t.Fatal(err)
	}
}

// odd is a sink that does what a test says.
type odd struct {
	name, recipient string
	deliver         func(context.Context, []audit.Line) (int, error)
}

func (s *odd) Name() string      { return s.name }
func (s *odd) Recipient() string { return s.recipient }
func (s *odd) Deliver(ctx context.Context, lines []audit.Line) (int, error) {
	return s.deliver(ctx, lines)
}

// TestNobodyWaitsForASink: one that never answers holds up no Record, no
// Close, and nothing of another sink.
func TestNobodyWaitsForASink(t *testing.T) {
	t.Parallel()
	j, _ := newJournal(t)
	called := make(chan bool, 100)
	hangs := openPipe(t, j, &odd{"hangs", "ba-1", func(ctx context.Context, _ []audit.Line) (int, error) {
		called <- true
		<-ctx.Done()
		return 0, ctx.Err()
	}}, sink.Config{Timeout: time.Hour})
	<-called
	fake := new(sinktest.Fake)
	works := openPipe(t, j, fake, fast())
	start := time.Now()
	record(t, j, 50)
	flush(t, works)
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("it took %v", took)
	}
	start = time.Now()
	if err := hangs.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("Close took %v", took)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := hangs.Flush(ctx); err == nil {
		t.Error("a closed pipe has everything")
	}
}

// TestASinkIsHeldToItsContract: what it says that it accepted, and could not
// have, is not believed, and nothing is lost by it.
func TestASinkIsHeldToItsContract(t *testing.T) {
	t.Parallel()
	for name, lie := range map[string]func(n int) (int, error){
		"more than all":       func(n int) (int, error) { return n + 1, nil },
		"less than none":      func(int) (int, error) { return -1, nil },
		"not all, no error":   func(n int) (int, error) { return n / 2, nil },
		"all, and poison":     func(n int) (int, error) { return n, sink.ErrPoison },
		"none, without error": func(int) (int, error) { return 0, nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j, _ := newJournal(t)
			var got []string
			lies := 0
			p := openPipe(t, j, &odd{"odd", "", func(_ context.Context, lines []audit.Line) (int, error) {
				n, err := len(lines), error(nil)
				if lies < 5 {
					lies++
					n, err = lie(len(lines))
				}
				for i := range min(max(n, 0), len(lines)) {
					got = append(got, lines[i].ID)
				}
				return n, err
			}}, fast())
			ids := record(t, j, 20)
			flush(t, p)
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
			seen := make(map[string]bool)
			for _, id := range got {
				seen[id] = true
			}
			for _, id := range ids {
				if !seen[id] {
					t.Errorf("%s is lost", id)
				}
			}
			lag, err := p.Lag(t.Context())
			if err != nil || lag.Parked != 0 {
				t.Errorf("Lag = %+v, %v", lag, err)
			}
		})
	}
}

// TestTheRecordOfARefusalMayBeRefused: a sink that takes nothing does not make
// the journal grow for ever.
func TestTheRecordOfARefusalMayBeRefused(t *testing.T) {
	t.Parallel()
	j, _ := newJournal(t)
	p := openPipe(t, j, &odd{"refuses", "", func(_ context.Context, lines []audit.Line) (int, error) {
		return 0, sink.ErrPoison
	}}, fast())
	n := len(record(t, j, 10))
	flush(t, p)
	flush(t, p)
	lag, err := p.Lag(t.Context())
	if err != nil || lag.Events != 0 {
		t.Errorf("Lag = %+v, %v", lag, err)
	}
	parked, all := 0, 0
	for l, err := range j.Read(t.Context(), audit.Position{}) {
		if err != nil {
			t.Fatal(err)
		}
		all++
		if l.Type == audit.Parked {
			parked++
		}
	}
	if parked != all-parked || parked < n || lag.Parked != all {
		t.Errorf("%d events, %d of them records of a refusal, %d parked", all, parked, lag.Parked)
	}
}

// TestParkedEventsAreKept: through restarts, and until somebody mends the
// receiver and asks again; then, and only then, they are delivered.
func TestParkedEventsAreKept(t *testing.T) {
	t.Parallel()
	j, dir := newJournal(t)
	fake := new(sinktest.Fake)
	ids := record(t, j, 10)
	fake.Poison(ids[3], true)
	fake.Poison(ids[5], true)
	p := openPipe(t, j, fake, fast())
	flush(t, p)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	// A crash in the middle of a write leaves half a line; it was not counted on.
	file := filepath.Join(dir, "sink-fake.parked")
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"id":"half`); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	p = openPipe(t, j, fake, fast())
	if lag, err := p.Lag(t.Context()); err != nil || lag.Parked != 2 {
		t.Errorf("after a restart: %+v, %v", lag, err)
	}
	fake.Poison(ids[3], false)
	if accepted, left, err := p.Retry(t.Context()); accepted != 1 || left != 1 || err != nil {
		t.Errorf("Retry = %d, %d, %v", accepted, left, err)
	}
	fake.Fail(errors.New("down"))
	if accepted, left, err := p.Retry(t.Context()); accepted != 0 || left != 1 || err == nil {
		t.Errorf("while the receiver is down: Retry = %d, %d, %v", accepted, left, err)
	}
	fake.Fail(nil)
	fake.Poison(ids[5], false)
	if accepted, left, err := p.Retry(t.Context()); accepted != 1 || left != 0 || err != nil {
		t.Errorf("Retry = %d, %d, %v", accepted, left, err)
	}
	count := make(map[string]int)
	for _, l := range fake.Received() {
		count[l.ID]++
	}
	for _, id := range ids {
		if count[id] != 1 {
			t.Errorf("%s arrived %d times", id, count[id])
		}
	}
	text, err := os.ReadFile(file)
	if err != nil || strings.Count(string(text), ids[3]) < 2 || strings.Contains(string(text), "half") {
		t.Errorf("the file of what was parked: %s, %v", text, err)
	}
	// A line of it that was changed is not passed over in silence.
	if err := os.WriteFile(file, append([]byte("x"), text...), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := sink.Open(j, fake, fast()); err == nil || !strings.Contains(err.Error(), "sink-fake.parked") {
		t.Errorf("a damaged file: %v", err)
	}
}

// TestACursorThatIsNone: Open names the file, and says what to do; it does
// not begin anew by itself, nor go on where another journal was.
func TestACursorThatIsNone(t *testing.T) {
	t.Parallel()
	j, dir := newJournal(t)
	file := filepath.Join(dir, "sink-fake.json")
	for _, text := range []string{"", "nonsense", `{"writer":"j1","seq":7}`, `{"writer":"` + j.Writer() + `","seq":-1}`} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := sink.Open(j, new(sinktest.Fake), fast()); err == nil || !strings.Contains(err.Error(), "remove it") {
			t.Errorf("%q: %v", text, err)
		}
		if _, err := audit.Cursors(dir); (err == nil) != (text == `{"writer":"j1","seq":7}`) {
			t.Errorf("%q: Cursors: %v", text, err)
		}
	}
	// One ahead of the journal: the journal was set back.
	if err := os.WriteFile(file, []byte(`{"writer":"`+j.Writer()+`","seq":100000}`), 0o600); err != nil {
		t.Fatal(err)
	}
	p := openPipe(t, j, new(sinktest.Fake), fast())
	if err := p.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "set back") {
		t.Errorf("a cursor ahead of its journal: %v", err)
	}
}

// TestAPurgeKnowsOfASinkAtOnce: from the moment it is opened, and before it
// has taken anything.
func TestAPurgeKnowsOfASinkAtOnce(t *testing.T) {
	t.Parallel()
	j, dir := newJournal(t)
	fake := new(sinktest.Fake)
	fake.Fail(errors.New("down"))
	record(t, j, 5)
	p := openPipe(t, j, fake, fast())
	cursors, err := audit.Cursors(dir)
	if err != nil || len(cursors) != 1 || cursors["fake"] != (audit.Position{}) || p.Passed() != (audit.Position{}) {
		t.Errorf("Cursors = %v, %v; Passed = %+v", cursors, err, p.Passed())
	}
	fake.Fail(nil)
	ids := record(t, j, 5)
	flush(t, p)
	cursors, err = audit.Cursors(dir)
	if at := cursors["fake"]; err != nil || at != p.Passed() || at.Writer != j.Writer() || !strings.HasSuffix(ids[4], "."+itoa(at.Seq)) {
		t.Errorf("Cursors = %v, %v; Passed = %+v; the last event is %s", cursors, err, p.Passed(), ids[4])
	}
}

func itoa(n uint64) string {
	s := ""
	for {
		s = string(rune('0'+n%10)) + s
		if n /= 10; n == 0 {
			return s
		}
	}
}

// TestTheRecipientIsRecorded before it gets anything.
func TestTheRecipientIsRecorded(t *testing.T) {
	t.Parallel()
	j, _ := newJournal(t)
	fake := new(sinktest.Fake)
	p := openPipe(t, j, fake, fast())
	flush(t, p)
	got := fake.Received()
	if l := got[len(got)-1]; l.Type != audit.SinkOpened || l.Rule != "fake" || l.User != "ba-fake" || l.UserKind != access.Service {
		t.Errorf("recorded %+v", l.Stored)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	none := new(sinktest.Fake)
	if _, err := sink.Open(j, none, fast()); err == nil || len(none.Received()) > 0 {
		t.Errorf("a sink that could not be recorded: %v, %d events", err, len(none.Received()))
	}
}

func TestReadyFailsWhenASinkIsTooFarBehind(t *testing.T) {
	t.Parallel()
	j, _ := newJournal(t)
	fake := new(sinktest.Fake)
	fake.Fail(errors.New("down"))
	ahead := time.Duration(0)
	cfg := fast()
	cfg.Now = func() time.Time { return time.Now().Add(ahead) }
	p := openPipe(t, j, fake, cfg)
	if err := p.Ready(t.Context()); err != nil {
		t.Errorf("at once: %v", err)
	}
	cfg.Now = nil
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	ahead = 16 * time.Minute
	cfg.Now = func() time.Time { return time.Now().Add(ahead) }
	p = openPipe(t, j, fake, cfg)
	if err := p.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "behind by 16m") {
		t.Errorf("after 16 minutes: %v", err)
	}
	fake.Fail(nil)
	flush(t, p)
	if err := p.Ready(t.Context()); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// TestAdopt: what a dead writer left is delivered once, and recorded; a living
// one is left alone.
func TestAdopt(t *testing.T) {
	t.Parallel()
	j, own := newJournal(t)
	fake := new(sinktest.Fake)
	p := openPipe(t, j, fake, fast())

	dead, dir := newSibling(t, own)
	q := openPipe(t, dead, fake, fast())
	record(t, dead, 10)
	flush(t, q)
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	left := record(t, dead, 25)
	if n, err := p.Adopt(t.Context(), dir, time.Nanosecond); n != 0 || !errors.Is(err, audit.ErrLocked) {
		t.Errorf("of a living writer: %d, %v", n, err)
	}
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := p.Adopt(t.Context(), dir, time.Hour); n != 0 || !errors.Is(err, audit.ErrLocked) {
		t.Errorf("within its lease: %d, %v", n, err)
	}
	fake.FailAfter(0, errors.New("down"))
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	if n, err := p.Adopt(ctx, dir, time.Nanosecond); n != 0 || err == nil {
		t.Errorf("while the receiver is down: %d, %v", n, err)
	}
	cancel()
	fake.Fail(nil)
	n, err := p.Adopt(t.Context(), dir, time.Nanosecond)
	if err != nil || n != len(left)+1 { // and its end
		t.Errorf("adopted %d, %v; want %d", n, err, len(left)+1)
	}
	adoptions := func() (n int) {
		for l, err := range j.Read(t.Context(), audit.Position{}) {
			if err != nil {
				t.Fatal(err)
			}
			if l.Type == audit.Adopted {
				n++
			}
		}
		return n
	}
	before := adoptions()
	if n, err := p.Adopt(t.Context(), dir, time.Nanosecond); n != 0 || err != nil || adoptions() != before {
		t.Errorf("once more: %d, %v; %d adoptions, were %d", n, err, adoptions(), before)
	}
	count := make(map[string]int)
	for _, l := range fake.Received() {
		count[l.ID]++
	}
	for _, id := range left {
		if count[id] != 1 {
			t.Errorf("%s arrived %d times", id, count[id])
		}
	}
	if _, err := p.Adopt(t.Context(), t.TempDir(), time.Nanosecond); err == nil {
		t.Error("a folder without a journal is adopted")
	}
}

func TestOpenNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	j, _ := newJournal(t)
	ok := func(context.Context, []audit.Line) (int, error) { return 0, nil }
	for _, tt := range []struct {
		s    sink.Sink
		cfg  sink.Config
		want string
	}{
		{nil, sink.Config{}, "nil"},
		{&odd{"", "", ok}, sink.Config{}, "Name"},
		{&odd{"../../etc/passwd", "", ok}, sink.Config{}, "Name"},
		{&odd{strings.Repeat("x", 41), "", ok}, sink.Config{}, "Name"},
		{&odd{"a", "jane@example.org", ok}, sink.Config{}, "Recipient"},
		{&odd{"a", "", ok}, sink.Config{Batch: -1}, "Batch"},
		{&odd{"a", "", ok}, sink.Config{Batch: 1 << 20}, "Batch"},
		{&odd{"a", "", ok}, sink.Config{Timeout: -1}, "Timeout"},
		{&odd{"a", "", ok}, sink.Config{Retry: -1}, "Retry"},
		{&odd{"a", "", ok}, sink.Config{MaxRetry: -1}, "MaxRetry"},
		{&odd{"a", "", ok}, sink.Config{MaxLag: -1}, "MaxLag"},
	} {
		if _, err := sink.Open(j, tt.s, tt.cfg); err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "jane") {
			t.Errorf("%v: want %s", err, tt.want)
		}
	}
	if _, err := sink.Open(nil, new(sinktest.Fake), sink.Config{}); err == nil {
		t.Error("no journal passes")
	}
}

func TestCheckTransport(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		host   string
		secure bool
		cfg    *tls.Config
		ok     bool
	}{
		{"siem.example:6514", true, nil, true},
		{"siem.example", true, &tls.Config{}, true},
		{"siem.example:6514", false, nil, false},
		{"siem.example:6514", true, &tls.Config{InsecureSkipVerify: true}, false},
		{"siem.example:6514", true, &tls.Config{MaxVersion: tls.VersionTLS11}, false},
		{"127.0.0.1:6514", false, nil, true},
		{"[::1]:6514", false, nil, true},
		{"::ffff:127.0.0.1", false, nil, true},
		{"127.0.0.1:6514", true, &tls.Config{InsecureSkipVerify: true}, true},
		{"localhost:6514", false, nil, false},
		{"127.0.0.1.example:6514", false, nil, false},
		{"10.0.0.1:6514", false, nil, false},
		{"", true, nil, false},
	} {
		if err := sink.CheckTransport(tt.host, tt.secure, tt.cfg); (err == nil) != tt.ok {
			t.Errorf("%s, secure %v, %v: %v", tt.host, tt.secure, tt.cfg != nil, err)
		}
	}
}

// TestAPurgeIsHeldByWhatIsOnTheDisk: what was delivered in the last second
// comes again after a crash, so that a purge must keep it.
func TestAPurgeIsHeldByWhatIsOnTheDisk(t *testing.T) {
	t.Parallel()
	j, dir := newJournal(t)
	fake := new(sinktest.Fake)
	p := openPipe(t, j, fake, fast())
	flush(t, p)
	for range 5 {
		record(t, j, 3)
		for { // until the sink has them, and the disk may not know yet
			lag, err := p.Lag(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if lag.Events == 0 {
				break
			}
			runtime.Gosched()
		}
		passed := p.Passed()
		cursors, err := audit.Cursors(dir)
		if err != nil {
			t.Fatal(err)
		}
		if passed.Seq > cursors["fake"].Seq {
			t.Fatalf("Passed says %d, the disk %d", passed.Seq, cursors["fake"].Seq)
		}
	}
}

// TestAdoptDeliversEverything: more than a batch.
func TestAdoptDeliversEverything(t *testing.T) {
	t.Parallel()
	j, own := newJournal(t)
	fake := new(sinktest.Fake)
	cfg := fast()
	cfg.Batch = 7
	p := openPipe(t, j, fake, cfg)
	dead, dir := newSibling(t, own)
	ids := record(t, dead, 60)
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Adopt(t.Context(), dir, time.Nanosecond); err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for _, l := range fake.Received() {
		seen[l.ID] = true
	}
	for _, id := range ids {
		if !seen[id] {
			t.Errorf("%s is lost", id)
		}
	}
}

// TestReadCopyComputesTheHash: what a document says about itself is not
// believed, and a changed line is none.
func TestReadCopyComputesTheHash(t *testing.T) {
	t.Parallel()
	j, _ := newJournal(t)
	fake := new(sinktest.Fake)
	p := openPipe(t, j, fake, fast())
	record(t, j, 1)
	flush(t, p)
	for _, l := range fake.Received() {
		doc := `{"id":"x","writer":"` + l.Position.Writer + `","leaf":"forged","line":` + string(l.Raw) + `}`
		c, err := sink.ReadCopy([]byte(doc))
		if err != nil || c.Leaf != l.Leaf || c.Seq != l.Position.Seq || c.Writer != l.Position.Writer {
			t.Errorf("%+v, %v", c, err)
		}
		for _, bad := range []string{
			strings.Replace(doc, `"outcome":"success"`, `"outcome":"failure"`, 1),
			strings.Replace(doc, `"writer":"`+l.Position.Writer+`"`, `"writer":""`, 1),
			doc[:len(doc)-1], "", "null", "{}", `{"writer":"j","line":{"seq":1}}`, `{"writer":"j","line":[]}`,
		} {
			if _, err := sink.ReadCopy([]byte(bad)); err == nil {
				t.Errorf("it passes: %.200s", bad)
			}
		}
	}
}

// TestAnEventThatIsNotTakenHoldsUpNobody: where the receiver takes later ones
// it is parked, whatever the receiver says of it; where it takes none, or the
// event after all, nothing is.
func TestAnEventThatIsNotTakenHoldsUpNobody(t *testing.T) {
	t.Parallel()
	refused := fmt.Errorf("sink: %w", sink.ErrRefused)
	for name, tt := range map[string]struct {
		err    error
		refuse func(i int) bool // the events, by their place, that are not taken; 20 is any behind them
		hours  time.Duration    // how long it goes on
		parked int
		rest   int // that wait
	}{
		"one is refused":                      {refused, func(i int) bool { return i == 7 }, 0, 1, 0},
		"the last one is refused":             {refused, func(i int) bool { return i == 19 || i == 20 }, 0, 0, 1},
		"three in a row are refused":          {refused, func(i int) bool { return i >= 7 && i < 10 }, 0, 3, 0},
		"all are refused":                     {refused, func(int) bool { return true }, 0, 0, 20},
		"one fails, for a while":              {errors.New("500"), func(i int) bool { return i == 7 }, 0, 0, 13},
		"one fails, for longer than MaxLag":   {errors.New("500"), func(i int) bool { return i == 7 }, 1, 1, 0},
		"all fail, for longer than MaxLag":    {errors.New("500"), func(int) bool { return true }, 1, 0, 20},
		"none fails, and some hours go by":    {nil, func(int) bool { return false }, 1, 0, 0},
		"a poison among those that are taken": {sink.ErrPoison, func(i int) bool { return i == 7 }, 0, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j, _ := newJournal(t)
			var mu sync.Mutex
			place := make(map[string]int) // of the events that the test records
			var got []string
			var last uint64 // sequence of ours
			var calls atomic.Int64
			var ahead atomic.Int64
			cfg := fast()
			cfg.Retry, cfg.MaxRetry = time.Millisecond, 2*time.Millisecond
			cfg.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
			s := &odd{"odd", "", func(_ context.Context, lines []audit.Line) (int, error) {
				mu.Lock()
				defer mu.Unlock()
				calls.Add(1)
				for i := range lines {
					at, ours := place[lines[i].ID]
					if !ours {
						at = -1
						if lines[i].Seq > last {
							at = 20
						}
					}
					if tt.refuse(at) {
						return i, tt.err
					}
					got = append(got, lines[i].ID)
				}
				return len(lines), nil
			}}
			mu.Lock()
			ids := record(t, j, 20)
			for i, id := range ids {
				place[id] = i
			}
			if _, err := fmt.Sscanf(ids[19], j.Writer()+".%d", &last); err != nil {
				t.Fatal(err)
			}
			mu.Unlock()
			p := openPipe(t, j, s, cfg)
			settle := func() sink.Lag {
				var lag sink.Lag
				for start := calls.Load(); ; runtime.Gosched() {
					var err error
					if lag, err = p.Lag(t.Context()); err != nil {
						t.Fatal(err)
					}
					if lag.Events == 0 || calls.Load() > start+100 {
						return lag
					}
				}
			}
			lag := settle()
			if tt.hours > 0 {
				ahead.Store(int64(tt.hours * time.Hour))
				lag = settle()
			}
			waiting := 0
			mu.Lock()
			for _, id := range ids {
				if !slices.Contains(got, id) {
					waiting++
				}
			}
			mu.Unlock()
			if lag.Parked != tt.parked || waiting != tt.parked+tt.rest && tt.rest == 0 || (lag.Events > 0) != (tt.rest > 0) {
				t.Errorf("%d parked, %d wait, %d of ours not taken", lag.Parked, lag.Events, waiting)
			}
		})
	}
}

// rewinds is a sink whose receiver does not say what it has.
type rewinds struct {
	sinktest.Fake
	n int
}

func (r *rewinds) Rewind() int { return r.n }

// TestWhatWasOnItsWayComesAgain: when the pipe of a receiver that says nothing
// opens, the last events come again; that is no lag, and moves no cursor back.
func TestWhatWasOnItsWayComesAgain(t *testing.T) {
	t.Parallel()
	j, dir := newJournal(t)
	s := &rewinds{n: 25}
	p := openPipe(t, j, s, fast())
	ids := record(t, j, 40)
	flush(t, p)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	before, err := audit.Cursors(dir)
	if err != nil {
		t.Fatal(err)
	}
	sent := s.Received() // the journal's own events among them
	had := len(sent)
	s.Fail(errors.New("down"))
	p = openPipe(t, j, s, fast())
	if lag, err := p.Lag(t.Context()); err != nil || lag.Events > 1 { // that it was opened
		t.Errorf("what comes again is a lag: %+v, %v", lag, err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if after, err := audit.Cursors(dir); err != nil || after["fake"] != before["fake"] {
		t.Errorf("the cursor was at %+v and is at %+v, %v", before, after, err)
	}
	s.Fail(nil)
	p = openPipe(t, j, s, fast())
	flush(t, p)
	again := make(map[string]bool)
	for _, l := range s.Received()[had:] {
		again[l.ID] = true
	}
	for i, l := range sent {
		// By lines: checkpoints among them are no events.
		if want := l.Seq > before["fake"].Seq-uint64(s.n); again[l.ID] != want {
			t.Errorf("%s, number %d of %d, came again: %t", l.ID, i, had, !want)
		}
	}
	// More than there is: all of it.
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	s.n, had = 1<<20, len(s.Received())
	p = openPipe(t, j, s, fast())
	flush(t, p)
	if n := len(s.Received()) - had; n < len(ids) {
		t.Errorf("%d came again of all", n)
	}
}
