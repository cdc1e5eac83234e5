"""The proxy's routes, as a Caddyfile (https://caddyserver.com/docs/caddyfile, Caddy 2.6)."""

from haproxy_cfg import CLIENT_HEADER, SECRET_HEADER

PROBE_HOST = "127.0.0.1"
PROBE_PORT = 2020
API, LOGS, REGISTRY, BUILDER = "api:8080", "logs:8080", "registry:5000", "builder:8080"
DELTAS = "deltas:8080"
# Where the servers of the VPN take requests for devices.
VPN_PORT = 8081
# Query values that may be secrets: what the family's clients send as keys and tokens.
SECRET_FIELDS = (
    "request>headers>Authorization",
    "request>headers>Cookie",
    "request>headers>X-Gantry-Authorization",
    f"request>headers>{SECRET_HEADER}",
    "resp_headers>Set-Cookie",
)
SECRET_PARAMETERS = ("apikey", "api_key", "token", "access_token", "password")


def caddyfile(host: str, port: int, vpn: list[str], balancer: str | None = None) -> str:
    """The text of the Caddyfile for a fleet at `host`, served at `port`.

    `vpn` are the servers of its VPN. With `balancer`, whoever says this secret is the balancer,
    and is believed who the client is.
    """
    device_log_stream = "^/device/v2/[^/]+/log-stream$"
    device_logs = "^/device/v2/[^/]+/logs$"
    assets = r"^/v[67]/release_asset(\(.*\))?$"
    return f"""\
{{
	admin off
	auto_https off
	http_port {PROBE_PORT}
	https_port {port}
	servers {{
		protocols h1 h2
		# A slow sender of headers holds a connection for this long; bodies and streams are free.
		timeouts {{
			read_header 30s
			idle 5m
		}}
	}}
	# Errors quote the request too.
	log default {{
		output stdout
{_log_format()}
	}}
}}

# Snippets stand before those that import them: this Caddy tells lines apart by their numbers.
(secure) {{
	tls /etc/gantry/tls.crt /etc/gantry/tls.key {{
		protocols tls1.2 tls1.3
	}}
	header Strict-Transport-Security "max-age=31536000"
	log {{
		output stdout
{_log_format()}
	}}
{_client(balancer)}
}}

(common) {{
	import secure
	header {{
		X-Content-Type-Options nosniff
		X-Frame-Options DENY
		Referrer-Policy no-referrer
		-Server
	}}
}}

# Nobody outside says who calls a service, nor who the balancer is.
(told) {{
	header_up -X-Gantry-*
	header_up X-Forwarded-For {{client}}
}}

# For requests that are small: read whole before they are passed on. Over HTTP/1.1 this Caddy may
# cut off the answer to a body that it is still sending when the answer begins; and a slow client
# holds no connection to a service. (With max_buffer_size it would go on to look at the body.)
(whole) {{
	request_body {{
		max_size 4MiB
	}}
	reverse_proxy {{args.0}} {{
		buffer_requests
		flush_interval -1
		import told
	}}
}}

(stream) {{
	reverse_proxy {{args.0}} {{
		# Lines reach the reader when they are written, not when a buffer is full.
		flush_interval -1
		import told
	}}
}}

https://api.{host}:{port} {{
	import common
	@inside path /services /services/* /metrics /metrics/*
	# In a handle of its own: a bare respond would come after every handle, and never.
	handle @inside {{
		respond 404
	}}
	@lines path_regexp {device_log_stream}
	handle @lines {{
		import stream {LOGS}
	}}
	@logs path_regexp {device_logs}
	handle @logs {{
		import whole {LOGS}
	}}
	# Files of releases are too large to be held. The api has the same limit, and says it better.
	@assets path_regexp {assets}
	handle @assets {{
		request_body {{
			max_size 66MiB
		}}
		import stream {API}
	}}
	handle {{
		import whole {API}
	}}
}}

https://logs.{host}:{port} {{
	import common
	import stream {LOGS}
}}

https://registry.{host}:{port} {{
	import common
	import stream {REGISTRY}
}}

https://builder.{host}:{port} {{
	import common
	import stream {BUILDER}
}}

https://delta.{host}:{port} {{
	import common
	@deltas path /api/v3/delta /gantry/v1/delta /gantry/v1/deltas/*
	handle @deltas {{
		import stream {DELTAS}
	}}
	# Its health and its metrics are for inside.
	handle {{
		respond 404
	}}
}}

# A device's own page: what it may be framed in and how it is read is for the device to say.
https://*.devices.{host}:{port} {{
	import secure
	request_body {{
		max_size 64MiB
	}}
	reverse_proxy {" ".join(f"{name}:{VPN_PORT}" for name in vpn)} {{
		# Each of them reaches every device. One that is away is left out for a while.
		lb_policy random
		lb_try_duration 5s
		fail_duration 10s
		flush_interval -1
		import told
		transport http {{
			# A connection leads to one device, and ends when its URL is switched off.
			keepalive off
			dial_timeout 5s
			response_header_timeout 5m
		}}
	}}
}}

https://{host}:{port}, https://*.{host}:{port} {{
	import common
	respond "Gantry: nothing is served under this name.
" 404
}}

http://{PROBE_HOST}:{PROBE_PORT} {{
	bind {PROBE_HOST}
	respond "OK"
}}
"""


def _client(balancer: str | None) -> str:
    """Sets `client`, the address that a request came from."""
    if balancer is None:
        return "\tvars client {remote_host}"
    return f"""\
	map {{http.request.header.{SECRET_HEADER}}} {{client}} {{
		{balancer} "{{http.request.header.{CLIENT_HEADER}}}"
		default {{remote_host}}
	}}"""


def _log_format() -> str:
    headers = "\n".join(f"\t\t\t\t{each} delete" for each in SECRET_FIELDS)
    values = "\n".join(f"\t\t\t\t\treplace {each} REDACTED" for each in SECRET_PARAMETERS)
    return f"""\
		format filter {{
			wrap json
			fields {{
{headers}
				request>uri query {{
{values}
				}}
			}}
		}}"""
