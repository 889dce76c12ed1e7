// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"context"
	"fmt"

	"github.com/part164/part164/audit"
)

// Durable makes of a sink what a journal waits for before it acknowledges an
// event: the Durability of [audit.Config]. It suits a sink whose answer means
// that the event is on a disk, such as a database's.
//
// The sink gets the events, not the headers and checkpoints between them: what
// it holds is every acknowledged event, and no journal that can be verified.
// [audit.Restore] refuses it. Where the folder is lost the app goes on in a new
// one, as another writer, and the sink has the events of both. Whoever needs
// the journal itself back implements [audit.Remote], which gets every line.
// An event that it refuses for good refuses the caller: nothing is parked.
func Durable(s Sink) audit.Remote { return durable{s} }

type durable struct{ sink Sink }

func (d durable) Deliver(ctx context.Context, writer string, lines [][]byte) error {
	events, err := audit.LineEvents(writer, lines)
	if err != nil {
		return err
	}
	for len(events) > 0 {
		n, err := d.sink.Deliver(ctx, events)
		if err != nil {
			return fmt.Errorf("sink %s: %w", d.sink.Name(), err)
		}
		if n <= 0 || n > len(events) {
			return fmt.Errorf("sink %s: it accepted %d of %d events without an error", d.sink.Name(), n, len(events))
		}
		events = events[n:]
	}
	return nil
}
