package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/jirani/jirani/internal/config"
	"github.com/jirani/jirani/turnserver"
	"github.com/jirani/jirani/turnserver/credential"
)

const (
	program        = "jirani-turnserver"
	commandTimeout = 30 * time.Second
	maxPassword    = 512     // bytes
	maxAnswer      = 4 << 20 // bytes of a page of sessions
)

// commands are the subcommands; each returns the exit status.
var commands = map[string]func(args []string, stdin io.Reader, stdout, stderr io.Writer) int{
	"user":          user,
	"sessions":      sessions,
	"import-coturn": importCoturn,
}

// errUsage makes fail return the status of misuse.
var errUsage = errors.New("wrong use")

func fail(stderr io.Writer, err error, hint string) int {
	fmt.Fprintf(stderr, "%s: error: %v\n", program, err)
	if hint != "" {
		fmt.Fprintf(stderr, "%s: hint: %s\n", program, hint)
	}
	if errors.Is(err, errUsage) {
		return 2
	}
	return 1
}

// user adds, deletes and lists the users of a realm's database.
func user(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	const hint = "jirani-turnserver user add|del|list -config FILE [-realm NAME] [NAME]; add reads the password from standard input"
	if len(args) == 0 {
		return fail(stderr, fmt.Errorf("%w: user needs add, del or list", errUsage), hint)
	}
	action := args[0]
	set := flag.NewFlagSet("user", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	path := set.String("config", "", "")
	realm := set.String("realm", "", "")
	if err := set.Parse(args[1:]); err != nil {
		return fail(stderr, fmt.Errorf("%w: %v", errUsage, err), hint)
	}
	wantName := action != "list"
	if action != "add" && action != "del" && action != "list" || wantName != (set.NArg() == 1) || set.NArg() > 1 {
		return fail(stderr, fmt.Errorf("%w: user %s", errUsage, strings.Join(args, " ")), hint)
	}
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	file := role().Defaults()
	if err := config.Load(&file, config.Source{Path: *path, Prefix: "TURNSERVER"}); err != nil {
		return fail(stderr, err, "the same file as the server's is wanted")
	}
	table, name, err := turnserver.OpenUserTable(ctx, file.Role, *realm)
	if err != nil {
		return fail(stderr, err, "give the realm sqlite or postgres_url_file in the configuration")
	}
	defer table.Close()
	switch action {
	case "add":
		err = addUser(ctx, table, name, set.Arg(0), stdin)
	case "del":
		err = table.Delete(ctx, name, set.Arg(0))
	default:
		err = table.List(ctx, name, func(user string) bool { fmt.Fprintln(stdout, user); return true })
	}
	if err != nil {
		return fail(stderr, err, "")
	}
	return 0
}

func addUser(ctx context.Context, table *credential.Table, realm, name string, stdin io.Reader) error {
	if err := credential.ValidUser(name); err != nil {
		return err
	}
	b, err := io.ReadAll(io.LimitReader(stdin, maxPassword+2))
	if err != nil {
		return fmt.Errorf("read password: %w", err)
	}
	password := strings.TrimRight(string(b), "\r\n")
	if password == "" || len(password) > maxPassword || strings.ContainsAny(password, "\r\n") {
		return fmt.Errorf("standard input must hold a password of 1 to %d bytes on one line", maxPassword)
	}
	return table.Add(ctx, realm, name, credential.LongTermKey(name, realm, password))
}

// sessions shows the allocations of a running server.
func sessions(args []string, _ io.Reader, stdout, stderr io.Writer) int {
	set := flag.NewFlagSet("sessions", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	ops := set.String("ops", "http://127.0.0.1:9604", "")
	asJSON := set.Bool("json", false, "")
	if err := set.Parse(args); err != nil || set.NArg() > 0 {
		return fail(stderr, fmt.Errorf("%w: sessions %s", errUsage, strings.Join(args, " ")), "jirani-turnserver sessions [-ops URL] [-json]")
	}
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	if !*asJSON {
		fmt.Fprintln(w, "ID\tUSER\tTRANSPORT\tCLIENT\tRELAYED\tPERMISSIONS\tUP\tDOWN\tLEFT")
	}
	for after := uint64(0); ; {
		page, err := fetchPage(*ops, after)
		if err != nil {
			return fail(stderr, err, "is the server running, and is that its operations listener?")
		}
		for _, s := range page.Sessions {
			printSession(w, stdout, s, *asJSON)
		}
		if after = page.Next; after == 0 {
			break
		}
	}
	if err := w.Flush(); err != nil {
		return fail(stderr, err, "")
	}
	return 0
}

func printSession(w *tabwriter.Writer, stdout io.Writer, s turnserver.Session, asJSON bool) {
	if asJSON {
		_ = json.NewEncoder(stdout).Encode(s)
		return
	}
	relayed := make([]string, len(s.Relayed))
	for i, a := range s.Relayed {
		relayed[i] = a.String()
	}
	fmt.Fprintf(w, "%d\t%s@%s\t%s\t%v\t%s\t%d\t%d\t%d\t%v\n", s.ID, s.User, s.Realm, s.Transport, s.Client, strings.Join(relayed, ","),
		s.Permissions, s.BytesUp, s.BytesDown, time.Until(s.ExpiresAt).Round(time.Second))
}

func fetchPage(ops string, after uint64) (page turnserver.SessionPage, err error) {
	client := http.Client{Timeout: commandTimeout}
	resp, err := client.Get(fmt.Sprintf("%s/v1/sessions?limit=1000&after=%d", strings.TrimRight(ops, "/"), after))
	if err != nil {
		return page, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return page, fmt.Errorf("%s answers %s", ops, resp.Status)
	}
	err = json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&page)
	return page, err
}
