package grants

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"runtime"
	"time"

	"github.com/maypok86/otter/v2"
)

// Comparer compares a password with its hash; Caddy's hash modules are of this form.
type Comparer interface {
	Compare(hashed, plaintext []byte) (bool, error)
}

// Credential is what a secret or a password is checked against. It can't be turned back into it.
type Credential struct {
	digest [sha256.Size]byte // of a secret with enough entropy; unused where there is a hash

	hash     []byte
	comparer Comparer
}

// DigestCredential is for secrets that are random: their SHA-256 is kept.
func DigestCredential(digest [sha256.Size]byte) *Credential { return &Credential{digest: digest} }

// HashCredential is for passwords and whatever else can be guessed: a hash that is slow on purpose.
func HashCredential(hash []byte, comparer Comparer) *Credential {
	return &Credential{hash: hash, comparer: comparer}
}

// Fingerprint changes when the credential does, and tells nothing else about it.
func (c *Credential) Fingerprint() []byte {
	sum := sha256.Sum256(append(bytes.Clone(c.hash), c.digest[:]...))
	return sum[:8]
}

// What the checking of slow hashes may cost: as many at once as there are cores, a few that wait a moment for their turn,
// the rest refused, so that a flood of sign-ins neither takes all of the machine nor piles up.
const (
	hashQueuePerCore = 8
	hashQueueWait    = 2 * time.Second

	verifiedCacheSize = 10_000
)

// credentialChecker checks secrets and passwords.
type credentialChecker struct {
	running chan struct{} // one element for each hash that is being computed
	queued  chan struct{} // one element for each that is computed or waits

	// verified holds what was found right lately, under a key of this process: checking it again costs no slow hash.
	verified *otter.Cache[[sha256.Size]byte, struct{}]
	key      [32]byte
}

func newCredentialChecker() *credentialChecker {
	cores := runtime.GOMAXPROCS(0)
	c := &credentialChecker{
		running: make(chan struct{}, cores),
		queued:  make(chan struct{}, cores*(1+hashQueuePerCore)),
		verified: otter.Must(&otter.Options[[sha256.Size]byte, struct{}]{
			MaximumSize: verifiedCacheSize,
		}),
	}
	_, _ = rand.Read(c.key[:]) // never fails (Go 1.24)
	return c
}

// check reports whether what was presented is what the credential is for. The credential is nil if there is nobody of
// that name. Whoever is refused waits as long as for the slowest check there is: decoy is a hashed credential of somebody
// else, nil if nobody has one. The error says that there was no time for it.
func (c *credentialChecker) check(credential, decoy *Credential, presented string) (bool, *Error) {
	if credential != nil && credential.hash != nil {
		return c.checkHash(credential, presented)
	}
	digest := sha256.Sum256([]byte(presented))
	var expected [sha256.Size]byte
	if credential != nil {
		expected = credential.digest
	}
	same := subtle.ConstantTimeCompare(digest[:], expected[:]) == 1
	if credential != nil && same {
		return true, nil
	}
	if decoy != nil {
		// Not through the cache: it would tell by its haste that this is the decoy's own password.
		if _, refused := c.compare(decoy, presented); refused != nil {
			return false, refused
		}
	}
	return false, nil
}

func (c *credentialChecker) checkHash(credential *Credential, presented string) (bool, *Error) {
	name := c.cacheKey(credential, presented)
	if _, ok := c.verified.GetIfPresent(name); ok {
		return true, nil
	}
	ok, refused := c.compare(credential, presented)
	if ok {
		c.verified.Set(name, struct{}{})
	}
	return ok, refused
}

// compare computes the hash.
func (c *credentialChecker) compare(credential *Credential, presented string) (bool, *Error) {
	if !c.begin() {
		return false, &Error{
			Code:        TemporarilyUnavailable,
			Description: "Too many are signing in at once. Try again in a moment.",
			RetryAfter:  time.Second,
		}
	}
	defer c.end()
	ok, err := credential.comparer.Compare(credential.hash, []byte(presented))
	if err != nil {
		return false, refuse(ServerError, "The credentials could not be checked.").because("comparing a hash: %w", err)
	}
	return ok, nil
}

func (c *credentialChecker) cacheKey(credential *Credential, presented string) (key [sha256.Size]byte) {
	mac := hmac.New(sha256.New, c.key[:])
	fmt.Fprintf(mac, "%d %s", len(credential.hash), credential.hash)
	mac.Write([]byte(presented))
	mac.Sum(key[:0])
	return key
}

// begin waits for a turn to compute a hash; false means that there is none to be had soon.
func (c *credentialChecker) begin() bool {
	select {
	case c.queued <- struct{}{}:
	default:
		return false
	}
	timeout := time.NewTimer(hashQueueWait)
	defer timeout.Stop()
	select {
	case c.running <- struct{}{}:
		return true
	case <-timeout.C:
		<-c.queued
		return false
	}
}

func (c *credentialChecker) end() {
	<-c.running
	<-c.queued
}
