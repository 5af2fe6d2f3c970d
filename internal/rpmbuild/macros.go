package rpmbuild

import (
	"fmt"
	"sort"
	"strings"
)

// rpmConfig are the arguments that make rpm read its own defaults and ours, and
// neither /etc/rpm nor a home's .rpmmacros.
func rpmConfig(t target) []string {
	return []string{
		"--rcfile=/usr/lib/rpm/rpmrc:" + top + "/rpmrc",
		// Not %{_target}: rpm has no platform of that name for a machine.
		"--macros=/usr/lib/rpm/macros:/usr/lib/rpm/platform/" + t.Arch + "-linux/macros:/usr/lib/rpm/fileattrs/*.attr:" + top + "/macros",
		"--target=" + t.cpu(),
	}
}

// rpmrc sets the compiler's flags. The folder is written as a variable that the
// build's shell expands, because the flags stand in the header of each package.
func rpmrc(t target) string {
	rc := fmt.Sprintf("optflags: %s -O2 -g -ffile-prefix-map=$SLIPWAY_TOP=%s\n", t.cpu(), top)
	if t.special() {
		rc += fmt.Sprintf("arch_canon: %s: %[1]s %d\n", t.Scope, leadNumber[t.Arch])
	}
	// What a spec may name as its BuildArch, by the machine that builds.
	for _, host := range []string{"x86_64", "aarch64"} {
		rc += fmt.Sprintf("buildarch_compat: %s: noarch %s\n", host, t.cpu())
	}
	return rc
}

// leadNumber is what /usr/lib/rpm/rpmrc gives architectures in arch_canon.
var leadNumber = map[string]int{"x86_64": 1, "i686": 1, "aarch64": 19, "armv7hl": 12, "ppc64le": 16, "s390x": 15, "riscv64": 22}

// pinned are the macros that decide bytes, whatever the host's are. The mtimes
// of all that a build installs are set, not only clamped, so that a changelog
// dated after today does no harm either. Before they are stripped, the types of the
// libraries' interfaces are written to abi/, where abidw is installed: the check abi
// compares them. The shell says nothing of it: the parts of a pipe would in any order.
const pinned = `%_buildhost slipway
%use_source_date_epoch_as_buildtime 1
%clamp_mtime_to_source_date_epoch 1
%source_date_epoch_from_changelog 0
%_binary_payload w9.zstdio
%_source_payload w9.zstdio
%_binary_filedigest_algorithm 8
%_build_id_links none
%debug_package %{nil}
%_rpmfilename %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm
%_smp_build_ncpus 2
%_smp_build_nthreads 1
%packager %{nil}
%dist %{nil}
%_lib lib64
%_unpackaged_files_terminate_build 1
%_missing_doc_files_terminate_build 1
%__os_install_post %{slipway_describe} \
    %{?__brp_compress} \
    %{?__brp_strip} \
    %{?__brp_strip_static_archive} \
    %{?__brp_strip_comment_note} \
    find "$RPM_BUILD_ROOT" -exec touch -h -d @"$SOURCE_DATE_EPOCH" {} + \
%{nil}
%slipway_describe \
    if command -v abidw >/dev/null; then ( set +x; \
      find "$RPM_BUILD_ROOT" -type f -name "*.so*" | while read -r lib; do \
        if readelf -S -W "$lib" 2>/dev/null | grep -q "[.]debug_info"; then \
          mkdir -p %{_topdir}/abi; \
          abidw --no-corpus-path --no-comp-dir-path --out-file "%{_topdir}/abi/$(echo "${lib#"$RPM_BUILD_ROOT"}" | tr / +).abi.xml" "$lib" || echo "its types are not known: $lib"; \
        fi; \
      done ); \
    fi \
%{nil}
`

// macros gives the macro file of a task whose folder is at the path topdir.
// vars are the values that specs read, by name.
// raw is appended as it is.
func macros(topdir string, vars map[string]string, raw string) string {
	var b strings.Builder
	b.WriteString(pinned)
	for _, m := range [][2]string{{"_topdir", ""}, {"_sourcedir", "/SOURCES"}, {"_specdir", "/SOURCES"}, {"_builddir", "/BUILD"},
		{"_rpmdir", "/RPMS"}, {"_srcrpmdir", "/SRPMS"}, {"_buildrootdir", "/BUILDROOT"}, {"buildroot", "/BUILDROOT/root"},
		{"_tmppath", "/tmp"}, {"_dbpath", "/rpmdb"}, {"slipway_sysroot", "/sysroot"}, {"slipway_feed_config", "/feed-config"}} {
		fmt.Fprintf(&b, "%%%s %s%s\n", m[0], topdir, m[1])
	}
	names := make([]string, 0, len(vars))
	for n := range vars {
		names = append(names, n)
	}
	sort.Strings(names)
	for _, n := range names {
		if vars[n] == "" {
			fmt.Fprintf(&b, "%%%s %%{nil}\n", n)
			continue
		}
		// A title may hold what rpm would expand, or a line break.
		fmt.Fprintf(&b, "%%%s %s\n", n, strings.NewReplacer("%", "%%", "\n", " ", "\\", "").Replace(vars[n]))
	}
	return b.String() + raw
}
