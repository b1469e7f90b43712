package cluster_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/replyq/replyq/internal/natstest"
	"github.com/replyq/replyq/journal/cluster"
)

// refused opens a store, which has to fail, and not because the time was up.
func refused(t *testing.T, o cluster.Options, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	s, err := cluster.Open(ctx, o)
	if err == nil {
		_ = s.Close()
	}
	wantError(t, err, want)
	if ctx.Err() != nil {
		t.Errorf("Open waited for what does not pass: %v", err)
	}
}

// What the user may not do is told when the store is opened, not when it is needed.
func TestPermissions(t *testing.T) {
	t.Parallel()
	missing := map[string]string{
		"log":    "replyq.>",
		"read":   "$JS.API.CONSUMER.CREATE.>",
		"purge":  "$JS.API.STREAM.PURGE.>",
		"look":   "$JS.API.STREAM.INFO.>",
		"bucket": "$KV.>",
	}
	var users strings.Builder
	for user, subject := range missing {
		fmt.Fprintf(&users, "{user: %s, password: p, permissions: {publish: {allow: \">\", deny: %q}, subscribe: \">\"}}\n", user, subject)
	}
	c := natstest.Start(t, natstest.Options{
		Extra:  "authorization { users = [ {user: all, password: p}\n" + users.String() + "] }",
		Client: []nats.Option{nats.UserInfo("all", "p")},
	})
	as := func(user string) cluster.Options {
		return cluster.Options{URL: "nats://" + user + ":p@" + c.Node(0).Address(), Replicas: 1}
	}
	write(t, take(t, open(t, as("all")), 0), "one")
	for user := range missing {
		if user == "bucket" { // it is read from another subject
			continue
		}
		t.Run(user, func(t *testing.T) { refused(t, as(user), "ermissions") })
	}
	t.Run("nobody", func(t *testing.T) {
		refused(t, as("nobody"), "uthorization")
		err := openError(t, as("nobody"))
		if strings.Contains(err.Error(), ":p@") {
			t.Errorf("the password is in the error: %v", err)
		}
	})
}

func openError(t *testing.T, o cluster.Options) error {
	t.Helper()
	s, err := cluster.Open(t.Context(), o)
	if err == nil {
		_ = s.Close()
		t.Fatal("Open succeeded")
	}
	return err
}

// A server that is too old is refused by what it says of itself.
func TestOldServer(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]string{"2.10.29": "2.11", "1.4.1": "2.11", "strange": "2.11"} {
		t.Run(version, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // closed below
			if err != nil {
				t.Fatal(err)
			}
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				greet(l, version)
			}()
			refused(t, cluster.Options{URL: "nats://" + l.Addr().String()}, want)
			_ = l.Close()
			<-ended
		})
	}
}

// greet speaks as much of the protocol as a client needs to be connected.
func greet(l net.Listener, version string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = fmt.Fprintf(c, "INFO {\"server_id\":\"S\",\"version\":%q,\"max_payload\":16777216,\"headers\":true,\"jetstream\":true}\r\n", version)
		for lines := bufio.NewScanner(c); lines.Scan(); {
			if lines.Text() == "PING" {
				_, _ = fmt.Fprint(c, "PONG\r\n")
			}
		}
		_ = c.Close()
	}
}

// Both sides show certificates; a server of another authority, and a client without a certificate, are refused.
func TestTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca, cert, key := certificates(t, dir)
	otherDir := t.TempDir()
	other, _, _ := certificates(t, otherDir)
	c := natstest.Start(t, natstest.Options{
		Extra:  fmt.Sprintf("tls { ca_file: %q, cert_file: %q, key_file: %q, verify: true }", ca, cert, key),
		Client: []nats.Option{nats.RootCAs(ca), nats.ClientCert(cert, key)},
	})
	o := cluster.Options{URL: c.URL(), Replicas: 1, CA: ca, Cert: cert, Key: key}
	j := take(t, open(t, o), 0)
	write(t, j, "one")
	wantContent(t, j, "one")
	strange := o
	strange.CA = other
	refused(t, strange, "certificate")
	bare := o
	bare.Cert, bare.Key = "", ""
	refused(t, bare, "certificate")
	lost := o
	lost.CA = filepath.Join(dir, "nothing")
	refused(t, lost, "nothing")
}

// certificates makes an authority, and a certificate of it for 127.0.0.1 and for clients.
func certificates(t *testing.T, dir string) (ca, cert, key string) {
	t.Helper()
	caKey, caTemplate := newKey(t), template(1)
	caTemplate.IsCA, caTemplate.BasicConstraintsValid, caTemplate.KeyUsage = true, true, x509.KeyUsageCertSign
	own, ownTemplate := newKey(t), template(2)
	ownTemplate.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	ownTemplate.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	sign := func(c *x509.Certificate, k *ecdsa.PrivateKey) []byte {
		der, err := x509.CreateCertificate(rand.Reader, c, caTemplate, &k.PublicKey, caKey)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	der, err := x509.MarshalECPrivateKey(own)
	if err != nil {
		t.Fatal(err)
	}
	save := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return save("ca.pem", "CERTIFICATE", sign(caTemplate, caKey)), save("cert.pem", "CERTIFICATE", sign(ownTemplate, own)),
		save("key.pem", "EC PRIVATE KEY", der)
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func template(serial int64) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{SerialNumber: big.NewInt(serial), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)}
}

// A stream whose settings somebody changed is refused.
func TestChangedStream(t *testing.T) {
	t.Parallel()
	c := natstest.Start(t, natstest.Options{})
	o := cluster.Options{URL: c.URL(), Replicas: 1}
	js := jetStream(t, c)
	if err := open(t, o).Close(); err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(t.Context(), "REPLYQ_main")
	if err != nil {
		t.Fatal(err)
	}
	config := s.CachedInfo().Config
	config.MaxAge = time.Hour
	if _, err := js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	refused(t, o, "limit of age")
	// Persisting later cannot be switched on for a stream that is there: it is one that somebody made beforehand.
	config.Name, config.Subjects, config.MaxAge, config.Replicas = "REPLYQ_lazy", []string{"replyq.lazy.log.*"}, 0, 1
	config.PersistMode = 1 // async
	if _, err := js.CreateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	o.Name = "lazy"
	refused(t, o, "persist mode")
}
