// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	vault "github.com/hashicorp/vault/api"
	"github.com/tink-crypto/tink-go-awskms/v3/integration/awskms"
	"github.com/tink-crypto/tink-go-gcpkms/v2/integration/gcpkms"
	"github.com/tink-crypto/tink-go-hcvault/v2/integration/hcvault"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/part164/part164/crypto"
	"github.com/part164/part164/crypto/cryptotest"
)

// The three recipes of docs/guide-keys.md, word for word.

// awsKEK is a key of AWS KMS, by its ARN.
func awsKEK(ctx context.Context, arn string, opts ...awskms.ClientOption) (crypto.KEK, error) {
	return awskms.NewAEADWithContext(ctx, arn, opts...)
}

// gcpKEK is a key of Google Cloud KMS:
// projects/P/locations/L/keyRings/R/cryptoKeys/K.
func gcpKEK(ctx context.Context, name string, opts ...option.ClientOption) (crypto.KEK, error) {
	k, err := gcpkms.GetAEADWithContext(ctx, "gcp-kms://"+name, gcpkms.WithGoogleAPIClientOptions(opts...))
	if err != nil {
		return nil, err
	}
	return crypto.WithOutages(k, func(err error) bool {
		switch status.Code(err) {
		case codes.Unavailable, codes.DeadlineExceeded, codes.ResourceExhausted, codes.Internal:
			return true
		}
		return false
	}), nil
}

// vaultKEK is a key of Vault's transit engine: /transit/keys/K.
func vaultKEK(client *vault.Client, path string) (crypto.KEK, error) {
	k, err := hcvault.NewAEAD(path, client.Logical())
	if err != nil {
		return nil, err
	}
	return crypto.WithOutages(crypto.WithoutContext(k), func(err error) bool {
		var r *vault.ResponseError
		return errors.As(err, &r) && (r.StatusCode >= 500 || r.StatusCode == http.StatusTooManyRequests)
	}), nil
}

func TestTheGuideShowsTheseRecipes(t *testing.T) {
	guide, err := os.ReadFile("../../../docs/guide-keys.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("kms_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"awsKEK", "gcpKEK", "vaultKEK"} {
		_, f, _ := strings.Cut(string(source), "\nfunc "+name+"(")
		f, _, _ = strings.Cut("func "+name+"("+f, "\n}\n")
		if !strings.Contains(string(guide), f) {
			t.Errorf("docs/guide-keys.md does not show %s as it is compiled here", name)
		}
	}
}

// A backend is what the three fakes have behind them: a key that binds to the
// associated data, and a failure to come.
type backend struct {
	aead cipher.AEAD
	fail string // "", "down" or "denied"
}

func newBackend(t *testing.T) *backend {
	t.Helper()
	secret := make([]byte, 32)
	rand.Read(secret)
	block, err := aes.NewCipher(secret)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		t.Fatal(err)
	}
	return &backend{aead: aead}
}

// conform runs the suite of KEKs, and tells the client's outages from denials.
func (b *backend) conform(t *testing.T, k crypto.KEK) {
	t.Helper()
	cryptotest.TestKEK(t, func(*testing.T) crypto.KEK { return k })
	for fail, outage := range map[string]bool{"down": true, "denied": false} {
		b.fail = fail
		ring, err := crypto.NewKeyring(crypto.Config{KEK: k})
		if err != nil {
			t.Fatal(err)
		}
		tx, err := cryptotest.NewStore().Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, err = ring.Begin(tx).SealingKeys(t.Context(), "t1", []string{"p1"})
		if err == nil || errors.Is(err, crypto.ErrUnreachable) != outage {
			t.Errorf("%s: %v, want ErrUnreachable %v", fail, err, outage)
		}
	}
}

type fakeAWS struct{ *backend }

func (f fakeAWS) answer(ctx context.Context) error {
	switch f.fail {
	case "down":
		return &types.DependencyTimeoutException{}
	case "denied":
		return &types.DisabledException{}
	}
	return ctx.Err()
}

func (f fakeAWS) Encrypt(ctx context.Context, in *kms.EncryptInput, _ ...func(*kms.Options)) (*kms.EncryptOutput, error) {
	if err := f.answer(ctx); err != nil {
		return nil, err
	}
	return &kms.EncryptOutput{CiphertextBlob: f.aead.Seal(nil, nil, in.Plaintext, fmt.Append(nil, in.EncryptionContext))}, nil
}

func (f fakeAWS) Decrypt(ctx context.Context, in *kms.DecryptInput, _ ...func(*kms.Options)) (*kms.DecryptOutput, error) {
	if err := f.answer(ctx); err != nil {
		return nil, err
	}
	p, err := f.aead.Open(nil, nil, in.CiphertextBlob, fmt.Append(nil, in.EncryptionContext))
	if err != nil {
		return nil, &types.InvalidCiphertextException{}
	}
	return &kms.DecryptOutput{Plaintext: p}, nil
}

func TestAWS(t *testing.T) {
	f := fakeAWS{newBackend(t)}
	k, err := awsKEK(t.Context(), "arn:aws:kms:eu-central-1:111122223333:key/1234abcd", awskms.WithKMS(f))
	if err != nil {
		t.Fatal(err)
	}
	f.conform(t, k)
}

type fakeGCP struct {
	kmspb.UnimplementedKeyManagementServiceServer
	*backend
}

func checksum(b []byte) *wrapperspb.Int64Value {
	return wrapperspb.Int64(int64(crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))))
}

func (f fakeGCP) answer() error {
	switch f.fail {
	case "down":
		return status.Error(codes.ResourceExhausted, "quota")
	case "denied":
		return status.Error(codes.PermissionDenied, "the key version is destroyed")
	}
	return nil
}

func (f fakeGCP) Encrypt(_ context.Context, in *kmspb.EncryptRequest) (*kmspb.EncryptResponse, error) {
	if err := f.answer(); err != nil {
		return nil, err
	}
	c := f.aead.Seal(nil, nil, in.Plaintext, in.AdditionalAuthenticatedData)
	return &kmspb.EncryptResponse{
		Name: in.Name + "/cryptoKeyVersions/1", Ciphertext: c, CiphertextCrc32C: checksum(c),
		VerifiedPlaintextCrc32C: true, VerifiedAdditionalAuthenticatedDataCrc32C: true,
	}, nil
}

func (f fakeGCP) Decrypt(_ context.Context, in *kmspb.DecryptRequest) (*kmspb.DecryptResponse, error) {
	if err := f.answer(); err != nil {
		return nil, err
	}
	p, err := f.aead.Open(nil, nil, in.Ciphertext, in.AdditionalAuthenticatedData)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, "decryption failed")
	}
	return &kmspb.DecryptResponse{Plaintext: p, PlaintextCrc32C: checksum(p)}, nil
}

func TestGoogleCloud(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := fakeGCP{backend: newBackend(t)}
	server := grpc.NewServer()
	kmspb.RegisterKeyManagementServiceServer(server, f)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
	k, err := gcpKEK(t.Context(), "projects/p/locations/l/keyRings/r/cryptoKeys/k",
		option.WithEndpoint(l.Addr().String()), option.WithoutAuthentication(), option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
	if err != nil {
		t.Fatal(err)
	}
	f.conform(t, k)
}

// ServeHTTP is Vault's transit engine, as far as a KEK calls it.
func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch b.fail {
	case "down":
		http.Error(w, `{"errors":["Vault is sealed"]}`, http.StatusServiceUnavailable)
		return
	case "denied":
		http.Error(w, `{"errors":["permission denied"]}`, http.StatusForbidden)
		return
	}
	var in struct {
		Plaintext      []byte
		Ciphertext     string
		AssociatedData []byte `json:"associated_data"`
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		http.Error(w, `{"errors":["bad request"]}`, http.StatusBadRequest)
		return
	}
	data := make(map[string]any)
	switch r.URL.Path {
	case "/v1/transit/encrypt/k":
		data["ciphertext"] = "vault:v1:" + base64.StdEncoding.EncodeToString(b.aead.Seal(nil, nil, in.Plaintext, in.AssociatedData))
	case "/v1/transit/decrypt/k":
		c, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(in.Ciphertext, "vault:v1:"))
		p, openErr := b.aead.Open(nil, nil, c, in.AssociatedData)
		if err != nil || openErr != nil || !strings.HasPrefix(in.Ciphertext, "vault:v1:") {
			http.Error(w, `{"errors":["cipher: message authentication failed"]}`, http.StatusBadRequest)
			return
		}
		data["plaintext"] = base64.StdEncoding.EncodeToString(p)
	default:
		http.NotFound(w, r)
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"data": data})
}

func TestVault(t *testing.T) {
	b := newBackend(t)
	server := httptest.NewServer(b)
	t.Cleanup(server.Close)
	cfg := vault.DefaultConfig()
	cfg.Address, cfg.MaxRetries = server.URL, 0
	client, err := vault.NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	client.SetToken("test")
	k, err := vaultKEK(client, "/transit/keys/k")
	if err != nil {
		t.Fatal(err)
	}
	b.conform(t, k)
	server.Close()
	if _, err := k.EncryptWithContext(t.Context(), []byte("p"), nil); err == nil {
		t.Error("it encrypts without a server")
	}
}
