// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/part164/part164/access"
)

const (
	maxSinkName = 40
	maxBatch    = 10_000
	batchBytes  = 1 << 20 // a batch takes no more lines once it has so many bytes

	// poll is the time between two looks for new events.
	poll = 100 * time.Millisecond

	// saveEvery bounds how often the cursor is written: what was delivered in
	// the last second comes again after a crash.
	saveEvery = time.Second

	// breakAfter is how many deliveries in a row fail before the pipe tries
	// with one event only, and raises the alarm.
	breakAfter = 3
)

// Config configures a [Pipe]. The zero value of every field is the production
// setting.
type Config struct {
	// Batch is how many events one Deliver holds at most. Zero means 256; at
	// most 10,000. No batch has more than about 1 MiB.
	Batch int

	// Timeout bounds one Deliver. Zero means 30 seconds.
	Timeout time.Duration

	// Retry is the wait after a failed Deliver, and MaxRetry the longest: it
	// doubles with each failure, and a random part of up to half is taken off,
	// so that many nodes do not come back at once. Zero means 500 milliseconds
	// and 1 minute.
	Retry, MaxRetry time.Duration

	// MaxLag is how old the oldest event may be that the sink does not have,
	// before [Pipe.Ready] fails. Zero means 15 minutes.
	MaxLag time.Duration

	// Alarm, where set, is called when the pipe breaks, when it works again,
	// and for each event that is parked. It must return soon. It is called on
	// the pipe's goroutine.
	Alarm func(Alarm)

	// Log is told the same, and the text of errors: never PHI. Nil is silent.
	Log *zap.Logger

	// Now is the clock that lag is measured by; nil means time.Now.
	Now func() time.Time
}

// An Alarm is what somebody should look at.
type Alarm struct {
	Sink  string
	Kind  AlarmKind
	Event string // ID of the event that was parked
	Err   error  // why; nil where it works again
}

// An AlarmKind says what an alarm is about.
type AlarmKind string

// The kinds of alarms.
const (
	AlarmBroken    AlarmKind = "broken"    // deliveries keep failing
	AlarmRecovered AlarmKind = "recovered" // they succeed again
	AlarmParked    AlarmKind = "parked"    // one event was set aside
)

func (cfg *Config) complete() error {
	for _, d := range []struct {
		value *time.Duration
		name  string
		zero  time.Duration
	}{
		{&cfg.Timeout, "Timeout", 30 * time.Second},
		{&cfg.Retry, "Retry", 500 * time.Millisecond},
		{&cfg.MaxRetry, "MaxRetry", time.Minute},
		{&cfg.MaxLag, "MaxLag", 15 * time.Minute},
	} {
		if *d.value < 0 {
			return fmt.Errorf("Config.%s is negative", d.name)
		}
		if *d.value == 0 {
			*d.value = d.zero
		}
	}
	if cfg.Batch == 0 {
		cfg.Batch = 256
	}
	if cfg.Batch < 0 || cfg.Batch > maxBatch {
		return fmt.Errorf("Config.Batch is not between 0 and %d", maxBatch)
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return nil
}

// checkSink names what is wrong with how s introduces itself.
func checkSink(s Sink) error {
	if s == nil {
		return errors.New("the sink is nil")
	}
	name := s.Name()
	if err := access.CheckName(name); err != nil {
		return fmt.Errorf("the sink's Name %w", err)
	}
	if len(name) > maxSinkName {
		return fmt.Errorf("the sink's Name is longer than %d bytes", maxSinkName)
	}
	if r := s.Recipient(); r != "" {
		if err := access.CheckID(r); err != nil {
			return fmt.Errorf("the Recipient of sink %s %w", name, err)
		}
	}
	return nil
}
