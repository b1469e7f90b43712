package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/replyq/replyq/journal/disk"
)

// A server that uses a data directory takes backups of it when it is asked to: through a socket in that directory, so that
// whoever may read the directory, and nobody else, may ask. One line comes, the directory of the backup, and one line is
// the answer: nothing, or what is wrong.

// backupSocket is the name of the socket.
const backupSocket = "backup.sock"

// backups takes them.
type backups struct {
	store    *disk.Store
	log      *slog.Logger
	listener net.Listener // nil if there is none
	wg       sync.WaitGroup
}

func takeBackups(store *disk.Store, dir string, log *slog.Logger) *backups {
	b := &backups{store: store, log: log}
	name := filepath.Join(dir, backupSocket)
	err := os.Remove(name) // of an earlier run: the store is ours
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		if b.listener, err = net.Listen("unix", name); err == nil {
			err = os.Chmod(name, 0o600)
		}
	}
	if err != nil {
		log.Warn("backups can only be taken when the server is stopped: its socket cannot be made", slog.Any("error", err))
		b.close()
		return b
	}
	b.wg.Go(b.listen)
	return b
}

func (b *backups) listen() {
	for {
		conn, err := b.listener.Accept()
		if err != nil {
			return // closed
		}
		b.answer(conn) // one at a time
	}
}

// backupPatience is how long the other side may take for its line.
const backupPatience = 5 * time.Second

func (b *backups) answer(conn net.Conn) {
	defer func() { _ = conn.Close() }() // its other side has gone
	_ = conn.SetDeadline(time.Now().Add(backupPatience))
	to, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return
	}
	to = strings.TrimSuffix(to, "\n")
	began := time.Now()
	if err = b.store.Backup(to); err != nil {
		b.log.Warn("no backup was taken", slog.String("to", to), slog.Any("error", err))
	} else {
		b.log.Info("a backup was taken", slog.String("to", to), slog.Duration("took", time.Since(began).Round(time.Millisecond)))
	}
	_ = conn.SetDeadline(time.Now().Add(backupPatience))
	text := ""
	if err != nil {
		text = strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	_, _ = fmt.Fprintln(conn, text) // who does not read it has gone
}

func (b *backups) close() {
	if b.listener != nil {
		_ = b.listener.Close() // and removes the socket; if it cannot, the next run does
		b.wg.Wait()
	}
}

type backupCmd struct {
	DataDir string `required:"" env:"REPLYQ_DATA_DIR" placeholder:"DIR" help:"The data directory."`
	To      string `arg:"" help:"Where the copy goes: a directory that is empty or does not exist."`
}

// Help is shown by backup --help.
func (backupCmd) Help() string {
	return "The copy has all that was confirmed when it was begun, and is a data directory itself: start a server with it, " +
		"or verify it with check. If a server uses the directory, that one makes the copy, so the paths are as it sees them, " +
		"and clients go on meanwhile. On the same file system a copy takes hardly any time and room. It is as secret as the " +
		"directory: it has the messages, and the keys that sign handles."
}

// Run takes a backup.
func (c *backupCmd) Run(std streams, code *int) error {
	to, err := filepath.Abs(c.To)
	if err != nil {
		return err
	}
	conn, err := net.Dial("unix", filepath.Join(c.DataDir, backupSocket))
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		err = c.offline(to)
		*code = codeOf(err)
	case err != nil:
		return fmt.Errorf("ask the server that uses %s: %w", c.DataDir, err)
	default:
		err = ask(conn, to)
	}
	if err != nil {
		return err
	}
	*code = exitOK
	_, err = fmt.Fprintln(std.out, to)
	return err
}

// ask has the server take a backup.
func ask(conn net.Conn, to string) error {
	_, err := fmt.Fprintln(conn, to)
	var answer string
	if err == nil {
		answer, err = bufio.NewReader(conn).ReadString('\n')
	}
	if err = errors.Join(err, conn.Close()); err != nil {
		return fmt.Errorf("the server gave no answer: %w", err)
	}
	if answer = strings.TrimSpace(answer); answer != "" {
		return errors.New(answer)
	}
	return nil
}

// offline copies a directory that no server uses.
func (c *backupCmd) offline(to string) error {
	if _, err := os.Stat(c.DataDir); err != nil {
		return err // and make no store
	}
	store, err := disk.Open(c.DataDir, disk.Options{AllowMemory: true})
	if err != nil {
		return err
	}
	return errors.Join(store.Backup(to), store.Close())
}
