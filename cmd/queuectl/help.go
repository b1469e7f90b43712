package main

import (
	"fmt"
	"strings"

	"github.com/alecthomas/kong"
)

const description = `queuectl uses a replyq service from the shell.

A PAYLOAD is text, or - for standard input. A HANDLE is its text (qh1s_… to reply through, qh1r_… to await,
qh1l_… for a lease), or @FILE for a file that holds it: handles are secrets, and command lines are public.
TIME is like 500ms, 30s, 5m or 2h.`

const epilogue = `Exit codes:
    0  done; for call and receive: the pipe ended OK
    1  the pipe ended otherwise; or the reply reached nobody; or work was cut short; or the cluster is not well
    2  the command line is wrong
    3  no server there, or time ran out (with a call: its pipe has EXPIRED)
    4  the server refused the request
  130  interrupted

Results go to standard output, all else to standard error. Where queuectl waits for over a second it says why, if
standard error is a terminal or --verbose is given. Ctrl-C cancels a call, detaches a receive, and lets work finish
what it has begun (a second one stops it).

queuectl COMMAND --help tells more of a command, and what it writes with --json.`

// printHelp prints the whole surface for queuectl itself, and kong's help for a command.
func printHelp(options kong.HelpOptions, ctx *kong.Context) error {
	if ctx.Selected() != nil {
		return kong.DefaultHelpPrinter(options, ctx)
	}
	var b strings.Builder
	b.WriteString("Usage: queuectl COMMAND [flags]\n\n" + description + "\n\nCommands:\n")
	for _, command := range ctx.Model.Leaves(true) {
		fmt.Fprintf(&b, "\n  %s\n      %s\n", usage(command), command.Help)
		for _, line := range wrapFlags(command.Flags, 100) {
			b.WriteString("      " + line + "\n")
		}
		fmt.Fprintf(&b, "      $ %s\n", command.Tag.Get("example"))
	}
	b.WriteString("\nFlags of all commands:\n\n")
	for _, flag := range ctx.Model.Flags {
		fmt.Fprintf(&b, "  %-26s %s\n", flagForm(flag), kong.DefaultHelpValueFormatter(flag.Value))
	}
	b.WriteString("\n" + epilogue + "\n")
	_, err := fmt.Fprint(ctx.Stdout, b.String())
	return err
}

// usage is a command with its arguments.
func usage(command *kong.Node) string {
	if command.Tag.Has("usage") {
		return command.Tag.Get("usage")
	}
	words := []string{command.Name}
	for _, p := range command.Positional {
		words = append(words, strings.ToUpper(strings.NewReplacer("<", "", ">", "", " ...", "…").Replace(p.Summary())))
	}
	return strings.Join(words, " ")
}

// wrapFlags lists flags in lines of at most width characters.
func wrapFlags(flags []*kong.Flag, width int) []string {
	var lines []string
	line := ""
	for _, flag := range flags {
		form := "[" + flagForm(flag) + "]"
		if line != "" && len(line)+1+len(form) > width {
			lines, line = append(lines, line), ""
		}
		line = strings.TrimPrefix(line+" "+form, " ")
	}
	if line == "" {
		return lines
	}
	return append(lines, line)
}

func flagForm(flag *kong.Flag) string {
	form := "--" + flag.Name
	if flag.Short != 0 {
		form = "-" + string(flag.Short) + ", " + form
	}
	if !flag.IsBool() {
		form += " " + strings.TrimSuffix(flag.FormatPlaceHolder(), ",...")
	}
	return form
}
