package tokenstore

import (
	"fmt"
	"time"
)

// What the generated codecs call for the types that MessagePack doesn't have.

func toMillis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// trailing refuses bytes after a record: they would mean that it isn't what was written.
func trailing(rest []byte) error {
	if len(rest) > 0 {
		return fmt.Errorf("%d bytes after the record", len(rest))
	}
	return nil
}
