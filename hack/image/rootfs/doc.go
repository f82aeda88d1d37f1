// Package rootfs puts together the files of an image: from the building machine's files, programs with the libraries that
// they need, and whole Debian packages; and writes them as a layer.
//
// A layer depends on the names, modes and contents of its files alone: entries are sorted, times are zero, all belong to
// root. Directories above a file are made with mode 0755. Paths are canonical: /bin, /sbin, /lib and /lib64 are links into
// /usr in every image, and files go to where they lead.
//
// A Tree is not safe for concurrent use.
package rootfs
