"""The balancer's rules, as a configuration of HAProxy (https://docs.haproxy.org/3.0/).

One port for three languages, told apart by what the client says first:
- OpenVPN over TCP: two bytes of length, then a hard reset, whose opcode is 7 or 10 in the upper
  five bits (https://openvpn.net/community-docs/openvpn-protocol.html);
- TLS for `tunnel.<host>`, the door for people, which a VPN server answers;
- where the port is shared, TLS for every other name. It is ended here and begun anew towards the
  proxy: Debian 13's Caddy knows no PROXY protocol, and would take the balancer for every client.
"""

from dataclasses import dataclass

PROBE_HOST = "127.0.0.1"
PROBE_PORT = 2021
OPENVPN_PORT, TUNNEL_PORT, HEALTH_PORT = 1194, 3129, 8080
# Connections that are open at a time: on each server, and besides.
DEVICES, PEOPLE = 4000, 4000
# Of people, at one server, which has memory for so many: others wait, and then are sent away. TLS
# is begun before anybody is judged, and devices' connections must not pay for it.
TUNNELS = 1000
# What the balancer says to the proxy, and the proxy to nobody: who it is, and who the client is.
SECRET_HEADER, CLIENT_HEADER = "X-Gantry-Balancer", "X-Gantry-Client"


@dataclass(frozen=True, slots=True)
class SharedPort:
    """How the balancer reaches the proxy: by its name and port, and as whom."""

    proxy: str
    port: int
    secret: str


def haproxy_cfg(host: str, port: int, servers: list[str], shared: SharedPort | None = None) -> str:
    """The text for a fleet at `host`, whose VPN `servers` are all reached at `port`."""
    return f"""\
global
	log stdout format raw local0 info
	# Two for each connection. Where the engine allows fewer, it takes fewer connections.
	fd-hard-limit {2 * (len(servers) * DEVICES + PEOPLE)}

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
	acl tunnel req.ssl_sni -i tunnel.{host}
	tcp-request inspect-delay 5s
	tcp-request content accept if {{ req.ssl_hello_type 1 }}{"" if shared else " tunnel"}
	tcp-request content accept if {{ req.payload(2,1),hex 38 50 }}
	tcp-request content reject
	use_backend tunnel if tunnel
{"	use_backend tls if { req.ssl_hello_type 1 }" if shared else ""}
	default_backend openvpn

backend openvpn
	balance leastconn
	option httpchk GET /healthy
{_servers(servers, OPENVPN_PORT)}

backend tunnel
	balance leastconn
	option httpchk GET /healthy
	# An idle shell is no reason to end it: the servers have a limit of their own.
	timeout tunnel 24h
{_servers(servers, TUNNEL_PORT, f" maxconn {TUNNELS}")}
{_https(shared) if shared else ""}"""


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
