package grants

import (
	"crypto/sha256"
	"net/netip"
	"time"

	"github.com/maypok86/otter/v2"
	"golang.org/x/time/rate"
)

// How many attempts may fail. Whoever has used up the burst gets a new attempt at each interval.
const (
	pairBurst    = 20
	pairInterval = 3 * time.Second

	addressBurst    = 200
	addressInterval = time.Second / 2

	throttleSize = 50_000
)

// throttle slows down the guessing of secrets and passwords (RFC 6749 §2.3.1, §10.10): per name and address, so that
// nobody can lock out somebody else, and per address, so that trying many names doesn't help. Its memory is bounded;
// names that are tried once leave first.
type throttle struct {
	failures *otter.Cache[throttleKey, *rate.Limiter]
	clock    func() time.Time
}

type throttleKey struct {
	name    [sha256.Size]byte // digest of a client's or a user's, whose length is the caller's; zero for the address as a whole
	address netip.Prefix
}

func newThrottle(clock func() time.Time) *throttle {
	return &throttle{
		failures: otter.Must(&otter.Options[throttleKey, *rate.Limiter]{MaximumSize: throttleSize}),
		clock:    clock,
	}
}

// keys returns what an attempt is counted under. An IPv6 network counts as one address, for its owner has 2^64 of them.
func (t *throttle) keys(name string, address netip.Addr) [2]throttleKey {
	bits := 32
	if address = address.Unmap(); address.Is6() {
		bits = 64
	}
	network, _ := address.Prefix(bits) // the zero Prefix for the zero Addr
	return [2]throttleKey{{name: sha256.Sum256([]byte(name)), address: network}, {address: network}}
}

// admit refuses an attempt if too many before it have failed.
func (t *throttle) admit(name string, address netip.Addr) *Error {
	now := t.clock()
	for _, key := range t.keys(name, address) {
		if failures, ok := t.failures.GetIfPresent(key); ok && failures.TokensAt(now) < 1 {
			return &Error{
				Code:        TemporarilyUnavailable,
				Description: "Too many failed attempts. Wait before trying again.",
				RetryAfter:  time.Duration(float64(time.Second) / float64(failures.Limit())),
				Throttled:   true,
			}
		}
	}
	return nil
}

// failed counts an attempt that failed.
func (t *throttle) failed(name string, address netip.Addr) {
	keys := t.keys(name, address)
	t.limiter(keys[0], pairInterval, pairBurst).AllowN(t.clock(), 1)
	t.limiter(keys[1], addressInterval, addressBurst).AllowN(t.clock(), 1)
}

// succeeded forgets the failures of this name from this address.
func (t *throttle) succeeded(name string, address netip.Addr) {
	t.failures.Invalidate(t.keys(name, address)[0])
}

func (t *throttle) limiter(key throttleKey, interval time.Duration, burst int) *rate.Limiter {
	limiter, _ := t.failures.ComputeIfAbsent(key, func() (*rate.Limiter, bool) {
		return rate.NewLimiter(rate.Every(interval), burst), false
	})
	return limiter
}
