package distro

import "fmt"

// FormatEVR gives [epoch:]version-release; epoch 0 is left out.
func FormatEVR(epoch int, version, release string) string {
	s := version
	if release != "" {
		s += "-" + release
	}
	if epoch != 0 {
		s = fmt.Sprintf("%d:%s", epoch, s)
	}
	return s
}

// CompareEVR orders epoch, then version, then release, as rpm does.
func CompareEVR(e1 int, v1, r1 string, e2 int, v2, r2 string) int {
	if e1 != e2 {
		return sign(e1 - e2)
	}
	if c := RPMVerCmp(v1, v2); c != 0 {
		return c
	}
	return RPMVerCmp(r1, r2)
}
