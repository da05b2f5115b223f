package badger_test

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/tokengateway/caddy-token-gateway/tokenstore"
	"github.com/tokengateway/caddy-token-gateway/tokenstore/badger"
)

// BenchmarkRotateFamily measures durable rotations, each goroutine with a family of its own.
func BenchmarkRotateFamily(b *testing.B) { benchmarkCommits(b, rotateInTurn) }

// BenchmarkRevoke measures durable revocations of access tokens, each of another one.
func BenchmarkRevoke(b *testing.B) { benchmarkCommits(b, revokeInTurn) }

// benchmarkCommits shares the commits out among goroutines on one new store.
func benchmarkCommits(b *testing.B, inTurn func(b *testing.B, store *badger.Store, times int) error) {
	for _, goroutines := range []int{1, 64} {
		b.Run(fmt.Sprintf("goroutines=%d", goroutines), func(b *testing.B) {
			store, err := badger.Open(badger.Options{Directory: b.TempDir()})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() {
				if err := store.Close(); err != nil {
					b.Error(err)
				}
			})
			b.ReportAllocs()
			b.ResetTimer()
			done := make(chan error, goroutines)
			for g := range goroutines {
				go func() { done <- inTurn(b, store, b.N/goroutines+min(1, max(0, b.N%goroutines-g))) }()
			}
			for range goroutines {
				if err := <-done; err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
		})
	}
}

func revokeInTurn(b *testing.B, store *badger.Store, times int) error {
	for range times {
		revocation := tokenstore.Revocation{
			Kind: tokenstore.RevokedToken, ID: uuid.Must(uuid.NewV7()), ExpiresAt: time.Now().Add(time.Hour),
		}
		if err := store.Revoke(b.Context(), revocation); err != nil {
			return err
		}
	}
	return nil
}

func rotateInTurn(b *testing.B, store *badger.Store, times int) error {
	current := &tokenstore.Family{
		ID: uuid.Must(uuid.NewV7()), ClientID: "client", Subject: "admin", GrantType: "password",
		Scopes: []string{"default", "read"}, Audience: []string{"client"},
		IdleExpiry: time.Now().Add(time.Hour), CreatedAt: time.Now(),
	}
	if err := store.CreateFamily(b.Context(), current); err != nil {
		return err
	}
	for range times {
		next := *current
		next.Generation++
		next.SecretHash = sha256.Sum256(binary.BigEndian.AppendUint32(nil, next.Generation))
		if err := store.RotateFamily(b.Context(), current, &next); err != nil {
			return err
		}
		current = &next
	}
	return nil
}
