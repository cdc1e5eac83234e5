"""mmdebstrap: a minimal Debian as a tar file, of any architecture that this machine runs."""

import grp
import os
import pwd
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from gantry.builder.mirror import MIRROR

Progress = Callable[[str], None]

# What apt says when lists and files of a mirror are of different hours; it passes.
MIRROR_IN_SYNC = "Mirror sync in progress"
SYNC_ATTEMPTS = 3
SYNC_PAUSE_SECONDS = 20.0
SOURCE_DATE_EPOCH = "1767225600"


class BootstrapError(Exception):
    """mmdebstrap failed; holds its last lines."""


def command(
    suite: str, debian_arch: str, include: Sequence[str], security: str, target: Path
) -> list[str]:
    """The command that writes the root file system as a tar file to `target`.

    `security` is the line of sources.list for the security updates.
    """
    words = [
        "mmdebstrap",
        "--variant=minbase",
        f"--mode={'root' if os.geteuid() == 0 else 'unshare'}",
        f"--architectures={debian_arch}",
        "--aptopt=Acquire::Languages { none; }",
        "--aptopt=Acquire::Retries 3",
        "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-include=/usr/share/doc/*/copyright",
    ]
    if shutil.which("arch-test") is None:
        # Without that program mmdebstrap cannot see that binfmt_misc runs the architecture.
        words.append("--skip=check/qemu")
    if include:
        words.append(f"--include={','.join(include)}")
    return [
        *words,
        suite,
        str(target),
        f"deb {MIRROR} {suite} main",
        f"deb {MIRROR} {suite}-updates main",
        security,
    ]


def run_patiently(words: list[str], progress: Progress, pause: float = SYNC_PAUSE_SECONDS) -> None:
    """Run it; again, a few times, while the archive's mirror is between two of its states.

    Raises:
        BootstrapError: it failed, or the mirror stays so.
    """
    for attempt in range(1, SYNC_ATTEMPTS + 1):
        try:
            _run(words, progress)
            return
        except BootstrapError as error:
            if MIRROR_IN_SYNC not in str(error):
                raise
            if attempt == SYNC_ATTEMPTS:
                raise BootstrapError(
                    "the Debian archive's mirror is being brought up to date, and its lists do not "
                    f"agree with its files: try again in an hour\n{error}"
                ) from error
            progress(f"the archive's mirror is being brought up to date: again in {pause:.0f} s")
            time.sleep(pause)


def in_own_group(words: list[str], gid: int | None = None) -> list[str]:
    """newuidmap, which makes the user namespace, serves nobody whose group is not their own: after
    `newgrp docker`, or `sg docker`, it is not. `gid`: the group of now, if not this process's."""
    own = pwd.getpwuid(os.geteuid()).pw_gid
    if os.geteuid() == 0 or own == (os.getgid() if gid is None else gid):
        return words
    return ["sg", grp.getgrgid(own).gr_name, "-c", shlex.join(words)]


def _run(words: list[str], progress: Progress) -> None:
    environ = {**os.environ, "SOURCE_DATE_EPOCH": SOURCE_DATE_EPOCH, "LC_ALL": "C.UTF-8"}
    tail: list[str] = []
    with subprocess.Popen(
        in_own_group(words),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environ,
        text=True,
    ) as process:
        assert process.stdout is not None  # noqa: S101 - asked for above
        for line in process.stdout:
            tail = [*tail[-19:], line.rstrip()]
            if line.startswith("I: ") and "success" not in line:
                progress(line[3:].rstrip().rstrip("."))
    if process.returncode:
        raise BootstrapError(
            f"mmdebstrap ended with {process.returncode} ({' '.join(words)}):\n" + "\n".join(tail)
        )
