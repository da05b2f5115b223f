package grants

import "testing"

func TestAClientAllowsItsOwnOriginsOnly(t *testing.T) {
	client := &Client{CORSOrigins: []string{"https://app.example.com"}}
	for origin, want := range map[string]bool{
		"https://app.example.com":              true,
		"https://app.example.com:443":          false,
		"https://app.example.com/":             false,
		"http://app.example.com":               false,
		"https://app.example.com.attacker.net": false,
		"null":                                 false,
		"*":                                    false,
		"":                                     false,
	} {
		wantEqual(t, "origin "+origin, client.AllowsOrigin(origin), want)
	}
	wantEqual(t, "a client without origins", (&Client{}).AllowsOrigin("https://app.example.com"), false)
}
