// Package browser drives a headless Chromium over a server's pages, the way a person would: pointer, keyboard, phone or desktop width,
// light or dark.
package browser

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	cdpruntime "github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// patience bounds everything a test does in one tab.
const patience = 60 * time.Second

// View is how a page is looked at.
type View struct {
	Name          string
	Width, Height int64 // CSS pixels
	Dark          bool
}

// Views are the ways every page must work in.
var Views = []View{
	{"desktop-light", 1280, 900, false},
	{"desktop-dark", 1280, 900, true},
	{"phone-light", 390, 844, false},
	{"phone-dark", 390, 844, true},
}

// Tab is one page of one test.
type Tab struct {
	tb  testing.TB
	ctx context.Context

	mu       sync.Mutex // guards what follows
	requests []string   // URLs asked for
	errors   []string   // uncaught exceptions and console errors
}

// Open starts a browser with one empty tab that ends with the test. Without Chromium the test is skipped, or fails with
// JIRANI_REQUIRE=1 in the environment.
func Open(tb testing.TB, v View) *Tab {
	tb.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("JIRANI_REQUIRE") == "1" {
			tb.Fatal("missing: program chromium")
		}
		tb.Skip("missing: program chromium")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.UserDataDir(tb.TempDir()), chromedp.WindowSize(int(v.Width), int(v.Height)),
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true), chromedp.Flag("disable-quic", true), chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	ctx, stop := chromedp.NewExecAllocator(ctx, options...)
	ctx, shut := chromedp.NewContext(ctx)
	tb.Cleanup(func() { shut(); stop(); cancel() })
	t := &Tab{tb: tb, ctx: ctx}
	if err := chromedp.Listen(ctx, t.event); err != nil {
		tb.Fatalf("browser: %v", err)
	}
	scheme := "light"
	if v.Dark {
		scheme = "dark"
	}
	call(t, network.Enable, network.EnableParams{})
	call(t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
	})
	call(t, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
		Width: v.Width, Height: v.Height, DeviceScaleFactor: 1, Mobile: v.Width < 600,
	})
	return t
}

func call[P, R any](t *Tab, cmd cdp.Command[P, R], params P) {
	t.tb.Helper()
	if _, err := chromedp.Call(t.ctx, cmd, params); err != nil {
		t.tb.Fatalf("browser: %s: %v", cmd.Method, err)
	}
}

// do runs one action and ends the test if it fails.
func do[T any](t *Tab, a chromedp.Action[T]) T {
	t.tb.Helper()
	v, err := chromedp.Run(t.ctx, a)
	if err != nil {
		t.tb.Fatalf("browser: %v", err)
	}
	return v
}

func (t *Tab) event(e any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch e := e.(type) {
	case *network.EventRequestWillBeSent:
		t.requests = append(t.requests, e.Request.URL)
	case *cdpruntime.EventExceptionThrown:
		t.errors = append(t.errors, e.ExceptionDetails.Text)
	case *cdpruntime.EventConsoleAPICalled:
		if e.Type == cdpruntime.ConsoleAPICalledTypeError {
			b, _ := json.Marshal(e.Args)
			t.errors = append(t.errors, string(b))
		}
	}
}

// Goto loads a page and waits until it has been drawn.
func (t *Tab) Goto(url string) {
	t.tb.Helper()
	do(t, chromedp.Navigate(url))
}

// Text returns what a person reads in the first element that matches a CSS selector.
func (t *Tab) Text(selector string) string {
	t.tb.Helper()
	return do(t, chromedp.Text(chromedp.CSS(selector)))
}

// Eval evaluates an expression to a value of T.
func Eval[T any](t *Tab, expression string) T {
	t.tb.Helper()
	return do(t, chromedp.Evaluate[T](expression))
}

// Await waits until an expression is true, over a change of page too.
func (t *Tab) Await(expression string) {
	t.tb.Helper()
	for t.ctx.Err() == nil {
		ok, err := chromedp.Run(t.ctx, chromedp.Poll[bool](expression, chromedp.WithPollingTimeout(time.Second)))
		if err == nil && ok {
			return
		}
	}
	t.tb.Fatalf("browser: not true in time: %s", expression)
}

// Click clicks with the pointer on the first element that matches a CSS selector.
func (t *Tab) Click(selector string) {
	t.tb.Helper()
	do(t, chromedp.Click(chromedp.CSS(selector)))
}

// Press sends keys to whatever has the focus.
func (t *Tab) Press(keys string) {
	t.tb.Helper()
	do(t, chromedp.KeyEvent(keys))
}

// Screenshot returns a PNG of the whole page.
func (t *Tab) Screenshot() []byte {
	t.tb.Helper()
	return do(t, chromedp.FullScreenshot(100))
}

// CheckQuiet fails the test if the page threw, logged an error, is wider than the screen, or asked anyone but base for anything.
func (t *Tab) CheckQuiet(base string) {
	t.tb.Helper()
	if wide := Eval[int](t, `document.documentElement.scrollWidth - document.documentElement.clientWidth`); wide > 0 {
		t.tb.Errorf("page is %d pixels wider than the screen", wide)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.errors {
		t.tb.Errorf("page: %s", e)
	}
	for _, url := range t.requests {
		if !strings.HasPrefix(url, base) && !strings.HasPrefix(url, "data:") {
			t.tb.Errorf("page asked for %s, outside %s", url, base)
		}
	}
}
