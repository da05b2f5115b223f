//go:build linux || darwin || freebsd

package badger

import "golang.org/x/sys/unix"

// freeSpace is what a process without privileges may still write to the directory's file system, in bytes.
func freeSpace(directory string) (uint64, error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(directory, &stat); err != nil {
		return 0, err
	}
	return uint64(max(stat.Bavail, 0)) * uint64(stat.Bsize), nil //nolint:unconvert // the types differ between systems
}
