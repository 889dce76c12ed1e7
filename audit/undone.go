// SPDX-License-Identifier: Apache-2.0

package audit

import "sync"

// undoneKept bounds how many attempts a process remembers as rolled back: a
// megabyte. Of one that it forgot, Verify finds the contradiction.
const undoneKept = 1 << 15

// undone is which attempts this process recorded as rolled back, the last ones.
// A row of such an attempt in the outbox was put there by somebody who saw it
// before the rollback. Its zero value is empty.
type undone struct {
	mu   sync.Mutex
	seqs map[uint64]struct{}
	ring []uint64
	at   int
}

func (u *undone) add(seq uint64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.seqs == nil {
		u.seqs = make(map[uint64]struct{})
	}
	if _, ok := u.seqs[seq]; ok {
		return
	}
	u.seqs[seq] = struct{}{}
	if len(u.ring) < undoneKept {
		u.ring = append(u.ring, seq)
		return
	}
	delete(u.seqs, u.ring[u.at])
	u.ring[u.at] = seq
	u.at = (u.at + 1) % undoneKept
}

func (u *undone) has(seq uint64) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	_, ok := u.seqs[seq]
	return ok
}
