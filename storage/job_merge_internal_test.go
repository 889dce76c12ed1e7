// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"testing"

	"github.com/part164/part164/crypto"
)

// The MAC of a row of phi_merges is over every column that names something, and
// holds on while the key is rotated.
func TestMergeMAC(t *testing.T) {
	t.Parallel()
	s := newShop(t, 0)
	p, err := pluginOf(s.db)
	if err != nil {
		t.Fatal(err)
	}
	in := func(f func(tx *txConn) error) {
		t.Helper()
		tx, err := p.pool.begin(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := f(tx); err != nil {
			t.Fatal(err, tx.Rollback())
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	row := mergeRow{TenantID: "t1", FromID: "f1", Entity: "e1", RecordID: "r1", IntoID: "i1"}
	var old metaMAC
	in(func(tx *txConn) (err error) {
		old.keys, err = tx.keys.IndexingKeys(t.Context(), metaTenant)
		if err == nil {
			row.MAC = old.sum(mergeField, row.statement())
		}
		return err
	})
	for name, change := range map[string]func(m *mergeRow){
		"tenant":      func(m *mergeRow) { m.TenantID = "t2" },
		"from":        func(m *mergeRow) { m.FromID = "f2" },
		"entity":      func(m *mergeRow) { m.Entity = "e2" },
		"record":      func(m *mergeRow) { m.RecordID = "r2" },
		"into":        func(m *mergeRow) { m.IntoID = "i2" },
		"boundary":    func(m *mergeRow) { m.TenantID, m.FromID = "t", "1f1" },
		"nothing":     func(m *mergeRow) { m.MAC = nil },
		"another MAC": func(m *mergeRow) { m.MAC = old.sum(metaField, m.statement()) },
	} {
		m := row
		if change(&m); m.signed(old) {
			t.Errorf("a row with another %s is taken", name)
		}
	}
	for _, f := range []func(*crypto.KeyTx) error{
		func(k *crypto.KeyTx) error { return k.AddTenantKey(t.Context(), metaTenant, crypto.UseIndex) },
		func(k *crypto.KeyTx) error { return k.PromoteTenantKey(t.Context(), metaTenant, crypto.UseIndex) },
	} {
		in(func(tx *txConn) error { return f(tx.keys) })
		var now metaMAC
		in(func(tx *txConn) (err error) {
			now.keys, err = tx.keys.IndexKeys(t.Context(), metaTenant)
			return err
		})
		if len(now.keys) != 2 || !row.signed(now) {
			t.Errorf("with %d keys the row is taken: %v", len(now.keys), row.signed(now))
		}
	}
}
