package badger

import "fmt"

// reserve is the free space, in bytes, below which nothing is written any more. Badger writes through memory-mapped files:
// a write that finds no block on the disk doesn't fail, it ends the process. So the store stops while Badger can still
// finish what it has begun: a log file, and the tables that it and its compaction are written to.
const reserve = 64 << 20

// checkSpace returns an error if the file system has too little room. When there is room again, so is the store.
func (s *Store) checkSpace() error { return checkSpace(s.directory, s.freeSpace) }

func checkSpace(directory string, freeSpace func(directory string) (uint64, error)) error {
	free, err := freeSpace(directory)
	if err != nil {
		return fmt.Errorf("asking for the free space of %s: %w", directory, err)
	}
	if free < reserve {
		return fmt.Errorf("the file system of %s has %d MiB left and the store needs %d: make room, nothing else has to be done",
			directory, free>>20, reserve>>20)
	}
	return nil
}
