"""Whom the supervisor trusts: the system's certificate authorities and its fleet's own."""

import ssl

from gantry.supervisor.config import ConfigError


def ssl_context(root_ca: str | None) -> ssl.SSLContext:
    """A client context with the system's store and, where given, one more authority (PEM).

    Raises:
        ConfigError: the PEM text is no certificate.
    """
    context = ssl.create_default_context()
    if root_ca is not None:
        try:
            context.load_verify_locations(cadata=root_ca)
        except ssl.SSLError as error:
            raise ConfigError(f"config.json: balenaRootCA is no certificate: {error}") from error
    return context
