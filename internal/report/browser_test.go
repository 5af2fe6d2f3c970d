package report

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// browser is a Chromium without a window, spoken to through two pipes (the DevTools
// protocol; --remote-debugging-pipe: JSON texts, each ended by a zero byte).
type browser struct {
	t       *testing.T
	in      *os.File
	out     *bufio.Reader
	id      int
	session string
}

func newBrowser(t *testing.T) *browser {
	t.Helper()
	program := ""
	for _, name := range []string{"chromium-headless-shell", "chromium"} {
		if p, err := exec.LookPath(name); err == nil {
			program = p
			break
		}
	}
	if program == "" {
		t.Fatal("there is no Chromium: apt-get install chromium-headless-shell")
	}
	theirIn, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, theirOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	cmd := exec.Command(program, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-extensions",
		"--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND", "--user-data-dir="+home, "--remote-debugging-pipe", "about:blank")
	cmd.ExtraFiles = []*os.File{theirIn, theirOut}
	cmd.Env = append(os.Environ(), "HOME="+home)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirIn.Close()
	theirOut.Close()
	t.Cleanup(func() {
		in.Close()
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // the whole group: it has children
		cmd.Wait()
		out.Close()
		for range 50 { // a child may still write into its folder
			if os.RemoveAll(home) == nil {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
	})
	out.SetReadDeadline(time.Now().Add(2 * time.Minute))
	b := &browser{t: t, in: in, out: bufio.NewReaderSize(out, 1<<20)}
	var target struct{ TargetID string }
	b.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	b.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	b.session = attached.SessionID
	b.call("Page.enable", nil, nil)
	return b
}

type message struct {
	ID     int
	Method string
	Params json.RawMessage
	Result json.RawMessage
	Error  *struct{ Message string }
}

func (b *browser) read() (message, error) {
	text, err := b.out.ReadBytes(0)
	if err != nil {
		return message{}, err
	}
	var m message
	return m, json.Unmarshal(text[:len(text)-1], &m)
}

// call asks and waits for the answer.
func (b *browser) call(method string, params, result any) {
	b.t.Helper()
	b.id++
	ask := map[string]any{"id": b.id, "method": method}
	if params != nil {
		ask["params"] = params
	}
	if b.session != "" {
		ask["sessionId"] = b.session
	}
	text, err := json.Marshal(ask)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.in.Write(append(text, 0)); err != nil {
		b.t.Fatal(err)
	}
	for {
		m, err := b.read()
		if err == nil && m.ID == b.id && m.Error != nil {
			err = errors.New(m.Error.Message)
		}
		if err != nil {
			b.t.Fatalf("Chromium, %s: %v", method, err)
		}
		if m.ID == b.id {
			if result != nil {
				if err := json.Unmarshal(m.Result, result); err != nil {
					b.t.Fatal(err)
				}
			}
			return
		}
	}
}

// open shows a file in a window of a width, and waits until it is there.
// On paper it is as print has it.
func (b *browser) open(path string, width int, dark, paper bool) {
	b.t.Helper()
	b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 600}, nil)
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	media := ""
	if paper {
		media = "print"
	}
	b.call("Emulation.setEmulatedMedia", map[string]any{"media": media, "features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}}, nil)
	b.call("Page.navigate", map[string]any{"url": "file://" + path}, nil)
	for {
		m, err := b.read()
		if err != nil {
			b.t.Fatal(err)
		}
		if m.Method == "Page.loadEventFired" {
			return
		}
	}
}

// eval gives the value of an expression on the page.
func (b *browser) eval(expression string, value any) {
	b.t.Helper()
	var r struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails *struct {
			Exception struct{ Description string }
		}
	}
	b.call("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true}, &r)
	if r.ExceptionDetails != nil {
		b.t.Fatal(r.ExceptionDetails.Exception.Description)
	}
	if err := json.Unmarshal(r.Result.Value, value); err != nil {
		b.t.Fatalf("%v: %s", err, r.Result.Value)
	}
}

// shot keeps a picture of the whole page in the folder that SLIPWAY_TEST_PAGES names.
func (b *browser) shot(name string) {
	b.t.Helper()
	dir := os.Getenv("SLIPWAY_TEST_PAGES")
	if dir == "" {
		return
	}
	var r struct{ Data []byte }
	b.call("Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": true}, &r)
	b.save(dir, name+".png", r.Data)
}

// print gives the page on A4 paper, as PDF.
func (b *browser) print(name string) []byte {
	b.t.Helper()
	var r struct{ Data string }
	b.call("Page.printToPDF", map[string]any{"paperWidth": 8.27, "paperHeight": 11.69, "preferCSSPageSize": true}, &r)
	data, err := base64.StdEncoding.DecodeString(r.Data)
	if err != nil {
		b.t.Fatal(err)
	}
	if dir := os.Getenv("SLIPWAY_TEST_PAGES"); dir != "" {
		b.save(dir, name+".pdf", data)
	}
	return data
}

func (b *browser) save(dir, name string, data []byte) {
	b.t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// overflow lists what is wider than the window.
const overflow = `(() => { const w = document.documentElement.clientWidth, out = [];
if (document.documentElement.scrollWidth > w) out.push("the page is " + document.documentElement.scrollWidth + " wide, the window " + w);
for (const e of document.querySelectorAll("body *")) { const r = e.getBoundingClientRect(); const s = getComputedStyle(e);
  if (r.width > 1 && r.right > w + 1 && s.position != "absolute" && !e.closest("thead") ) out.push(e.tagName + " " + e.className + " ends at " + r.right + ": " + e.textContent.slice(0, 60)); }
return out.slice(0, 10); })()`

// contrast lists texts whose colour is too near to that of their ground: WCAG 2's AA, 4.5.
const contrast = `(() => { const out = new Set(), nums = c => c.match(/[\d.]+/g).map(Number);
const lum = c => { const [r, g, b] = c.slice(0, 3).map(v => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; }); return .2126 * r + .7152 * g + .0722 * b; };
const ground = e => { for (; e; e = e.parentElement) { const c = nums(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
for (let n = walk.nextNode(); n; n = walk.nextNode()) { if (!n.data.trim() || n.parentElement.tagName == "title") continue; const e = n.parentElement, svg = e.closest("svg"), s = getComputedStyle(e);
  const a = lum(nums(svg ? s.fill : s.color)), b = lum(ground(e)); const r = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
  if (r < 4.5) out.add(e.tagName + " " + e.className + " " + r.toFixed(2) + ": " + n.data.trim().slice(0, 40)); }
return [...out]; })()`

// structure lists what a reader who does not see the page would miss.
const structure = `(() => { const out = []; let last = 0;
for (const h of document.querySelectorAll("h1,h2,h3,h4,h5,h6")) { const n = +h.tagName[1]; if (n > last + 1) out.push(h.tagName + " after H" + last + ": " + h.textContent.slice(0, 40)); last = n; }
if (document.querySelectorAll("h1").length != 1) out.push("not one h1");
for (const t of document.querySelectorAll("table")) { for (const th of t.querySelectorAll("th")) if (!th.scope) out.push("th without scope: " + th.textContent);
  if (!t.querySelector("thead th[scope=col]")) out.push("table without headers: " + t.textContent.slice(0, 40)); }
for (const s of document.querySelectorAll("svg:not([aria-hidden])")) if (s.getAttribute("role") != "img" || !s.querySelector("title")) out.push("svg without a title");
for (const a of document.querySelectorAll("a")) if (!document.getElementById(decodeURIComponent(a.hash.slice(1)))) out.push("link to nothing: " + a.getAttribute("href"));
const ids = new Set(); for (const e of document.querySelectorAll("[id]")) { if (ids.has(e.id)) out.push("id twice: " + e.id); ids.add(e.id); }
return out; })()`

// pdfText gives what a PDF says.
func pdfText(t *testing.T, pdf []byte) (string, bool) {
	t.Helper()
	tool, err := exec.LookPath("pdftotext")
	if err != nil {
		return "", false
	}
	cmd := exec.Command(tool, "-layout", "-", "-")
	cmd.Stdin = strings.NewReader(string(pdf))
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(fmt.Errorf("pdftotext: %w", err))
	}
	return string(out), true
}
