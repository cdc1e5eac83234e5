"""The packet filter of a server, as text for `nft -f` (nft(8)).

Devices answer what the server began and begin nothing themselves: not with the server, not with
each other, not with what is behind it.
"""

from gantry.vpn.openvpn_conf import DEVICE

TABLE = "gantry_vpn"
MIN_BURST_BYTES = 64 * 1024
# An address that is not heard of for so long is forgotten; its allowance is full again then anyway.
FORGET_SECONDS = 60


def ruleset(rate_bytes_per_second: int) -> str:
    """The whole table, in place of the one before. The rate is each device's in each direction
    (0: no limit): one rule serves all, the kernel keeps a meter for each address.
    """
    rate = rate_bytes_per_second
    meters = "".join(_meter(name) for name in ("from_devices", "to_devices")) if rate else ""
    slow_in = _limit("from_devices", "saddr", rate) if rate else ""
    slow_out = _limit("to_devices", "daddr", rate) if rate else ""
    return f"""\
table inet {TABLE}
delete table inet {TABLE}
table inet {TABLE} {{
{meters}\
	chain input {{
		type filter hook input priority filter; policy accept;
		iifname != "{DEVICE}" accept
{slow_in}\
		ct state established,related accept
		counter drop
	}}
	chain forward {{
		type filter hook forward priority filter; policy drop;
	}}
	chain output {{
		type filter hook output priority filter; policy accept;
		oifname != "{DEVICE}" accept
{slow_out}\
		ct state invalid drop
	}}
}}
"""


def _meter(name: str) -> str:
    return f"""\
	set {name} {{
		type ipv4_addr
		size 65535
		flags dynamic,timeout
		timeout {FORGET_SECONDS}s
	}}
"""


def _limit(meter: str, side: str, rate: int) -> str:
    burst = max(rate, MIN_BURST_BYTES)
    limit = f"limit rate over {rate} bytes/second burst {burst} bytes"
    return f"\t\tupdate @{meter} {{ ip {side} {limit} }} counter drop\n"
