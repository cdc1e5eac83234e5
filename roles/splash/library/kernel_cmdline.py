#!/usr/bin/python
"""Words of the kernel's command line, in the one-line file that a Raspberry Pi's firmware reads."""

import os
import tempfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
---
module: kernel_cmdline
short_description: Add, remove and replace words of cmdline.txt
description:
  - Only the first line counts, as for the firmware. Words that are not named stay as they are, in
    their order; none is there twice.
options:
  path:
    description: The file.
    type: path
    required: true
  present:
    description: Words that are to be there; new ones come last.
    type: list
    elements: str
    default: []
  absent:
    description: Words that are not to be there.
    type: list
    elements: str
    default: []
  replaced:
    description: Words that take another's place, where it is there.
    type: dict
    default: {}
attributes:
  check_mode: {support: full}
  diff_mode: {support: full}
author: The Gantry developers (@gantry)
"""

EXAMPLES = """
- name: Show nothing on the first console
  kernel_cmdline:
    path: /boot/firmware/cmdline.txt
    present: [quiet, splash]
    replaced: {console=tty1: console=tty3}
"""

RETURN = """
line: {description: The command line as it is then, returned: always, type: str}
"""


def edited(line: str, present: list[str], absent: list[str], replaced: dict[str, str]) -> str:
    """The line with its words changed; a line that is in order already stays as it is."""
    words = line.split()
    wanted = [replaced.get(word, word) for word in words if word not in absent]
    wanted += [word for word in present if word not in wanted]
    ours = {*present, *replaced.values()}
    kept = [word for at, word in enumerate(wanted) if word not in ours or word not in wanted[:at]]
    return line if kept == words else " ".join(kept)


def write_whole(path: Path, text: str) -> None:
    """Replace the file: without it, or with half of it, the board does not start."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), path.stat().st_mode & 0o7777)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def main() -> None:
    """Ansible's entry point."""
    words = {"type": "list", "elements": "str", "default": []}
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "present": words,
            "absent": words,
            "replaced": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    given = module.params
    path = Path(given["path"])
    try:
        old = path.read_text(encoding="utf-8")
        first, newline, rest = old.partition("\n")
        line = edited(first, given["present"], given["absent"], given["replaced"])
        new = line + (newline or "\n") + rest
        changed = line != first
        if changed and not module.check_mode:
            write_whole(path, new)
    except (OSError, UnicodeDecodeError) as error:
        module.fail_json(msg=f"{path} cannot be edited: {error}")
    module.exit_json(
        changed=changed,
        line=line,
        diff={"before_header": str(path), "before": old, "after": new},
    )


if __name__ == "__main__":
    main()
