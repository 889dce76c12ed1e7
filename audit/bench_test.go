// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"crypto/sha256"
	"os"
	"path/filepath"
	"testing"
)

// BenchmarkVerify reads lines as Verify does, beside SHA-256 of the same bytes.
func BenchmarkVerify(b *testing.B) {
	dir := diskFolder(b)
	j, err := Open(dir, Config{Development: true, SegmentSize: 1 << 20})
	if err != nil {
		b.Fatal(err)
	}
	ctx := doctor(b)
	done := make(chan error, 64)
	for range 64 {
		go func() {
			for range 400 {
				if _, err := j.Record(ctx, wide(1)); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range 64 {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		b.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"+segmentSuffix))
	if err != nil {
		b.Fatal(err)
	}
	size := int64(0)
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			b.Fatal(err)
		}
		size += int64(len(bytes.TrimRight(text, "\x00")))
	}
	b.Run("verify", func(b *testing.B) {
		b.SetBytes(size)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := Verify(b.Context(), dir, VerifyConfig{}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("sha256", func(b *testing.B) {
		data := make([]byte, size)
		b.SetBytes(size)
		for b.Loop() {
			sha256.Sum256(data)
		}
	})
}
