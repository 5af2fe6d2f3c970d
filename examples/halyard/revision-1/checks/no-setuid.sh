#!/bin/sh
# A check of this distribution's own: slipway test runs every executable of this
# folder. Here is how one is written: docs/checks.md of Slipway, "Your own checks".
#
# asks: does no package bring a program that runs with more rights than its user's?
# cure: chmod 0755 in %install; or a waiver, with a reason
# within: 2m
set -eu
cat >candidate.json
# The files of new packages; those of kept ones were asked about when they were new.
sed -n 's/^ *"path": "\(\/candidate\/feed\/.*\.rpm\)".*/\1/p' candidate.json >new
asked=0 findings=
while read -r package; do
    asked=$((asked + 1))
    bad=$(rpm --dbpath /work/rpm -qp --nosignature --qf '[%{FILEMODES:perms} %{FILENAMES}\n]' "$package" | grep '^-..[sS]\|^-.....[sS]' || true)
    if [ -n "$bad" ]; then
        name=$(rpm --dbpath /work/rpm -qp --nosignature --qf '%{NAME}.%{ARCH}' "$package")
        findings="$findings${findings:+,}{\"id\": \"$name\", \"object\": \"$name\", \"text\": \"it brings $(echo "$bad" | tr '\n"\134' ';??')\"}"
    fi
done <new
if [ "$asked" = 0 ]; then
    echo '{"asked": 0, "note": "no new package"}'
else
    echo "{\"asked\": $asked, \"findings\": [$findings]}"
fi
