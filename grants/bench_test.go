package grants

import (
	"errors"
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// benchServer is a server with the machine's clock on a Badger store of its own.
func benchServer(b *testing.B, changes ...func(*Config)) *Server {
	b.Helper()
	config := testConfig(new(bcryptComparer))
	for _, change := range changes {
		change(&config)
	}
	server, err := New(b.Context(), config, openStore(b, b.TempDir(), nil))
	if err != nil {
		b.Fatal(err)
	}
	return server
}

func benchToken(b *testing.B, server *Server, r TokenRequest) *TokenResponse {
	b.Helper()
	response, _, refused := server.Token(b.Context(), r)
	if refused != nil {
		b.Fatal(refused)
	}
	return response
}

// cpuTime is what the process has used so far, in user and in system mode.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// shared runs b.N operations in so many goroutines, each of which does its share one after the other, and reports their rate
// and the CPU time that one takes.
func shared(b *testing.B, goroutines int, unit string, work func(goroutine, from, to int) error) {
	b.Helper()
	runtime.GC() // what was made ready is not to be paid for by what is measured
	b.ReportAllocs()
	before := cpuTime(b)
	b.ResetTimer()
	done := make(chan error, goroutines)
	for g := range goroutines {
		go func() { done <- work(g, g*b.N/goroutines, (g+1)*b.N/goroutines) }()
	}
	for range goroutines {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), unit+"s/s")
	b.ReportMetric(float64((cpuTime(b)-before).Microseconds())/float64(b.N), "CPU-µs/"+unit)
}

// BenchmarkRefresh measures whole refreshes, durable ones, each goroutine with a session of its own.
func BenchmarkRefresh(b *testing.B) {
	for _, grace := range []time.Duration{0, 30 * time.Second} {
		for _, goroutines := range []int{1, 64} {
			b.Run(fmt.Sprintf("grace=%s/goroutines=%d", grace, goroutines), func(b *testing.B) {
				server := benchServer(b, withGrace(grace))
				tokens := make([]string, goroutines)
				for i := range tokens {
					tokens[i] = benchToken(b, server, signIn(confidential("portal"), "default read write")).RefreshToken
				}
				shared(b, goroutines, "rotation", func(goroutine, from, to int) error {
					token := tokens[goroutine]
					for range to - from {
						response, _, refused := server.Token(b.Context(), refreshing(token))
						if refused != nil {
							return refused
						}
						token = response.RefreshToken
					}
					return nil
				})
			})
		}
	}
}

func BenchmarkParseRefreshToken(b *testing.B) {
	keys := sampleKeys()
	for _, test := range []struct {
		name, token string
		want        bool
	}{
		{"good", sampleKey.formatRefreshToken(sampleToken), true},
		{"forged", macKey{id: 1, key: make([]byte, 32)}.formatRefreshToken(sampleToken), false},
	} {
		b.Run(test.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, ok := parseRefreshToken(test.token, keys); ok != test.want {
					b.Fatalf("accepted %v", ok)
				}
			}
		})
	}
}

func BenchmarkCheckAccessToken(b *testing.B) {
	server := benchServer(b)
	token := benchToken(b, server, signIn(confidential("portal"), "default read write")).AccessToken
	audiences := []string{apiAudience}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := server.CheckAccessToken(token, audiences); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRevoke measures revocations by refresh token, durable ones, each of a session of its own.
func BenchmarkRevoke(b *testing.B) {
	for _, goroutines := range []int{1, 64} {
		b.Run(fmt.Sprintf("goroutines=%d", goroutines), func(b *testing.B) {
			server := benchServer(b)
			tokens := make([]string, b.N)
			signedIn := make(chan *Error, 64)
			for g := range cap(signedIn) {
				go func() {
					for i := g; i < b.N; i += cap(signedIn) {
						response, _, refused := server.Token(b.Context(), signIn(confidential("portal"), ""))
						if refused != nil {
							signedIn <- refused
							return
						}
						tokens[i] = response.RefreshToken
					}
					signedIn <- nil
				}()
			}
			for range cap(signedIn) {
				if refused := <-signedIn; refused != nil {
					b.Fatal(refused)
				}
			}
			shared(b, goroutines, "revocation", func(_, from, to int) error {
				for _, token := range tokens[from:to] {
					result, _, refused := server.Revoke(b.Context(), RevocationRequest{
						Client: confidential("portal"), Token: token, Hint: RefreshToken,
					})
					if refused != nil {
						return refused
					}
					if result.Subject == "" {
						return errors.New("the token was not found")
					}
				}
				return nil
			})
		})
	}
}
