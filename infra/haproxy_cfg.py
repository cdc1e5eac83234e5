"""The balancer's rules, as a configuration of HAProxy (https://docs.haproxy.org/3.0/).

One port for three languages, told apart by what the client says first:
- OpenVPN over TCP: two bytes of length, then a hard reset, whose opcode is 7 or 10 in the upper
  five bits (https://openvpn.net/community-docs/openvpn-protocol.html);
- TLS for `tunnel.<host>`, the door for people, which a VPN server answers;
- where the port is shared, TLS for every other name. It is ended here and begun anew towards the
  proxy: Debian 13's Caddy knows no PROXY protocol, and would take the balancer for every client.

Only the balancer sees where somebody comes from, so it is here that one address may not take all
the places of those who are not judged yet. Who is refused is not counted: a site with many devices
behind one address comes back at that pace, and not never.
"""

from dataclasses import dataclass

PROBE_HOST = "127.0.0.1"
PROBE_PORT = 2021
OPENVPN_PORT, TUNNEL_PORT, HEALTH_PORT = 1194, 3129, 8080
# Connections that are open at a time, besides those at the servers.
PEOPLE = 4000
# More people than a server has room for tunnels are let through to it: so many can be told so. TLS
# is begun before anybody is judged, and devices' connections must not pay for it.
TOLD = 100
# Of one address, in 10 s: a server has 10 s for the hello of TLS and 10 for a request, and 500
# places for those who have not come so far.
PEOPLE_IN_TEN_SECONDS = 200
# What the balancer says to the proxy, and the proxy to nobody: who it is, and who the client is.
SECRET_HEADER, CLIENT_HEADER = "X-Gantry-Balancer", "X-Gantry-Client"
# Who is counted as one.
ADDRESS = "src,ipmask(32,64)"


@dataclass(frozen=True, slots=True)
class Room:
    """What each server has room for, and how many `newcomers`, devices that begin anew, come from
    one address in a minute (0: any number). openvpn gives each a minute to say who it is, so that
    there are no more of them at a time.
    """

    devices: int
    tunnels: int
    newcomers: int


@dataclass(frozen=True, slots=True)
class SharedPort:
    """How the balancer reaches the proxy: by its name and port, and as whom."""

    proxy: str
    port: int
    secret: str


def haproxy_cfg(
    host: str, port: int, servers: list[str], room: Room, shared: SharedPort | None = None
) -> str:
    """The text for a fleet at `host`, whose VPN `servers` are all reached at `port`."""
    connections = len(servers) * (room.devices + room.tunnels) + PEOPLE
    return f"""\
global
	log stdout format raw local0 info
	# Two for each connection. Where the engine allows fewer, it takes fewer connections.
	fd-hard-limit {2 * connections}

defaults
	log global
	mode tcp
	option tcplog
	option dontlognull
	option clitcpka
	option srvtcpka
	option redispatch 1
	retries 3
	# All is on one host; who does not answer is passed over.
	timeout connect 2s
	# OpenVPN's two ends say something every 10 s.
	timeout client 2m
	timeout server 2m
	# Devices stay on a server that is given up: it may be busy, and they notice where it is gone.
	default-server check inter 3s fall 5 rise 1 resolvers docker init-addr none

# A server may be made anew at any time, and has another address then.
resolvers docker
	nameserver engine 127.0.0.11:53
	hold valid 2s
	timeout resolve 1s
	timeout retry 1s

frontend health
	bind {PROBE_HOST}:{PROBE_PORT}
	mode http
	no log
	http-request return status 200 content-type text/plain string OK

frontend door
	bind :{port}
	acl tls req.ssl_hello_type 1
	acl tunnel req.ssl_sni -i tunnel.{host}
	acl openvpn req.payload(2,1),hex 38 50
	# One address, or one network where addresses are IPv6's, has half of all places at most.
	tcp-request connection track-sc0 {ADDRESS} table addresses
	tcp-request connection reject if {{ sc0_conn_cur gt {connections // 2} }}
	tcp-request inspect-delay 5s
	tcp-request content track-sc1 {ADDRESS} table people if tls tunnel
	tcp-request content reject if tls tunnel {{ sc1_gpc0_rate gt {PEOPLE_IN_TEN_SECONDS - 1} }}
	tcp-request content sc-inc-gpc0(1) if tls tunnel
	tcp-request content accept if tls{"" if shared else " tunnel"}
{_newcomers(room.newcomers)}\
	tcp-request content accept if openvpn
	tcp-request content reject
	use_backend tunnel if tunnel
{"	use_backend tls if tls" if shared else ""}
	default_backend openvpn

backend addresses
	stick-table type ipv6 size 100k expire 2m store conn_cur

backend people
	stick-table type ipv6 size 100k expire 2m store gpc0_rate(10s)

backend newcomers
	stick-table type ipv6 size 100k expire 2m store gpc0_rate(1m)

backend openvpn
	balance leastconn
	option httpchk GET /healthy
{_servers(servers, OPENVPN_PORT)}

backend tunnel
	balance leastconn
	option httpchk GET /healthy
	# An idle shell is no reason to end it: the servers have a limit of their own.
	timeout tunnel 24h
{_servers(servers, TUNNEL_PORT, f" maxconn {room.tunnels + TOLD}")}
{_https(shared) if shared else ""}"""


def _newcomers(most: int) -> str:
    if not most:
        return ""
    return f"""\
	tcp-request content track-sc1 {ADDRESS} table newcomers if openvpn
	tcp-request content reject if openvpn {{ sc1_gpc0_rate gt {most - 1} }}
	tcp-request content sc-inc-gpc0(1) if openvpn
"""


def _servers(names: list[str], port: int, more: str = "") -> str:
    return "\n".join(
        f"\tserver {name} {name}:{port} check port {HEALTH_PORT}{more}" for name in names
    )


def _https(shared: SharedPort) -> str:
    return f"""
# To the frontend below, which ends TLS; the client's address goes with it.
backend tls
	timeout tunnel 24h
	server here abns@https send-proxy-v2 no-check

frontend https
	bind abns@https accept-proxy ssl crt /etc/gantry/tls.pem ssl-min-ver TLSv1.2 alpn h2,http/1.1
	mode http
	# The proxy logs requests.
	no log
	timeout client 1h
	timeout http-request 30s
	timeout http-keep-alive 5m
	timeout tunnel 24h
	http-request del-header X-Gantry- -m beg
	http-request set-header {SECRET_HEADER} {shared.secret}
	http-request set-header {CLIENT_HEADER} %[src]
	default_backend proxy

backend proxy
	mode http
	# Streams are silent for 15 s at most, builds for longer.
	timeout server 1h
	timeout tunnel 24h
	server {shared.proxy} {shared.proxy}:{shared.port} ssl verify required ca-file \
/etc/gantry/ca.crt sni req.hdr(host),field(1,:),lower no-check
"""
