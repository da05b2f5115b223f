package grants

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// wantThrottled checks that an attempt is refused until the time that is told.
func wantThrottled(t *testing.T, refused *Error, after time.Duration) {
	t.Helper()
	wantCode(t, refused, TemporarilyUnavailable)
	wantEqual(t, "throttled", refused.Throttled, true)
	wantEqual(t, "retry after", refused.RetryAfter.Round(time.Millisecond), after)
}

func wantAdmitted(t *testing.T, who string, refused *Error) {
	t.Helper()
	if refused != nil {
		t.Errorf("%s is refused: %v", who, refused)
	}
}

func TestTheTwentyFirstFailureOfANameFromAnAddressIsThrottled(t *testing.T) {
	clock := newTestClock()
	throttle := newThrottle(clock.now)
	for i := range pairBurst {
		wantAdmitted(t, fmt.Sprint("attempt ", i+1), throttle.admit("admin", home))
		throttle.failed("admin", home)
	}
	wantThrottled(t, throttle.admit("admin", home), pairInterval)
	wantAdmitted(t, "another name", throttle.admit("guest", home))
	wantAdmitted(t, "another address", throttle.admit("admin", netip.MustParseAddr("192.0.2.2")))
	wantAdmitted(t, "no address", throttle.admit("admin", netip.Addr{}))
	wantThrottled(t, throttle.admit("admin", netip.MustParseAddr("::ffff:192.0.2.1")), pairInterval)
}

func TestTimeHealsOneAttemptAfterTheOther(t *testing.T) {
	clock := newTestClock()
	throttle := newThrottle(clock.now)
	for range pairBurst {
		throttle.failed("admin", home)
	}
	for range 5 {
		wantThrottled(t, throttle.admit("admin", home), pairInterval)
		clock.advance(pairInterval - time.Millisecond)
		wantThrottled(t, throttle.admit("admin", home), pairInterval)
		clock.advance(time.Millisecond)
		wantAdmitted(t, "after the interval", throttle.admit("admin", home))
		throttle.failed("admin", home)
	}
	clock.advance(pairBurst * pairInterval)
	for range pairBurst {
		wantAdmitted(t, "after a long while", throttle.admit("admin", home))
		throttle.failed("admin", home)
	}
	wantThrottled(t, throttle.admit("admin", home), pairInterval)
}

func TestASuccessForgetsTheFailuresOfItsNameFromItsAddress(t *testing.T) {
	clock := newTestClock()
	throttle := newThrottle(clock.now)
	elsewhere := netip.MustParseAddr("192.0.2.2")
	for range pairBurst - 1 {
		throttle.failed("admin", home)
	}
	for range pairBurst {
		throttle.failed("admin", elsewhere)
		throttle.failed("guest", home)
	}
	throttle.succeeded("admin", home)
	for range pairBurst {
		wantAdmitted(t, "the name that succeeded", throttle.admit("admin", home))
		throttle.failed("admin", home)
	}
	wantThrottled(t, throttle.admit("admin", home), pairInterval)
	wantThrottled(t, throttle.admit("admin", elsewhere), pairInterval)
	wantThrottled(t, throttle.admit("guest", home), pairInterval)
}

func TestAnAddressThatTriesManyNamesIsThrottledAsAWhole(t *testing.T) {
	clock := newTestClock()
	throttle := newThrottle(clock.now)
	for i := range addressBurst {
		name := fmt.Sprint("user ", i)
		wantAdmitted(t, name, throttle.admit(name, home))
		throttle.failed(name, home)
	}
	wantThrottled(t, throttle.admit("admin", home), addressInterval)
	throttle.succeeded("admin", home) // whoever has one account can't go on guessing others
	wantThrottled(t, throttle.admit("admin", home), addressInterval)
	wantAdmitted(t, "another address", throttle.admit("admin", netip.MustParseAddr("192.0.2.2")))
	clock.advance(addressInterval)
	wantAdmitted(t, "after the interval", throttle.admit("admin", home))
}

func TestAnIPv6NetworkCountsAsOneAddress(t *testing.T) {
	for _, test := range []struct {
		name, address string
		throttled     bool
	}{
		{"the address", "2001:db8:1:2::1", true},
		{"another of the network", "2001:db8:1:2:ffff:ffff:ffff:ffff", true},
		{"with a zone", "2001:db8:1:2::1%eth0", true},
		{"of the next network", "2001:db8:1:3::1", false},
		{"IPv4", "192.0.2.1", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			throttle := newThrottle(newTestClock().now)
			for i := range pairBurst {
				throttle.failed("admin", netip.MustParseAddr(fmt.Sprintf("2001:db8:1:2::%x", i)))
			}
			refused := throttle.admit("admin", netip.MustParseAddr(test.address))
			wantEqual(t, "throttled", refused != nil, test.throttled)
		})
	}
}

func TestFailuresWithoutAnAddressAreCountedToo(t *testing.T) {
	throttle := newThrottle(newTestClock().now)
	for range pairBurst {
		throttle.failed("admin", netip.Addr{})
	}
	wantThrottled(t, throttle.admit("admin", netip.Addr{}), pairInterval)
}

func TestGuessingClientSecretsIsThrottled(t *testing.T) {
	f := newFixture(t)
	session := f.signIn(t)
	guess := func(id, secret string) *Error {
		r := refreshing(session.RefreshToken)
		r.Client = ClientAuthentication{ClientID: id, Secret: secret, Address: home}
		_, refused := f.token(t, r)
		return refused
	}
	for _, id := range []string{"portal", "nobody"} {
		for range pairBurst {
			wantCode(t, guess(id, "wrong"), InvalidClient)
		}
		wantThrottled(t, guess(id, testSecret), pairInterval)
	}
	wantCode(t, guess("rival", testSecret), InvalidGrant) // authenticated
	f.clock.advance(pairInterval)
	wantAdmitted(t, "the client", guess("portal", testSecret))
}

func TestAUserAndAClientOfOneNameAreCountedApart(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Users[0].Name = "portal" })
	r := signIn(confidential("portal"), "")
	r.Username = "portal"
	r.Password = "wrong"
	for range pairBurst {
		_, refused := f.token(t, r)
		wantCode(t, refused, InvalidGrant)
	}
	_, refused := f.token(t, r)
	wantThrottled(t, refused, pairInterval)
	f.mustToken(t, TokenRequest{GrantType: ClientCredentials, Client: confidential("portal")})
}
