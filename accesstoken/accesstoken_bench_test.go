package accesstoken_test

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/tokengateway/caddy-token-gateway/accesstoken"
)

func benchmarkClaims(now time.Time) *accesstoken.Claims {
	return &accesstoken.Claims{
		Issuer: "https://localhost:9443", Subject: "admin", Audience: []string{"u2Q0jCodaZIgFVhfLTcuR4rB_NYa"},
		ClientID: "u2Q0jCodaZIgFVhfLTcuR4rB_NYa", UserType: "APPLICATION_USER", Scopes: []string{"default", "read"},
		TokenID: uuid.NewString(), FamilyID: uuid.NewString(), IssuedAt: now, NotBefore: now, Expiry: now.Add(time.Hour),
	}
}

func BenchmarkMint(b *testing.B) {
	for _, algorithm := range accesstoken.Algorithms {
		b.Run(string(algorithm), func(b *testing.B) {
			key, err := accesstoken.GenerateKey(algorithm)
			if err != nil {
				b.Fatal(err)
			}
			claims := benchmarkClaims(time.Now())
			b.ReportAllocs()
			for b.Loop() {
				if _, err := key.Mint(claims); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkVerify(b *testing.B) {
	for _, algorithm := range accesstoken.Algorithms {
		b.Run(string(algorithm), func(b *testing.B) {
			key, err := accesstoken.GenerateKey(algorithm)
			if err != nil {
				b.Fatal(err)
			}
			now := time.Now()
			claims := benchmarkClaims(now)
			token, err := key.Mint(claims)
			if err != nil {
				b.Fatal(err)
			}
			keys := accesstoken.NewKeySet(key)
			verifier := accesstoken.Verifier{Issuer: claims.Issuer}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := verifier.Verify(token, keys, now); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
