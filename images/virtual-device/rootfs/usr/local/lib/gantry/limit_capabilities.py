"""Take out of an OCI bundle's config.json what this container's bounding set does not have.

Called with runc's own arguments (`create --bundle DIR …`); the format is that of
https://github.com/opencontainers/runtime-spec/blob/main/config.md#linux-process.
"""

import ctypes
import json
import pathlib
import sys

PR_CAPBSET_READ = 23


def bundle(arguments: list[str]) -> pathlib.Path:
    """The folder that `--bundle` or `-b` names; runc's default is the current one."""
    for position, each in enumerate(arguments):
        if each in ("--bundle", "-b"):
            return pathlib.Path(arguments[position + 1])
        if each.startswith("--bundle="):
            return pathlib.Path(each.partition("=")[2])
    return pathlib.Path()


def number(name: str) -> int | None:
    """The kernel's number of `CAP_…`; None for one that libcap here does not know."""
    value = ctypes.c_int()
    known = ctypes.CDLL("libcap.so.2").cap_from_name(name.lower().encode(), ctypes.byref(value))
    return value.value if known == 0 else None


def available(name: str) -> bool:
    """Whether the bounding set has the capability."""
    found = number(name)
    return found is not None and ctypes.CDLL(None).prctl(PR_CAPBSET_READ, found, 0, 0, 0) == 1


def main() -> None:
    """Rewrite the file only where something is to go."""
    path = bundle(sys.argv[1:]) / "config.json"
    config = json.loads(path.read_text())
    sets = config.get("process", {}).get("capabilities") or {}
    wanted = {name for names in sets.values() for name in names}
    missing = {name for name in wanted if not available(name)}
    if missing:
        for kind, names in sets.items():
            sets[kind] = [name for name in names if name not in missing]
        path.write_text(json.dumps(config))


main()
