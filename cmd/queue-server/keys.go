package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/server"
)

type newAPIKeyCmd struct {
	Principal    string        `required:"" placeholder:"NAME" help:"Who the key stands for, e.g. a program's name. Leases and sessions belong to principals."`
	Tenant       string        `default:"default" placeholder:"NAME" help:"The tenant whose queues it opens (${default})."`
	TenantNumber uint32        `default:"1" placeholder:"N" help:"The tenant's number, part of all its handles: never give it to another tenant (${default})."`
	ValidFor     time.Duration `placeholder:"TIME" help:"How long the key is good, e.g. 2160h. Default: for ever."`
	Append       string        `placeholder:"FILE" help:"Append the line to this file, and print the key alone."`
}

// Help is shown by new-api-key --help.
func (newAPIKeyCmd) Help() string {
	return "The key is shown once and kept nowhere: the file has only its hash. Clients send it as " +
		"\"authorization: Bearer KEY\". A running server reads the file again on SIGHUP."
}

// Run makes a key.
func (c *newAPIKeyCmd) Run(std streams) error {
	var expires time.Time
	if c.ValidFor > 0 {
		expires = time.Now().Add(c.ValidFor)
	}
	key, line := server.NewAPIKey(c.Tenant, c.TenantNumber, c.Principal, expires)
	if _, err := server.ParseAPIKeys([]byte(line)); err != nil {
		return err
	}
	if c.Append == "" {
		fmt.Fprintf(std.out, "key:  %s\nline: %s\n", key, line)
		return nil
	}
	if err := appendKey(c.Append, line); err != nil {
		return err
	}
	fmt.Fprintln(std.out, key)
	return nil
}

// appendKey adds a line to a file of API keys, if the file is good then.
func appendKey(name, line string) error {
	old, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if n := len(old); n > 0 && old[n-1] != '\n' {
		line = "\n" + line
	}
	line += "\n"
	if _, err := server.ParseAPIKeys(append(old, line...)); err != nil {
		return fmt.Errorf("%s is left as it was: %w", name, err)
	}
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(line)
	return errors.Join(err, f.Close())
}

type newKeyCmd struct {
	ID    uint8  `default:"0" placeholder:"N" help:"The key's number, 0 to 255, used once (${default})."`
	State string `enum:"mint,accept,dropped" default:"mint" placeholder:"STATE" help:"mint: sign new handles with it; accept: take handles signed with it; dropped: refuse them (${default})."`
}

// Help is shown by new-key --help.
func (newKeyCmd) Help() string {
	return "To begin: queue-server new-key > handle-keys; chmod 600 handle-keys. To rotate: add a key with the next id " +
		"and state accept on every server, then make it mint and the old one accept, and remove the old one when its " +
		"last handle has expired. A running server reads the file again on SIGHUP."
}

// Run makes a line.
func (c *newKeyCmd) Run(std streams) error {
	_, err := fmt.Fprintln(std.out, handles.GenerateKeyLine(c.ID, c.State, time.Now()))
	return err
}
