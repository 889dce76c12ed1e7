// SPDX-License-Identifier: Apache-2.0

package s3files_test

import (
	"bufio"
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/minimize"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/s3files"
	"github.com/part164/part164/storage/storagetest"
)

const (
	bucket = "clinic-files"
	secret = "a secret of forty characters, as AWS has" // FIPS 140-3 asks for 112 bits of the signing key, "AWS4" and this
)

// A server speaks as much of the S3 API as the store needs, from memory, on
// this machine.
type server struct {
	t       *testing.T
	mu      sync.Mutex
	objects map[string]object
	uploads map[string]map[int][]byte // multipart, by upload ID
	keys    map[string]string         // upload ID to key
	down    bool
}

type object struct {
	b  []byte
	at time.Time
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ") {
		s.refuse(w, http.StatusForbidden, "AccessDenied")
		return
	}
	body, err := io.ReadAll(unchunked(r))
	if err != nil {
		s.refuse(w, http.StatusBadRequest, "IncompleteBody")
		return
	}
	key, ok := strings.CutPrefix(r.URL.Path, "/"+bucket+"/")
	q := r.URL.Query()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.down:
		s.refuse(w, http.StatusForbidden, "AccountProblem")
	case !ok && strings.TrimSuffix(r.URL.Path, "/") != "/"+bucket:
		s.refuse(w, http.StatusNotFound, "NoSuchBucket")
	case key == "" && r.Method == http.MethodGet:
		s.list(w, q)
	case r.Method == http.MethodPost && q.Has("uploads"):
		id := strconv.Itoa(len(s.keys) + 1)
		s.uploads[id], s.keys[id] = map[int][]byte{}, key
		fmt.Fprintf(w, "<InitiateMultipartUploadResult><Bucket>%s</Bucket><Key>%s</Key><UploadId>%s</UploadId></InitiateMultipartUploadResult>", bucket, key, id)
	case r.Method == http.MethodPut && q.Has("uploadId"):
		n, err := strconv.Atoi(q.Get("partNumber"))
		if err != nil || s.keys[q.Get("uploadId")] != key {
			s.refuse(w, http.StatusNotFound, "NoSuchUpload")
			return
		}
		s.uploads[q.Get("uploadId")][n] = body
		w.Header().Set("ETag", fmt.Sprintf(`"%s-%d"`, q.Get("uploadId"), n))
	case r.Method == http.MethodPost && q.Has("uploadId"):
		s.complete(w, key, q.Get("uploadId"), body)
	case r.Method == http.MethodDelete && q.Has("uploadId"):
		delete(s.uploads, q.Get("uploadId"))
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodPut:
		s.objects[key] = object{body, time.Now()}
		w.Header().Set("ETag", `"1"`)
	case r.Method == http.MethodDelete:
		delete(s.objects, key)
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodGet:
		o, ok := s.objects[key]
		if !ok {
			s.refuse(w, http.StatusNotFound, "NoSuchKey")
			return
		}
		if from := r.Header.Get("Range"); from == fmt.Sprintf("bytes=%d-", len(o.b)) {
			s.refuse(w, http.StatusRequestedRangeNotSatisfiable, "InvalidRange")
			return
		}
		w.Header().Set("ETag", `"1"`)
		http.ServeContent(w, r, "", o.at, bytes.NewReader(o.b))
	default:
		s.t.Errorf("the server does not know %s %s", r.Method, r.URL)
		s.refuse(w, http.StatusNotImplemented, "NotImplemented")
	}
}

func (s *server) refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<Error><Code>%s</Code><Message>%s</Message></Error>", code, code)
}

func (s *server) list(w http.ResponseWriter, q url.Values) {
	if q.Has("location") {
		fmt.Fprint(w, "<LocationConstraint>us-east-1</LocationConstraint>")
		return
	}
	type content struct {
		Key          string
		LastModified time.Time
		ETag         string
		Size         int
	}
	var out struct {
		XMLName               xml.Name `xml:"ListBucketResult"`
		Name, Prefix          string
		KeyCount, MaxKeys     int
		IsTruncated           bool
		NextContinuationToken string
		Contents              []content
	}
	const page = 7 // small, so that there are several
	for _, k := range slices.Sorted(maps.Keys(s.objects)) {
		if !strings.HasPrefix(k, q.Get("prefix")) || k <= q.Get("continuation-token") {
			continue
		}
		if len(out.Contents) == page {
			out.IsTruncated, out.NextContinuationToken = true, out.Contents[page-1].Key
			break
		}
		out.Contents = append(out.Contents, content{k, s.objects[k].at.UTC(), `"1"`, len(s.objects[k].b)})
	}
	out.Name, out.Prefix, out.KeyCount, out.MaxKeys = bucket, q.Get("prefix"), len(out.Contents), page
	if err := xml.NewEncoder(w).Encode(out); err != nil {
		s.t.Error(err)
	}
}

func (s *server) complete(w http.ResponseWriter, key, id string, body []byte) {
	var parts struct {
		Part []struct {
			PartNumber int
			ETag       string
		}
	}
	if err := xml.Unmarshal(body, &parts); err != nil || s.keys[id] != key {
		s.refuse(w, http.StatusBadRequest, "MalformedXML")
		return
	}
	var whole []byte
	for _, p := range parts.Part {
		whole = append(whole, s.uploads[id][p.PartNumber]...)
	}
	delete(s.uploads, id)
	s.objects[key] = object{whole, time.Now()}
	fmt.Fprintf(w, `<CompleteMultipartUploadResult><Bucket>%s</Bucket><Key>%s</Key><ETag>"1"</ETag></CompleteMultipartUploadResult>`, bucket, key)
}

// unchunked is a request's body without the frames of aws-chunked.
func unchunked(r *http.Request) io.Reader {
	if !strings.Contains(r.Header.Get("Content-Encoding"), "aws-chunked") && !strings.HasPrefix(r.Header.Get("X-Amz-Content-Sha256"), "STREAMING-") {
		return r.Body
	}
	pr, pw := io.Pipe()
	go func() {
		in := bufio.NewReader(r.Body)
		for {
			line, err := in.ReadString('\n')
			size, _, _ := strings.Cut(strings.TrimSpace(line), ";")
			n, perr := strconv.ParseInt(size, 16, 64)
			if err = errors.Join(err, perr); err == nil && n > 0 {
				_, err = io.CopyN(pw, in, n)
			}
			if err != nil || n == 0 {
				_, _ = io.Copy(io.Discard, in)
				_ = pw.CloseWithError(err)
				return
			}
			if _, err := in.Discard(2); err != nil {
				_ = pw.CloseWithError(err)
				return
			}
		}
	}()
	return pr
}

func newServer(t *testing.T) (*server, storage.Blobs) {
	t.Helper()
	s := &server{t: t, objects: map[string]object{}, uploads: map[string]map[int][]byte{}, keys: map[string]string{}}
	web := httptest.NewTLSServer(s)
	t.Cleanup(web.Close)
	client, err := minio.New(strings.TrimPrefix(web.URL, "https://"), &minio.Options{
		Creds: credentials.NewStaticV4("id", secret, ""), Secure: true, Region: "us-east-1", Transport: web.Client().Transport, MaxRetries: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	store, err := s3files.New(client, bucket)
	if err != nil {
		t.Fatal(err)
	}
	return s, store
}

func TestBlobsInABucket(t *testing.T) {
	t.Parallel()
	storagetest.TestBlobs(t, func(t *testing.T) storage.Blobs {
		s, store := newServer(t)
		t.Cleanup(func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			if len(s.uploads) > 0 {
				t.Errorf("%d uploads were left open", len(s.uploads))
			}
		})
		return store
	})
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	clear, err := minio.New("s3.example.org", &minio.Options{Creds: credentials.NewStaticV4("id", secret, "")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s3files.New(clear, bucket); err == nil || !strings.Contains(err.Error(), "HTTPS") {
		t.Errorf("a client in clear = %v", err)
	}
	for _, host := range []string{"localhost:9000", "127.0.0.1:9000", "[::1]:9000"} {
		local, err := minio.New(host, &minio.Options{Creds: credentials.NewStaticV4("id", secret, "")})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s3files.New(local, bucket); err != nil {
			t.Errorf("%s: %v", host, err)
		}
		if _, err := s3files.New(local, ""); err == nil {
			t.Error("a bucket without a name")
		}
	}
	if _, err := s3files.New(nil, bucket); err == nil {
		t.Error("no client")
	}
}

// A patient's file goes through the bucket sealed, and comes back in ranges.
func TestFilesInABucket(t *testing.T) {
	t.Parallel()
	type Patient struct {
		storage.PatientRecord
		Name storage.Sealed[string] `phi:"name"`
	}
	s, store := newServer(t)
	db := storagetest.NewDB(t, &Patient{})
	files, err := storage.OpenFiles(db.DB, storage.FilesConfig{Store: store})
	if err != nil {
		t.Fatal(err)
	}
	ctx := accesstest.As(t, t.Context(), "physician", access.Treatment)
	p := Patient{Name: storage.Seal("Jane Roe")}
	if err := db.WithContext(ctx).Create(&p).Error; err != nil {
		t.Fatal(err)
	}
	text := strings.Repeat("The patient coughs. ", 1<<20) // 20 MiB: two parts
	id, err := files.Put(ctx, p.ID, minimize.Clinical, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	for name, o := range s.objects {
		if bytes.Contains(o.b, []byte("cough")) || strings.Contains(name, p.ID) || len(o.b) < len(text) {
			t.Errorf("%s tells", name)
		}
	}
	r, err := files.Open(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Seek(-20, io.SeekEnd); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(r); err != nil || string(b) != "The patient coughs. " {
		t.Errorf("the end = %q, %v", b, err)
	}
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(r); err != nil || string(b) != text {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	s.mu.Lock()
	s.down = true
	s.mu.Unlock()
	if _, err := files.Open(ctx, id); err == nil || errors.Is(err, storage.ErrUnavailable) || strings.Contains(err.Error(), secret) {
		t.Errorf("Open with the bucket down = %v", err)
	}
	if _, err := files.Put(ctx, p.ID, minimize.Clinical, strings.NewReader("x")); err == nil {
		t.Error("Put with the bucket down")
	}
}

// A part is in memory, not the whole.
func TestABucketTakesConstantMemory(t *testing.T) {
	size := int64(64 << 20)
	if os.Getenv("PART164_TEST_LONG") == "1" {
		size = 256 << 20
	}
	web := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { // keeps nothing
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("ETag", `"1"`)
		switch q := r.URL.Query(); {
		case q.Has("uploads"):
			fmt.Fprintf(w, "<InitiateMultipartUploadResult><Bucket>%s</Bucket><Key>k</Key><UploadId>1</UploadId></InitiateMultipartUploadResult>", bucket)
		case r.Method == http.MethodPost:
			fmt.Fprintf(w, `<CompleteMultipartUploadResult><Bucket>%s</Bucket><Key>k</Key><ETag>"1"</ETag></CompleteMultipartUploadResult>`, bucket)
		}
	}))
	defer web.Close()
	client, err := minio.New(strings.TrimPrefix(web.URL, "https://"), &minio.Options{
		Creds: credentials.NewStaticV4("id", secret, ""), Secure: true, Region: "us-east-1", Transport: web.Client().Transport,
	})
	if err != nil {
		t.Fatal(err)
	}
	store, err := s3files.New(client, bucket)
	if err != nil {
		t.Fatal(err)
	}
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	before, most, passed := m.HeapAlloc, uint64(0), int64(0)
	src := io.LimitReader(zeros{}, size)
	err = store.Put(t.Context(), "db-1/large", readerFunc(func(p []byte) (int, error) {
		n, err := src.Read(p)
		if passed += int64(n); passed > size/8 {
			passed = 0
			runtime.GC()
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapAlloc)
		}
		return n, err
	}))
	if err != nil {
		t.Fatal(err)
	}
	if grown := int64(most) - int64(before); grown > 50<<20 {
		t.Errorf("the heap grew by %d bytes for %d", grown, size)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
