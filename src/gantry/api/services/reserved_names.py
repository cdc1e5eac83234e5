"""Names that neither accounts nor organizations may have."""

# Account names are login names of the git server and user names of the registry: those that
# mean something there already are not given away.
_RESERVED = """
root daemon bin sys sync games man lp mail news uucp proxy www-data backup list irc gnats nobody
systemd-network systemd-timesync messagebus sshd git gantry builder deltas logs api registry
provisioning postgres nats caddy balena_os
"""
_NAMES = frozenset(_RESERVED.split())


def is_reserved(name: str) -> bool:
    """Whether the name means something to the platform or its servers."""
    # `d_<uuid>` is how devices name themselves to the registry.
    return name in _NAMES or name.startswith(("d_", "systemd-", "_"))
