package allinone

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jirani/jirani/internal/config"
	"github.com/jirani/jirani/internal/logging"
	"github.com/jirani/jirani/internal/ops"
	"github.com/jirani/jirani/internal/service"
)

func file() service.File[Config] {
	return service.File[Config]{Role: Default(), Log: logging.Default(), Ops: ops.Config{Listen: "127.0.0.1:9600"}}
}

var addresses4 = cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })

func load(t *testing.T, path string) service.File[Config] {
	t.Helper()
	var got service.File[Config]
	if err := config.Load(&got, config.Source{Path: path}); err != nil {
		t.Fatalf("Load: %v", err)
	}
	return got
}

// The file explains every key: loading it over nothing gives the defaults.
func TestSampleIsDefault(t *testing.T) {
	path := filepath.Join(t.TempDir(), "jirani.yaml")
	if _, err := Init(path, ""); err != nil {
		t.Fatal(err)
	}
	equal := cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
	addr := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	if diff := cmp.Diff(file(), load(t, path), addresses4, equal, addr, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("sample differs from Default (-default +sample):\n%s", diff)
	}
	if err := Default().Validate(); err != nil {
		t.Errorf("Default().Validate() = %v", err)
	}
}

func TestPublicFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "jirani.yaml")
	if _, err := Init(path, "jami.example.org"); err != nil {
		t.Fatal(err)
	}
	c := load(t, path).Role
	if c.Host != "jami.example.org" || c.Turnserver.JamiUser != "off" || c.Turnserver.Policy.LAN || c.Bootstrap.LAN ||
		c.Nameserver.Policy.Mode != "invite" || c.Nameserver.Ledger.Origin != "jami.example.org/names" {
		t.Errorf("public file = %+v", c)
	}
	if users, err := c.Turnserver.Realms[0].UsersFile.Read(); err != nil || !strings.Contains(users, "jami:") {
		t.Errorf("users file = %q, %v", users, err)
	}
	if _, err := Init(path, "jami.example.org"); !os.IsExist(err) && !strings.Contains(err.Error(), "exists") {
		t.Errorf("second Init = %v", err)
	}
	if _, err := Init(filepath.Join(dir, "b"), "a: b"); err == nil {
		t.Error("Init with a host that is none succeeded")
	}
}
