"""The balancer's way for each connection, as haproxy.cfg
(https://docs.haproxy.org/3.0/configuration.html).

Nothing is decrypted here. What a connection is shows in its first bytes: a TLS ClientHello, or
OpenVPN's hard reset (two bytes of length, then one whose upper five bits are the opcode: 7 and 10
are a client's first; https://openvpn.net/community-docs/openvpn-protocol.html).
"""

from collections.abc import Sequence

LISTEN_PORT = 1194
PROBE_PORT = 8404
PROBE_PATH = "/ping"
OPENVPN_PORT, TUNNEL_PORT = 1194, 3129
MAX_CONNECTIONS = 10_000
# Docker's own DNS: a container that is made anew has another address.
RESOLVER = "127.0.0.11:53"


def haproxy_cfg(
    host: str, servers: Sequence[str], proxy: str | None = None, resolver: str = RESOLVER
) -> str:
    """The text of haproxy.cfg for a fleet at `host` with these VPN servers (`vpn-1` …).

    `proxy` (`proxy:8443`) shares the port with HTTPS: other TLS goes there. None: it is refused.
    """
    welcome = "tls" if proxy else "tunnel"
    shared = "\tuse_backend https if tls\n" if proxy else ""
    return f"""\
global
	maxconn {MAX_CONNECTIONS}
	log stdout format raw daemon notice

defaults
	mode tcp
	log global
	option dontlognull
	option clitcpka
	option srvtcpka
	timeout connect 5s
	# Devices and servers ping every 10 s: who is silent for so long is gone.
	timeout client 2m
	timeout server 2m
	retries 3
	option redispatch 1
	default-server check inter 3s fall 3 rise 1 resolvers engine init-addr libc,none

resolvers engine
	nameserver dns {resolver}
	resolve_retries 3
	timeout resolve 1s
	timeout retry 1s
	hold valid 5s

frontend entrance
	bind :{LISTEN_PORT}
	# Who says nothing is waited for this long, and refused.
	tcp-request inspect-delay 10s
	acl tls req.ssl_hello_type 1
	acl tunnel req.ssl_sni -i tunnel.{host}
	acl openvpn req.payload(2,1) -m bin 38 50
	tcp-request content accept if openvpn
	tcp-request content accept if {welcome}
	tcp-request content reject if WAIT_END
	use_backend openvpn if openvpn
	use_backend tunnel if tunnel
{shared}
backend openvpn
	balance leastconn
	# A server that died without a word: its devices come back on another at once.
	default-server on-marked-down shutdown-sessions
{_pool(servers, OPENVPN_PORT)}
backend tunnel
	balance leastconn
	# People's shells wait for hours; the servers have a limit of their own.
	timeout tunnel 24h
{_pool(servers, TUNNEL_PORT)}{_https(proxy)}
frontend probe
	mode http
	bind :{PROBE_PORT}
	timeout client 10s
	timeout http-request 5s
	monitor-uri {PROBE_PATH}
	http-request use-service prometheus-exporter if {{ path /metrics }}
	http-request return status 404
"""


def _pool(servers: Sequence[str], port: int) -> str:
    return "".join(f"\tserver {each} {each}:{port}\n" for each in servers)


def _https(proxy: str | None) -> str:
    if proxy is None:
        return ""
    return f"""
backend https
	# Followed logs and uploads; Caddy has limits of its own.
	timeout tunnel 1h
	server proxy {proxy}
"""
