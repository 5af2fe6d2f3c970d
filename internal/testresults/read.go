package testresults

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"slipway/internal/errs"
)

// The limits of one file. A file may have any size: raw logs are passed by.
const (
	MaxLog = 16 << 10 // bytes of a test's log that are kept, the last ones

	maxTests    = 1_000_000
	maxName     = 4 << 10 // bytes of a name
	maxDepth    = 200
	maxConfig   = 1 << 20  // bytes of a run's configuration
	maxLogs     = 64 << 20 // bytes of all logs that are kept
	maxFindings = 100
)

var number = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$`)

// Read reads a testresults.json; name is for the places in its findings. Whatever is
// wrong is told at once, with its place, as an errs.List of kind Invalid, up to a hundred;
// an error of r is given as it is. Keys that are not known are passed by. Runs are
// sorted by id.
func Read(r io.Reader, name string) ([]Run, error) {
	d := &reader{s: newScanner(r), file: name}
	err := d.runs()
	var syntax *syntaxError
	switch {
	case errors.As(err, &syntax):
		d.findAt(syntax.line, syntax.col, "this is no JSON: "+syntax.msg, "what a writer left when it was cut off cannot be used: run the tests again")
	case errors.Is(err, errEnough):
	case err != nil:
		return nil, errs.E(errs.Unavailable, "read "+name, err)
	}
	if err := d.found.Err(); err != nil {
		return nil, err
	}
	slices.SortFunc(d.out, func(a, b Run) int { return cmp.Compare(a.ID, b.ID) })
	return d.out, nil
}

// errEnough ends the reading after too many findings, or too many tests.
var errEnough = errors.New("enough")

type reader struct {
	s     *scanner
	file  string
	out   []Run
	found errs.List
	tests int
	logs  int // bytes that are kept
}

func (d *reader) findAt(line, col int, msg string, hint string) error {
	if len(d.found) >= maxFindings {
		return errEnough
	}
	d.found = append(d.found, errs.E(errs.Invalid, msg, errs.At{File: d.file, Line: line, Col: col}, errs.Hint(hint)))
	return nil
}

// wrong tells of the value that comes next, and passes it by.
func (d *reader) wrong(format string, args ...any) error {
	if _, err := d.s.peek(); err != nil {
		return err
	}
	line, col := d.s.place()
	if err := d.findAt(line, col, fmt.Sprintf(format, args...), ""); err != nil {
		return err
	}
	return d.s.skip()
}

// is reports whether the next value begins with c.
func (d *reader) is(c byte) (bool, error) {
	got, err := d.s.peek()
	return got == c, err
}

// object is scanner.object for a value that what names; another value is a finding.
// Keys that are too long, or there twice, are findings too.
func (d *reader) object(what string, each func(key string, line, col int) error) error {
	if ok, err := d.is('{'); err != nil {
		return err
	} else if !ok {
		return d.wrong("%s is no object", what)
	}
	seen := map[string]bool{}
	return d.s.object(func(key string, cut bool, line, col int) error {
		msg := ""
		switch {
		case cut:
			msg = fmt.Sprintf("the name %.40q... is longer than %d bytes", key, maxName)
		case seen[key]:
			msg = fmt.Sprintf("%q is there twice in %s", key, what)
		default:
			seen[key] = true
			return each(key, line, col)
		}
		if err := d.findAt(line, col, msg, ""); err != nil {
			return err
		}
		return d.s.skip()
	})
}

func (d *reader) runs() error {
	if err := d.object("the file", d.run); err != nil {
		return err
	}
	if err := d.s.end(); err != nil {
		return err
	}
	if len(d.out) == 0 && len(d.found) == 0 {
		return d.findAt(1, 1, "the file holds no run of tests", "testresults.json as OE-Core writes it is an object of runs, each with configuration and result")
	}
	return nil
}

func (d *reader) run(id string, line, col int) error {
	r := Run{ID: id}
	hasConfig, hasResult := false, false
	if err := d.object("run "+quoted(id), func(key string, line, col int) error {
		switch key {
		case "configuration":
			hasConfig = true
			return d.configuration(&r)
		case "result":
			hasResult = true
			return d.object("the result of run "+quoted(id), func(name string, line, col int) error { return d.result(&r, name, line, col) })
		}
		return d.s.skip()
	}); err != nil {
		return err
	}
	if !hasConfig || !hasResult {
		return d.findAt(line, col, fmt.Sprintf("run %s lacks configuration or result", quoted(id)), "testresults.json as OE-Core writes it has both in each run")
	}
	slices.SortFunc(r.Tests, func(a, b Test) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(r.Sections, func(a, b Section) int { return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Name, b.Name)) })
	d.out = append(d.out, r)
	return nil
}

func (d *reader) configuration(r *Run) error {
	what := "the configuration of run " + quoted(r.ID)
	if ok, err := d.is('{'); err != nil {
		return err
	} else if !ok {
		return d.wrong("%s is no object", what)
	}
	line, col := d.s.place()
	budget := maxConfig
	v, err := d.value(&budget, 0)
	if err != nil {
		return err
	}
	r.Configuration, _ = v.(map[string]any)
	if budget < 0 {
		return d.findAt(line, col, fmt.Sprintf("%s is longer than %d bytes", what, maxConfig), "")
	}
	kind := r.text("TEST_TYPE")
	parts, ok := keyParts[kind]
	if !ok {
		return d.findAt(line, col, fmt.Sprintf("run %s has the TEST_TYPE %s, which is not known", quoted(r.ID), quoted(kind)), "one of: "+strings.Join(Types(), ", "))
	}
	for _, k := range parts {
		if r.text(k) == "" {
			if err := d.findAt(line, col, fmt.Sprintf("%s has no %s: nobody knows what it may be compared with", what, k), ""); err != nil {
				return err
			}
		}
	}
	return nil
}

// value reads any value; when the budget of bytes is used up the rest is passed by.
func (d *reader) value(budget *int, depth int) (any, error) {
	c, err := d.s.peek()
	if err != nil {
		return nil, err
	}
	*budget -= 8
	switch {
	case *budget < 0 || depth > 20:
		*budget = min(*budget, -1)
		return nil, d.s.skip()
	case c == '{':
		m := map[string]any{}
		return m, d.s.object(func(key string, cut bool, line, col int) error {
			*budget -= len(key)
			v, err := d.value(budget, depth+1)
			m[key] = v
			return err
		})
	case c == '[':
		list := []any{}
		return list, d.array(func() error {
			v, err := d.value(budget, depth+1)
			list = append(list, v)
			return err
		})
	case c == '"':
		s, cut, err := d.s.text(max(1, *budget), false)
		if *budget -= len(s); cut {
			*budget = -1
		}
		return s, err
	}
	l, err := d.s.literal()
	switch l {
	case "true", "false":
		return l == "true", err
	case "null", "NaN", "Infinity", "-Infinity":
		return nil, err
	}
	return json.Number(l), err
}

// array calls each for every element of an array.
func (d *reader) array(each func() error) error {
	if err := d.s.expect('['); err != nil {
		return err
	}
	if c, err := d.s.peek(); err != nil {
		return err
	} else if c == ']' {
		d.s.take()
		return nil
	}
	for {
		if err := each(); err != nil {
			return err
		}
		c, err := d.s.peek()
		if err != nil {
			return err
		}
		if c == ']' {
			d.s.take()
			return nil
		}
		if err := d.s.expect(','); err != nil {
			return err
		}
	}
}

// groups are the writers of sections and raw logs.
var groups = []string{"ptestresult", "ltpresult", "ltpposixresult"}

func (d *reader) result(r *Run, name string, line, col int) error {
	if group, what, ok := strings.Cut(name, "."); ok && slices.Contains(groups, group) {
		switch what {
		case "rawlogs":
			return d.s.skip()
		case "sections":
			return d.object(name, func(section string, line, col int) error { return d.section(r, group, section, line, col) })
		}
	}
	if name == "reproducible" || name == "reproducible.rawlogs" { // lists of files, beside the test of that name
		return d.s.skip()
	}
	if err := d.count(line, col); err != nil {
		return err
	}
	t := Test{Name: name}
	object, hasStatus := false, false
	if ok, err := d.is('{'); err != nil {
		return err
	} else if ok {
		object = true
	}
	err := d.object("test "+quoted(name), func(key string, _, _ int) (err error) {
		switch key {
		case "status":
			hasStatus = true
			t.Status, err = d.status(name)
		case "duration":
			var text string
			if text, err = d.scalar("the duration of test " + quoted(name)); err == nil && text != "" {
				t.Duration, _ = strconv.ParseFloat(text, 64)
			}
		case "log":
			t.Log, err = d.log()
		case "oetags":
			t.Tags, err = d.tags(name)
		default:
			err = d.s.skip()
		}
		return err
	})
	if err != nil {
		return err
	}
	if object && !hasStatus {
		return d.findAt(line, col, fmt.Sprintf("test %s has no status", quoted(name)), "")
	}
	if OutcomeOf(t.Status) == Pass {
		t.Log = ""
	}
	d.keepLog(&t.Log)
	r.Tests = append(r.Tests, t)
	return nil
}

// count counts a test; one too many ends the reading.
func (d *reader) count(line, col int) error {
	if d.tests++; d.tests <= maxTests {
		return nil
	}
	if err := d.findAt(line, col, fmt.Sprintf("the file has more than %d tests", maxTests), "import it in parts"); err != nil {
		return err
	}
	return errEnough
}

// keepLog counts a log, and drops it when too much is kept already.
func (d *reader) keepLog(log *string) {
	if d.logs += len(*log); d.logs > maxLogs {
		*log = ""
	}
}

func (d *reader) status(test string) (string, error) {
	if ok, err := d.is('"'); err != nil {
		return "", err
	} else if !ok {
		return "", d.wrong("the status of test %s is no text", quoted(test))
	}
	line, col := d.s.place()
	s, _, err := d.s.text(64, false)
	if err == nil && OutcomeOf(s) == Unknown {
		err = d.findAt(line, col, fmt.Sprintf("test %s has the status %s, which is not known", quoted(test), quoted(s)), "one of: "+strings.Join(sortedKeys(outcomes), ", "))
	}
	return s, err
}

// scalar reads a number, or a text that holds one; null is "".
func (d *reader) scalar(what string) (string, error) {
	c, err := d.s.peek()
	if err != nil {
		return "", err
	}
	line, col := d.s.place()
	text := ""
	switch c {
	case '{', '[':
		return "", d.wrong("%s is no number", what)
	case '"':
		if text, _, err = d.s.text(64, false); err != nil {
			return "", err
		}
		text = strings.TrimSpace(text)
	default:
		if text, err = d.s.literal(); err != nil || text == "null" {
			return "", err
		}
	}
	if f, err := strconv.ParseFloat(text, 64); err != nil || !number.MatchString(text) || f < 0 || f > 1e12 {
		return "", d.findAt(line, col, fmt.Sprintf("%s is %s: a number of seconds belongs there", what, quoted(text)), "")
	}
	return text, nil
}

// log reads a text, or an object: compressed logs are passed by, they are in the file
// that is kept.
func (d *reader) log() (string, error) {
	c, err := d.s.peek()
	if err != nil {
		return "", err
	}
	if c != '"' {
		return "", d.s.skip()
	}
	text, _, err := d.s.text(MaxLog, true)
	return text, err
}

func (d *reader) tags(test string) (out []string, err error) {
	if ok, err := d.is('['); err != nil {
		return nil, err
	} else if !ok {
		return nil, d.wrong("the oetags of test %s are no list", quoted(test))
	}
	return out, d.array(func() error {
		if ok, err := d.is('"'); err != nil {
			return err
		} else if !ok {
			return d.wrong("a tag of test %s is no text", quoted(test))
		}
		tag, _, err := d.s.text(256, false)
		if len(out) < 100 {
			out = append(out, tag)
		}
		return err
	})
}

func (d *reader) section(r *Run, group, name string, line, col int) error {
	s := Section{Group: group, Name: name}
	what := fmt.Sprintf("section %s of %s", quoted(name), group)
	err := d.object(what, func(key string, _, _ int) (err error) {
		switch key {
		case "duration":
			s.Duration, err = d.sectionText()
		case "exitcode":
			s.ExitCode, err = d.sectionText()
		case "timeout":
			var l string
			l, err = d.sectionText()
			s.Timeout = l != "" && l != "false" && l != "0"
		case "log":
			s.Log, err = d.log()
		default:
			err = d.s.skip()
		}
		return err
	})
	if err != nil {
		return err
	}
	if t := s.test(); OutcomeOf(t.Status) == Pass {
		s.Log = ""
	}
	d.keepLog(&s.Log)
	r.Sections = append(r.Sections, s)
	return d.count(line, col)
}

// sectionText reads what ptest-runner printed, as a text, a number or a word.
func (d *reader) sectionText() (string, error) {
	c, err := d.s.peek()
	if err != nil {
		return "", err
	}
	switch c {
	case '{', '[':
		return "", d.wrong("a text or a number belongs here")
	case '"':
		text, _, err := d.s.text(64, false)
		return strings.TrimSpace(text), err
	}
	l, err := d.s.literal()
	if l == "null" {
		l = ""
	}
	return l, err
}

func quoted(s string) string {
	if len(s) > 120 {
		s = s[:120] + "..."
	}
	return strconv.Quote(s)
}
