#!/usr/bin/python
"""Small text files of a host, all in one task.

A task costs seconds on a Pi Zero and under qemu, and a dozen small files would be a dozen tasks.
"""

import os
import tempfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
---
module: host_files
short_description: Put small text files of root's in place
description:
  - Missing folders are made with mode 0755. A file is replaced whole, so that a power loss leaves
    the old or the new one.
options:
  files:
    description: The texts, by path.
    type: dict
    default: {}
  mode:
    description: The mode of those that O(modes) does not name.
    type: str
    default: "0644"
  modes:
    description: Modes, by path.
    type: dict
    default: {}
attributes:
  check_mode: {support: full}
  diff_mode: {support: full}
author: The Gantry developers (@gantry)
"""

EXAMPLES = """
- name: Install the files
  host_files:
    files:
      /etc/modprobe.d/gantry.conf: "install dccp /bin/false\\n"
"""

RETURN = """
paths: {description: Files that were written, returned: always, type: list}
"""


def text_of(path: Path) -> str | None:
    """What a file holds; None where there is none that could stay."""
    try:
        return None if path.is_symlink() else path.read_text(encoding="utf-8")
    except (FileNotFoundError, UnicodeDecodeError):
        return None


def is_as_wanted(path: Path, text: str, mode: int) -> bool:
    """Whether the file needs nothing."""
    if text_of(path) != text:
        return False
    status = path.stat()
    return (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (mode, 0, 0)


def write_whole(path: Path, text: str, mode: int) -> None:
    """Replace a file; half of it is never seen."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fchown(file.fileno(), 0, 0)
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def put(
    files: dict[str, str], modes: dict[str, int], check: bool
) -> tuple[list[str], list[dict[str, str]]]:
    """Bring the files about (or, with `check`, only say which); their paths and differences."""
    paths, differences = [], []
    for name, text in files.items():
        path, mode = Path(name), modes[name]
        if is_as_wanted(path, text, mode):
            continue
        paths.append(name)
        differences.append({"before_header": name, "before": text_of(path) or "", "after": text})
        if not check:
            write_whole(path, text, mode)
    return paths, differences


def main() -> None:
    """Ansible's entry point."""
    module = AnsibleModule(
        argument_spec={
            "files": {"type": "dict", "default": {}},
            "mode": {"type": "str", "default": "0644"},
            "modes": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    given: dict[str, Any] = module.params
    files: dict[str, str] = given["files"]
    # Folders are for all to read, whatever the account's habit is.
    os.umask(0o022)
    modes = {path: int(given["modes"].get(path, given["mode"]), 8) for path in files}
    try:
        paths, differences = put(files, modes, module.check_mode)
    except OSError as error:
        module.fail_json(msg=f"{error.filename} cannot be written: {error.strerror}")
    module.exit_json(changed=bool(paths), paths=paths, diff=differences)


if __name__ == "__main__":
    main()
