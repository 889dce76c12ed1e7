// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// A source is a journal that is read: a live one, or that of a dead writer.
type source interface {
	Dir() string
	Writer() string
	Read(ctx context.Context, from audit.Position) iter.Seq2[audit.Line, error]
}

var (
	_ source = (*audit.Journal)(nil)
	_ source = (*audit.Orphan)(nil)
)

// A Pipe delivers a journal's events to one sink. It is safe for concurrent
// use.
type Pipe struct {
	sink   Sink
	src    source
	record audit.Recorder
	cfg    Config
	log    *zap.Logger

	quit     context.CancelFunc
	done     chan struct{}
	delivers *sync.Mutex // held by whoever calls the sink

	mu      sync.Mutex
	parking *parking
	pos     audit.Position // accepted or parked
	saved   audit.Position // the same, on the disk; ahead of pos while a Rewinder gets events again
	savedAt time.Time
	taken   int       // events that the sink accepted since it was opened
	fails   int       // deliveries in a row that failed
	since   time.Time // of the first of them
	probes  int       // later lines that were offered since
	broken  bool      // the alarm was raised
	err     error     // of the last try; nil where it succeeded
	moved   chan struct{}
	closed  bool
}

// Open begins to deliver the events of j to s: from where it was when the pipe
// was last open, or from the first. It records the sink, with its recipient,
// before anything is delivered. Close the pipe before the journal; it closes
// s too, where s is an io.Closer.
//
// Two pipes of one journal need sinks of different names.
func Open(j *audit.Journal, s Sink, cfg Config) (*Pipe, error) {
	if j == nil {
		return nil, errors.New("audit: open sink: the journal is nil")
	}
	p, err := newPipe(j, j, s, cfg)
	if err != nil {
		return nil, fmt.Errorf("audit: open sink: %w", err)
	}
	ev := audit.Event{Type: audit.SinkOpened, Outcome: audit.Success, Rule: s.Name(), Actor: actor}
	if r := s.Recipient(); r != "" {
		ev.User, ev.UserKind = r, access.Service
	}
	if _, err := j.Record(context.Background(), ev); err != nil {
		return nil, fmt.Errorf("audit: open sink %s: %w", s.Name(), err)
	}
	p.start()
	return p, nil
}

// actor is who delivers: no principal does.
var actor = access.Principal{ID: "part164-sink", Tenant: "system", Kind: access.Service}

func newPipe(src source, record audit.Recorder, s Sink, cfg Config) (*Pipe, error) {
	if err := checkSink(s); err != nil {
		return nil, err
	}
	if err := cfg.complete(); err != nil {
		return nil, fmt.Errorf("sink %s: %w", s.Name(), err)
	}
	pos, _, err := readCursor(src.Dir(), s.Name())
	if err == nil && pos.Writer != "" && pos.Writer != src.Writer() {
		err = fmt.Errorf("its cursor is of another journal, of writer %s: remove it, and the sink gets every event again", pos.Writer)
	}
	if err != nil {
		return nil, fmt.Errorf("sink %s: %w", s.Name(), err)
	}
	parking, err := openParking(src.Dir(), s.Name())
	if err == nil && pos.Writer == "" {
		// From now on a purge knows of the sink.
		err = writeCursor(src.Dir(), s.Name(), pos)
	}
	if err != nil {
		return nil, fmt.Errorf("sink %s: %w", s.Name(), err)
	}
	return &Pipe{
		sink: s, src: src, record: record, cfg: cfg, log: cfg.Log.With(zap.String("sink", s.Name())),
		delivers: new(sync.Mutex), parking: parking, pos: rewind(src, pos, s), saved: pos, moved: make(chan struct{}), done: make(chan struct{}),
	}, nil
}

// rewind returns where to begin again with a [Rewinder].
func rewind(src source, pos audit.Position, s Sink) audit.Position {
	r, ok := s.(Rewinder)
	if !ok || r.Rewind() <= 0 || pos.Writer == "" {
		return pos
	}
	from := audit.Position{}
	if n := uint64(r.Rewind()); pos.Seq > n {
		from = audit.Position{Writer: pos.Writer, Seq: pos.Seq - n} // lines, of which some are no events
	}
	for _, err := range src.Read(context.Background(), from) {
		if err != nil { // purged meanwhile
			return pos
		}
		break
	}
	return from
}

func (p *Pipe) start() {
	var ctx context.Context
	ctx, p.quit = context.WithCancel(context.Background())
	go func() {
		defer close(p.done)
		p.run(ctx)
	}()
}

// Close stops delivering, and leaves the rest to the next Open. A second Close
// does nothing.
func (p *Pipe) Close() error {
	p.mu.Lock()
	closed := p.closed
	p.closed = true
	p.mu.Unlock()
	if closed {
		return nil
	}
	p.quit()
	<-p.done
	err := p.save(true)
	if c, ok := p.sink.(io.Closer); ok {
		err = errors.Join(err, c.Close())
	}
	if err != nil {
		return fmt.Errorf("audit: close sink %s: %w", p.sink.Name(), err)
	}
	return nil
}

// Name is the sink's.
func (p *Pipe) Name() string { return p.sink.Name() }

// Passed is how far the sink is: the last event that it accepted or that was
// parked, as it is on the disk. A purge must keep what lies behind it.
func (p *Pipe) Passed() audit.Position {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.saved
}

// A Lag is what a sink does not have yet.
type Lag struct {
	Events int           // events in the journal that wait
	Age    time.Duration // of the oldest; 0 where none waits
	Parked int           // events that were set aside
	Err    error         // why the last try failed; nil where it succeeded
}

// Lag counts what the sink does not have yet. It reads all of it.
func (p *Pipe) Lag(ctx context.Context) (Lag, error) { return p.lag(ctx, -1) }

func (p *Pipe) lag(ctx context.Context, most int) (Lag, error) {
	p.mu.Lock()
	lag, pos := Lag{Parked: len(p.parking.left()), Err: p.err}, p.pos
	if p.saved.Seq > pos.Seq { // what comes again is none
		pos = p.saved
	}
	p.mu.Unlock()
	for l, err := range p.src.Read(ctx, pos) {
		if err != nil {
			return lag, fmt.Errorf("audit: lag of sink %s: %w", p.sink.Name(), err)
		}
		if lag.Events == 0 {
			lag.Age = max(0, p.cfg.Now().Sub(l.Time))
		}
		if lag.Events++; lag.Events == most {
			break
		}
	}
	return lag, nil
}

// Ready says why the sink needs somebody's attention: its oldest event is
// older than Config.MaxLag, or the journal cannot be read. It is nil where all
// is well, and where the sink is merely down for a while.
func (p *Pipe) Ready(ctx context.Context) error {
	lag, err := p.lag(ctx, 1)
	if err != nil {
		return err
	}
	if lag.Age > p.cfg.MaxLag {
		err := fmt.Errorf("audit: sink %s is behind by %v", p.sink.Name(), lag.Age.Round(time.Second))
		if lag.Err != nil {
			err = fmt.Errorf("%w: %w", err, lag.Err)
		}
		return err
	}
	return nil
}

// Flush returns once the sink has accepted, or the pipe has parked, every event
// that is in the journal now. It fails when ctx ends, or the pipe is closed.
func (p *Pipe) Flush(ctx context.Context) error {
	p.mu.Lock()
	last := p.pos
	p.mu.Unlock()
	for l, err := range p.src.Read(ctx, last) {
		if err != nil {
			return fmt.Errorf("audit: flush sink %s: %w", p.sink.Name(), err)
		}
		last = l.Position
	}
	for {
		p.mu.Lock()
		passed, why, moved := p.pos.Seq >= last.Seq, p.err, p.moved
		p.mu.Unlock()
		if passed {
			return p.save(true)
		}
		select {
		case <-moved:
		case <-p.done:
			return fmt.Errorf("audit: flush sink %s: it is closed", p.sink.Name())
		case <-ctx.Done():
			return fmt.Errorf("audit: flush sink %s: %w", p.sink.Name(), errors.Join(ctx.Err(), why))
		}
	}
}

// Retry offers what was parked once more, oldest first, and returns how many
// were accepted and how many still wait. They come late, and out of order. It
// gives up when the receiver fails three times in a row.
func (p *Pipe) Retry(ctx context.Context) (accepted, left int, err error) {
	p.delivers.Lock()
	defer p.delivers.Unlock()
	p.mu.Lock()
	waiting := p.parking.left()
	p.mu.Unlock()
	left = len(waiting)
	due := make(map[string]bool)
	for _, id := range waiting {
		due[id] = true
	}
	var lines []audit.Line
	err = p.parking.each(func(l *parkedLine) error {
		if !due[l.ID] || l.Position == nil {
			return nil
		}
		line, err := audit.ParseLine(*l.Position, []byte(l.Line))
		lines = append(lines, line)
		return err
	})
	var failed []error // in a row
	for i := range lines {
		if err != nil || len(failed) == breakAfter {
			break
		}
		n, cerr := p.call(ctx, lines[i:i+1])
		switch {
		case cerr == nil && n == 1:
			p.mu.Lock()
			err = p.parking.add(parkedLine{ID: lines[i].ID, Time: p.cfg.Now().UTC(), Accepted: true})
			p.mu.Unlock()
			accepted, left, failed = accepted+1, left-1, nil
		case !errors.Is(cerr, ErrPoison) && !errors.Is(cerr, ErrRefused):
			failed = append(failed, cerr)
		}
	}
	if err = errors.Join(append(failed, err)...); err != nil {
		err = fmt.Errorf("audit: retry what sink %s parked: %w", p.sink.Name(), err)
	}
	return accepted, left, err
}

// run delivers until ctx ends.
func (p *Pipe) run(ctx context.Context) {
	for ctx.Err() == nil {
		wait := p.step(ctx)
		if wait == 0 {
			continue
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
		}
	}
}

// step delivers one batch and returns how long to wait before the next.
func (p *Pipe) step(ctx context.Context) time.Duration {
	p.mu.Lock()
	pos, most := p.pos, p.cfg.Batch
	if p.broken {
		most = 1
	}
	p.mu.Unlock()
	lines, err := p.next(ctx, pos, most)
	if err == nil && len(lines) == 0 {
		p.settled(nil)
		if err := p.save(false); err != nil {
			p.log.Error("audit: a sink's cursor cannot be written: events will come again", zap.Error(err))
		}
		return poll
	}
	if err == nil {
		var n int
		p.delivers.Lock()
		n, err = p.call(ctx, lines)
		p.delivers.Unlock()
		if n > 0 {
			p.advance(lines[n-1].Position, n)
		}
		switch {
		case err == nil || n == len(lines):
		case errors.Is(err, ErrPoison):
			err = p.park(ctx, &lines[n], err)
		case n == 0:
			err = p.stuck(ctx, &lines[0], err)
		}
	}
	if ctx.Err() != nil {
		return 0
	}
	if saveErr := p.save(false); saveErr != nil {
		p.log.Error("audit: a sink's cursor cannot be written: events will come again", zap.Error(saveErr))
	}
	return p.settled(err)
}

// next reads the lines of the next batch.
func (p *Pipe) next(ctx context.Context, pos audit.Position, most int) ([]audit.Line, error) {
	var lines []audit.Line
	size := 0
	for l, err := range p.src.Read(ctx, pos) {
		if err != nil {
			return nil, err
		}
		lines = append(lines, l)
		if size += len(l.Raw); len(lines) == most || size >= batchBytes {
			break
		}
	}
	return lines, nil
}

// call asks the sink, and holds it to its contract.
func (p *Pipe) call(ctx context.Context, lines []audit.Line) (n int, err error) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	n, err = p.sink.Deliver(ctx, lines)
	switch {
	case n < 0 || n > len(lines):
		return 0, fmt.Errorf("the sink says that it accepted %d of %d events", n, len(lines))
	case err == nil && n < len(lines):
		return n, fmt.Errorf("the sink accepted %d of %d events without saying why", n, len(lines))
	case err != nil && n == len(lines) && errors.Is(err, ErrPoison):
		return n, errors.New("the sink refuses an event and accepted all")
	}
	return n, err
}

// stuck finds out whether a line that is not accepted is at fault, or the
// receiver: it offers a later line, each time another one. Where that is
// accepted, and the line once more is not, the line is parked. Only a line that
// was refused, or failed for long, is put to this: order is kept where it can be.
func (p *Pipe) stuck(ctx context.Context, l *audit.Line, why error) error {
	p.mu.Lock()
	due := p.broken && (errors.Is(why, ErrRefused) || p.cfg.Now().Sub(p.since) >= p.cfg.MaxLag)
	distance := 1 << (p.probes % 8) // up to 128 lines: those next to it may be like it
	if due {
		p.probes++
	}
	p.mu.Unlock()
	if !due {
		return why
	}
	var later []audit.Line
	for other, err := range p.src.Read(ctx, l.Position) {
		if err != nil {
			return why
		}
		later = append(later[:0], other)
		if distance--; distance == 0 {
			break
		}
	}
	if len(later) == 0 { // it holds up nobody
		return why
	}
	p.delivers.Lock()
	defer p.delivers.Unlock()
	if n, _ := p.call(ctx, later); n != 1 {
		return why
	}
	n, err := p.call(ctx, []audit.Line{*l})
	if ctx.Err() != nil {
		return err
	}
	if n == 1 {
		p.advance(l.Position, 1)
		return nil
	}
	return p.park(ctx, l, fmt.Errorf("it takes later events, and not this one: %w", err))
}

// park sets one line aside for ever, so that the others go on.
func (p *Pipe) park(ctx context.Context, l *audit.Line, why error) error {
	p.mu.Lock()
	err := p.parking.put(l, p.cfg.Now())
	p.mu.Unlock()
	if err != nil {
		return fmt.Errorf("park %s: %w", l.ID, err)
	}
	// A sink that refuses the record of a refusal must not be told of it again.
	if l.Type != audit.Parked {
		ev := audit.Event{Type: audit.Parked, Outcome: audit.Failure, Reason: audit.ReasonSink, About: l.ID, Rule: p.sink.Name(), Actor: actor}
		if _, err := p.record.Record(context.WithoutCancel(ctx), ev); err != nil {
			return fmt.Errorf("park %s: %w", l.ID, err)
		}
	}
	p.advance(l.Position, 0)
	p.log.Error("audit: a sink refuses an event for good: it is kept in the sink's parked file", zap.String("event", l.ID), zap.Error(why))
	p.alarm(Alarm{Kind: AlarmParked, Event: l.ID, Err: why})
	return nil
}

func (p *Pipe) advance(to audit.Position, taken int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pos = to
	p.taken += taken
	if p.probes = 0; !p.broken {
		p.fails = 0
	}
	close(p.moved)
	p.moved = make(chan struct{})
}

// settled notes how a try ended and returns how long to wait.
func (p *Pipe) settled(err error) time.Duration {
	p.mu.Lock()
	p.err = err
	recovered, breaks := false, false
	if err == nil {
		recovered, p.broken, p.fails = p.broken, false, 0
	} else {
		if p.fails++; p.fails == 1 {
			p.since = p.cfg.Now()
		}
		breaks = !p.broken && p.fails >= breakAfter
		p.broken = p.broken || breaks
	}
	fails := p.fails
	p.mu.Unlock()
	switch {
	case recovered:
		p.log.Info("audit: a sink takes events again")
		p.alarm(Alarm{Kind: AlarmRecovered})
	case breaks:
		p.log.Error("audit: a sink takes no events: they wait in the journal", zap.Error(err))
		p.alarm(Alarm{Kind: AlarmBroken, Err: err})
	case err != nil && fails < breakAfter:
		p.log.Warn("audit: a sink did not take events; will try again", zap.Error(err))
	}
	if err == nil {
		return 0
	}
	wait := p.cfg.MaxRetry
	if shift := fails - 1; shift < 20 {
		wait = min(p.cfg.MaxRetry, p.cfg.Retry<<shift)
	}
	return wait - time.Duration(rand.Int64N(int64(wait)/2+1))
}

func (p *Pipe) alarm(a Alarm) {
	if p.cfg.Alarm != nil {
		a.Sink = p.sink.Name()
		p.cfg.Alarm(a)
	}
}

// save writes the cursor where it has moved: at most once a second, unless
// now.
func (p *Pipe) save(now bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pos == p.saved || p.pos.Seq <= p.saved.Seq && p.saved.Writer != "" || !now && time.Since(p.savedAt) < saveEvery {
		return nil
	}
	if err := writeCursor(p.src.Dir(), p.sink.Name(), p.pos); err != nil {
		return err
	}
	p.saved, p.savedAt = p.pos, time.Now()
	return nil
}
