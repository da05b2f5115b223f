# A container with Caddy and the token gateway:
#
#	docker build -f xcaddy.Dockerfile -t token-gateway .
#	docker run -p 443:443 -v ./Caddyfile:/etc/caddy/Caddyfile:ro -v token-gateway:/var/lib/token-gateway \
#		-e CLIENT_SECRET token-gateway
#
# It holds no configuration of its own and no credentials: the Caddyfile is yours. It has to say `store badger` or nothing
# about the store, so that sessions and keys are in the volume.

# xcaddy takes the plugin from this checkout: it isn't published.
FROM caddy:2.11.9-builder AS build
COPY . /src
RUN xcaddy build v2.11.9 \
	--with github.com/tokengateway/caddy-token-gateway/caddymodule \
	--replace github.com/tokengateway/caddy-token-gateway=/src \
	--output /caddy

FROM caddy:2.11.9
COPY --from=build /caddy /usr/bin/caddy

# Caddy's data (sessions, keys, certificates) and its saved configuration, for a user who owns nothing else. The user's
# number is fixed so that a volume can be given to it in advance.
ENV XDG_DATA_HOME=/var/lib/token-gateway/data XDG_CONFIG_HOME=/var/lib/token-gateway/config
RUN addgroup -g 10001 gateway && adduser -D -H -u 10001 -G gateway gateway \
	&& mkdir -p "$XDG_DATA_HOME" "$XDG_CONFIG_HOME" && chown -R gateway:gateway /var/lib/token-gateway \
	&& chmod 700 /var/lib/token-gateway
VOLUME /var/lib/token-gateway
USER gateway

EXPOSE 80 443 443/udp
CMD ["caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"]
