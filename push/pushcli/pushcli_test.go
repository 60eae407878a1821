package pushcli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func run(t *testing.T, stdin string, args ...string) (code int, out, errs string) {
	t.Helper()
	t.Chdir(t.TempDir())
	var stdout, stderr bytes.Buffer
	code = Main(t.Context(), args, strings.NewReader(stdin), &stdout, &stderr)
	return code, stdout.String(), stderr.String()
}

func TestSend(t *testing.T) {
	for _, tc := range []struct {
		name, stdin string
		args        []string
		code        int
		want        string
	}{
		{"android", "token\n", []string{"-platform", "android"}, 0, "delivered: ok (1 attempts, token 3c469e9d)"},
		{"ios", "token", []string{"-platform", "ios", "-topic", "cx.ring.test"}, 0, "delivered: ok"},
		{"background", "token", []string{"-platform", "ios", "-topic", "cx.ring.test", "-kind", "background", "-priority", "normal"}, 0, "delivered: ok"},
		{"unifiedpush", "https://push.example/upX", []string{"-platform", "unifiedpush"}, 0, "delivered: ok"},
		{"gone", "token", []string{"-platform", "android", "-set", "fake.faults=[{status: 404}]"}, 1, "dead_token: unregistered"},
		{"wrong topic", "token", []string{"-platform", "ios", "-topic", "some.other"}, 1, "dropped: mismatch"},
		{"no platform", "token", nil, 2, "-platform"},
		{"no token", "", []string{"-platform", "android"}, 2, "no token"},
		{"bad data", "token", []string{"-platform", "android", "-data", "[]"}, 2, "-data"},
		{"bad kind", "token", []string{"-platform", "ios", "-kind", "shout"}, 2, "-kind"},
		{"bad flag", "token", []string{"-loud"}, 2, "-loud"},
		{"help", "", []string{"-help"}, 0, "Usage: jirani-push send"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			code, out, errs := run(t, tc.stdin, append([]string{"send", "-set", "provider=fake"}, tc.args...)...)
			if code != tc.code || !strings.Contains(out+errs, tc.want) {
				t.Errorf("exit %d\n%s%s\nwant %d and %q", code, out, errs, tc.code, tc.want)
			}
		})
	}
}

func TestTokenFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte("SECRET-TOKEN\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, errs := run(t, "", "send", "-set", "provider=fake", "-platform", "android", "-token-file", path)
	if code != 0 || strings.Contains(out+errs, "SECRET") {
		t.Errorf("exit %d: %s%s", code, out, errs)
	}
}

func TestNotConfigured(t *testing.T) {
	code, _, errs := run(t, "token", "send", "-platform", "android")
	if code != 1 || !strings.Contains(errs, "platform not configured") {
		t.Errorf("exit %d: %s", code, errs)
	}
}

func TestServerFlags(t *testing.T) {
	if code, out, _ := run(t, "", "-print-config"); code != 0 || !strings.Contains(out, "listen: 127.0.0.1:8088") {
		t.Errorf("exit %d: %s", code, out)
	}
	if code, _, errs := run(t, "", "-check", "-set", "listen=0.0.0.0:8088"); code != 1 || !strings.Contains(errs, "tokens_file") {
		t.Errorf("exit %d: %s", code, errs)
	}
}
