package main

import (
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/replyq/replyq/journal/cluster"
)

func parseNATSFlags(t *testing.T, args ...string) (natsFlags, error) {
	t.Helper()
	var c struct{ natsFlags }
	parser, err := kong.New(&c, kong.Exit(func(int) {}))
	if err != nil {
		t.Fatal(err)
	}
	_, err = parser.Parse(args)
	return c.natsFlags, err
}

func TestNATSFlags(t *testing.T) {
	f, err := parseNATSFlags(t, "--nats-url=nats://a:4222,tls://b:4222", "--nats-name=shop", "--nats-credentials=c", "--nats-ca=ca",
		"--nats-cert=cert", "--nats-key=key")
	if err != nil {
		t.Fatal(err)
	}
	want := cluster.Options{URL: "nats://a:4222,tls://b:4222", Name: "shop", Replicas: 3, Credentials: "c", CA: "ca",
		Cert: "cert", Key: "key", Node: "a"}
	if diff := cmp.Diff(want, f.options("a", nil), cmpopts.IgnoreUnexported(cluster.Options{})); diff != "" {
		t.Errorf("options (-want +got):\n%s", diff)
	}
}

func TestNATSFlagsRefused(t *testing.T) {
	for name, test := range map[string]struct{ args, want string }{
		"no scheme":         {"--nats-url=a:4222", "nats://host:4222"},
		"other scheme":      {"--nats-url=http://a:4222", "nats://host:4222"},
		"empty one":         {"--nats-url=nats://a:4222,", "nats://host:4222"},
		"with a password":   {"--nats-url=nats://u:secret@:4222:x", "nats://host:4222"},
		"two replicas":      {"--nats-url=nats://a:4222 --nats-replicas=2", "1, 3 or 5"},
		"half of a pair":    {"--nats-url=nats://a:4222 --nats-cert=c", "belong together"},
		"nothing to use it": {"--nats-credentials=c", "not set"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseNATSFlags(t, strings.Fields(test.args)...)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("parse %s: %v, want an error with %q", test.args, err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the error tells the password: %v", err)
			}
		})
	}
}
