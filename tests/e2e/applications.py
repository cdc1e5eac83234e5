"""Small applications that the end-to-end tests push."""

import os
from pathlib import Path

_TICKER_DOCKERFILE = """\
FROM gantry/%%RESIN_ARCH%%-raspios:bookworm
COPY . /app
CMD ["/bin/sh", "/app/ticker.sh"]
"""

# One line each 0.2 s, numbered: a gap or a double shows at once.
_TICKER = """\
n=0
echo "version {version} on $(uname -m) mark=$MARK device=$RESIN_DEVICE_UUID"
while true; do n=$((n+1)); echo "tick $n"; sleep 0.2; done
"""


def write_ticker(folder: Path, version: str) -> None:
    """An application of one service that counts, quick to build: no step runs under emulation."""
    (folder / "Dockerfile.template").write_text(_TICKER_DOCKERFILE)
    (folder / "ticker.sh").write_text(_TICKER.format(version=version))


def write_ballast(folder: Path, megabytes: int) -> None:
    """Bytes that do not compress, so that a download takes time."""
    with (folder / "ballast.bin").open("wb") as file:
        for _ in range(megabytes):
            file.write(os.urandom(1 << 20))


def write_broken(folder: Path) -> None:
    """An application whose build fails with a message of its own."""
    (folder / "Dockerfile.template").write_text(
        "FROM gantry/%%RESIN_ARCH%%-raspios:bookworm\n"
        "RUN echo 'the flux capacitor is missing' >&2; exit 7\n"
    )
