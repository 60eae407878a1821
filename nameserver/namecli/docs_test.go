package namecli

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// section returns the commands of the first code block after a heading of the
// operator's page, as lines of a script in which the machine's directories are
// the script's own.
func section(t *testing.T, page, heading string) string {
	t.Helper()
	_, after, ok := strings.Cut(page, "\n### "+heading+"\n")
	block := regexp.MustCompile("(?s)```sh\n(.*?)```").FindStringSubmatch(after)
	if !ok || block == nil {
		t.Fatalf("the page has no commands under %s", heading)
	}
	var out strings.Builder
	for line := range strings.Lines(block[1]) {
		line = strings.NewReplacer(
			"/etc/jirani/nameserver.yaml", "ns.yaml", "/var/lib/jirani/nameserver", "state",
			"/backup/names", "backup", "/safe/", "safe/").Replace(line)
		switch {
		case strings.HasPrefix(line, "systemctl stop "):
			line = "stop\n"
		case strings.HasPrefix(line, "systemctl start "):
			line = "serve ns.yaml\n"
		default:
			line = "exec " + line
		}
		out.WriteString(line)
	}
	return out.String()
}

// TestBackupAndRestoreAsWritten runs the commands of docs/operating/nameserver.md
// as they stand there, with the whole state lost in between.
func TestBackupAndRestoreAsWritten(t *testing.T) {
	page, err := os.ReadFile("../../docs/operating/nameserver.md")
	if err != nil {
		t.Fatal(err)
	}
	script := `mkdir safe
exec jirani-nameserver ledger init -config ns.yaml -json
getjson VKEY vkey
serve ns.yaml
accountkey alice.pem
exec jirani-nameserver register alice -server $SERVER -key alice.pem
` + section(t, string(page), "Backup") + `
accountkey bob.pem
exec jirani-nameserver register bob -server $SERVER -key bob.pem
` + section(t, string(page), "Backup") + `
stop
rm state
` + section(t, string(page), "Restore") + `
exec jirani-nameserver lookup alice -server $SERVER -vkey $VKEY
exec jirani-nameserver lookup bob -server $SERVER -vkey $VKEY
accountkey carol.pem
! exec jirani-nameserver register alice -server $SERVER -key carol.pem
exec jirani-nameserver register carol -server $SERVER -key carol.pem
-- ns.yaml --
state_dir: state
listen: 0.0.0.0:0
ledger: {origin: ns.example}
policy: {mode: open}
`
	file := filepath.Join(t.TempDir(), "docs.txt")
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, params(testscript.Params{Files: []string{file}}))
}
