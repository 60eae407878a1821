package nameserver

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"flag"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"

	"github.com/jirani/jirani/integration/browser"
	"github.com/jirani/jirani/nameserver"
	"github.com/jirani/jirani/nameserver/nameproto"
	"github.com/jirani/jirani/nameserver/policy"
)

var screenshots = flag.String("screenshots", "", "write screenshots into this directory")

// serve runs a name server with two names on loopback and returns its base
// URL. Whatever rewrite changes is what the browser is shown.
func serve(t *testing.T) string {
	t.Helper()
	cfg := nameserver.Default()
	cfg.Listen, cfg.StateDir = "127.0.0.1:0", t.TempDir()
	cfg.Ledger.Visibility = nameserver.VisibilityPublic
	cfg.Policy.Mode = policy.ModeOpen
	s, err := nameserver.New(t.Context(), cfg, nameserver.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	base := "http://" + s.Addr()
	for _, name := range []string{"alice", "bob"} {
		register(t, base, name)
	}
	return base
}

func register(t *testing.T, base, name string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	r, err := nameproto.Sign(key, name)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.Post(base+"/name/"+name, "application/json", strings.NewReader(string(nameproto.AppendRegistration(nil, r))))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Fatalf("register %s: %s", name, res.Status)
	}
}

const checked = `document.querySelector('[data-prove]')?.dataset.done === 'true'`

func TestPagesLook(t *testing.T) {
	base := serve(t)
	for _, v := range browser.Views {
		t.Run(v.Name, func(t *testing.T) {
			tab := browser.Open(t, v)
			for name, want := range map[string]string{"alice": "Proven: alice belongs", "nobody": "Proven: nobody has"} {
				tab.Goto(base + "/?name=" + name)
				tab.Await(checked)
				if got := tab.Text("[data-prove]"); !strings.Contains(got, want) {
					t.Errorf("page of %s says %q, want %q", name, got, want)
				}
				shoot(t, tab, "names-"+name+"-"+v.Name)
			}
			tab.Goto(base + "/log")
			if got := tab.Text("#main"); !strings.Contains(got, "alice") || !strings.Contains(got, "map of") {
				t.Errorf("ledger page says %q", got)
			}
			shoot(t, tab, "names-log-"+v.Name)
			tab.CheckQuiet(base)
		})
	}
}

func shoot(t *testing.T, tab *browser.Tab, name string) {
	if *screenshots == "" {
		return
	}
	if err := os.WriteFile(filepath.Join(*screenshots, name+".png"), tab.Screenshot(), 0o644); err != nil {
		t.Error(err)
	}
}

func TestPagesByKeyboard(t *testing.T) {
	base := serve(t)
	tab := browser.Open(t, browser.Views[0])
	tab.Goto(base + "/") // the search field has the focus
	tab.Press("Alice" + kb.Enter)
	tab.Await(checked)
	if got := tab.Text("#address"); len(got) != 40 {
		t.Errorf("address %q", got)
	}
	tab.Press(kb.Tab)
	if got := browser.Eval[string](tab, `document.activeElement.textContent`); got != "Skip to content" {
		t.Errorf("first stop is %q", got)
	}
	tab.CheckQuiet(base)
}

// TestPageWithoutWebCrypto checks proofs with the page's own arithmetic, as a
// page loaded by plain HTTP must, and compares that with the browser's own.
func TestPageWithoutWebCrypto(t *testing.T) {
	base := serve(t)
	tab := browser.Open(t, browser.Views[0])
	tab.Goto(base + "/?name=alice")
	tab.Await(checked)
	run(tab, `
		const proof = await (await fetch("/v1/names/alice/proof")).json();
		const absent = await (await fetch("/v1/names/nobody/proof")).json();
		const vkey = document.querySelector("[data-prove]").dataset.vkey;
		const native = await import("/proof.js");
		Object.defineProperty(crypto, "subtle", {value: undefined});
		const plain = await import("/proof.js?plain");
		if (!native.native || plain.native) return "the two modules are the same";
		for (const n of [0, 1, 55, 56, 64, 111, 112, 128, 1000]) {
			const data = crypto.getRandomValues(new Uint8Array(n));
			for (const f of ["sha256", "sha1"]) {
				if (String(await native[f](data)) !== String(await plain[f](data))) return f + " differs for " + n;
			}
		}
		let steps = 0;
		const entry = await plain.check(proof, "alice", vkey, () => steps++);
		if (entry.name !== "alice" || steps !== 5) return "alice: " + JSON.stringify(entry) + steps;
		if (await plain.check(absent, "nobody", vkey, () => {}) !== null) return "nobody is somebody";
		return "good";`)
	if got := browser.Eval[string](tab, `window.outcome`); got != "good" {
		t.Error(got)
	}
	tab.CheckQuiet(base)
}

// TestPageRefusesForgeries changes every part of a proof and expects both ways
// of checking to notice.
func TestPageRefusesForgeries(t *testing.T) {
	base := serve(t)
	tab := browser.Open(t, browser.Views[0])
	tab.Goto(base + "/?name=alice")
	tab.Await(checked)
	run(tab, `
		const text = await (await fetch("/v1/names/alice/proof")).text();
		const free = await (await fetch("/v1/names/nobody/proof")).text();
		const bob = await (await fetch("/v1/names/bob/proof")).json();
		const vkey = document.querySelector("[data-prove]").dataset.vkey;
		const native = await import("/proof.js");
		Object.defineProperty(crypto, "subtle", {value: undefined});
		const modules = [native, await import("/proof.js?plain")];
		const flip = (s) => (s[10] === "A" ? s.slice(0, 10) + "B" : s.slice(0, 10) + "A") + s.slice(11);
		const forgeries = {
			checkpoint: (p) => { p.checkpoint = p.checkpoint.replace(/\n(\d+)\n/, (_, n) => "\n" + (Number(n) + 1) + "\n"); },
			origin: (p) => { p.checkpoint = p.checkpoint.replaceAll("localhost", "elsewhere"); },
			"map root": (p) => { p.map_root.data = flip(p.map_root.data); },
			"map root path": (p) => { p.map_root.inclusion[0] = flip(p.map_root.inclusion[0]); },
			"map root index": (p) => { p.map_root.index--; },
			siblings: (p) => { p.siblings[0] = flip(p.siblings[0]); },
			"fewer siblings": (p) => { p.siblings.pop(); },
			entry: (p) => { p.entry.data = flip(p.entry.data); },
			"entry path": (p) => { p.entry.inclusion.pop(); },
			"another entry": (p) => { p.entry = bob.entry; p.siblings = bob.siblings; p.evidence = bob.evidence; },
			"no entry": (p) => { delete p.entry; },
			evidence: (p) => { p.evidence.signature = flip(p.evidence.signature); },
			"evidence key": (p) => { p.evidence.public_key = bob.evidence.public_key; },
		};
		for (const m of modules) {
			for (const [name, forge] of Object.entries(forgeries)) {
				const p = JSON.parse(text);
				forge(p);
				try { await m.check(p, "alice", vkey, () => {}); return name + " forged and believed, native " + m.native; } catch {}
			}
			const p = JSON.parse(free);
			try { await m.check(p, "alice", vkey, () => {}); return "absence of another name believed"; } catch {}
			p.name = "alice";
			try { await m.check(p, "alice", vkey, () => {}); return "absence forged and believed"; } catch {}
			try { await m.check(JSON.parse(text), "alice", vkey.replace(/.$/, "A"), () => {}); return "another key believed"; } catch {}
		}
		return "good";`)
	if got := browser.Eval[string](tab, `window.outcome`); got != "good" {
		t.Error(got)
	}
}

// run evaluates the body of an async function on the page and waits for what
// it returns, in window.outcome.
func run(tab *browser.Tab, body string) {
	browser.Eval[bool](tab, `(window.outcome = undefined, (async () => {`+body+`})().then((v) => { window.outcome = v; }, (e) => { window.outcome = String(e.stack); }), true)`)
	tab.Await(`window.outcome !== undefined`)
}
