package grants

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/tokengateway/caddy-token-gateway/tokenstore"
)

func TestNewIDIsAUUIDOfVersion7(t *testing.T) {
	for _, random := range []string{"\x00", "\xff"} {
		server := &Server{random: strings.NewReader(strings.Repeat(random, 10))}
		moment := time.UnixMilli(0x0123456789ab)
		id, err := server.newID(moment)
		if err != nil {
			t.Fatal(err)
		}
		wantEqual(t, "moment", tokenstore.Moment(id), moment.UnixMilli())
		wantEqual(t, "version", id.Version(), uuid.Version(7))
		wantEqual(t, "variant", id.Variant(), uuid.RFC4122)
		want := map[string]string{
			"\x00": "01234567-89ab-7000-8000-000000000000", "\xff": "01234567-89ab-7fff-bfff-ffffffffffff",
		}[random]
		wantEqual(t, "ID", id.String(), want)
	}
}

func TestWhichGrantTypesAreEnabled(t *testing.T) {
	config := Config{DisabledGrantTypes: []string{Password}}
	for grantType, want := range map[string]bool{
		RefreshToken: true, ClientCredentials: true, Password: false, AuthorizationCode: false, "implicit": false, "": false,
	} {
		wantEqual(t, grantType, config.GrantTypeEnabled(grantType), want)
	}
}

func TestAServerWithoutAnObserverWorks(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Observe = nil })
	first := f.signIn(t)
	f.mustRefresh(t, first.RefreshToken)
	f.wantRefused(t, first.RefreshToken)
}

func TestAServerTakesTheMachinesClockAndRandomnessByDefault(t *testing.T) {
	config := testConfig(new(bcryptComparer))
	server, err := New(t.Context(), config, openStore(t, t.TempDir(), nil))
	if err != nil {
		t.Fatal(err)
	}
	response, _, refused := server.Token(t.Context(), signIn(confidential("portal"), ""))
	if refused != nil {
		t.Fatal(refused)
	}
	claims, err := server.CheckAccessToken(response.AccessToken, nil)
	if err != nil {
		t.Fatal(err)
	}
	if moment := tokenstore.Moment(uuid.MustParse(claims.TokenID)); moment < testStart.UnixMilli() {
		t.Errorf("the token was issued at %d", moment)
	}
}
