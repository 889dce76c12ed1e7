// SPDX-License-Identifier: Apache-2.0

package crypto_test

import (
	"bytes"
	"crypto/fips140"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	streaming "github.com/tink-crypto/tink-go/v2/streamingaead/subtle"

	"github.com/part164/part164/crypto"
)

const (
	segment = 64 << 10
	header  = 40
)

// streamAlgorithms are the first byte of a key, and the size of a tag.
var streamAlgorithms = []struct {
	name string
	id   byte
	tag  int
}{{"AES-GCM-HKDF", 1, 16}, {"AES-CTR-HMAC", 2, 32}}

func streamKey(t testing.TB, algorithm byte) *crypto.StreamKey {
	t.Helper()
	k, err := crypto.NewStreamKey()
	if err != nil {
		t.Fatal(err)
	}
	b := k.Bytes()
	b[0] = algorithm
	if k, err = crypto.ParseStreamKey(b); err != nil {
		t.Fatal(err)
	}
	return k
}

// tinkStream is Tink's own primitive of a key.
func tinkStream(t testing.TB, k *crypto.StreamKey) interface {
	NewEncryptingWriter(io.Writer, []byte) (io.WriteCloser, error)
	NewDecryptingReader(io.Reader, []byte) (io.Reader, error)
} {
	t.Helper()
	b := k.Bytes()
	if b[0] == 1 {
		s, err := streaming.NewAESGCMHKDF(b[1:], "SHA256", 32, segment, 0)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s, err := streaming.NewAESCTRHMAC(b[1:], "SHA256", 32, "SHA256", 32, segment, 0)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// sealStream seals by Encrypt, in writes of odd sizes. It skips what a
// FIPS-only process cannot write.
func sealStream(t testing.TB, k *crypto.StreamKey, plain, data []byte) []byte {
	t.Helper()
	if k.Bytes()[0] == 1 && fips140.Enforced() {
		t.Skip("a FIPS-only process writes no AES-GCM-HKDF")
	}
	var b bytes.Buffer
	w, err := k.Encrypt(&b, data)
	if err != nil {
		t.Fatal(err)
	}
	for c := range slices.Chunk(plain, 10007) {
		if _, err := w.Write(c); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// at serves the bytes of a sealed stream.
func at(sealed []byte) func(int64) (io.ReadCloser, error) {
	return func(offset int64) (io.ReadCloser, error) {
		if offset > int64(len(sealed)) {
			return nil, io.ErrUnexpectedEOF
		}
		return io.NopCloser(bytes.NewReader(sealed[offset:])), nil
	}
}

func openStream(k *crypto.StreamKey, sealed []byte, size int, data []byte) ([]byte, error) {
	r, err := k.Decrypt(at(sealed), int64(size), data)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

func pattern(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

// streamSizes are those at which segments begin and end.
func streamSizes(tag int) []int {
	first, each := segment-header-tag, segment-tag
	return []int{0, 1, 100, first - 1, first, first + 1, first + each - 1, first + each, first + each + 1, first + 3*each + 17}
}

// What Encrypt writes Tink reads, and the other way round, at every size.
func TestStreamsAreTinks(t *testing.T) {
	t.Parallel()
	data := crypto.StreamData("t", "f")
	for _, a := range streamAlgorithms {
		t.Run(a.name, func(t *testing.T) {
			for _, size := range streamSizes(a.tag) {
				k, plain := streamKey(t, a.id), pattern(size)
				sealed := sealStream(t, k, plain, data)
				if got, err := openStream(k, sealed, size, data); err != nil || !bytes.Equal(got, plain) {
					t.Errorf("%d bytes: read back %d, %v", size, len(got), err)
				}
				r, err := tinkStream(t, k).NewDecryptingReader(bytes.NewReader(sealed), data)
				if err != nil {
					t.Fatal(err)
				}
				if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, plain) {
					t.Errorf("%d bytes: Tink reads %d, %v", size, len(got), err)
				}
				var b bytes.Buffer
				w, err := tinkStream(t, k).NewEncryptingWriter(&b, data)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := w.Write(plain); err != nil || w.Close() != nil {
					t.Fatal(err)
				}
				if got, err := openStream(k, b.Bytes(), size, data); err != nil || !bytes.Equal(got, plain) {
					t.Errorf("%d bytes by Tink: read %d, %v", size, len(got), err)
				}
			}
		})
	}
}

// A seek reads what stands there, and opens only the segments that are read.
func TestStreamsSeek(t *testing.T) {
	t.Parallel()
	for _, a := range streamAlgorithms {
		t.Run(a.name, func(t *testing.T) {
			const size = 10*segment + 12345
			k, plain := streamKey(t, a.id), pattern(size)
			sealed := sealStream(t, k, plain, nil)
			var opened, read int64
			r, err := k.Decrypt(func(offset int64) (io.ReadCloser, error) {
				opened++
				return io.NopCloser(io.TeeReader(bytes.NewReader(sealed[offset:]), countWriter{&read})), nil
			}, size, nil)
			if err != nil {
				t.Fatal(err)
			}
			if read > 2*segment || opened != 2 {
				t.Errorf("to open a stream, %d bytes were read in %d reads", read, opened)
			}
			rng := rand.New(rand.NewPCG(1, 2))
			buf := make([]byte, 3000)
			for range 300 {
				pos, n := rng.IntN(size+10), rng.IntN(len(buf))
				if _, err := r.Seek(int64(pos), io.SeekStart); err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadFull(r, buf[:n])
				want := plain[min(pos, size):min(pos+n, size)]
				if !bytes.Equal(buf[:got], want) || len(want) == n && err != nil {
					t.Fatalf("%d bytes from %d: %d, %v", n, pos, got, err)
				}
			}
			opened, read = 0, 0
			if p, err := r.Seek(-10, io.SeekEnd); err != nil || p != size-10 {
				t.Errorf("Seek from the end = %d, %v", p, err)
			}
			if b, err := io.ReadAll(r); err != nil || !bytes.Equal(b, plain[size-10:]) || read > segment {
				t.Errorf("the end = %d bytes, %v; %d were read", len(b), err, read)
			}
			if _, err := r.Seek(-1, io.SeekStart); err == nil {
				t.Error("a seek before the beginning")
			}
			if _, err := r.Seek(0, 9); err == nil {
				t.Error("a seek from nowhere")
			}
			if p, err := r.Seek(0, io.SeekCurrent); err != nil || p != size || r.Size() != size {
				t.Errorf("position %d, %v, size %d", p, err, r.Size())
			}
			// From beginning to end it is one read of the source.
			if _, err := r.Seek(0, io.SeekStart); err != nil {
				t.Fatal(err)
			}
			opened = 0
			if b, err := io.ReadAll(r); err != nil || !bytes.Equal(b, plain) || opened != 1 {
				t.Errorf("all = %d bytes, %v, in %d reads", len(b), err, opened)
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

type countWriter struct{ n *int64 }

func (c countWriter) Write(p []byte) (int, error) {
	*c.n += int64(len(p))
	return len(p), nil
}

// Whatever is done to a stream, no wrong byte comes out, and what is wrong at
// its end or with its length is seen before anything is read.
func TestStreamsThatWereChanged(t *testing.T) {
	t.Parallel()
	data := crypto.StreamData("t", "f")
	for _, a := range streamAlgorithms {
		t.Run(a.name, func(t *testing.T) {
			each := segment - a.tag
			size := 3*each + 777
			k, plain := streamKey(t, a.id), pattern(size)
			sealed := sealStream(t, k, plain, data)
			other := sealStream(t, k, plain, data)
			swap := func(i, j int) []byte {
				b := bytes.Clone(sealed)
				copy(b[i*segment:(i+1)*segment], sealed[j*segment:(j+1)*segment])
				copy(b[j*segment:(j+1)*segment], sealed[i*segment:(i+1)*segment])
				return b
			}
			cut := func(n int) []byte { return bytes.Clone(sealed[:n]) }
			for name, c := range map[string]struct {
				b    []byte
				size int
			}{
				"nothing left":                  {nil, size},
				"only a header":                 {cut(header), size},
				"cut in the last segment":       {cut(len(sealed) - 1), size},
				"cut at a segment":              {cut(3 * segment), size},
				"cut at a segment, said so":     {cut(3 * segment), 3*each - header},
				"cut to the first, said so":     {cut(segment), each - header},
				"a smaller size said":           {sealed, size - 1},
				"a larger size said":            {sealed, size + 1},
				"a size said as of nothing":     {sealed, 0},
				"a negative size said":          {sealed, -1},
				"a size beyond all":             {sealed, 1 << 60},
				"a byte appended":               {append(bytes.Clone(sealed), 0), size},
				"a segment appended":            {append(bytes.Clone(sealed), sealed[segment:2*segment]...), size},
				"segments swapped":              {swap(1, 2), size},
				"a segment of another stream":   {slices.Concat(sealed[:segment], other[segment:2*segment], sealed[2*segment:]), size},
				"the header of another":         {slices.Concat(other[:header], sealed[header:]), size},
				"the tail of another":           {slices.Concat(sealed[:3*segment], other[3*segment:]), size},
				"a segment twice":               {slices.Concat(sealed[:2*segment], sealed[segment:2*segment], sealed[3*segment:]), size},
				"the length of its header":      {append([]byte{24}, sealed[1:]...), size},
				"the last as the first segment": {slices.Concat(sealed[:header], sealed[3*segment:]), 777 - header},
			} {
				if got, err := openStream(k, c.b, c.size, data); !errors.Is(err, crypto.ErrOpen) && !errors.Is(err, io.ErrUnexpectedEOF) || !bytes.HasPrefix(plain, got) {
					t.Errorf("%s: %d bytes, %v", name, len(got), err)
				}
			}
			for _, at := range []int{0, 1, 33, header, header + 1, segment - 1, segment, 2*segment + 5, 3 * segment, len(sealed) - 1} {
				b := bytes.Clone(sealed)
				b[at] ^= 0x10
				if got, err := openStream(k, b, size, data); !errors.Is(err, crypto.ErrOpen) || !bytes.HasPrefix(plain, got) || len(got) > at {
					t.Errorf("a bit of byte %d: %d bytes, %v", at, len(got), err)
				}
			}
			if _, err := openStream(streamKey(t, a.id), sealed, size, data); !errors.Is(err, crypto.ErrOpen) {
				t.Errorf("another key: %v", err)
			}
			for _, d := range [][]byte{nil, crypto.StreamData("t", "g"), crypto.StreamData("u", "f"), crypto.StreamData("tf", "")} {
				if _, err := openStream(k, sealed, size, d); !errors.Is(err, crypto.ErrOpen) {
					t.Errorf("as another file: %v", err)
				}
			}
			wrong := k.Bytes()
			wrong[0] = 3 - wrong[0]
			as, err := crypto.ParseStreamKey(wrong)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := openStream(as, sealed, size, data); !errors.Is(err, crypto.ErrOpen) {
				t.Errorf("as the other algorithm: %v", err)
			}
		})
	}
}

func TestStreamErrors(t *testing.T) {
	t.Parallel()
	k := streamKey(t, 2)
	sealed := sealStream(t, k, pattern(100), nil)
	down := errors.New("down")
	if _, err := k.Decrypt(func(int64) (io.ReadCloser, error) { return nil, down }, 100, nil); !errors.Is(err, down) || errors.Is(err, crypto.ErrOpen) {
		t.Errorf("a source that is down = %v", err)
	}
	broken := func(n int64) func(int64) (io.ReadCloser, error) {
		return func(offset int64) (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(io.LimitReader(bytes.NewReader(sealed[offset:]), n-offset), failing{down})), nil
		}
	}
	for _, n := range []int64{10, 50, int64(len(sealed))} {
		if _, err := k.Decrypt(broken(n), 100, nil); !errors.Is(err, down) || errors.Is(err, crypto.ErrOpen) {
			t.Errorf("a source that breaks after %d bytes = %v", n, err)
		}
	}
	if _, err := k.Encrypt(failWriter{down}, nil); !errors.Is(err, down) {
		t.Errorf("a target that is down = %v", err)
	}
	var zero crypto.StreamKey
	if _, err := zero.Encrypt(io.Discard, nil); !errors.Is(err, crypto.ErrNoKey) {
		t.Errorf("the zero key seals: %v", err)
	}
	if _, err := zero.Decrypt(at(sealed), 100, nil); !errors.Is(err, crypto.ErrNoKey) {
		t.Errorf("the zero key opens: %v", err)
	}
	for b, want := range map[string]error{"": crypto.ErrFormat, "\x01": crypto.ErrFormat, "\x00" + strings.Repeat("x", 32): crypto.ErrVersion, "\x03" + strings.Repeat("x", 32): crypto.ErrVersion, "\x01" + strings.Repeat("x", 33): crypto.ErrFormat} {
		if _, err := crypto.ParseStreamKey([]byte(b)); !errors.Is(err, want) {
			t.Errorf("ParseStreamKey of %d bytes = %v, want %v", len(b), err, want)
		}
	}
	secret := hex.EncodeToString(k.Bytes()[1:])
	r, err := k.Decrypt(at(sealed), 100, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%x", "%s", "%d"} {
		out := fmt.Sprintf(verb, k) + fmt.Sprintf(verb, *k) + fmt.Sprintf(verb, r)
		if strings.Contains(out, secret) || strings.Contains(out, strings.Trim(fmt.Sprint(k.Bytes()[1:]), "[]")) || !strings.HasPrefix(out, "[crypto.StreamKey]") {
			t.Errorf("%s prints %.80q", verb, out)
		}
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

type failWriter struct{ err error }

func (f failWriter) Write([]byte) (int, error) { return 0, f.err }

// A key made in this process is of the algorithm that this process may write.
func TestStreamKeyOfAProcess(t *testing.T) {
	t.Parallel()
	k, err := crypto.NewStreamKey()
	if err != nil {
		t.Fatal(err)
	}
	want := byte(1)
	if fips140.Enforced() {
		want = 2
	}
	if b := k.Bytes(); b[0] != want || len(b) != crypto.StreamKeySize {
		t.Errorf("algorithm %d, want %d", b[0], want)
	}
	if got, err := openStream(k, sealStream(t, k, pattern(70000), nil), 70000, nil); err != nil || !bytes.Equal(got, pattern(70000)) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// goldenStream is a stream as a release wrote it. Both algorithms open in each
// process, FIPS-only or not.
type goldenStream struct {
	Name, Key, Tenant, File string
	Size                    int    // of pattern(Size)
	Sealed                  string // the file in testdata
	SHA256                  string // of it
}

func TestGoldenStreams(t *testing.T) {
	const list = "testdata/streams.json"
	var golden []goldenStream
	if raw, err := os.ReadFile(list); err == nil {
		if err := json.Unmarshal(raw, &golden); err != nil {
			t.Fatal(err)
		}
	}
	if *update && len(golden) == 0 {
		for _, a := range streamAlgorithms {
			for _, size := range []int{0, 11, 70000} {
				k := streamKey(t, a.id)
				sealed := sealStream(t, k, pattern(size), crypto.StreamData("t-1", "f-1"))
				name := fmt.Sprintf("stream-%d-%d.bin", a.id, size)
				if err := os.WriteFile(filepath.Join("testdata", name), sealed, 0o644); err != nil {
					t.Fatal(err)
				}
				golden = append(golden, goldenStream{a.name, hex.EncodeToString(k.Bytes()), "t-1", "f-1", size, name, fmt.Sprintf("%x", sha256.Sum256(sealed))})
			}
		}
		raw, _ := json.MarshalIndent(golden, "", "\t")
		if err := os.WriteFile(list, append(raw, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if len(golden) < 6 {
		t.Errorf("%d golden streams", len(golden))
	}
	for _, g := range golden {
		sealed, err := os.ReadFile(filepath.Join("testdata", g.Sealed))
		if err != nil {
			t.Fatal(err)
		}
		if sum := fmt.Sprintf("%x", sha256.Sum256(sealed)); sum != g.SHA256 {
			t.Errorf("%s was changed: %s", g.Sealed, sum)
		}
		k, err := crypto.ParseStreamKey(unhex(t, g.Key))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := openStream(k, sealed, g.Size, crypto.StreamData(g.Tenant, g.File)); err != nil || !bytes.Equal(got, pattern(g.Size)) {
			t.Errorf("%s: %d bytes, %v", g.Sealed, len(got), err)
		}
	}
}

// Whatever stands in the sealed bytes, nothing panics and no wrong byte comes
// out.
func FuzzStream(f *testing.F) {
	raw := append([]byte{2}, bytes.Repeat([]byte{7}, 32)...)
	k, err := crypto.ParseStreamKey(raw)
	if err != nil {
		f.Fatal(err)
	}
	plain := pattern(segment + 100)
	sealed := sealStream(f, k, plain, nil)
	f.Add(uint32(0), byte(0), int64(len(plain)), uint32(len(sealed)))
	f.Add(uint32(50), byte(1), int64(len(plain)), uint32(len(sealed)))
	f.Add(uint32(0), byte(0), int64(segment-72), uint32(segment))
	f.Fuzz(func(t *testing.T, flip uint32, mask byte, size int64, cut uint32) {
		b := bytes.Clone(sealed[:min(int(cut), len(sealed))])
		if len(b) > 0 {
			b[int(flip)%len(b)] ^= mask
		}
		r, err := k.Decrypt(at(b), size, nil)
		if err != nil {
			return
		}
		got, err := io.ReadAll(r)
		if !bytes.HasPrefix(plain, got) || err == nil && (len(got) != len(plain) || mask != 0 || len(b) != len(sealed)) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
}

// BenchmarkStream writes and reads 8 MiB.
func BenchmarkStream(b *testing.B) {
	plain := pattern(8 << 20)
	for _, a := range streamAlgorithms {
		k := streamKey(b, a.id)
		sealed := sealStream(b, k, plain, nil)
		b.Run("read/"+a.name, func(b *testing.B) {
			b.SetBytes(int64(len(plain)))
			for b.Loop() {
				r, err := k.Decrypt(at(sealed), int64(len(plain)), nil)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, struct{ io.Reader }{r}); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("read by Tink/"+a.name, func(b *testing.B) {
			b.SetBytes(int64(len(plain)))
			for b.Loop() {
				r, err := tinkStream(b, k).NewDecryptingReader(bytes.NewReader(sealed), nil)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, r); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("write/"+a.name, func(b *testing.B) {
			b.SetBytes(int64(len(plain)))
			for b.Loop() {
				w, err := k.Encrypt(io.Discard, nil)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := w.Write(plain); err != nil || w.Close() != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Memory does not grow with the stream.
func TestStreamsTakeConstantMemory(t *testing.T) {
	size := int64(16 << 20)
	if os.Getenv("PART164_TEST_LONG") == "1" {
		size = 256 << 20
	}
	k, err := crypto.NewStreamKey()
	if err != nil {
		t.Fatal(err)
	}
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	before, most := m.HeapAlloc, uint64(0)
	look := func() {
		runtime.GC()
		runtime.ReadMemStats(&m)
		most = max(most, m.HeapAlloc)
	}
	pr, pw := io.Pipe()
	sum := sha256.New()
	go func() {
		w, err := k.Encrypt(pw, nil)
		if err != nil {
			pw.CloseWithError(err)
			return
		}
		block := make([]byte, 1<<16)
		for n := int64(0); n < size; n += int64(len(block)) {
			binary.BigEndian.PutUint64(block, uint64(n))
			if _, err := w.Write(block); err != nil {
				pw.CloseWithError(err)
				return
			}
		}
		pw.CloseWithError(w.Close())
	}()
	path := filepath.Join(t.TempDir(), "stream")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for done := false; !done; look() {
		_, err := io.CopyN(f, pr, size/8)
		if done = err == io.EOF; err != nil && !done {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := k.Decrypt(func(offset int64) (io.ReadCloser, error) {
		f, err := os.Open(path)
		if err == nil {
			_, err = f.Seek(offset, io.SeekStart)
		}
		return f, err
	}, size, nil)
	if err != nil {
		t.Fatal(err)
	}
	var total int64
	for total < size {
		n, err := io.CopyN(sum, r, size/8)
		if total += n; err != nil {
			t.Fatal(err)
		}
		look()
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if grown := int64(most) - int64(before); grown > 4<<20 {
		t.Errorf("the heap grew by %d bytes for a stream of %d", grown, size)
	}
}
