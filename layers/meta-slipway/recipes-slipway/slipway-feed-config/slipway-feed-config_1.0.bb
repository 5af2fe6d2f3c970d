SUMMARY = "Where dnf finds this distribution, and its keys"
DESCRIPTION = "The feeds of the distribution, the public keys that they are signed \
with, and the variables with which a device moves to a mirror or stays at a \
snapshot. Slipway generates the files; SLIPWAY_FEED_CONFIG names their folder."
require recipes-slipway/slipway.inc

inherit allarch

# Which folder it is decides nothing, what is in it everything.
SLIPWAY_FEED_CONFIG[vardepvalue] = ""
do_install[file-checksums] += "${@d.getVar('SLIPWAY_FEED_CONFIG') + '/:True' if d.getVar('SLIPWAY_FEED_CONFIG') else ''}"

python () {
    if not d.getVar('SLIPWAY_FEED_CONFIG'):
        raise bb.parse.SkipRecipe('SLIPWAY_FEED_CONFIG is not set: Slipway names the folder with the .repo file, the keys and vars/ when it builds a release')
}

# A .repo file that leaves a check out, or a key that is not there, would be on all
# devices before anybody notices.
def slipway_feed_problems(folder):
    import configparser, glob, os
    bad = []
    repos = sorted(glob.glob(os.path.join(folder, '*.repo')))
    if not repos:
        bad.append('%s: there is no .repo file' % folder)
    for name in ('slipway_url', 'slipway_snapshot'):
        if not os.path.isfile(os.path.join(folder, 'vars', name)):
            bad.append('%s: there is no vars/%s' % (folder, name))
    for repo in repos:
        c = configparser.RawConfigParser(strict=True)
        try:
            c.read(repo)
        except configparser.Error as e:
            bad.append('%s: %s' % (repo, e))
            continue
        if not c.sections():
            bad.append('%s: there is no section' % repo)
        for section in c.sections():
            for check in ('gpgcheck', 'repo_gpgcheck'):
                if c.get(section, check, fallback='') != '1':
                    bad.append('%s: [%s] has no %s=1' % (repo, section, check))
            keys = c.get(section, 'gpgkey', fallback='').split()
            if not keys:
                bad.append('%s: [%s] has no gpgkey' % (repo, section))
            for key in keys:
                name = key[len('file:///etc/pki/rpm-gpg/'):]
                if not key.startswith('file:///etc/pki/rpm-gpg/RPM-GPG-KEY-'):
                    bad.append('%s: [%s] has the key %s, which is not in /etc/pki/rpm-gpg' % (repo, section, key))
                elif not os.path.isfile(os.path.join(folder, name)):
                    bad.append('%s: [%s] needs the key %s, which is not in %s' % (repo, section, name, folder))
    return bad

python slipway_check_feed_config () {
    bad = slipway_feed_problems(d.getVar('SLIPWAY_FEED_CONFIG'))
    if bad:
        bb.fatal('the feed configuration cannot be packaged:\n' + '\n'.join(bad))
}
do_install[prefuncs] += "slipway_check_feed_config"

do_install() {
    install -d ${D}${sysconfdir}/yum.repos.d ${D}${sysconfdir}/pki/rpm-gpg ${D}${sysconfdir}/dnf/vars
    install -m 0644 ${SLIPWAY_FEED_CONFIG}/*.repo ${D}${sysconfdir}/yum.repos.d/
    install -m 0644 ${SLIPWAY_FEED_CONFIG}/RPM-GPG-KEY-* ${D}${sysconfdir}/pki/rpm-gpg/
    install -m 0644 ${SLIPWAY_FEED_CONFIG}/vars/* ${D}${sysconfdir}/dnf/vars/
}

# The admin may change these: to a mirror, to a pin.
python slipway_feed_conffiles () {
    import os
    root = d.getVar('D')
    found = []
    for folder in ('yum.repos.d', 'dnf/vars'):
        base = os.path.join(root, d.getVar('sysconfdir').lstrip('/'), folder)
        found += [os.path.join(d.getVar('sysconfdir'), folder, f) for f in sorted(os.listdir(base))]
    d.setVar('CONFFILES:' + d.getVar('PN'), ' '.join(found))
}
PACKAGESPLITFUNCS:append = " slipway_feed_conffiles"

# Without sequoia librepo has gpg check the metadata, and dnf only recommends it: an
# image without recommendations could verify nothing.
RDEPENDS:${PN} = "${@'' if d.getVar('SLIPWAY_SEQUOIA') else 'gnupg'}"
