"""openvpn's configuration (openvpn(8) 2.6), as a pure function.

No script and no plugin: who may log in is decided over the management interface.
"""

from pathlib import Path

from gantry.vpn.config import Config

DEVICE = "tun0"
PING_SECONDS = 10
SILENCE_SECONDS = 45
"""A client that is silent for so long is gone, and so is a server."""

# Besides those who are in: who is not judged yet, and who is to hear that there is no room.
NEWCOMERS = 300

# Most Raspberry Pis have no AES in hardware: openvpn takes the first that the client has too.
DATA_CIPHERS = ("CHACHA20-POLY1305", "AES-256-GCM", "AES-128-GCM")
# Of TLS 1.2; all of TLS 1.3's are AEAD. openvpn takes no line of more than 255 characters.
TLS_CIPHERS = tuple(
    f"TLS-ECDHE-{key}-WITH-{cipher}"
    for key in ("ECDSA", "RSA")
    for cipher in ("AES-256-GCM-SHA384", "CHACHA20-POLY1305-SHA256")
)


def openvpn_conf(config: Config, socket: Path) -> str:
    """The text of the configuration; openvpn connects to our `socket` and ends when we do."""
    folder = config.certificates
    # Not all at the same moment after they all came at the same moment.
    earliest = config.renegotiate_seconds * 2 // 3
    return f"""\
mode server
tls-server
proto tcp-server
local {config.listen.host}
port {config.listen.openvpn}
dev {DEVICE}
dev-type tun
topology subnet
ifconfig {config.address} {config.network.netmask}
push "topology subnet"

ca {folder / "vpn-ca.crt"}
cert {folder / "vpn.crt"}
key {folder / "vpn.key"}
dh none
tls-version-min 1.2
tls-cipher {":".join(TLS_CIPHERS)}
data-ciphers {":".join(DATA_CIPHERS)}
allow-compression no
reneg-sec {config.renegotiate_seconds} {earliest}

# Devices have no certificates, but their uuid and key. Their names are one to a connection: the
# newer wins.
verify-client-cert none
username-as-common-name
management {socket} unix
management-client
management-client-auth
script-security 0

ping {PING_SECONDS}
ping-restart {SILENCE_SECONDS}
push "ping {PING_SECONDS}"
push "ping-restart {SILENCE_SECONDS}"
max-clients {config.max_devices + NEWCOMERS}
tcp-nodelay
disable-dco
persist-key
persist-tun
verb 1
suppress-timestamps
"""
