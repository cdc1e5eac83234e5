"""The rules for people: a page of the documentation and a list in the terminal."""

import textwrap
from collections.abc import Iterator

from gantry.api.rules.declarations import GROUPS
from gantry.api.rules.kinds import Check, Clears, Holds, Meaning, Removes, Required, Unique
from gantry.api.rules.sql import watches
from gantry.api.rules.tables import table_of

_HEAD = """\
# The rules of the model

<!-- Written by `python -m gantry.api rules --markdown` from src/gantry/api/rules/. -->

PostgreSQL holds these rules, in the transaction of the change, whoever makes it: the api, a \
program of yours, or a person with `psql`. A change that breaks one is undone as a whole. The api \
answers with the rule's sentence, its name, and the rows that break it (the first 20, and how many \
there are):

```json
{"error": "It is necessary that … (device 5, 7)", "rule": "device_type_fits",
 "resource": "device", "ids": [5, 7], "count": 2}
```

Where rows must differ, the status is 409 and the sentence ends with what is there already; it is \
400 otherwise. [Decision 0015](decisions/0015-rules-in-the-database.md) says how it is done.
"""


def _how(meaning: Meaning) -> str:
    """By what the database holds it, and where."""
    match meaning:
        case Check():
            return f"CHECK on `{table_of(meaning.model).name}`"
        case Unique():
            return f"unique in `{table_of(meaning.model).name}`"
        case Required():
            column = meaning.attribute.__clause_element__()
            return f"NOT NULL of `{column.table.name}.{column.name}`"
        case Holds():
            names = (table_of(each.rows[0]).name for each in watches(meaning))
            return "triggers on " + ", ".join(f"`{each}`" for each in names)
        case Clears() | Removes():
            return f"trigger on `{table_of(meaning.subject).name}`"


def text() -> str:
    """All rules by name and sentence."""
    return "".join(
        f"{rule.name}\n{textwrap.indent(textwrap.fill(rule.sentence, 92), '    ')}\n"
        for rules in GROUPS.values()
        for rule in rules
    )


def markdown() -> str:
    """The page `docs/rules.md`."""
    return "\n".join(_page())


def _page() -> Iterator[str]:
    yield _HEAD
    for title, rules in GROUPS.items():
        yield f"## {title}\n\n| rule | | held by |\n|---|---|---|"
        for rule in rules:
            held = "; ".join(dict.fromkeys(_how(meaning) for meaning in rule.meanings))
            yield f"| `{rule.name}` | {rule.sentence} | {held} |"
        yield ""
