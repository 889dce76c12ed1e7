// SPDX-License-Identifier: Apache-2.0

package natsink_test

import (
	"crypto/tls"
	"strings"
	"testing"

	"github.com/part164/part164/audit/format"
	"github.com/part164/part164/audit/sink/natsink"
)

// The conformance suite runs against an embedded server in internal/peers,
// whose module has the server among its dependencies.

func TestConfig(t *testing.T) {
	t.Parallel()
	good := natsink.Config{URL: "tls://nats.example:4222", Recipient: "soc", Stream: "AUDIT"}
	for _, tt := range []struct {
		name   string
		change func(*natsink.Config)
		want   string
	}{
		{"good", func(*natsink.Config) {}, ""},
		{"a cluster", func(c *natsink.Config) { c.URL = "tls://a.example:4222, tls://b.example:4222" }, ""},
		{"no URL", func(c *natsink.Config) { c.URL = "" }, "Config.URL"},
		{"another scheme", func(c *natsink.Config) { c.URL = "ws://nats.example" }, "Config.URL"},
		{"a password", func(c *natsink.Config) { c.URL = "tls://me:pw@nats.example" }, "Config.URL"},
		{"no TLS", func(c *natsink.Config) { c.URL = "nats://nats.example:4222" }, "use TLS"},
		{"one of a cluster without TLS", func(c *natsink.Config) { c.URL = "tls://a.example:4222,nats://b.example:4222" }, "use TLS"},
		{"TLS by configuration", func(c *natsink.Config) { c.URL, c.TLS = "nats://nats.example:4222", &tls.Config{} }, ""},
		{"unverified", func(c *natsink.Config) { c.TLS = &tls.Config{InsecureSkipVerify: true} }, "InsecureSkipVerify"},
		{"loopback", func(c *natsink.Config) { c.URL = "nats://127.0.0.1:4222" }, ""},
		{"no recipient", func(c *natsink.Config) { c.Recipient = "" }, "Config.Recipient"},
		{"no stream", func(c *natsink.Config) { c.Stream = "" }, "Config.Stream"},
		{"two streams", func(c *natsink.Config) { c.Stream = "A.B" }, "Config.Stream"},
		{"a wildcard", func(c *natsink.Config) { c.Subject = "audit.>" }, "Config.Subject"},
		{"an empty word", func(c *natsink.Config) { c.Subject = "audit..x" }, "Config.Subject"},
		{"no format", func(c *natsink.Config) { c.Encoder = format.Encoder{Format: "xml"} }, "Config.Encoder"},
	} {
		cfg := good
		tt.change(&cfg)
		_, err := natsink.New(cfg)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), "pw") {
			t.Errorf("%s: the error quotes it: %v", tt.name, err)
		}
	}
}
