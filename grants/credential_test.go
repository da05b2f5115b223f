package grants

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestACredentialTellsRightFromWrong(t *testing.T) {
	comparer := new(bcryptComparer)
	digest := DigestCredential(sha256.Sum256([]byte(testSecret)))
	hashed := HashCredential(secretHash(), comparer)
	decoy := HashCredential(passwordHash(), comparer)
	for _, test := range []struct {
		name       string
		credential *Credential
		decoy      *Credential
		presented  string
		want       bool
		computed   int64 // slow hashes
	}{
		{"a digest and the secret", digest, nil, testSecret, true, 0},
		{"a digest and the secret, with a decoy", digest, decoy, testSecret, true, 0},
		{"a digest and a wrong secret", digest, nil, "wrong", false, 0},
		{"a digest and a wrong secret, with a decoy", digest, decoy, "wrong", false, 1},
		{"a digest and nothing", digest, nil, "", false, 0},
		{"a hash and the secret", hashed, decoy, testSecret, true, 1},
		{"a hash and a wrong secret", hashed, decoy, "wrong", false, 1},
		{"a hash and nothing", hashed, decoy, "", false, 1},
		{"nobody and a secret", nil, nil, testSecret, false, 0},
		{"nobody and a secret, with a decoy", nil, decoy, testSecret, false, 1},
		{"nobody and the decoy's own password", nil, decoy, testPassword, false, 1},
		{"nobody and nothing", nil, nil, "", false, 0},
		{"a digest and the decoy's own password", digest, decoy, testPassword, false, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			checker := newCredentialChecker()
			before := comparer.calls.Load()
			ok, refused := checker.check(test.credential, test.decoy, test.presented)
			if refused != nil {
				t.Fatal(refused)
			}
			wantEqual(t, "right", ok, test.want)
			wantEqual(t, "slow hashes", comparer.calls.Load()-before, test.computed)
		})
	}
}

func TestOnlyWhatWasFoundRightIsRemembered(t *testing.T) {
	comparer := new(bcryptComparer)
	checker := newCredentialChecker()
	hashed, other := HashCredential(secretHash(), comparer), HashCredential(bcryptHash(testSecret), comparer)
	decoy := HashCredential(passwordHash(), comparer)
	for _, test := range []struct {
		name       string
		credential *Credential
		presented  string
		want       bool
		computed   int64 // in three checks
	}{
		{"right", hashed, testSecret, true, 1},
		{"right, with another hash of the same", other, testSecret, true, 1},
		{"wrong", hashed, "wrong", false, 3},
		{"nobody's", nil, "anything", false, 3},
		{"the decoy's own, for nobody", nil, testPassword, false, 3},
		{"the decoy's own", decoy, testPassword, true, 1},
		{"the decoy's own, for nobody, after the decoy's owner", nil, testPassword, false, 3},
	} {
		before := comparer.calls.Load()
		for range 3 {
			ok, refused := checker.check(test.credential, decoy, test.presented)
			if refused != nil {
				t.Fatal(refused)
			}
			wantEqual(t, test.name, ok, test.want)
		}
		wantEqual(t, "slow hashes for "+test.name, comparer.calls.Load()-before, test.computed)
	}
}

// comparerFunc is a Comparer made of a function.
type comparerFunc func() (bool, error)

func (f comparerFunc) Compare(_, _ []byte) (bool, error) { return f() }

func TestAHashThatCannotBeComparedIsAServerError(t *testing.T) {
	broken := HashCredential([]byte("hash"), comparerFunc(func() (bool, error) { return true, errors.New("no such algorithm") }))
	checker := newCredentialChecker()
	for _, credential := range []*Credential{broken, nil} {
		ok, refused := checker.check(credential, broken, "anything")
		wantCode(t, refused, ServerError)
		wantEqual(t, "right", ok, false)
	}
	wantEqual(t, "places still taken", len(checker.queued)+len(checker.running), 0)
}

func TestAFloodOfSignInsIsRefusedAndThenForgotten(t *testing.T) {
	checker := newCredentialChecker()
	release, entered := make(chan struct{}), make(chan struct{}, cap(checker.queued))
	slow := HashCredential([]byte("hash"), comparerFunc(func() (bool, error) {
		entered <- struct{}{}
		<-release
		return true, nil
	}))
	var waiting sync.WaitGroup
	for i := range cap(checker.queued) {
		waiting.Go(func() {
			if ok, refused := checker.check(slow, nil, fmt.Sprint("password ", i)); !ok || refused != nil {
				t.Errorf("one who waited: %v %v", ok, refused)
			}
		})
	}
	for range cap(checker.running) {
		<-entered
	}
	for len(checker.queued) < cap(checker.queued) {
		runtime.Gosched()
	}
	for _, credential := range []*Credential{slow, nil} {
		_, refused := checker.check(credential, slow, "one too many")
		wantUnavailable(t, refused)
		wantEqual(t, "throttled", refused.Throttled, false)
	}
	wantEqual(t, "computed at once", len(checker.running), runtime.GOMAXPROCS(0))
	close(release)
	waiting.Wait()
	wantEqual(t, "places still taken", len(checker.queued)+len(checker.running), 0)
	if ok, refused := checker.check(slow, nil, "later"); !ok || refused != nil {
		t.Errorf("later: %v %v", ok, refused)
	}
}

func TestNobodyWaitsForAHashLongerThanAMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		checker := &credentialChecker{running: make(chan struct{}, 1), queued: make(chan struct{}, 2)}
		if !checker.begin() {
			t.Fatal("the first has no turn")
		}
		start := time.Now()
		wantEqual(t, "turn of the second", checker.begin(), false)
		wantEqual(t, "time waited", time.Since(start), hashQueueWait)
		wantEqual(t, "places taken", len(checker.queued), 1)
		checker.end()
		wantEqual(t, "turn of the third", checker.begin(), true)
		checker.end()
	})
}

func TestASignInThatGetsNoTurnCountsAsNoFailure(t *testing.T) {
	f := newFixture(t)
	checker := f.server.credentials
	for range cap(checker.queued) {
		checker.queued <- struct{}{}
	}
	for range pairBurst + 1 {
		for _, client := range []string{"portal", "legacy", "nobody"} { // the user's password, the client's secret, nobody's
			_, refused := f.token(t, signIn(confidential(client), ""))
			wantUnavailable(t, refused)
			wantEqual(t, "throttled", refused.Throttled, false)
		}
	}
	for range cap(checker.queued) {
		<-checker.queued
	}
	f.signIn(t)
	f.mustToken(t, signIn(confidential("legacy"), ""))
}

func TestAFingerprintChangesWithTheCredential(t *testing.T) {
	comparer := new(bcryptComparer)
	all := []*Credential{
		HashCredential([]byte("hash"), comparer), HashCredential([]byte("hash2"), comparer),
		DigestCredential(sha256.Sum256([]byte("a"))), DigestCredential(sha256.Sum256([]byte("b"))),
	}
	for i, one := range all {
		wantEqual(t, "fingerprint of the same", one.Fingerprint(), one.Fingerprint())
		for _, other := range all[:i] {
			if slices.Equal(one.Fingerprint(), other.Fingerprint()) {
				t.Errorf("fingerprint %x is of two credentials", one.Fingerprint())
			}
		}
	}
	wantEqual(t, "fingerprint of an equal one", HashCredential([]byte("hash"), nil).Fingerprint(), all[0].Fingerprint())
}
