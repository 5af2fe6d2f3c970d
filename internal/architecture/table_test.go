package architecture

// A level of the architecture; higher ones import lower ones.
type level int

const (
	core     level = iota + 1 // nouns, rules, errors: no I/O
	format                    // bytes in, bytes out
	adapter                   // one outside thing each
	service                   // join adapters
	delivery                  // commands, pages
	support                   // for tests and for the project's own scripts: shipped code does not import it
)

var levelNames = map[level]string{core: "core", format: "formats", adapter: "adapters", service: "services", delivery: "delivery", support: "test support"}

// levels gives every package its place. "x/*" places all packages below x;
// x/xtest is test support by its name.
var levels = map[string]level{
	"internal/distro": core,
	"internal/errs":   core,
	"internal/heap":   core, // one setting of Go's runtime
	"examples":        core, // embedded files, no code
	"examples/boards": core, // tests only
	"layers":          core, // an embedded Yocto layer, no code

	"internal/config":       format,
	"internal/projectfile":  format,
	"internal/imagefs":      format,
	"internal/imagefs/*":    format,
	"internal/rpmdb":        format,
	"internal/rpm":          format,
	"internal/rpmmd":        format,
	"internal/timestamp":    format,
	"internal/buildhistory": format,
	"internal/elfabi":       format,
	"internal/esdk":         format,
	"internal/testresults":  format,
	"internal/chart":        format,

	"internal/bitbake":    adapter,
	"internal/diffoscope": adapter,
	"internal/compose":    adapter,
	"internal/debian":     adapter,
	"internal/dnf":        adapter,
	"internal/postgres":   adapter,
	"internal/prserv/*":   adapter,
	"internal/prserv":     adapter,
	"internal/hashserv/*": adapter,
	"internal/hashserv":   adapter,
	"internal/asyncrpc":   adapter,
	"internal/feedindex":  adapter,
	"internal/flow":       adapter,
	"internal/layers":     adapter,
	"internal/libabigail": adapter,
	"internal/qemu":       adapter,
	"internal/rpmbuild":   adapter,
	"internal/keyring":    adapter,
	"internal/sign":       adapter,
	"internal/signer":     adapter,
	"internal/sstate":     adapter,
	"internal/state":      adapter,
	"internal/store":      adapter,
	"internal/store/s3":   adapter,

	"internal/check":     service,
	"internal/check/*":   service,
	"internal/cycle":     service,
	"internal/device":    service,
	"internal/feed":      service,
	"internal/gate":      service,
	"internal/component": service,
	"internal/source":    service,
	"internal/tlog":      service,

	"cmd/slipway":        delivery,
	"cmd/slipway-device": delivery,
	"internal/cli":       delivery,
	"internal/report":    delivery,
	"internal/ui":        delivery,
	"internal/web":       delivery,

	"internal/architecture": support,
	"internal/benchtool":    support,
	"internal/benchtool/*":  support,
	"internal/doctest":      support,
	"internal/crashtest":    support,
	"scripts":               support,
	"scripts/testreport":    support,
}

// peers are the imports inside one level that are allowed: from, to, why.
// "x/*" stands for all packages below x.
var peers = []struct{ from, to, why string }{
	{"internal/distro", "internal/errs", "errs is the one package below the nouns: rules refuse with a kind and a hint"},
	{"examples", "internal/errs", "as above: an unknown example is an error with a hint"},
	{"examples", "layers", "the example's devices run the scripts of meta-slipway"},
	{"internal/rpmdb", "internal/rpm", "a database of package headers"},
	{"internal/imagefs", "internal/imagefs/*", "one file system each"},
	{"internal/rpmmd", "internal/rpm", "metadata is made from package headers"},
	{"internal/store/s3", "internal/store", "it is a store, with the same names and refusals"},
	{"internal/bitbake", "internal/prserv/fork", "its tests alone: real BitBake asks the real servers"},
	{"internal/hashserv", "internal/asyncrpc", "the protocol below both servers"},
	{"internal/hashserv", "internal/hashserv/*", "the server is over its database"},
	{"internal/hashserv/*", "internal/hashserv/litefile", "one SQLite file"},
	{"internal/hashserv/hashpg", "internal/hashserv/hashdb", "the same nouns, index and journal, on PostgreSQL"},
	{"internal/hashserv/hashpg", "internal/postgres", "its connections"},
	{"internal/prserv/prpg", "internal/prserv/prdb", "the same rules, on PostgreSQL"},
	{"internal/prserv/prpg", "internal/postgres", "its connections"},
	{"internal/benchtool/servers", "internal/postgres/postgrestest", "a PostgreSQL server for the measurement"},
	{"internal/hashserv", "internal/postgres", "its tests alone: a cluster to run over"},
	{"internal/prserv", "internal/postgres", "as for hashserv"},
	{"internal/prserv", "internal/asyncrpc", "as for hashserv"},
	{"internal/prserv", "internal/prserv/*", "as for hashserv"},
	{"internal/prserv/*", "internal/hashserv/litefile", "both databases can lie in one file"},
	{"internal/prserv/fork", "internal/hashserv", "a build has an endpoint of each"},
	{"internal/prserv/fork", "internal/hashserv/hashdb", "as above"},
	{"internal/prserv/fork", "internal/prserv", "as above"},
	{"internal/prserv/fork", "internal/prserv/prdb", "as above"},
	{"internal/prserv/fork", "internal/asyncrpc", "as above"},
	{"internal/keyring", "internal/sign", "the keyring is about OpenPGP keys, and signed with one"},
	{"internal/signer", "internal/sign", "as above: the process that holds the keys"},
	{"internal/signer", "internal/keyring", "which key signs for a role is the keyring's answer"},
	{"internal/sstate", "internal/sign", "its signatures are OpenPGP's"},
	{"internal/feed", "internal/tlog", "who reads a publication as a stranger reads its log, too"},
	{"internal/cycle", "internal/tlog", "as above: the cycle has the log's signer"},
	{"internal/cycle", "internal/feed", "the steps are the services, in order"},
	{"internal/cycle", "internal/gate", "as above"},
	{"internal/cycle", "internal/component", "as above: it fetches the layers that the policy is asked about"},
	{"internal/cycle", "internal/source", "as above: publish brings out the cache"},
	{"internal/cycle", "internal/check", "as above"},
	{"internal/cycle", "internal/check/*", "as above"},
	{"internal/check", "internal/check/*", "the list of all checks"},
	{"internal/check/*", "internal/check", "the interface that each check fulfils, and the bed that it runs on"},
	{"cmd/slipway", "internal/cli", "main is a thin adapter to cli"},
	{"internal/cli", "internal/ui", "cli wires everything"},
	{"internal/cli", "internal/web", "as above"},
	{"internal/cli", "internal/report", "as above"},
}

// livesInTests are packages whose tests may use every level, with the reason.
var livesInTests = map[string]string{
	"examples":        "each example is data, and is built and installed by its test",
	"examples/boards": "as above, for the example with boards",
	"layers":          "a layer is data: its scripts are run, its recipes built and installed by its tests",
}

// leaves import nothing of the project but core.
var leaves = map[string]string{
	"internal/flow":  "the engine knows no step",
	"internal/state": "documents are bytes to it: it knows no type of the services",
	"internal/gate":  "Judge is pure",
	"internal/web":   "pages are served from a folder alone",
	"internal/ui":    "shows what it is told",
}

// pure packages do no I/O.
var pure = []string{"internal/distro", "internal/errs", "internal/gate"}

// impure is what a pure package must not import.
var impure = []string{"os", "os/exec", "io/ioutil", "net", "net/http", "syscall", "database/sql", "embed"}

// owners says which packages alone may import a module (or a package of the
// standard library): one package hides each dependency. docs/dependencies.md
// has a line for each module.
var owners = map[string][]string{
	"database/sql":                             {"internal/state", "internal/hashserv/litefile", "internal/hashserv/hashdb", "internal/prserv/prdb"},
	"github.com/jackc/pgx/v5":                  {"internal/postgres"},
	"modernc.org/sqlite":                       {"internal/state", "internal/hashserv/litefile"},
	"github.com/ProtonMail/go-crypto":          {"internal/sign"},
	"go.yaml.in/yaml/v4":                       {"internal/config", "internal/rpmbuild", "internal/projectfile"}, // rpmbuild: sources.yaml of a layer; projectfile: what kas wrote
	"github.com/invopop/jsonschema":            {"internal/config"},
	"golang.org/x/sys":                         {"internal/ui", "internal/feedindex"},
	"github.com/spf13/cobra":                   {"internal/cli"},
	"github.com/spf13/pflag":                   {"internal/cli"},
	"golang.org/x/crypto":                      {"internal/qemu"},
	"github.com/klauspost/compress":            {"internal/esdk", "internal/rpm", "internal/rpmmd", "internal/imagefs", "internal/imagefs/squashfs"},
	"github.com/ulikunitz/xz":                  {"internal/rpm", "internal/rpmmd", "internal/debian", "internal/esdk", "internal/imagefs", "internal/imagefs/squashfs"},
	"github.com/aws/aws-sdk-go-v2":             {"internal/store/s3"},
	"github.com/aws/smithy-go":                 {"internal/store/s3"},
	"golang.org/x/mod":                         {"internal/tlog"},
	"net/http":                                 {"internal/web", "internal/store/s3", "internal/device", "internal/check/selfupgrades", "internal/asyncrpc", "internal/feed", "internal/source"}, // selfupgrades: a candidate's feed, to one device; feed: verify of a publication on the web; source: does a mirror answer
	"github.com/coder/websocket":               {"internal/asyncrpc"},
	"net/http/httptest":                        {},
	"testing":                                  {},
	"github.com/google/go-cmp":                 {},
	"github.com/rogpeppe/go-internal":          {},
	"github.com/google/rpmpack":                {},
	"github.com/santhosh-tekuri/jsonschema/v6": {},
}

// testOnly modules may be imported by the tests of any package.
var testOnly = []string{
	"github.com/google/go-cmp", "github.com/rogpeppe/go-internal", "github.com/google/rpmpack",
	"github.com/santhosh-tekuri/jsonschema/v6", "github.com/klauspost/compress", "github.com/ulikunitz/xz",
	"github.com/ProtonMail/go-crypto", // fixtures that sign wrongly on purpose
}

// starts says which packages may start programs, and which ones.
// "*" is any program: its name comes from the caller or from a test bed.
var starts = map[string][]string{
	"internal/compose":    {"mke2fs", "debugfs", "rpmdb", "unshare", "cat"},
	"internal/layers":     {"git"},
	"internal/device":     {"dnf", "zypper", "rpm", "rpmdb"},
	"internal/dnf":        {"dnf", "rpm", "chroot", "bwrap", "unshare", "rpmkeys"},
	"internal/qemu":       {"*"},                                                                // qemu-system-x86_64, qemu-system-aarch64: the rig names it
	"internal/bitbake":    {"env", "python3", "locale", "bitbake", "yocto-check-layer", "zstd"}, // env: PATH of BitBake's own environment finds its Python; zstd: tests objects of its cache
	"internal/rpmbuild":   {"rpmbuild", "rpm", "rpmspec", "gcc", "bwrap", "unshare"},
	"internal/debian":     {"apt-get", "apt-cache", "dpkg-deb", "dpkg-query", "dpkg"},
	"internal/sign":       {"gpg", "gpg-connect-agent"},
	"internal/signer":     {"*"}, // slipway itself, as a child: the caller names it
	"internal/doctest":    {"bash", "go"},
	"internal/diffoscope": {"diffoscope"},
	"internal/check/own":  {"bwrap"}, // in it, an executable of the distribution's repository
	"internal/libabigail": {"*"},     // abidw, abidiff
}
