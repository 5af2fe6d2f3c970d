package distro

import "testing"

func TestPublic(t *testing.T) {
	t.Parallel()
	policy := func(x ...Exclusion) PublicPolicy {
		return PublicPolicy{Classes: []Class{Packages, Sources, SState}, Exclude: x}
	}
	closed, vendor := Exclusion{License: "CLOSED"}, Exclusion{Recipe: "vendor-*"}
	for _, tt := range []struct {
		name   string
		policy PublicPolicy
		class  Class
		from   []Origin
		want   string // the reason; "" is public
	}{
		{"nothing is said", PublicPolicy{}, Packages, nil, "publish.public does not list packages"},
		{"class", policy(), TaskLog, nil, "publish.public does not list task-log"},
		{"public", policy(closed, vendor), Packages, []Origin{{"greet", "MIT", ""}}, ""},
		{"licence", policy(closed), Packages, []Origin{{"greet", "CLOSED", ""}}, "publish.exclude has {license: CLOSED}"},
		{"licence in other letters", policy(closed), Packages, []Origin{{"greet", "Closed", ""}}, "publish.exclude has {license: CLOSED}"},
		{"a part of the expression", policy(closed), Packages, []Origin{{"greet", "(MIT&CLOSED)", ""}}, "publish.exclude has {license: CLOSED}"},
		{"a choice", policy(closed), Packages, []Origin{{"greet", "MIT OR CLOSED", ""}}, "publish.exclude has {license: CLOSED}"},
		{"another word with it", policy(closed), Packages, []Origin{{"greet", "ENCLOSED", ""}}, ""},
		{"pattern", policy(Exclusion{License: "LicenseRef-*"}), Packages, []Origin{{"greet", "MIT AND LicenseRef-Acme", ""}}, "publish.exclude has {license: LicenseRef-*}"},
		{"words with spaces", policy(Exclusion{License: "All rights reserved"}), Packages, []Origin{{"greet", "All rights reserved", ""}}, "publish.exclude has {license: All rights reserved}"},
		{"unknown licence", policy(closed), Packages, []Origin{{"greet", "", ""}}, "publish.exclude has {license: CLOSED}"},
		{"unknown licence, no rule about it", policy(vendor), Packages, []Origin{{"greet", "", ""}}, ""},
		{"flag", policy(Exclusion{LicenseFlags: "commercial"}), Packages, []Origin{{"greet", "MIT", "x commercial"}}, "publish.exclude has {license_flags: commercial}"},
		{"flag with the recipe's name", policy(Exclusion{LicenseFlags: "commercial"}), Packages, []Origin{{"ffmpeg", "MIT", "commercial_ffmpeg"}}, "publish.exclude has {license_flags: commercial}"},
		{"another flag", policy(Exclusion{LicenseFlags: "commercial"}), Packages, []Origin{{"greet", "MIT", "noncommercial commercials"}}, ""},
		{"recipe", policy(vendor), Sources, []Origin{{"vendor-radio", "MIT", ""}}, "publish.exclude has {recipe: vendor-*}"},
		{"another recipe", policy(vendor), Sources, []Origin{{"old-vendor-radio", "MIT", ""}}, ""},
		{"a namespace does not hide it", policy(vendor), Sources, []Origin{{"vendor-a/b", "MIT", ""}}, "publish.exclude has {recipe: vendor-*}"},
		{"all must match", policy(Exclusion{License: "MIT", Recipe: "vendor-*"}), SState, []Origin{{"vendor-x", "GPL-2.0-only", ""}, {"greet", "MIT", ""}}, ""},
		{"one of many", policy(closed), Sources, []Origin{{"greet", "MIT", ""}, {"greet", "CLOSED", ""}}, "publish.exclude has {license: CLOSED}"},
		{"an empty entry", policy(Exclusion{}), Packages, []Origin{{"greet", "MIT", ""}}, ""},
		{"a bad pattern", policy(Exclusion{Recipe: "a["}), Packages, []Origin{{"greet", "MIT", ""}}, "publish.exclude has {recipe: a[}"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ok, why := tt.policy.Public(tt.class, tt.from...)
			if why != tt.want || ok != (tt.want == "") {
				t.Errorf("%v %q, want %q", ok, why, tt.want)
			}
		})
	}
}

func TestReveals(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{"greet": false, "greet-dbg": true, "greet-src": true, "greet-debuginfo": true, "greet-debugsource": true, "greet-dev": false} {
		if got := (PackageRecord{Name: name, Arch: "x86_64"}).Reveals(); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if !(PackageRecord{Name: "greet", Arch: "src"}).Reveals() {
		t.Error("a source package")
	}
}
