"""What of the host is on its boot partition: reading it for the planner, and carrying out steps.

Before config.txt is changed for the first time, it is copied to `config.txt.before-gantry`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gantry.supervisor.config import ConfigError, ConfigFile
from gantry.supervisor.host import bootfiles, configtxt
from gantry.supervisor.host.plan import (
    HostFacts,
    RestoreSplash,
    WriteConfigJson,
    WriteConfigTxt,
    WriteSplash,
)

_SPLASH = "resin-logo.png"  # of the role splash
# It must not end in .png.tmp, and no program takes it for the logo.
_SPLASH_BEFORE = "resin-logo.before.png"


class BootPartition:
    """The doorway to the settings that are beside config.json. All of it blocks: in a thread."""

    def __init__(self, file: ConfigFile) -> None:
        self._file = file
        folder = file.path.parent
        self.config_txt = folder / "config.txt"
        self._kept = folder / "config.txt.before-gantry"
        self._splash = folder / "splash" / _SPLASH
        self._splash_before = folder / "splash" / _SPLASH_BEFORE

    def facts(self, is_pi: bool, before: Mapping[str, Any], switched: frozenset[str]) -> HostFacts:
        """What the host is set to.

        Raises:
            BootFileError: the partition cannot be read.
        """
        text = None
        if is_pi:
            bootfiles.recover(self.config_txt)
            content = bootfiles.read(self.config_txt)
            text = None if content is None else content.decode("utf-8", "surrogateescape")
        document: Mapping[str, Any] | None = None
        try:
            document = self._file.read().document
        except ConfigError:
            document = None
        splash_before = bootfiles.read(self._splash_before)
        return HostFacts(
            config_txt=text,
            config_json=document,
            before=before,
            splash=bootfiles.read(self._splash),
            splash_before=splash_before,
            switched=switched,
        )

    def carry_out(
        self, step: WriteConfigTxt | WriteConfigJson | WriteSplash | RestoreSplash
    ) -> None:
        """Carry out a step.

        Raises:
            BootFileError, ConfigError: the partition cannot be written; what was there is there.
        """
        match step:
            case WriteConfigTxt(text=text):
                self._write_config_txt(text)
            case WriteConfigJson(changes=changes):
                self._file.update(changes)
            case WriteSplash(content=content, keep=keep):
                if keep:
                    # Empty where there was none: it says that the logo is a variable's.
                    bootfiles.write(self._splash_before, bootfiles.read(self._splash) or b"")
                bootfiles.write(self._splash, content)
            case RestoreSplash():
                before = bootfiles.read(self._splash_before)
                if before:
                    bootfiles.write(self._splash, before)
                else:
                    bootfiles.remove(self._splash)
                bootfiles.remove(self._splash_before)

    def _write_config_txt(self, text: str) -> None:
        content = bootfiles.read(self.config_txt)
        if content is not None and not self._kept.exists():
            untouched = configtxt.applied(content.decode("utf-8", "surrogateescape"), ())
            bootfiles.write(self._kept, untouched.encode("utf-8", "surrogateescape"))
        bootfiles.write(self.config_txt, text.encode("utf-8", "surrogateescape"))

    def has_config_txt(self) -> bool:
        """Whether the board has its config.txt where it is looked for."""
        return Path(self.config_txt).exists()
