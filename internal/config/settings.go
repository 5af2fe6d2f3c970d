package config

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"

	"slipway/internal/errs"
)

// Settings is settings.yaml, the installation, with every default filled in.
// Relative paths start at the workspace; the accessors give absolute ones.
type Settings struct {
	Schema      int    `json:"schema" jsonschema:"minimum=1,maximum=1,default=1" jsonschema_description:"Version of this format: 1."`
	Publication string `json:"publication" jsonschema:"default=publication" jsonschema_description:"Folder of the publication."`
	Store       string `json:"store" jsonschema:"default=.slipway/store" jsonschema_description:"Folder of the artifact store, or a place in the object store: s3://bucket/prefix."`
	Keys        string `json:"keys,omitempty" jsonschema_description:"Folder of the signing keys, outside the workspace."`
	Build       Build  `json:"build"`
	Serve       Serve  `json:"serve"`

	ObjectStorage ObjectStorage `json:"object_storage"`

	workspace   string
	keysDefault bool
	doc         *document
}

// Build says how this machine builds.
type Build struct {
	Jobs    int    `json:"jobs" jsonschema:"minimum=0,maximum=1024,default=0" jsonschema_description:"Tasks at once; 0 for one per processor."`
	Sandbox string `json:"sandbox" jsonschema:"enum=auto,enum=bwrap,enum=none,default=auto" jsonschema_description:"auto takes bwrap where it works."`

	// For BitBake.
	User    string   `json:"user,omitempty" rule:"word" jsonschema_description:"Who BitBake runs as when slipway is root; BitBake refuses root."`
	Path    []string `json:"path" jsonschema_description:"Folders with tools that come before this machine's own (a buildtools tarball), for BitBake."`
	Offline bool     `json:"offline" jsonschema:"default=false" jsonschema_description:"BitBake gets no network: sources come from the released downloads and from layers."`
}

// Serve says where slipway serve listens.
type Serve struct {
	Listen   string `json:"listen" jsonschema:"default=127.0.0.1:8080" rule:"listen"`
	Hashserv string `json:"hashserv,omitempty" rule:"hashserv" jsonschema_description:"Address for BitBake's hash equivalence, read-only: it may be public. Without it none is served."`
	Prserv   string `json:"prserv,omitempty" rule:"listen" jsonschema_description:"Address for BitBake's PR numbers, read-only; of this machine or a private network: it is never public. Without it none is served."`
}

// ObjectStorage is an S3-compatible store. Its credentials are never in this file:
// see docs/object-storage.md.
type ObjectStorage struct {
	Publication string `json:"publication,omitempty" rule:"s3" jsonschema_description:"Where slipway publish copies the publication to: s3://bucket/prefix."`
	Endpoint    string `json:"endpoint,omitempty" rule:"endpoint" jsonschema_description:"Address of the store; without it Amazon's of the region."`
	Region      string `json:"region,omitempty" rule:"word" jsonschema_description:"Region of the bucket; without it AWS_REGION, else us-east-1."`
}

// LoadSettings reads the settings of a workspace. A missing file gives the
// defaults; errors are as those of [ParseDefinition]. The default of keys is
// slipway/keys/<distribution> in the user's configuration folder
// ($XDG_CONFIG_HOME, else ~/.config).
func LoadSettings(path, workspace string) (*Settings, error) {
	data, err := readDocument(path)
	if errs.Is(err, errs.NotFound) {
		data, err = nil, nil
	}
	if err != nil {
		return nil, err
	}
	abs, err := filepath.Abs(workspace)
	if err != nil {
		return nil, errs.E(errs.Unavailable, "find "+workspace, err)
	}
	return parseSettings(filepath.Base(path), data, abs, os.Getenv)
}

func parseSettings(name string, data []byte, workspace string, getenv func(string) string) (*Settings, error) {
	s := &Settings{doc: parse(name, data), workspace: workspace}
	if s.doc.root == nil && len(s.doc.findings) == 0 { // all is a comment, or nothing
		s.doc = parse(name, []byte("{}"))
	}
	s.doc.decode(reflect.ValueOf(s).Elem())
	if s.doc.root != nil {
		s.check(getenv)
	}
	if err := s.doc.result(); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Settings) check(getenv func(string) string) {
	home, userConfig := getenv("HOME"), getenv("XDG_CONFIG_HOME")
	// The XDG rules ask for an absolute path, and to ignore any other.
	if !filepath.IsAbs(userConfig) {
		userConfig = filepath.Join(home, ".config")
	}
	if s.Keys == "" {
		s.keysDefault = true
		s.Keys = filepath.Join(userConfig, "slipway", "keys")
	} else if rest, ok := strings.CutPrefix(s.Keys, "~/"); ok {
		s.Keys = filepath.Join(home, rest)
	}
	switch keys := s.abs(s.Keys); {
	case !filepath.IsAbs(s.Keys):
		s.doc.at("keys", fmt.Sprintf("keys is %q, a path within the workspace", short(s.Keys)), "keys never lie in it: name a folder from / or ~/")
	case within(keys, s.workspace):
		s.doc.at("keys", "keys lies in the workspace", "keys never lie in it; the default is ~/.config/slipway/keys/<distribution>")
	}
	for _, p := range []struct{ key, value string }{{"publication", s.Publication}, {"store", s.Store}} {
		if isS3(p.value) {
			switch {
			case p.key == "publication":
				s.doc.at(p.key, "publication is a folder, and "+short(p.value)+" is a place in an object store", "checks read the folder; object_storage.publication names where it is copied to")
			case !rules["s3"].pattern.MatchString(p.value):
				s.doc.at(p.key, fmt.Sprintf("%q is not %s", short(p.value), rules["s3"].what), rules["s3"].form)
			}
			continue
		}
		switch a := s.abs(p.value); {
		case p.value == "":
			s.doc.at(p.key, p.key+" is empty", "leave the key out for the default")
		case a == s.workspace || within(s.workspace, a):
			s.doc.at(p.key, p.key+" holds the workspace", "name a folder of its own")
		}
	}
	if a, b := s.PublicationDir(), s.StoreDir(); !isS3(s.Store) && s.Publication != "" && s.Store != "" && (within(a, b) || within(b, a)) {
		s.doc.at("store", "store and publication lie in each other", "what is in the publication, clients read: name two folders side by side")
	}
	for _, a := range []struct{ key, value, rule string }{{"serve.listen", s.Serve.Listen, "listen"}, {"serve.hashserv", s.Serve.Hashserv, "hashserv"}, {"serve.prserv", s.Serve.Prserv, "listen"}} {
		i := strings.LastIndexByte(a.value, ':')
		if i < 0 || strings.HasPrefix(a.value, "unix://") {
			continue
		}
		if port, err := strconv.Atoi(a.value[i+1:]); err == nil && port > 65535 || err != nil && a.key == "serve.listen" {
			s.doc.at(a.key, fmt.Sprintf("%q is not %s", a.value, rules[a.rule].what), "a port is from 0 to 65535; 0 takes a free one")
		}
	}
	if a := s.Serve.Prserv; a != "" && !PrivateAddress(a) {
		s.doc.at("serve.prserv", fmt.Sprintf("a PR server at %q may be reached by everybody", short(a)), "PR servers are never public: give an address of this machine or of a private network, as 127.0.0.1:8585; builds of others need serve.hashserv and the feeds alone")
	}
}

// PrivateAddress reports whether host:port is of this machine or of a private
// network (RFC 1918, RFC 4193, link-local), by its number: not a name, and not all
// addresses of the machine.
func PrivateAddress(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && (ip.IsLoopback() || ip.IsPrivate() || ip.IsLinkLocalUnicast())
}

// within reports whether a is b or lies in it.
func within(a, b string) bool {
	rel, err := filepath.Rel(b, a)
	return err == nil && filepath.IsLocal(rel)
}

func (s *Settings) abs(p string) string {
	if filepath.IsAbs(p) {
		return filepath.Clean(p)
	}
	return filepath.Join(s.workspace, p)
}

// Workspace gives the workspace's absolute path.
func (s *Settings) Workspace() string { return s.workspace }

// PublicationDir gives the publication's absolute path.
func (s *Settings) PublicationDir() string { return s.abs(s.Publication) }

// ToolPath gives build.path, absolute.
func (s *Settings) ToolPath() []string {
	var out []string
	for _, p := range s.Build.Path {
		out = append(out, s.abs(p))
	}
	return out
}

// StoreDir gives the artifact store's absolute path, or s3://bucket/prefix.
func (s *Settings) StoreDir() string {
	if isS3(s.Store) {
		return s.Store
	}
	return s.abs(s.Store)
}

func isS3(place string) bool { return strings.HasPrefix(place, "s3://") }

// KeysDir gives the absolute path of a distribution's key folder. Without a
// home folder there is no default, which is Invalid.
func (s *Settings) KeysDir(distribution string) (string, error) {
	if !s.keysDefault {
		return filepath.Clean(s.Keys), nil
	}
	if !filepath.IsAbs(s.Keys) {
		return "", errs.E(errs.Invalid, "no folder for the keys: HOME is not set", errs.Hint("set HOME, or keys: in settings.yaml"))
	}
	return filepath.Join(s.Keys, distribution), nil
}
