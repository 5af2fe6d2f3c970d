package web

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"regexp"
	"slices"
	"strings"
	texttemplate "text/template"
)

// index is what the page "/" shows.
type index struct {
	Title  string
	Series []seriesIndex
}

type seriesIndex struct {
	Name    string
	Release string   // newest, "" before the first
	Serial  int      // of the newest snapshot
	Scopes  []string // with a current feed
	Repo    string   // a complete .repo file for this address
	Try     []string // commands
}

// readIndex looks at the folder as a stranger would. What is missing or cannot
// be read is left out: the page must not fail because a file is odd.
func readIndex(fsys fs.FS, base string) index {
	var d struct{ Distribution, Title string }
	readJSON(fsys, "distribution.json", &d)
	page := index{Title: d.Title}
	if page.Title == "" {
		page.Title = d.Distribution
	}
	if page.Title == "" {
		page.Title = "A publication"
	}
	id := d.Distribution
	if !plainName.MatchString(id) {
		id = "slipway"
	}
	var keys []string
	for _, k := range names(fsys, "keys") {
		if path.Ext(k) == ".asc" {
			keys = append(keys, base+"/keys/"+k)
		}
	}
	for _, name := range names(fsys, ".") {
		var cur struct {
			Serial  int
			Release string
		}
		if !readJSON(fsys, name+"/current.json", &cur) {
			continue
		}
		s := seriesIndex{Name: name, Release: cur.Release, Serial: cur.Serial, Scopes: names(fsys, name+"/current")}
		s.Repo, s.Try = commands(id, base, keys, s)
		page.Series = append(page.Series, s)
	}
	return page
}

// commands gives a .repo file and lines to type. Both signature checks are on:
// dnf installs unsigned packages when gpgcheck is not set.
func commands(id, base string, keys []string, s seriesIndex) (repo string, try []string) {
	if len(s.Scopes) == 0 {
		return "", nil
	}
	var b strings.Builder
	from := ""
	for _, scope := range s.Scopes {
		url := base + "/" + s.Name + "/current/" + scope
		fmt.Fprintf(&b, "[%s-%s]\nname=%s %s %s\nbaseurl=%s\nenabled=1\ngpgcheck=1\nrepo_gpgcheck=1\ngpgkey=%s\n\n",
			id, scope, id, s.Name, scope, url, strings.Join(keys, "\n       "))
		from += fmt.Sprintf(" --repofrompath=%[1]s-%[2]s,%[3]s --setopt=%[1]s-%[2]s.gpgkey=%[4]s", id, scope, url, strings.Join(keys, ","))
	}
	only := fmt.Sprintf("dnf -y --releasever=%s --setopt=reposdir=/dev/null%s --setopt='%s-*.repo_gpgcheck=1' --setopt='%s-*.gpgcheck=1'", s.Name, from, id, id)
	return strings.TrimSuffix(b.String(), "\n"), []string{only + " repoquery --available"}
}

var plainName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// names lists the visible, plain names in a folder, sorted.
func names(fsys fs.FS, dir string) []string {
	entries, err := fs.ReadDir(fsys, dir)
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range entries {
		if plainName.MatchString(e.Name()) {
			out = append(out, e.Name())
		}
	}
	slices.Sort(out)
	return out
}

func readJSON(fsys fs.FS, name string, v any) bool {
	b, err := fs.ReadFile(fsys, name)
	return err == nil && json.Unmarshal(b, v) == nil
}

func serveIndex(w http.ResponseWriter, r *http.Request, fsys fs.FS) {
	page := readIndex(fsys, address(r))
	var b bytes.Buffer
	var err error
	if textIndex(r) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		err = textPage.Execute(&b, page)
	} else {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
		err = htmlPage.Execute(&b, page)
	}
	if err != nil {
		http.Error(w, "the page cannot be shown", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Vary", "Accept")
	w.Header().Set("Cache-Control", "no-cache")
	http.ServeContent(w, r, "", noTime, bytes.NewReader(b.Bytes()))
}

var hostPattern = regexp.MustCompile(`^[A-Za-z0-9.\-\[\]:]+$`)

// address is how the client reached us. The Host header is the client's word:
// only a plain one is repeated in commands that somebody will paste.
func address(r *http.Request) string {
	host := r.Host
	if !hostPattern.MatchString(host) {
		host = "localhost"
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	return scheme + "://" + host
}

var htmlPage = template.Must(template.New("index").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{.Title}}</title>
<meta name="viewport" content="width=device-width">
<style>body{font:1rem/1.5 sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}pre{background:#f2f2f2;padding:1rem;overflow-x:auto}</style></head>
<body><h1>{{.Title}}</h1>
{{range .Series}}<section><h2>Series {{.Name}}</h2>
<p>Release {{.Release}}, snapshot {{.Serial}}. Feeds: {{range $i, $s := .Scopes}}{{if $i}}, {{end}}{{$s}}{{end}}.
<a href="/{{.Name}}/current.json">current.json</a> · <a href="/{{.Name}}/releases/{{.Release}}/release.json">release.json</a></p>
{{range .Try}}<p>Look at it:</p><pre>{{.}}</pre>
{{end}}{{with .Repo}}<p>For a device, as /etc/yum.repos.d/ file:</p><pre>{{.}}</pre>
{{end}}</section>
{{else}}<p>Nothing is published yet.</p>
{{end}}</body></html>
`))

var textPage = texttemplate.Must(texttemplate.New("index").Parse(`{{.Title}}
{{range .Series}}
Series {{.Name}}: release {{.Release}}, snapshot {{.Serial}}; feeds:{{range .Scopes}} {{.}}{{end}}
{{range .Try}}
# look at it
{{.}}
{{end}}{{with .Repo}}
# for a device, as a file in /etc/yum.repos.d/
{{.}}{{end}}{{else}}
Nothing is published yet.
{{end}}`))
