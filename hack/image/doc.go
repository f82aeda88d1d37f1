// Command image builds the images of MyNetwork and of its test cluster without Docker: from built programs and from the
// files of Debian packages that are installed on this machine. See README.md beside it.
package main
