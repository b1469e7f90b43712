package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"

	"github.com/replyq/replyq/journal/cluster"
)

// natsFlags say where the NATS cluster is that a service of several replicas keeps everything in.
type natsFlags struct {
	NATSURL         string `name:"nats-url" env:"REPLYQ_NATS_URL" placeholder:"URL,URL…" help:"Keep everything in NATS JetStream, where other replicas of this service find it: addresses of its servers, e.g. nats://a:4222,nats://b:4222."`
	NATSName        string `name:"nats-name" default:"main" env:"REPLYQ_NATS_NAME" placeholder:"NAME" help:"Name of the service there: several may share a NATS cluster (${default})."`
	NATSReplicas    int    `name:"nats-replicas" default:"3" env:"REPLYQ_NATS_REPLICAS" placeholder:"N" help:"NATS servers that keep a copy, 1, 3 or 5; fixed when the service is begun (${default})."`
	NATSCredentials string `name:"nats-credentials" env:"REPLYQ_NATS_CREDENTIALS" placeholder:"FILE" help:"Credentials for NATS (.creds)."`
	NATSCA          string `name:"nats-ca" env:"REPLYQ_NATS_CA" placeholder:"FILE" help:"Certificates that vouch for the NATS servers. Default: the system's."`
	NATSCert        string `name:"nats-cert" env:"REPLYQ_NATS_CERT" placeholder:"FILE" help:"This client's certificate for NATS, with --nats-key."`
	NATSKey         string `name:"nats-key" env:"REPLYQ_NATS_KEY" placeholder:"FILE" help:"Its private key."`
}

// Validate is called when the command line has been read, by the commands that have flags of their own to check too.
func (f *natsFlags) Validate() error {
	if f.NATSURL == "" {
		if f.NATSCredentials != "" || f.NATSCA != "" || f.NATSCert != "" || f.NATSKey != "" {
			return errors.New("--nats-credentials, --nats-ca, --nats-cert and --nats-key are about --nats-url, which is not set")
		}
		return nil
	}
	for address := range strings.SplitSeq(f.NATSURL, ",") {
		if err := checkNATSAddress(strings.TrimSpace(address)); err != nil {
			return err
		}
	}
	if f.NATSReplicas != 1 && f.NATSReplicas != 3 && f.NATSReplicas != 5 {
		return fmt.Errorf("--nats-replicas is 1, 3 or 5, not %d", f.NATSReplicas)
	}
	if (f.NATSCert == "") != (f.NATSKey == "") {
		return errors.New("--nats-cert and --nats-key belong together: give both or none")
	}
	return nil
}

// checkNATSAddress refuses what is no address of a NATS server. It does not repeat it: there may be a password in it.
func checkNATSAddress(address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "nats" && u.Scheme != "tls" {
		return errors.New("--nats-url: write addresses like nats://host:4222 or tls://host:4222, with commas between them")
	}
	return nil
}

// options are those of the store.
func (f *natsFlags) options(node string, log *slog.Logger) cluster.Options {
	return cluster.Options{
		URL: f.NATSURL, Name: f.NATSName, Replicas: f.NATSReplicas,
		Credentials: f.NATSCredentials, CA: f.NATSCA, Cert: f.NATSCert, Key: f.NATSKey,
		Node: node, Log: log,
	}
}
