// Package projectfile reads the files by which others describe a BitBake build, and
// makes a definition of them:
//
//   - kas yml with its includes and its lock file ([ReadKas]; kas' project
//     configuration, header versions 1 to 20),
//   - bitbake-setup JSON with its fixed revisions ([ReadSetup]; BitBake's
//     setup-schema/bitbake-setup.schema.json, version 1.0).
//
// What a definition has no place for is a finding with the place where it is written,
// and all of them are given at once, as an errs.List of Invalid. [Project.Definition]
// writes the text of slipway.yaml. Nothing else is written here.
package projectfile
