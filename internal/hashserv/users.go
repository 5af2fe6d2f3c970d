package hashserv

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"slipway/internal/asyncrpc"
	"slipway/internal/hashserv/hashdb"
)

// Permissions, by BitBake's names.
const (
	permNone      = "@none"
	permRead      = "@read"
	permReport    = "@report"
	permDBAdmin   = "@db-admin"
	permUserAdmin = "@user-admin"
	permAll       = "@all"
)

// permSet is a set of permissions.
type permSet uint8

const (
	read permSet = 1 << iota
	reporting
	dbAdmin
	userAdmin
	all permSet = 255
)

var permBit = map[string]permSet{permRead: read, permReport: reporting, permDBAdmin: dbAdmin, permUserAdmin: userAdmin, permAll: all}

// allPerms is what @all stands for, in the order of BitBake's answers.
var allPerms = []string{permAll, permDBAdmin, permRead, permReport, permUserAdmin}

func setOf(perms []string) (s permSet) {
	for _, p := range perms {
		s |= permBit[p]
	}
	return s
}

// names of the permissions in s, as a refusal lists them.
func (s permSet) names() string {
	var list []string
	for _, p := range []string{permRead, permReport, permDBAdmin, permUserAdmin} {
		if s&permBit[p] != 0 {
			list = append(list, p)
		}
	}
	return strings.Join(list, ", ")
}

// can reports whether the client has all of these rights.
func (x *session) can(needs permSet, user bool) bool {
	if !user && x.s.anon&needs == needs {
		return true
	}
	return x.user != nil && setOf(x.user.Permissions)&needs == needs
}

// allowed refuses a command that the client has no right to.
func (x *session) allowed(c *command, r request) error {
	if c.self && x.user != nil {
		// No name means oneself; nothing else does, null included.
		if raw, ok := r["username"]; !ok {
			return nil
		} else if name, err := (request{"username": raw}).str("username"); err == nil && name == x.user.Name {
			return nil
		}
	}
	if c.needs == 0 || x.can(c.needs, c.user) {
		return nil
	}
	who := "Anonymous user"
	if x.user != nil {
		who = x.user.Name
	}
	return asyncrpc.Refusal(fmt.Sprintf("%s is not allowed to access permissions(s) %s", who, c.needs.names()))
}

// name gives the user that a request means: itself when it names none.
func (x *session) name(r request) (string, error) {
	if _, ok := r["username"]; !ok && x.user != nil {
		return x.user.Name, nil
	}
	return r.str("username")
}

func expanded(perms []string) []string {
	if slices.Contains(perms, permAll) {
		return allPerms
	}
	return sorted(perms)
}

func sorted(perms []string) []string {
	out := append([]string{}, perms...)
	slices.Sort(out)
	return out
}

// permsArg reads the permissions of a request.
func permsArg(r request) ([]string, error) {
	var list []string
	raw, ok := r["permissions"]
	if !ok {
		return nil, errBad
	}
	if json.Unmarshal(raw, &list) != nil || list == nil {
		return nil, asyncrpc.Refusal("Unexpected type for permissions")
	}
	list = slices.DeleteFunc(sorted(list), func(p string) bool { return p == permNone })
	list = slices.Compact(list)
	var unknown []string
	for _, p := range list {
		if permBit[p] == 0 {
			unknown = append(unknown, p)
		}
	}
	if unknown != nil {
		return nil, asyncrpc.Refusal("Unknown permissions " + strings.Join(unknown, ", "))
	}
	return list, nil
}

// tokenText is base64 with BitBake's two last letters.
var tokenText = base64.NewEncoding("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._")

// newToken makes a token. All clients together get ten in a second: nobody can
// learn about the source of randomness by asking for many.
func (s *Server) newToken(ctx context.Context) (string, error) {
	select {
	case s.tokens <- struct{}{}:
	case <-ctx.Done():
		return "", ctx.Err()
	}
	defer func() { <-s.tokens }()
	if err := pause(ctx, 100*time.Millisecond); err != nil {
		return "", err
	}
	raw := make([]byte, 48)
	rand.Read(raw)
	return tokenText.EncodeToString(raw), nil
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func newSalt() string {
	raw := make([]byte, 8)
	rand.Read(raw)
	return hex.EncodeToString(raw)
}

// digest is what is stored of a token: BitBake's form, so that databases can be moved.
func digest(salt, token string) string {
	h := sha256.Sum256([]byte(salt + token))
	return "sha256:" + salt + ":" + hex.EncodeToString(h[:])
}

// failures counts logins that are failing just now, by user.
type failures struct {
	mu sync.Mutex
	m  map[string]int
}

// maxFailing bounds the guesses at one user's token in a second.
const maxFailing = 16

// begin counts a failure for as long as its delay lasts; end ends that.
func (f *failures) begin(name string) (end func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.m == nil {
		f.m = map[string]int{}
	}
	f.m[name]++
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.m[name]--; f.m[name] == 0 {
			delete(f.m, name)
		}
	}
}

func (f *failures) many(name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.m[name] >= maxFailing
}

func (x *session) auth(ctx context.Context, r request) (any, error) {
	a, err := r.strs("username", "token")
	if err != nil {
		return nil, err
	}
	name, token := a[0], a[1]
	u, err := x.s.DB.User(ctx, name)
	if err != nil {
		return nil, err
	}
	// An unknown user costs the same time as a wrong token.
	have := "sha256:0000000000000000:"
	if u != nil {
		have = u.Token
	}
	parts := strings.Split(have, ":")
	good := len(parts) == 3 && subtle.ConstantTimeCompare([]byte(digest(parts[1], token)), []byte(have)) == 1
	if !good || x.s.failing.many(name) {
		defer x.s.failing.begin(name)()
		if err := pause(ctx, time.Second); err != nil {
			return nil, err
		}
		return nil, asyncrpc.Refusal("Unable to authenticate as " + name)
	}
	x.user = u
	x.s.Log.Info("logged in", "client", x.c.Peer(), "user", name)
	return map[string]any{"result": true, "username": name, "permissions": sorted(u.Permissions)}, nil
}

func noUser(name string) error {
	return asyncrpc.Refusal(fmt.Sprintf("No user named '%s' exists", name))
}

func userAnswer(u hashdb.User) map[string]any {
	return map[string]any{"username": u.Name, "permissions": expanded(u.Permissions)}
}

func (x *session) getUser(ctx context.Context, r request) (any, error) {
	name, err := x.name(r)
	if err != nil {
		return nil, err
	}
	u, err := x.s.DB.User(ctx, name)
	if err != nil || u == nil {
		return asyncrpc.Null, err
	}
	return userAnswer(*u), nil
}

func (x *session) getAllUsers(ctx context.Context, _ request) (any, error) {
	users, err := x.s.DB.Users(ctx)
	list := make([]map[string]any, len(users))
	for i, u := range users {
		list[i] = userAnswer(u)
	}
	return map[string]any{"users": list}, err
}

func (x *session) becomeUser(ctx context.Context, r request) (any, error) {
	name, err := r.str("username")
	if err != nil {
		return nil, err
	}
	u, err := x.s.DB.User(ctx, name)
	if err != nil {
		return nil, err
	}
	if u == nil {
		return nil, asyncrpc.Refusal(fmt.Sprintf("User %s doesn't exist", name))
	}
	x.s.Log.Info("became user", "client", x.c.Peer(), "was", x.user.Name, "user", name)
	x.user = u
	return userAnswer(*u), nil
}

func (x *session) refreshToken(ctx context.Context, r request) (any, error) {
	name, err := x.name(r)
	if err != nil {
		return nil, err
	}
	token, err := x.s.newToken(ctx)
	if err != nil {
		return nil, err
	}
	ok, err := x.s.DB.SetToken(ctx, name, digest(newSalt(), token))
	if err == nil && !ok {
		err = noUser(name)
	}
	return map[string]any{"username": name, "token": token}, err
}

func (x *session) setPerms(ctx context.Context, r request) (any, error) {
	name, err := r.str("username")
	if err != nil {
		return nil, err
	}
	perms, err := permsArg(r)
	if err != nil {
		return nil, err
	}
	ok, err := x.s.DB.SetPermissions(ctx, name, perms)
	if err == nil && !ok {
		err = noUser(name)
	}
	return userAnswer(hashdb.User{Name: name, Permissions: perms}), err
}

func (x *session) newUser(ctx context.Context, r request) (any, error) {
	name, err := r.str("username")
	if err != nil {
		return nil, err
	}
	perms, err := permsArg(r)
	if err != nil {
		return nil, err
	}
	token, err := x.s.newToken(ctx)
	if err != nil {
		return nil, err
	}
	u := hashdb.User{Name: name, Token: digest(newSalt(), token), Permissions: perms}
	ok, err := x.s.DB.AddUser(ctx, u)
	if err == nil && !ok {
		err = asyncrpc.Refusal(fmt.Sprintf("Cannot create new user '%s'", name))
	}
	answer := userAnswer(u)
	answer["token"] = token
	return answer, err
}

func (x *session) deleteUser(ctx context.Context, r request) (any, error) {
	name, err := x.name(r)
	if err != nil {
		return nil, err
	}
	ok, err := x.s.DB.DeleteUser(ctx, name)
	if err == nil && !ok {
		err = noUser(name)
	}
	return map[string]any{"username": name}, err
}
