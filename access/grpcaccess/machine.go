// SPDX-License-Identifier: Apache-2.0

package grpcaccess

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"strings"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/machine"
)

// Machine returns a Config.Authenticate for programs: by the API key in the
// metadata "authorization" ("Bearer ..."), or by the client certificate of the
// connection. Either may be nil. Both in one call is nobody. The address is that of
// the connection.
func Machine(keys *machine.Keys, certificates *machine.Certificates) func(ctx context.Context) (access.Principal, error) {
	return func(ctx context.Context) (access.Principal, error) {
		addr, chain := connection(ctx)
		values := metadata.ValueFromIncomingContext(ctx, "authorization")
		if certificates == nil {
			chain = nil // a proxy's own, perhaps
		}
		switch {
		case len(values) > 1 || len(values) == 1 && len(chain) > 0:
			return access.Principal{}, errors.New("grpcaccess: the call has several credentials")
		case len(values) == 1 && keys != nil:
			scheme, token, _ := strings.Cut(values[0], " ")
			if !strings.EqualFold(scheme, "Bearer") {
				return access.Principal{}, ErrNobody
			}
			return keys.Authenticate(ctx, strings.TrimSpace(token), addr)
		case len(chain) > 0:
			return certificates.Authenticate(ctx, chain, addr)
		}
		return access.Principal{}, ErrNobody
	}
}

// connection returns the address and the certificates at the other end.
func connection(ctx context.Context) (netip.Addr, []*x509.Certificate) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return netip.Addr{}, nil
	}
	var chain []*x509.Certificate
	if info, ok := p.AuthInfo.(credentials.TLSInfo); ok {
		chain = info.State.PeerCertificates
	}
	tcp, ok := p.Addr.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}, chain
	}
	return tcp.AddrPort().Addr().Unmap().WithZone(""), chain
}
