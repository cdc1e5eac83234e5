"""Dockerfiles: templates are filled, and the bases of ours that they name are found.

The template variables are the family's:
https://docs.balena.io/learn/develop/dockerfile/#dockerfile-templates
"""

import re

from gantry.builder.plan import BASE_TAGS, BaseName, RejectedError, Target
from gantry.contracts.device_types import Architecture

_VARIABLE = re.compile(r"%%([A-Z0-9_]+)%%")
_BASE = re.compile(
    rf"(?<![\w.-])gantry/(?P<arch>{'|'.join(Architecture)})-"
    rf"(?P<name>{'|'.join(BASE_TAGS)})(?![\w/-])(?::(?P<tag>[\w.-]+))?"
)
# FROM, `COPY --from` and `RUN --mount=…,from=` name images; ARG may hold what FROM uses.
_NAMES_IMAGES = re.compile(r"^\s*(FROM|ARG|COPY|ADD|RUN|ONBUILD)\b", re.IGNORECASE)


def fill(text: str, path: str, service: str, target: Target) -> str:
    """The Dockerfile of a template.

    Raises:
        RejectedError: a variable that is not known; the message lists those that are.
    """
    values = template_variables(service, target)

    def value(match: re.Match[str]) -> str:
        if match[1] not in values:
            known = ", ".join(f"%%{name}%%" for name in values)
            raise RejectedError(f"{path}: unknown variable %%{match[1]}%%: use one of {known}")
        return values[match[1]]

    return _VARIABLE.sub(value, text)


def template_variables(service: str, target: Target) -> dict[str, str]:
    """The variables of Dockerfile.template, under both of the family's prefixes."""
    values = {
        "MACHINE_NAME": target.device.slug,
        "ARCH": target.architecture.value,
        "APP_ID": str(target.application_id),
        "APP_NAME": target.application,
        "RELEASE_HASH": target.commit,
        "SERVICE_NAME": service,
    }
    return {
        f"{prefix}_{name}": each for prefix in ("RESIN", "BALENA") for name, each in values.items()
    }


def bases_named(text: str, path: str) -> list[BaseName]:
    """The bases of ours that a Dockerfile names, each once, in order.

    Raises:
        RejectedError: a base with a tag that does not exist.
    """
    found: dict[BaseName, None] = {}
    for line in text.replace("\\\n", " ").splitlines():
        if not _NAMES_IMAGES.match(line):
            continue
        for match in _BASE.finditer(line):
            base = BaseName(Architecture(match["arch"]), match["name"])
            if match["tag"] != base.tag:
                named = match["tag"] or "latest"
                raise RejectedError(
                    f"{path}: {match[0]} names the tag {named}, which does not exist: "
                    f"write {base.reference}"
                )
            found[base] = None
    return list(found)
