package bitbake

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// Console reads what BitBake's user interface knotty writes when it has no
// terminal (the same since 2.0), line by line: give it all by Write, then ask Err.
// Not for several goroutines at once.
type Console struct {
	// Event is told what happens; nil is nobody.
	Event func(distro.BuildEvent)
	// Now is the clock; nil is the machine's.
	Now func() time.Time

	Wanted, Local, Mirrors, Missed, Current int // of sstate objects, once BitBake said
	Running                                 map[string]time.Time
	Done, Total                             int
	Finished                                bool // the summary was written

	part    []byte
	errors  []message
	failed  []*TaskError
	logs    map[string]string // "hello-1.0-r0:do_compile" -> log
	pending []string          // lines of a task's failing log, as BitBake quotes them
	last    string            // the task that the last error was about
}

// message is one ERROR of BitBake with the lines that belong to it.
type message struct {
	text string
	task bool // about a task, which a TaskError tells
}

// TaskError is a task that was tried and failed, as the cause of an errs.Failed
// of [Builder.Build].
type TaskError struct {
	Task   string   // "hello-1.0-r0:do_compile"
	Recipe string   // "hello"
	File   string   // path of the recipe
	Log    string   // absolute path of the task's log
	Lines  []string // the last lines of it
	Why    string
}

func (e *TaskError) Error() string {
	s := e.Why
	if e.Log != "" {
		s += "\n  log: " + e.Log
	}
	if len(e.Lines) > 0 {
		s += "\n  | " + strings.Join(e.Lines, "\n  | ")
	}
	return s
}

// FailedTask names the task and the recipe, for whoever reports it.
func (e *TaskError) FailedTask() (task, source string) { return e.Task, e.Recipe }

const (
	maxLine   = 64 << 10 // bytes of a line that are looked at
	maxErrors = 200
	lastLines = 12
)

// Write takes any part of the output. It never fails.
func (c *Console) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			c.keep(p)
			break
		}
		c.keep(p[:i])
		c.line(strings.TrimRight(string(c.part), "\r"))
		c.part, p = c.part[:0], p[i+1:]
	}
	return n, nil
}

func (c *Console) keep(p []byte) {
	if room := maxLine - len(c.part); room > 0 {
		c.part = append(c.part, p[:min(room, len(p))]...)
	}
}

var (
	reState   = regexp.MustCompile(`^NOTE: recipe (\S+): task (do_\w+): (Started|Succeeded|Failed)$`)
	reRunning = regexp.MustCompile(`^NOTE: Running (?:setscene |noexec )?task (\d+) of (\d+) \((.+):(do_\w+)\)$`)
	reSummary = regexp.MustCompile(`Sstate summary: Wanted (\d+) (?:Local (\d+) Mirrors (\d+)|Found (\d+)) Missed (\d+) Current (\d+)`)
	reTask    = regexp.MustCompile(`^ERROR: (\S+) (do_\w+): (.*)$`)
	reLog     = regexp.MustCompile(`^ERROR: Logfile of failure stored in: (\S+)$`)
	reFailed  = regexp.MustCompile(`^ERROR: Task \((?:mc:[^:)]*:)?(.+):(do_\w+)\) failed with exit code '(.*)'`)
	reTasks   = regexp.MustCompile(`^NOTE: Tasks Summary: Attempted (\d+) tasks`)
	reLogTask = regexp.MustCompile(`/([^/]+)/([^/]+)/temp/log\.(do_\w+)(?:\.\d+)?$`)
)

// talk begins lines that belong to no error.
var talk = []string{"NOTE: ", "DEBUG: ", "Log data follows:", "Summary: ", "Loading cache", "Loaded ", "Parsing ", "Initialising ", "Removing ", "Build Configuration:"}

func (c *Console) now() time.Time {
	if c.Now != nil {
		return c.Now()
	}
	return time.Now()
}

func (c *Console) tell(e distro.BuildEvent) {
	if c.Event != nil {
		e.Done, e.Total, e.Running = c.Done, c.Total, c.Oldest()
		c.Event(e)
	}
}

func (c *Console) line(s string) {
	// "Parsing recipes...ERROR: ...": knotty leaves the line of a progress open.
	if before, after, ok := strings.Cut(s, "...ERROR: "); ok && !strings.Contains(before, ": ") {
		s = "ERROR: " + after
	}
	if m := reState.FindStringSubmatch(s); m != nil {
		c.state(m[1]+":"+m[2], m[3])
		return
	}
	if m := reRunning.FindStringSubmatch(s); m != nil {
		c.Done, c.Total = max(atoi(m[1])-1, 0), atoi(m[2])
		return
	}
	if m := reSummary.FindStringSubmatch(s); m != nil {
		c.Wanted, c.Local, c.Mirrors, c.Missed, c.Current = atoi(m[1]), atoi(m[2])+atoi(m[4]), atoi(m[3]), atoi(m[5]), atoi(m[6])
		c.tell(distro.BuildEvent{Type: "plan", Text: fmt.Sprintf("sstate: %d of %d objects found, %d from mirrors, %d current", c.Wanted-c.Missed, c.Wanted, c.Mirrors, c.Current)})
		return
	}
	if m := reTasks.FindStringSubmatch(s); m != nil {
		c.Finished = true
		c.Done, c.Total = atoi(m[1]), max(c.Total, atoi(m[1]))
		return
	}
	switch {
	case strings.HasPrefix(s, "ERROR: "):
		c.problem(s)
	case strings.HasPrefix(s, "| "):
		if c.pending = append(c.pending, s[2:]); len(c.pending) > lastLines {
			c.pending = c.pending[1:]
		}
	case strings.HasPrefix(s, "WARNING: "):
		c.last = ""
		c.tell(distro.BuildEvent{Type: "note", Text: s})
	case strings.TrimSpace(s) == "" && c.last == "error" && strings.Contains(c.errors[len(c.errors)-1].text, "sanity checker detected"):
		// What it found comes after an empty line.
	case s == "" || slices.ContainsFunc(talk, func(t string) bool { return strings.HasPrefix(s, t) }):
		c.last = ""
	default:
		// What follows an error without a prefix belongs to it (ParseError's excerpt, the
		// reasons of "Nothing PROVIDES").
		if n := len(c.errors); n > 0 && c.last == "error" && strings.Count(c.errors[n-1].text, "\n") < lastLines {
			c.errors[n-1].text += "\n" + s
		}
	}
}

func (c *Console) state(task, state string) {
	if c.Running == nil {
		c.Running = map[string]time.Time{}
	}
	switch state {
	case "Started":
		c.Running[task] = c.now()
		c.tell(distro.BuildEvent{Type: "start", Task: task})
	case "Succeeded":
		delete(c.Running, task)
		c.tell(distro.BuildEvent{Type: "done", Task: task})
	default:
		delete(c.Running, task)
	}
	c.last = ""
}

func (c *Console) problem(s string) {
	if m := reLog.FindStringSubmatch(s); m != nil {
		if c.logs == nil {
			c.logs = map[string]string{}
		}
		if t := reLogTask.FindStringSubmatch(m[1]); t != nil && len(c.logs) < maxErrors {
			c.logs[t[1]+" "+t[3]] = m[1]
		}
		c.pending = nil
		return
	}
	if m := reFailed.FindStringSubmatch(s); m != nil {
		recipe := recipeOf(m[1])
		e := &TaskError{Task: recipe + ":" + m[2], Recipe: recipe, File: m[1], Log: c.logs[recipe+" "+m[2]], Lines: slices.Clone(c.pending), Why: recipe + " " + m[2] + " failed"}
		for i := range c.errors {
			if t := reTask.FindStringSubmatch("ERROR: " + c.errors[i].text); t != nil && t[2] == m[2] && strings.HasPrefix(t[1], recipe+"-") {
				c.errors[i].task = true
				if e.Task == recipe+":"+m[2] && t[3] != "" {
					e.Task, e.Why = t[1]+":"+m[2], c.errors[i].text
				}
			}
		}
		c.pending, c.last = nil, ""
		if len(c.failed) < maxErrors {
			c.failed = append(c.failed, e)
		}
		c.tell(distro.BuildEvent{Type: "failed", Task: e.Task, Text: e.Why, Log: e.Log})
		return
	}
	c.last = "error"
	if len(c.errors) < maxErrors {
		c.errors = append(c.errors, message{text: strings.TrimPrefix(s, "ERROR: ")})
	}
}

// recipeOf gives PN of a recipe's file as BitBake names it: "virtual:native:/l/zlib_1.3.bb".
func recipeOf(file string) string {
	pn, _, _ := strings.Cut(strings.TrimSuffix(lastPart(file), ".bb"), "_")
	switch {
	case strings.Contains(file, "virtual:nativesdk:"):
		return "nativesdk-" + pn
	case strings.Contains(file, "virtual:native:"):
		return pn + "-native"
	}
	return pn
}

func lastPart(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

func atoi(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}

// Oldest gives the running tasks with their ages, oldest first, for people.
func (c *Console) Oldest() []string {
	names := make([]string, 0, len(c.Running))
	for t := range c.Running {
		names = append(names, t)
	}
	slices.SortFunc(names, func(a, b string) int {
		if d := c.Running[a].Compare(c.Running[b]); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	for i, t := range names {
		names[i] = t + " for " + c.now().Sub(c.Running[t]).Truncate(time.Second).String()
	}
	return names
}

// Err gives everything that went wrong: an errs.Failed with a [TaskError] for each
// failed task, and BitBake's other errors with the cure where it is known. nil is
// no word of an error. When the disk was full the whole is Unavailable, as that is
// no fault of any task.
func (c *Console) Err() error {
	var all errs.List
	for _, t := range c.failed {
		kind := errs.Failed
		if fullDisk(t.Error()) {
			kind = errs.Unavailable
		}
		all = append(all, errs.E(kind, "task "+t.Task, t, cure(t.Error())))
	}
	for _, m := range c.errors {
		// After another error BitBake's closing words tell nothing new.
		closing := strings.HasPrefix(m.text, "Command execution failed") || strings.HasPrefix(m.text, "Parsing halted due to errors")
		if m.task || closing && len(c.failed)+len(c.errors) > 1 {
			continue
		}
		all = append(all, explain(m.text))
	}
	// The first of a list gives its kind.
	var first, rest errs.List
	for _, err := range all {
		if errs.Is(err, errs.Unavailable) {
			first = append(first, err)
		} else {
			rest = append(rest, err)
		}
	}
	return append(first, rest...).Err()
}

// fullDisk knows what BitBake, its disk space monitor and compilers say.
func fullDisk(text string) bool {
	return strings.Contains(text, "No space left on device") || strings.Contains(text, "disk space monitor") || strings.Contains(text, "database or disk is full")
}

var reParse = regexp.MustCompile(`(?:ParseError at |at )(/\S+?):(\d+)`)

// explain gives one of BitBake's messages a kind, a position and a cure.
func explain(text string) error {
	kind := errs.Failed
	opts := []any{cure(text)}
	switch {
	case strings.Contains(text, "ParseError") || strings.Contains(text, "ExpansionError") || strings.Contains(text, "Unable to parse"):
		kind = errs.Invalid
		if m := reParse.FindStringSubmatch(text); m != nil {
			opts = append(opts, errs.At{File: m[1], Line: atoi(m[2])})
		}
	case strings.Contains(text, "Nothing PROVIDES"), strings.Contains(text, "is not compatible with the core layer"), strings.Contains(text, "depends on layer"):
		kind = errs.Invalid
	case fullDisk(text):
		kind = errs.Unavailable
	}
	return errs.E(kind, "BitBake: "+text, opts...)
}

// cures are what to do about messages of BitBake and OE-Core, by a part of them.
var cures = []struct{ says, do string }{
	{"no space left on device", "free space on the disk of the workspace; the same command goes on"}, // as Go says it
	{"No space left on device", "free space on the disk of the workspace; the same command goes on"},
	{"database or disk is full", "free space on the disk of the workspace; the same command goes on"},
	{"disk space monitor", "free space on the disk of the workspace; the same command goes on"},
	{"version-going-backwards", "the PR database is older than buildhistory: slipway restore brings both of the last release"},
	{"went backwards which would break package feeds", "the PR database is older than buildhistory: slipway restore brings both of the last release"},
	{"is not compatible with the core layer", "take the layer's branch for the release of OE-Core"},
	{"depends on layer", "add the layer to slipway.yaml"},
	{"Nothing PROVIDES", "correct the name in targets or images of slipway.yaml, or add the layer that has the recipe"},
	{"NetworkAccess(", "BitBake has no network (build.offline, or BB_NO_NETWORK), and the source is neither among the released downloads nor in a layer: allow it a network once"},
	{"Fetcher failure", "the source does not answer or is gone: correct SRC_URI, or name a mirror; released downloads are used when they are in the store"},
	{"Do not use Bitbake as root", "name build.user in settings.yaml"},
	{"reproducible_build", "take reproducible_build out of USER_CLASSES: from kirkstone on it is always on"},
	{noServer, "bitbake-cookerdaemon.log in the build's topdir says why; on a busy machine the same command again is enough"},
	{"does not exist or is not a directory", "each layer must be checked out where bblayers.conf says"},
}

func cure(text string) errs.Hint {
	for _, c := range cures {
		if strings.Contains(text, c.says) {
			return errs.Hint(c.do)
		}
	}
	return ""
}
