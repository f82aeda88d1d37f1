// Command release makes what is published of a version, so that others can make the same bytes. See README.md beside it.
//
// Nothing of the machine enters: paths are trimmed, there is no cgo, no stamp of the version control, and no clock but the commit's
// date. What does enter is named in the SBOM: the Go release, the modules, and the Debian packages of the image.
package main
