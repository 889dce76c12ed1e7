// SPDX-License-Identifier: Apache-2.0

package crypto_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/fips140"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/part164/part164/crypto"
	"github.com/part164/part164/crypto/cryptotest"
)

// benchPlace has the lengths of real ones: UUIDs for record and subject.
var benchPlace = crypto.Binding{
	Tenant: "clinic-a", Field: "patients.name",
	Record: "0190f2d4-7c1e-7a54-9e2b-000000000001", Subject: "0190f2d4-7c1e-7a54-9e2b-6a1f0c3d4e5f",
}

// BenchmarkOpen compares Key.Open with the bare cipher, in interleaved rounds of
// one process: times of separate runs mean nothing on a shared machine.
func BenchmarkOpen(b *testing.B) {
	for _, size := range []int{32, 1024, 65536} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			raw, rawCell := rawGCM(b, size)
			k := newKey(b, rawKey, benchPlace, 1)
			cell := seal(b, k, string(make([]byte, size)), benchPlace)
			aad, buf := make([]byte, 48), make([]byte, 0, size+512)
			ratios(b, max(20, 64000/size), func() { raw.Open(buf, rawCell[:12], rawCell[12:], aad) }, map[string]func(){
				"reused": func() { k.Open(buf, cell, benchPlace) },
				"alloc":  func() { k.Open(nil, cell, benchPlace) },
			})
		})
	}
}

// BenchmarkSeal compares Key.Seal with the bare cipher, which is given its IV.
func BenchmarkSeal(b *testing.B) {
	raw, _ := rawGCM(b, 32)
	k := newKey(b, rawKey, benchPlace, 1)
	plaintext, aad, iv, buf := make([]byte, 32), make([]byte, 48), make([]byte, 12), make([]byte, 0, 512)
	ratios(b, 2000, func() { raw.Seal(buf, iv, plaintext, aad) }, map[string]func(){
		"reused": func() { k.Seal(buf, plaintext, benchPlace) },
		"alloc":  func() { k.Seal(nil, plaintext, benchPlace) },
	})
}

func rawGCM(b *testing.B, size int) (cipher.AEAD, []byte) {
	if fips140.Enforced() {
		b.Skip("the bare cipher takes the caller's IV, which a FIPS-only process refuses")
	}
	block, err := aes.NewCipher(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		b.Fatal(err)
	}
	raw, err := cipher.NewGCM(block)
	if err != nil {
		b.Fatal(err)
	}
	iv := make([]byte, 12)
	return raw, raw.Seal(iv, iv, make([]byte, size), make([]byte, 48))
}

// ratios reports how long each function takes beside base: the minimum of each
// over the minimum of base, and the median of the rounds' ratios.
func ratios(b *testing.B, calls int, base func(), others map[string]func()) {
	const rounds = 60
	times := make(map[string][]time.Duration)
	round := func(name string, f func()) {
		start := time.Now()
		for range calls {
			f()
		}
		times[name] = append(times[name], time.Since(start))
	}
	for b.Loop() {
		clear(times)
		for range rounds {
			round("base", base)
			for name, f := range others {
				round(name, f)
			}
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(slices.Min(times["base"]))/float64(calls), "base-ns")
	for name := range others {
		var each []float64
		for i, d := range times[name] {
			each = append(each, float64(d)/float64(times["base"][i]))
		}
		slices.Sort(each)
		b.ReportMetric(float64(slices.Min(times[name]))/float64(slices.Min(times["base"])), name+"-min-x")
		b.ReportMetric(each[len(each)/2], name+"-median-x")
	}
}

// BenchmarkLookup is one look-up of cached keys, as a Reveal does it once.
func BenchmarkLookup(b *testing.B) {
	s := newStack(b, cryptotest.NewKEK(), func(c *crypto.Config) { c.Now = nil })
	var subjects []string
	for i := range 1000 {
		subjects = append(subjects, fmt.Sprintf("0190f2d4-7c1e-7a54-9e2b-%012d", i))
	}
	s.store(b, "clinic-a", subjects...)
	rows := s.db.Rows()
	for _, n := range []int{1, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			r := refs(subjects[:n]...)
			for b.Loop() {
				if _, err := s.ring.Lookup(b.Context(), rows, "clinic-a", r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("cold 1000", func(b *testing.B) {
		r := refs(subjects...)
		for b.Loop() {
			if _, err := s.newRing(b).Lookup(b.Context(), rows, "clinic-a", r); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkToken(b *testing.B) {
	k := newStack(b, cryptotest.NewKEK()).indexKey(b, "clinic-a")
	b.ReportAllocs()
	for b.Loop() {
		k.Token("patients.name", "prefix", "smi")
	}
}
