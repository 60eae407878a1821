package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/jirani/jirani/internal/config"
	"github.com/jirani/jirani/internal/durable"
	"github.com/jirani/jirani/turnserver/coturnconf"
)

// importCoturn translates coturn's configuration. With -o the secrets go into files beside it; without, they are only named.
func importCoturn(args []string, _ io.Reader, stdout, stderr io.Writer) int {
	const hint = "jirani-turnserver import-coturn [-o FILE] /etc/turnserver.conf"
	set := flag.NewFlagSet("import-coturn", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	out := set.String("o", "", "")
	if err := set.Parse(args); err != nil || set.NArg() != 1 {
		return fail(stderr, fmt.Errorf("%w: import-coturn %s", errUsage, strings.Join(args, " ")), hint)
	}
	f, err := os.Open(set.Arg(0))
	if err != nil {
		return fail(stderr, err, hint)
	}
	defer f.Close()
	options, err := coturnconf.Parse(f)
	if err != nil {
		return fail(stderr, err, "is that coturn's turnserver.conf?")
	}
	dir := ""
	if *out != "" {
		dir = filepath.Dir(*out)
	}
	result := coturnconf.Translate(options, dir)
	for _, note := range result.Notes {
		fmt.Fprintf(stderr, "%s: note: %s\n", program, note)
	}
	var yaml bytes.Buffer
	file := role().Defaults()
	file.Role = result.Config
	if err := config.Print(&yaml, file); err != nil {
		return fail(stderr, err, "")
	}
	if *out == "" {
		_, _ = stdout.Write(yaml.Bytes())
		for name := range result.Files {
			fmt.Fprintf(stderr, "%s: note: the secrets for %s are not shown; use -o FILE to have them written beside it\n", program, name)
		}
		return 0
	}
	if err := writeNew(*out, yaml.Bytes()); err != nil {
		return fail(stderr, err, "nothing is overwritten: choose another name")
	}
	for name, content := range result.Files {
		if err := writeNew(filepath.Join(dir, name), []byte(content)); err != nil {
			return fail(stderr, err, "nothing is overwritten: choose an empty directory")
		}
	}
	return 0
}

// writeNew writes a file that only its owner may read, unless it exists.
func writeNew(path string, content []byte) error {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("%s exists", path)
	}
	return durable.WriteFile(path, content, 0o600)
}
