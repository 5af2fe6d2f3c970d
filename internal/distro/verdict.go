package distro

import (
	"strings"
	"time"
)

// Level is how much a finding weighs before policy and waivers.
type Level string

// The levels.
const (
	Block Level = "block"
	Warn  Level = "warn"
	Info  Level = "info"
	Off   Level = "off" // only in a policy: the check does not run, and the verdict says so
)

// Finding is one answer of a check that a person should know of.
type Finding struct {
	Check    string   `json:"check"` // id of the check
	ID       string   `json:"id"`    // stable within the check: what a waiver names, e.g. "libgreet.x86_64"
	Level    Level    `json:"level"`
	Object   string   `json:"object"`             // package, image, board
	Boards   []string `json:"boards,omitempty"`   // none means all
	Text     string   `json:"text"`               // what is wrong
	Cure     string   `json:"cure,omitempty"`     // what to do about it
	Evidence []string `json:"evidence,omitempty"` // last lines of the tool's output
	Log      string   `json:"log,omitempty"`      // artifact or path of the whole log
	Source   string   `json:"source,omitempty"`   // spec or recipe
	Paths    []string `json:"paths,omitempty"`    // of Source: layer and folder in it
	Commits  []string `json:"commits,omitempty"`  // for that source: since the candidate in Since, else since the last release
	Since    string   `json:"since,omitempty"`    // the last candidate that the check found good
}

// Key is how a waiver and a report name a finding.
func (f Finding) Key() string { return f.Check + "/" + f.ID }

// CheckSpec says what a check is.
type CheckSpec struct {
	ID    string `json:"id"`
	Level Level  `json:"level"`
	Asks  string `json:"asks"` // the question, one sentence
	Cure  string `json:"cure"` // what to do about a finding
}

// CheckResult is what came of one run of a check. A check that did not come to
// its end has Error set and counts as a blocking finding: it fails closed.
type CheckResult struct {
	Spec     CheckSpec  `json:"spec"`
	Asked    int        `json:"asked"`          // questions asked (packages installed, ...): 0 with no reason in Note fails closed
	Note     string     `json:"note,omitempty"` // why nothing was asked ("first release")
	Findings []Finding  `json:"findings"`
	Error    string     `json:"error,omitempty"`
	Evidence []Artifact `json:"evidence,omitempty"`
	Trials   []Trial    `json:"trials,omitempty"`
}

// Trial is one thing that a check tried on a device: a way to the candidate and back, a
// boot. Findings say what is wrong; a trial says what was done, and what was measured.
type Trial struct {
	Board    string      `json:"board,omitempty"`   // "" without boards
	Image    string      `json:"image,omitempty"`   // that was booted; "" is an install root
	Name     string      `json:"name"`              // "first", "random-1.7", "device 1"
	Version  Version     `json:"version,omitempty"` // of the release that it began with
	Steps    []TrialStep `json:"steps,omitempty"`   // in their order; all of them, also what was not reached
	Measures []Measure   `json:"measures,omitempty"`
	Note     string      `json:"note,omitempty"` // why nothing was tried
}

// TrialStep is a part of a trial.
type TrialStep struct {
	Name    string `json:"name"`              // "install", "up", "back"
	Outcome string `json:"outcome,omitempty"` // [StepGood], [StepBad]; "" was not reached
	Log     string `json:"log,omitempty"`     // as in [Finding]
}

// The outcomes of a step.
const (
	StepGood = "good"
	StepBad  = "bad"
)

// Measure is a number that a trial gave: "login" in "s", "memory" in "MiB". Numbers of
// other runs of the same candidate differ.
type Measure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit,omitempty"`
	Text  string  `json:"text,omitempty"` // what is no number: "tcp/22, udp/68"
}

// Waiver is a named person's dated exception for one finding.
type Waiver struct {
	Finding string    `json:"finding"` // Finding.Key
	By      string    `json:"by"`
	Because string    `json:"because"`
	At      time.Time `json:"at"`
	Expires time.Time `json:"expires"`
}

// SignOff is a named person's word that they have looked at a component of a candidate.
type SignOff struct {
	Component string    `json:"component"` // recipe or spec
	By        string    `json:"by"`
	Because   string    `json:"because,omitempty"`
	Score     int       `json:"score"` // of risk, that the component had then; at a higher one it does not count
	At        time.Time `json:"at"`
}

// Reason is one line of a verdict.
type Reason struct {
	Finding Finding `json:"finding"`
	Decides bool    `json:"decides"`          // it blocks
	Waived  *Waiver `json:"waived,omitempty"` // by whom, and till when
	Note    string  `json:"note,omitempty"`   // why it does or does not decide
}

// Verdict is what the gate says of a candidate.
type Verdict struct {
	Status  Status            `json:"status"` // Ready or Blocked
	Boards  map[string]Status `json:"boards,omitempty"`
	Reasons []Reason          `json:"reasons"` // blocking first, then by check and id
}

// Approval is a named person's decision.
type Approval struct {
	By      string    `json:"by"`
	Because string    `json:"because,omitempty"`
	At      time.Time `json:"at"`
}

// Quarantine is a policy's dated exception for tests that are known to be flaky, by name.
type Quarantine struct {
	Test   string    `json:"test"` // * stands for any text
	Reason string    `json:"reason"`
	Until  time.Time `json:"until"` // from then on it counts no more
}

// Matches reports whether the test's name fits the pattern.
func (q Quarantine) Matches(test string) bool { return MatchText(q.Test, test) }

// Waiver gives the exception for one finding.
func (q Quarantine) Waiver(f Finding) Waiver {
	return Waiver{Finding: f.Key(), By: "gate.quarantine (" + q.Test + ")", Because: q.Reason, Expires: q.Until}
}

// MatchText reports whether all of text is as pattern says, where * stands for any
// text, slashes and none included.
func MatchText(pattern, text string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == text
	}
	rest, ok := strings.CutPrefix(text, parts[0])
	if !ok {
		return false
	}
	for _, p := range parts[1 : len(parts)-1] {
		i := strings.Index(rest, p)
		if i < 0 {
			return false
		}
		rest = rest[i+len(p):]
	}
	return strings.HasSuffix(rest, parts[len(parts)-1])
}
