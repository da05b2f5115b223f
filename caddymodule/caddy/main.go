// Command caddy is Caddy with its standard modules and the token gateway compiled in.
package main

import (
	_ "time/tzdata"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/tokengateway/caddy-token-gateway/caddymodule"
)

func main() { caddycmd.Main() }
