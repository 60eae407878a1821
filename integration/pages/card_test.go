package pages

import (
	"context"
	"flag"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"
	"github.com/jirani/jirani/allinone/card"
	"github.com/jirani/jirani/integration/browser"
	"github.com/jirani/jirani/internal/logging"
)

var screenshots = flag.String("screenshots", "", "write screenshots into this directory")

// network is a card's content as `jirani up` gives it on a LAN.
type network struct{ down chan struct{} }

func (network) Host() string { return "127.0.0.1" }

func (network) Sections() []card.Section {
	return []card.Section{
		{Title: "Name server", Fields: []card.Field{{Name: "Address", Value: "http://192.0.2.10:8081", Copy: true}}},
		{Title: "OpenDHT configuration", Fields: []card.Field{
			{Name: "Enable proxy", Value: "off"},
			{Name: "Bootstrap", Value: "192.0.2.10:4222", Copy: true},
			{Name: "Enable local peer discovery", Value: "on", Note: "finds this network without the line above"},
		}},
		{Title: "Connectivity", Fields: []card.Field{
			{Name: "Use TURN", Value: "on"},
			{Name: "TURN address", Value: "192.0.2.10", Copy: true},
			{Name: "TURN username", Value: "ring", Note: "Jami's own default", Copy: true},
			{Name: "TURN password", Value: "ring", Note: "Jami's own default", Copy: true},
			{Name: "TURN realm", Value: "ring", Note: "Jami's own default", Copy: true},
		}},
	}
}

func (n network) Roles(context.Context) []card.Role {
	roles := []card.Role{
		{Name: "DHT node", Address: "192.0.2.10:4222"}, {Name: "Name server", Address: "http://192.0.2.10:8081"},
		{Name: "TURN relay", Address: "192.0.2.10:3478"}, {Name: "Push (UnifiedPush)", Address: "http://192.0.2.10:8089"},
	}
	select {
	case <-n.down:
		roles[1].Err = "the disk is full"
	default:
	}
	return roles
}

func (network) LookupName(_ context.Context, name string) (string, error) {
	if name == "alice" {
		return strings.Repeat("0123456789", 4), nil
	}
	return "", card.ErrNoSuchName
}

// serve runs a card and returns its address on loopback.
func serve(t *testing.T, n card.Network) string {
	t.Helper()
	s, err := card.New("127.0.0.1:0", n, logging.Discard())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
	return "http://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port()))
}

func TestCardLooks(t *testing.T) {
	base := serve(t, network{})
	for _, v := range browser.Views {
		t.Run(v.Name, func(t *testing.T) {
			tab := browser.Open(t, v)
			tab.Goto(base + "/")
			tab.Await(`!document.querySelector('button[data-copy]').hidden`)
			if got := tab.Text("#roles"); !strings.Contains(got, "Name server") {
				t.Errorf("roles = %q", got)
			}
			if *screenshots != "" {
				if err := os.WriteFile(filepath.Join(*screenshots, "card-"+v.Name+".png"), tab.Screenshot(), 0o644); err != nil {
					t.Error(err)
				}
			}
			tab.CheckQuiet(base)
		})
	}
}

func TestCardByKeyboard(t *testing.T) {
	base := serve(t, network{})
	tab := browser.Open(t, browser.Views[0])
	tab.Goto(base + "/")
	tab.Await(`!document.querySelector('button[data-copy]').hidden`)
	focused := func() string { return browser.Eval[string](tab, `document.activeElement.outerHTML`) }
	tab.Press(kb.Tab)
	if got := focused(); !strings.Contains(got, "Skip to content") {
		t.Fatalf("first stop = %s", got)
	}
	// Every control can be reached, in reading order, and shows that it has the focus.
	var stops []string
	for range 10 {
		tab.Press(kb.Tab)
		stops = append(stops, focused())
		if outline := browser.Eval[string](tab, `getComputedStyle(document.activeElement).outlineStyle`); outline == "none" {
			t.Errorf("no focus ring on %s", focused())
		}
		if strings.HasPrefix(focused(), "<input") {
			break
		}
	}
	if last := stops[len(stops)-1]; !strings.HasPrefix(last, "<input") || len(stops) != 8 { // link, six copy buttons, search
		t.Fatalf("stops = %q", stops)
	}
	tab.Press("alice" + kb.Enter)
	tab.Await(`document.getElementById('answer').textContent.includes('0123456789')`)
	tab.CheckQuiet(base)
}

func TestCardCopies(t *testing.T) {
	base := serve(t, network{})
	tab := browser.Open(t, browser.Views[2])
	tab.Goto(base + "/")
	tab.Await(`!document.querySelector('button[data-copy]').hidden`)
	tab.Click(`button[data-copy="192.0.2.10:4222"]`)
	tab.Await(`document.getElementById('copied').textContent === 'Copied 192.0.2.10:4222'`)
	tab.CheckQuiet(base)
}

func TestCardFollowsTheServers(t *testing.T) {
	n := network{down: make(chan struct{})}
	base := serve(t, n)
	tab := browser.Open(t, browser.Views[0])
	tab.Goto(base + "/")
	close(n.down)
	tab.Await(`document.getElementById('roles').textContent.includes('the disk is full')`)
	tab.CheckQuiet(base)
}
