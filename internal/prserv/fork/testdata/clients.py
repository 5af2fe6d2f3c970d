#!/usr/bin/env python3
"""A build's conversation with both servers, by BitBake's own client code.

Our own code. usage: clients.py BITBAKE_DIR NAME HASHSERV PRSERV [OE_CORE]

NAME makes this version's hashes its own. Prints one JSON object with what the
servers said; the test compares. With OE_CORE the function package_get_auto_pr
of its package class asks too, as a build's do_package tasks do: for the outputs
that OUTPUTS names ("one two two").
"""
import hashlib, json, os, re, sys

bitbake, name, hashaddr, praddr = sys.argv[1:5]
oecore = sys.argv[5] if len(sys.argv) > 5 else None
sys.path.insert(0, os.path.join(bitbake, "lib"))
import bb
import hashserv
import prserv.serv

said = {"version": bb.__version__}
METHOD = "oe.sstatesig.OEOuthashBasic"


def h(*what):
    return hashlib.sha256("/".join(what).encode()).hexdigest()


c = hashserv.create_client(hashaddr)
said["alive"] = c.ping()["alive"]
mine = h(name, "task")
said["report"] = c.report_unihash(mine, METHOD, h(name, "out"), mine, {"PN": "zlib", "PV": "1", "PR": "r0", "task": "do_install"})["unihash"] == mine
said["report_big"] = c.report_unihash(h(name, "big"), METHOD, h(name, "bigout"), h(name, "big"), {"outhash_siginfo": "x " * 100000})["unihash"] == h(name, "big")
said["big"] = len((c.get_taskhash(METHOD, h(name, "big"), True) or {}).get("outhash_siginfo") or "")
said["get"] = c.get_unihash(METHOD, mine) == mine
said["unknown"] = c.get_unihash(METHOD, h(name, "unknown")) in (None, "")
# The same output in all versions: one unihash, that of the first one.
said["common"] = c.report_unihash(h(name, "common"), METHOD, h("common"), h(name, "common"))["unihash"]
said["common_stream"] = c.get_unihash(METHOD, h(name, "common"))
said["row"] = c.get_taskhash(METHOD, mine, True)["PN"]
said["outhash"] = c.get_outhash(METHOD, h("common"), h(name, "x"))["unihash"]
said["equiv"] = c.report_unihash_equiv(h(name, "equiv"), METHOD, h("equiv"))["unihash"] == h("equiv")
said["stats"] = c.get_stats()["requests"]["num"] > 0
if hasattr(c, "unihash_exists"):
    said["exists"] = [c.unihash_exists(mine), c.unihash_exists(h(name, "none"))]
    c.get_stats()  # 2.8's client ends a stream twice when another one follows at once
if hasattr(c, "get_unihash_batch"):
    got = list(c.get_unihash_batch([(METHOD, mine), (METHOD, h("nothing"))] * 1500))
    said["batch"] = got == [mine, ""] * 1500 or got == [mine, None] * 1500
if hasattr(c, "gc_mark"):
    said["gc"] = c.gc_mark("m-" + name, {"taskhash": mine})["count"]
if hasattr(c, "get_db_usage"):
    said["usage"] = sorted(c.get_db_usage())
c.close()

host, port = praddr.rsplit(":", 1)


def pr():
    return prserv.serv.connect(host, int(port))


p = pr()
said["pr_alive"] = p.ping()["alive"]
said["pr_type"] = type(p.getPR("zlib-1-r0", "core2-64", "shared")).__name__
said["pr_shared"] = str(p.getPR("zlib-1-r0", "core2-64", "shared"))
said["pr_own"] = [str(p.getPR("own-%s-1-r0" % name, "core2-64", ck)) for ck in ("a", "b", "b", "a", "a")]
said["pr_new"] = str(p.getPR("zlib-2-r0", "core2-64", name))
said["pr_import"] = str(p.importone("own-%s-1-r0" % name, "core2-64", "imported", 41))
said["pr_after"] = str(p.getPR("own-%s-1-r0" % name, "core2-64", "later"))
meta, data = p.export("own-%s-1-r0" % name, "core2-64", None, True)
said["pr_export"] = [str(r["value"]) for r in data]
said["pr_columns"] = len(meta["col_info"])
said["pr_readonly"] = p.is_readonly()
if hasattr(p, "test_pr"):
    said["pr_test"] = [str(p.test_pr("zlib-1-r0", "core2-64", "shared")), p.test_pr("zlib-1-r0", "core2-64", "none")]
    said["pr_package"] = [p.test_package("zlib-1-r0", "core2-64"), p.test_package("none-1-r0", "core2-64")]
if hasattr(p, "max_package_pr"):  # not in 2.8's, though its server knows it
    said["pr_max"] = str(p.max_package_pr("own-%s-1-r0" % name, "core2-64"))
p.close()


class Data(dict):
    """As much of BitBake's data store as the class asks of."""

    def getVar(self, key, expand=True):
        return self.get(key)

    def setVar(self, key, value):
        self[key] = value


if oecore:
    sys.path.insert(0, os.path.join(oecore, "meta", "lib"))
    for folder in ("classes-global", "classes"):
        path = os.path.join(oecore, "meta", folder, "package.bbclass")
        if os.path.exists(path):
            break
    text = open(path).read()
    body = re.search(r"^python package_get_auto_pr\(\) \{\n(.*?)^\}", text, re.S | re.M).group(1)
    code = compile("def package_get_auto_pr(d):\n" + body, path, "exec")
    numbers = []
    for output in os.environ.get("OUTPUTS", "one two two").split():
        d = Data(PN="busybox", PV="1.36", PKGV="1.36", PACKAGE_ARCH="core2-64", PRAUTOINX="busybox-%s-1.36-r0" % name, BB_RUNTASK="do_package_write_rpm", PRSERV_HOST=praddr,
                 BB_TASKDEPDATA={"x": ["busybox", "do_package", "fn", set(), set(), "taskhash", h(name, output)]})
        space = {"bb": bb}
        exec(code, space)
        space["package_get_auto_pr"](d)
        numbers.append(d["PRAUTO"])
    said["oe"] = numbers
print(json.dumps(said))
