package accesstoken_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/tokengateway/caddy-token-gateway/accesstoken"
)

func TestGeneratedKeys(t *testing.T) {
	for _, algorithm := range accesstoken.Algorithms {
		t.Run("survive PKCS #8 with "+string(algorithm), func(t *testing.T) {
			key := newKey(t, algorithm)
			der, err := key.PKCS8()
			if err != nil {
				t.Fatal(err)
			}
			again, err := accesstoken.ParsePKCS8(der, algorithm)
			if err != nil {
				t.Fatal(err)
			}
			if again.ID != key.ID || again.Algorithm != algorithm {
				t.Fatalf("got %s for %s, want %s for %s", again.ID, again.Algorithm, key.ID, algorithm)
			}
			if _, err := (accesstoken.Verifier{Issuer: issuer}).Verify(mint(t, again, soundClaims()), accesstoken.NewKeySet(key), now); err != nil {
				t.Fatal(err)
			}
		})
	}
	t.Run("two are never the same", func(t *testing.T) {
		one, another := newKey(t, accesstoken.ES256), newKey(t, accesstoken.ES256)
		if one.ID == another.ID {
			t.Fatal("two keys have one ID")
		}
	})
	t.Run("an RSA key has 2048 bits", func(t *testing.T) {
		key, err := accesstoken.GenerateKey(accesstoken.RS256)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(jwkMembers(t, key)["n"]); got != len(encode(strings.Repeat("n", 2048/8))) {
			t.Fatalf("its modulus has %d characters", got)
		}
	})
	for _, algorithm := range []accesstoken.Algorithm{"", "none", "HS256", "HS384", "HS512", "ES512", "RS512", "es256"} {
		t.Run(fmt.Sprintf("row 5: no key is generated for %q", algorithm), func(t *testing.T) {
			if key, err := accesstoken.GenerateKey(algorithm); err == nil || key != nil {
				t.Fatalf("got %v, %v", key, err)
			}
		})
	}
	t.Run("PKCS #8 that is garbage is refused", func(t *testing.T) {
		if _, err := accesstoken.ParsePKCS8([]byte("garbage"), accesstoken.ES256); err == nil {
			t.Fatal("accepted")
		}
	})
}

func TestAlgorithmOfAKey(t *testing.T) {
	p256, _ := ecKey(elliptic.P256())
	p384, _ := ecKey(elliptic.P384())
	ed, _ := edKey()
	keys := map[string]crypto.Signer{"P-256": p256, "P-384": p384, "Ed25519": ed, "RSA": rsaPrivate()}
	want := map[string]map[accesstoken.Algorithm]accesstoken.Algorithm{
		"P-256":   {"": accesstoken.ES256, accesstoken.ES256: accesstoken.ES256},
		"P-384":   {"": accesstoken.ES384, accesstoken.ES384: accesstoken.ES384},
		"Ed25519": {"": accesstoken.EdDSA, accesstoken.EdDSA: accesstoken.EdDSA},
		"RSA":     {"": accesstoken.RS256, accesstoken.RS256: accesstoken.RS256, accesstoken.PS256: accesstoken.PS256},
	}
	algorithms := append([]accesstoken.Algorithm{"", "none", "HS256", "ES512", "RS512"}, accesstoken.Algorithms...)
	for name, private := range keys {
		for _, algorithm := range algorithms {
			t.Run(fmt.Sprintf("row 7: a key of %s for %q", name, algorithm), func(t *testing.T) {
				natural, fits := want[name][algorithm]
				for _, take := range []func() (*accesstoken.Key, error){
					func() (*accesstoken.Key, error) { return accesstoken.NewKey(private, algorithm) },
					func() (*accesstoken.Key, error) { return accesstoken.NewPublicKey(private.Public(), algorithm) },
				} {
					key, err := take()
					switch {
					case !fits && err == nil:
						t.Fatalf("accepted for %s", key.Algorithm)
					case fits && err != nil:
						t.Fatal(err)
					case fits && key.Algorithm != natural:
						t.Fatalf("it is for %s, want %s", key.Algorithm, natural)
					}
				}
			})
		}
	}
}

func TestKeysThatAreRefused(t *testing.T) {
	modulus := func(bits uint) *big.Int { // an odd number of so many bits
		n := new(big.Int).Lsh(big.NewInt(1), bits-1)
		return n.SetBit(n, 0, 1)
	}
	p224, _ := ecKey(elliptic.P224())
	p521, _ := ecKey(elliptic.P521())
	for name, public := range map[string]crypto.PublicKey{
		"row 7: P-224":                             p224.Public(),
		"row 7: P-521":                             p521.Public(),
		"row 8: RSA with 1024 bits":                &rsa.PublicKey{N: modulus(1024), E: 65537},
		"row 8: RSA with 2047 bits":                &rsa.PublicKey{N: modulus(2047), E: 65537},
		"row 8: RSA with 4097 bits":                &rsa.PublicKey{N: modulus(4097), E: 65537},
		"row 8: RSA with 8192 bits":                &rsa.PublicKey{N: modulus(8192), E: 65537},
		"row 8: RSA with an exponent over 2^32":    &rsa.PublicKey{N: modulus(2048), E: 1<<32 + 1},
		"row 8: RSA with a huge exponent":          &rsa.PublicKey{N: modulus(2048), E: 1<<62 + 1},
		"row 8: RSA with the exponent 1":           &rsa.PublicKey{N: modulus(2048), E: 1},
		"row 8: RSA with the exponent 0":           &rsa.PublicKey{N: modulus(2048), E: 0},
		"row 8: RSA with a negative exponent":      &rsa.PublicKey{N: modulus(2048), E: -3},
		"row 8: RSA with an even exponent":         &rsa.PublicKey{N: modulus(2048), E: 65536},
		"row 5: the bytes of a secret":             []byte("a secret for HMAC that is long enough"),
		"a string":                                 "secret",
		"a private key where a public one belongs": rsaPrivate(),
		"nothing": nil,
	} {
		t.Run(name, func(t *testing.T) {
			if key, err := accesstoken.NewPublicKey(public, ""); err == nil || key != nil {
				t.Fatalf("got %v, %v", key, err)
			}
		})
	}
	t.Run("row 8: a private RSA key with 1024 bits", func(t *testing.T) {
		small, err := rsa.GenerateKey(rand.Reader, 1024)
		if err != nil {
			t.Fatal(err)
		}
		if key, err := accesstoken.NewKey(small, ""); err == nil || key != nil {
			t.Fatalf("got %v, %v", key, err)
		}
	})
	for _, bits := range []uint{2048, 3072, 4096} {
		t.Run(fmt.Sprintf("row 8: RSA with %d bits is taken", bits), func(t *testing.T) {
			if _, err := accesstoken.NewPublicKey(&rsa.PublicKey{N: modulus(bits), E: 65537}, ""); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestKeyIDIsTheThumbprint(t *testing.T) {
	t.Run("of the example in RFC 7638 §3.1", func(t *testing.T) {
		keys, err := accesstoken.ParsePublicKeys([]byte(`{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aP` +
			`FFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8` +
			`KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU` +
			`8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}`))
		if err != nil {
			t.Fatal(err)
		}
		if got, want := keys[0].ID, "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"; got != want {
			t.Fatalf("ID %s, want %s", got, want)
		}
	})
	t.Run("of the example in RFC 8037 appendix A.3", func(t *testing.T) {
		keys, err := accesstoken.ParsePublicKeys([]byte(`{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`))
		if err != nil {
			t.Fatal(err)
		}
		if got, want := keys[0].ID, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"; got != want {
			t.Fatalf("ID %s, want %s", got, want)
		}
	})
	t.Run("of an elliptic curve key, its required members in order", func(t *testing.T) {
		key := newES256().key
		m := jwkMembers(t, key)
		sum := sha256.Sum256(fmt.Appendf(nil, `{"crv":"P-256","kty":"EC","x":%q,"y":%q}`, m["x"], m["y"]))
		if want := encode(string(sum[:])); key.ID != want {
			t.Fatalf("ID %s, want %s", key.ID, want)
		}
	})
}

// jwkMembers are the members of a key as it is published.
func jwkMembers(t *testing.T, key *accesstoken.Key) map[string]string {
	t.Helper()
	all := published(t, accesstoken.NewKeySet(key))
	if len(all) != 1 {
		t.Fatalf("%d keys are published", len(all))
	}
	return all[0]
}

func published(t *testing.T, set *accesstoken.KeySet) []map[string]string {
	t.Helper()
	var jwks map[string][]map[string]string
	if err := json.Unmarshal(set.JWKS(), &jwks); err != nil {
		t.Fatalf("%v in %s", err, set.JWKS())
	}
	if len(jwks) != 1 || jwks["keys"] == nil {
		t.Fatalf("members beside keys in %s", set.JWKS())
	}
	return jwks["keys"]
}

func TestJWKSHoldsPublicMembersOnly(t *testing.T) {
	members := map[accesstoken.Algorithm][]string{
		accesstoken.ES256: {"alg", "crv", "kid", "kty", "use", "x", "y"},
		accesstoken.ES384: {"alg", "crv", "kid", "kty", "use", "x", "y"},
		accesstoken.RS256: {"alg", "e", "kid", "kty", "n", "use"},
		accesstoken.PS256: {"alg", "e", "kid", "kty", "n", "use"},
		accesstoken.EdDSA: {"alg", "crv", "kid", "kty", "use", "x"},
	}
	for algorithm, want := range members {
		t.Run("row 6: of a private key for "+string(algorithm), func(t *testing.T) {
			key := newKey(t, algorithm)
			m := jwkMembers(t, key)
			if got := slices.Sorted(maps.Keys(m)); !slices.Equal(got, want) {
				t.Fatalf("members %v, want %v", got, want)
			}
			if m["kid"] != key.ID || m["alg"] != string(algorithm) || m["use"] != "sig" {
				t.Fatalf("kid %q, alg %q, use %q", m["kid"], m["alg"], m["use"])
			}
		})
	}
	t.Run("its public half is the private key's", func(t *testing.T) {
		private, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		key, err := accesstoken.NewKey(private, "")
		if err != nil {
			t.Fatal(err)
		}
		m := jwkMembers(t, key)
		point, err := private.PublicKey.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		if got := append(decodeLeniently(m["x"]), decodeLeniently(m["y"])...); !bytes.Equal(got, point[1:]) {
			t.Fatalf("x and y are %x, want %x", got, point[1:])
		}
	})
}

func TestKeySet(t *testing.T) {
	a, b, ed := newES256(), newES256(), forgers()[4]
	t.Run("an empty set publishes an empty array", func(t *testing.T) {
		if got := string(accesstoken.NewKeySet().JWKS()); got != `{"keys":[]}` {
			t.Fatalf("got %s", got)
		}
	})
	t.Run("keys are published in their order", func(t *testing.T) {
		all := published(t, accesstoken.NewKeySet(b.key, ed.key, a.key))
		if len(all) != 3 || all[0]["kid"] != b.key.ID || all[1]["kid"] != ed.key.ID || all[2]["kid"] != a.key.ID {
			t.Fatalf("got %v", all)
		}
	})
	t.Run("a key that is there twice is published once", func(t *testing.T) {
		again, err := accesstoken.NewKey(a.private, "")
		if err != nil {
			t.Fatal(err)
		}
		set := accesstoken.NewKeySet(a.key, b.key, again, a.key)
		all := published(t, set)
		if len(all) != 2 || all[0]["kid"] != a.key.ID || all[1]["kid"] != b.key.ID {
			t.Fatalf("got %v", all)
		}
		verify(t, set, a.token(a.header(), soundPayload), "")
	})
	t.Run("of one RSA key with two algorithms the first counts", func(t *testing.T) {
		rs, ps := newRS256(), newForger(accesstoken.PS256, rsaPrivate(), nil)
		set := accesstoken.NewKeySet(rs.key, ps.key)
		if all := published(t, set); len(all) != 1 || all[0]["alg"] != "RS256" {
			t.Fatalf("got %v", all)
		}
		verify(t, set, rs.token(rs.header(), soundPayload), "")
		verify(t, set, ps.token(ps.header(), soundPayload), accesstoken.WrongKey)
	})
	t.Run("a token of PS256 doesn't pass under a key for RS256 when alg says RS256", func(t *testing.T) {
		rs, ps := newRS256(), newForger(accesstoken.PS256, rsaPrivate(), nil)
		verify(t, accesstoken.NewKeySet(rs.key), ps.token(rs.header(), soundPayload), accesstoken.BadSignature)
		verify(t, accesstoken.NewKeySet(ps.key), rs.token(ps.header(), soundPayload), accesstoken.BadSignature)
		verify(t, accesstoken.NewKeySet(ps.key), rs.token(rs.header(), soundPayload), accesstoken.WrongKey)
	})
}

// verify verifies with a set; an empty reason means that the token is to be accepted.
func verify(t *testing.T, set *accesstoken.KeySet, token string, want accesstoken.Reason) {
	t.Helper()
	_, err := accesstoken.Verifier{Issuer: issuer}.Verify(token, set, now)
	if want != "" {
		wantReason(t, err, want)
	} else if err != nil {
		t.Fatal(err)
	}
}

func TestFindingTheKey(t *testing.T) {
	a, b, ed, rs := newES256(), newES256(), forgers()[4], newRS256()
	all := accesstoken.NewKeySet(a.key, ed.key, rs.key, b.key)
	withoutKid := func(f *forger) string {
		return f.token(`{"typ":"at+jwt","alg":"`+string(f.algorithm)+`"}`, soundPayload)
	}
	for _, f := range []*forger{a, b, ed, rs} {
		verify(t, all, f.token(f.header(), soundPayload), "")
	}
	for _, c := range []struct {
		name  string
		set   *accesstoken.KeySet
		token string
		want  accesstoken.Reason
	}{
		{"row 33: kid of another key for the same alg", all, a.token(b.header(), soundPayload), accesstoken.BadSignature},
		{"row 33: kid of another algorithm's key", all, a.token(change(t, a.header(), a.key.ID, ed.key.ID), soundPayload), accesstoken.WrongKey},
		{"row 33: alg of another algorithm under the kid of ours", all, a.token(change(t, a.header(), "ES256", "EdDSA"), soundPayload), accesstoken.WrongKey},
		{"row 33: ES384 under a key for ES256", all, a.token(change(t, a.header(), "ES256", "ES384"), soundPayload), accesstoken.WrongKey},
		{"row 33: kid of a key that is not in the set", accesstoken.NewKeySet(a.key), b.token(b.header(), soundPayload), accesstoken.WrongKey},
		{"an empty set", accesstoken.NewKeySet(), a.token(a.header(), soundPayload), accesstoken.WrongKey},
		{"row 34: no kid and one key that fits", all, withoutKid(ed), ""},
		{"row 34: no kid and one key that fits, of RSA", all, withoutKid(rs), ""},
		{"row 34: no kid and two keys that fit", all, withoutKid(a), accesstoken.WrongKey},
		{"row 34: no kid and two keys that fit, signed with the second", all, withoutKid(b), accesstoken.WrongKey},
		{"row 34: no kid and the one key twice", accesstoken.NewKeySet(a.key, a.key), withoutKid(a), ""},
		{"row 34: no kid and no key that fits", accesstoken.NewKeySet(a.key, b.key), withoutKid(ed), accesstoken.WrongKey},
		{"row 34: no kid and an empty set", accesstoken.NewKeySet(), withoutKid(a), accesstoken.WrongKey},
		{"row 34: no kid and one key that fits but isn't the signer", accesstoken.NewKeySet(a.key), withoutKid(b), accesstoken.BadSignature},
	} {
		t.Run(c.name, func(t *testing.T) { verify(t, c.set, c.token, c.want) })
	}
}
