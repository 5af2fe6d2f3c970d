package source

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"slipway/internal/asyncrpc"
	"slipway/internal/bitbake"
	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/hashserv"
	"slipway/internal/prserv"
)

// Answer is one question of [Diagnose].
type Answer struct {
	ID    string       `json:"id"`
	Level distro.Level `json:"level"` // info is good; warn: hours longer; block: a wrong build, or none
	Text  string       `json:"text"`
	Cure  string       `json:"cure,omitempty"`
}

// Diagnosis is what a build of an export has to expect.
type Diagnosis struct {
	Version distro.Version `json:"version"`
	Answers []Answer       `json:"answers"`
	// Prediction is BitBake's own count for the targets; nil was not asked for.
	Prediction *bitbake.Prediction `json:"prediction,omitempty"`
}

// Questions are the choices of [Diagnose].
type Questions struct {
	Targets []string // "" asks about the release's
	// Predict asks BitBake, which must be on PATH with its build folder in the
	// environment; nil leaves it out.
	Predict func(ctx context.Context, targets []string) (bitbake.Prediction, error)
	Timeout time.Duration // of one answer; 0 is 15 s
}

// Blocks reports whether an answer stands against building.
func (d Diagnosis) Blocks() bool {
	for _, a := range d.Answers {
		if a.Level == distro.Block {
			return true
		}
	}
	return false
}

type doctor struct {
	m   Manifest
	dir string
	q   Questions
	out *Diagnosis
}

// Diagnose asks everything that an export names: the servers, for something that they
// must know; cache and sources, for a file that must be there; the keys; and at last
// BitBake itself, without building, how much it would find in the cache. All answers
// are given, whatever the first says.
func Diagnose(ctx context.Context, dir string, q Questions) (Diagnosis, error) {
	if q.Timeout == 0 {
		q.Timeout = 15 * time.Second
	}
	m, err := ReadManifest(dir)
	if err != nil {
		return Diagnosis{}, err
	}
	if len(q.Targets) == 0 {
		q.Targets = m.Targets
	}
	out := Diagnosis{Version: m.Version, Answers: []Answer{}}
	d := doctor{m, dir, q, &out}
	d.prepared()
	d.hash(ctx)
	d.numbers(ctx)
	d.files(ctx, "cache", m.SState, true)
	d.files(ctx, "sources", m.Downloads, false)
	d.host()
	d.predict(ctx)
	return out, ctx.Err()
}

func (d doctor) say(id string, level distro.Level, cure, format string, args ...any) {
	d.out.Answers = append(d.out.Answers, Answer{id, level, fmt.Sprintf(format, args...), cure})
}

func (d doctor) good(id, format string, args ...any) { d.say(id, distro.Info, "", format, args...) }

func (d doctor) prepared() {
	own := filepath.Join(d.dir, "own", "own.conf")
	if d.m.Format == Setup {
		own = filepath.Join(d.dir, "layers", setupLayer, "conf", "slipway-own.conf")
	}
	text, err := os.ReadFile(own)
	if err != nil {
		d.say("prepared", distro.Block, filepath.Join(d.dir, "prepare"), "the folder is not prepared: %s is missing", own)
		return
	}
	if len(d.m.Keys) > 0 && d.m.SState.URL != "" && !strings.Contains(string(text), "SSTATE_SIG_KEY = \"") {
		d.say("prepared", distro.Block, filepath.Join(d.dir, "prepare"), "there is no key of your own: what you build yourself is never taken from your cache again")
		return
	}
	if at, err := filepath.Abs(d.dir); err == nil {
		if real, err := filepath.EvalSymlinks(at); err == nil && !strings.Contains(string(text), real+"/") {
			d.say("prepared", distro.Block, filepath.Join(d.dir, "prepare"), "the folder was moved since it was prepared")
			return
		}
	}
	d.good("prepared", "the folder is prepared")
}

func (d doctor) serve() string {
	return "slipway source serve " + d.dir
}

func (d doctor) hash(ctx context.Context) {
	h := d.m.Hash
	cure := "ask the distribution: builds work without it, and find less in the cache"
	if h.Database != "" {
		cure = d.serve()
	}
	ctx, cancel := context.WithTimeout(ctx, d.q.Timeout)
	defer cancel()
	c, err := asyncrpc.Dial(ctx, h.Address, hashserv.Protocol, "1.1")
	if err != nil {
		d.say("hash-server", distro.Block, cure, "hash equivalence at %s does not answer: %v", h.Address, err)
		return
	}
	defer c.Close()
	if h.Taskhash == "" {
		d.good("hash-server", "hash equivalence at %s answers", h.Address)
		return
	}
	var row *struct {
		Unihash string `json:"unihash"`
	}
	err = c.Invoke(ctx, "get", map[string]any{"method": h.Method, "taskhash": h.Taskhash, "all": false}, &row)
	switch {
	case err != nil:
		d.say("hash-server", distro.Block, cure, "hash equivalence at %s does not answer: %v", h.Address, err)
	case row == nil || row.Unihash != h.Unihash:
		d.say("hash-server", distro.Block, "end what listens there, or export with another --port; then "+cure, "what answers at %s does not know release %s: it is another server", h.Address, d.m.Version)
	default:
		d.good("hash-server", "hash equivalence at %s answers and knows the release", h.Address)
	}
}

func (d doctor) numbers(ctx context.Context) {
	p := d.m.PR
	ctx, cancel := context.WithTimeout(ctx, d.q.Timeout)
	defer cancel()
	c, err := asyncrpc.Dial(ctx, p.Address, prserv.Protocol, "1.0")
	if err != nil {
		d.say("pr-server", distro.Block, d.serve(), "your PR server at %s does not answer: %v", p.Address, err)
		return
	}
	defer c.Close()
	if p.Known.Version == "" {
		d.good("pr-server", "your PR server at %s answers", p.Address)
		return
	}
	// A server below the official one gives an output that is known there its official
	// number; with history, what it gave before is no obstacle.
	var got struct {
		Value any `json:"value"`
	}
	var ro struct {
		ReadOnly bool `json:"readonly"`
	}
	err = c.Invoke(ctx, "is-readonly", struct{}{}, &ro)
	if err == nil && !ro.ReadOnly {
		err = c.Invoke(ctx, "get-pr", map[string]any{"version": p.Known.Version, "pkgarch": p.Known.Pkgarch, "checksum": p.Known.Checksum, "history": true}, &got)
	}
	switch {
	case err != nil:
		d.say("pr-server", distro.Block, d.serve(), "your PR server at %s does not answer: %v", p.Address, err)
	case ro.ReadOnly:
		d.say("pr-server", distro.Block, "end what listens there; then "+d.serve(), "the PR server at %s keeps no new numbers: two packages of yours would get the same", p.Address)
	case fmt.Sprint(got.Value) != p.Known.Value:
		d.say("pr-server", distro.Block, "end what listens there; then "+d.serve(), "the PR server at %s does not know the official numbers (%s is %v there, %s officially): yours would be the same as theirs for other content", p.Address, p.Known.Version, got.Value, p.Known.Value)
	default:
		d.good("pr-server", "your PR server at %s answers, below the official numbers", p.Address)
	}
}

// files asks for the file that must be there, and for its signature.
func (d doctor) files(ctx context.Context, id string, a Address, signed bool) {
	longer := map[string]string{"cache": "everything is built here", "sources": "sources come from where the recipes say"}[id]
	if a.URL == "" {
		d.say(id, distro.Warn, "", "the export names no mirror: %s", longer)
		return
	}
	if a.Example == "" {
		d.good(id, "%s: nothing is known that must be there", a.URL)
		return
	}
	names := []string{a.Example}
	if signed && len(d.m.Keys) > 0 {
		names = append(names, a.Example+".sig")
	}
	for _, n := range names {
		if err := d.there(ctx, a.URL, n); err != nil {
			d.say(id, distro.Warn, "is the network there? ask the distribution whether it moved", "%s: %v: %s", a.URL, err, longer)
			return
		}
	}
	d.good(id, "%s answers", a.URL)
}

func (d doctor) there(ctx context.Context, base, name string) error {
	if folder, ok := strings.CutPrefix(base, "file://"); ok {
		if _, err := os.Stat(filepath.Join(folder, filepath.FromSlash(name))); err != nil {
			return errs.E(errs.NotFound, name+" is not there")
		}
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, d.q.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, strings.TrimSuffix(base, "/")+"/"+strings.ReplaceAll(name, ":", "%3A"), nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return errs.E(errs.Unavailable, "no answer", err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errs.E(errs.NotFound, fmt.Sprintf("%s: %s", name, resp.Status))
	}
	return nil
}

func (d doctor) host() {
	here := bitbake.Host()
	if d.m.Host == "" || d.m.Host == here {
		d.good("host", "this machine is %s, as the release's", here)
		return
	}
	d.say("host", distro.Warn, "with uninative in the configuration it makes no difference; else build in a container of "+d.m.Host, "this machine is %s, the release was built on %s: tools for the build machine may be built again", here, d.m.Host)
}

// Of a cache that has nearly all, less than this is found when something is wrong.
const goodRate = 90

func (d doctor) predict(ctx context.Context) {
	if d.q.Predict == nil {
		d.say("prediction", distro.Warn, "enter the build's environment first (README.md of the export)", "BitBake was not asked how much it would find: it is not in this environment")
		return
	}
	p, err := d.q.Predict(ctx, d.q.Targets)
	if err != nil {
		d.say("prediction", distro.Block, "", "BitBake cannot build %s: %v", strings.Join(d.q.Targets, " "), err)
		return
	}
	d.out.Prediction = &p
	text := fmt.Sprintf("%d%% of the cache would be found: %d of %d objects; %d tasks are built here", p.Rate(), p.Wanted-p.Missed, p.Wanted, p.Missed)
	switch {
	case p.Wanted == 0:
		d.good("prediction", "everything is built already: %d tasks are current", p.Current)
	case p.Rate() < goodRate:
		d.say("prediction", distro.Warn, "of an unchanged export that is not to be expected: mend what is told above; bitbake-diffsigs says what a change of yours did", "%s", text)
	default:
		d.good("prediction", "%s", text)
	}
}
