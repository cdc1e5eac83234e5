"""Whom one trusts: the system's authorities, and a fleet's own."""

import ssl
from pathlib import Path

from gantry.client.errors import ClientError


def trust(ca_file: Path | None) -> ssl.SSLContext:
    """Trust in the system's authorities and in this one. Raises ClientError for a bad file."""
    context = ssl.create_default_context()
    if ca_file:
        try:
            context.load_verify_locations(ca_file)
        except OSError as error:
            raise ClientError(
                f"{ca_file} holds no certificate that can be read: {error}"
            ) from error
    return context
