"""`python -P -m gantry.client.tunnel_stdio FLEET UUID PORT NAME`: ssh's ProxyCommand.

A program of its own, since each login waits for it: docs/decisions/0008. The token is read from the
session's file, and is on no command line.
"""

import os
import signal
import sys
from pathlib import Path

from gantry.client.errors import ClientError, ExitCode
from gantry.client.relay import relay
from gantry.client.tunnel import Target, dial

REPORT = "GANTRY_TUNNEL_REPORT"
"""Names a file for the exit code: ssh knows only that its ProxyCommand failed."""
LINGER_SECONDS = 15.0


def carry(fleet: str, target: Target) -> None:
    """A tunnel between this process's standard input and output, and a device's port.

    Raises:
        ClientError: there is none.
    """
    relay(dial(fleet, target), sys.stdin.fileno(), sys.stdout.fileno(), LINGER_SECONDS)


def main() -> int:
    """Exit code; errors are a sentence on stderr."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # ssh's own business: no traceback
    fleet, uuid, port, name = sys.argv[1:]
    try:
        carry(fleet, Target(uuid, int(port), name))
    except ClientError as error:
        print(f"gantry: {error}", file=sys.stderr)
        _report(error.code)
        return error.code
    return ExitCode.OK


def _report(code: int) -> None:
    path = os.environ.get(REPORT)
    if path:
        Path(path).write_text(str(int(code)))


if __name__ == "__main__":
    sys.exit(main())
