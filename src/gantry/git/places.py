"""The files that the service keeps for sshd and for its own health check, all on a tmpfs."""

from dataclasses import dataclass
from pathlib import Path

from gantry.git.settings import RUN_FOLDER

HOST_KEY = Path("/etc/gantry/ssh_host_ed25519_key")


@dataclass(frozen=True, slots=True)
class Places:
    """Names inside one folder; sshd_config and the image's links name them too."""

    folder: Path = RUN_FOLDER

    @property
    def host_key(self) -> Path:
        """sshd's copy of the host key, readable by its uid alone."""
        return self.folder / "ssh_host_ed25519_key"

    @property
    def accounts(self) -> Path:
        """What /var/lib/extrausers/passwd is a link to."""
        return self.folder / "passwd"

    @property
    def banner(self) -> Path:
        """What sshd shows before a login; there only while nobody can log in."""
        return self.folder / "banner"

    @property
    def synced(self) -> Path:
        """Its time is when the accounts were last asked for, its text when they last came."""
        return self.folder / "synced"
