// SPDX-License-Identifier: Apache-2.0

// Package s3files keeps the sealed bytes of storage.Files in an S3-compatible
// bucket.
//
//	client, err := minio.New("s3.eu-central-1.amazonaws.com", &minio.Options{Creds: creds, Secure: true})
//	store, err := s3files.New(client, "clinic-files")
//	files, err := storage.OpenFiles(db, storage.FilesConfig{Store: store})
//
// The bucket sees ciphertext, sizes, times and random names. It needs the rights
// to get, put, delete and list objects and to abort multipart uploads. Give it a
// lifecycle rule that ends incomplete uploads after a day, for processes that
// are killed; and no versioning, or a rule that ends old versions: a version
// that was deleted is ciphertext, whose key may live.
package s3files

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/part164/part164/storage"
)

// partSize is how much of a blob is in memory while it is put, and the size of
// the parts that it goes up in: S3 takes 10,000, so a file has at most 156 GiB.
const partSize = 16 << 20

// New returns a store in a bucket that exists. It does not ask the bucket. A
// client that is not on HTTPS is refused, unless it is for this machine
// (45 CFR 164.312(e)(1)).
func New(client *minio.Client, bucket string) (storage.Blobs, error) {
	switch {
	case client == nil:
		return nil, errors.New("s3files: the client is nil")
	case bucket == "":
		return nil, errors.New("s3files: the bucket has no name")
	}
	if url := client.EndpointURL(); url.Scheme != "https" && !loopback(url.Hostname()) {
		return nil, errors.New("s3files: the client is not on HTTPS: set minio.Options.Secure")
	}
	return store{minio.Core{Client: client}, bucket}, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

type store struct {
	client minio.Core
	bucket string
}

// Put implements storage.Blobs. What is no longer than a part goes up at once,
// what is longer in parts, which are put together at the end.
func (s store) Put(ctx context.Context, name string, r io.Reader) error {
	first := new(bytes.Buffer)
	n, err := io.CopyN(first, r, partSize)
	if err != nil && err != io.EOF {
		return err
	}
	opts := minio.PutObjectOptions{ContentType: "application/octet-stream", PartSize: partSize}
	body, size := io.Reader(first), n
	if err == nil { // there may be more
		body, size = io.MultiReader(first, r), -1
	}
	if _, err := s.client.Client.PutObject(ctx, s.bucket, name, body, size, opts); err != nil {
		return fmt.Errorf("s3files: put: %w", err)
	}
	return nil
}

// Get implements storage.Blobs.
func (s store) Get(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
	var opts minio.GetObjectOptions
	if offset > 0 {
		if err := opts.SetRange(offset, 0); err != nil {
			return nil, fmt.Errorf("s3files: get: %w", err)
		}
	}
	r, _, _, err := s.client.GetObject(ctx, s.bucket, name, opts)
	switch minio.ToErrorResponse(err).Code {
	case "":
	case minio.NoSuchKey:
		return nil, &fs.PathError{Op: "s3files: get", Path: name, Err: fs.ErrNotExist}
	case minio.InvalidRange: // at the end
		return io.NopCloser(bytes.NewReader(nil)), nil
	}
	if err != nil {
		return nil, fmt.Errorf("s3files: get: %w", err)
	}
	return r, nil
}

// Delete implements storage.Blobs.
func (s store) Delete(ctx context.Context, name string) error {
	err := s.client.RemoveObject(ctx, s.bucket, name, minio.RemoveObjectOptions{})
	if err != nil && minio.ToErrorResponse(err).Code != minio.NoSuchKey {
		return fmt.Errorf("s3files: delete: %w", err)
	}
	return nil
}

// List implements storage.Blobs.
func (s store) List(ctx context.Context, prefix string, f func(name string, stored time.Time) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // which ends the listing
	for o := range s.client.Client.ListObjects(ctx, s.bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: true}) {
		if o.Err != nil {
			return fmt.Errorf("s3files: list: %w", o.Err)
		}
		if err := f(o.Key, o.LastModified); err != nil {
			return err
		}
	}
	return ctx.Err()
}
