"""`gantry query` and `gantry audit`: what the api knows, for programs, tables and files."""

import csv
import io
import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gantry.cli.context import FleetOption, JsonOption, client_of
from gantry.cli.output import print_json, print_table, say
from gantry.client.errors import UsageError

if TYPE_CHECKING:
    from gantry.client.api_client import ApiClient


class Format(StrEnum):
    """How rows are written."""

    JSON = "json"
    CSV = "csv"


_TYPES = {Format.JSON: "application/json", Format.CSV: "text/csv"}


def register(app: typer.Typer) -> None:
    """Mount the commands."""
    app.command()(query)
    app.command()(audit)


def query(
    ctx: typer.Context,
    question: Annotated[
        str,
        typer.Argument(
            metavar="QUERY",
            help='A resource and OData options: "device?\\$select=device_name,overall_status".',
        ),
    ],
    form: Annotated[Format, typer.Option("--format", help="How rows are written.")] = Format.JSON,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", dir_okay=False, help="Into a file.")
    ] = None,
    fleet: FleetOption = None,
) -> None:
    """All rows of any query, whatever the number of its pages."""
    text = io.StringIO(newline="")
    with client_of(ctx, fleet) as client:
        write = _csv if form is Format.CSV else _json
        said = write(client, question, text)
    # All of it or nothing: a half export looks like a whole one.
    if out is None:
        sys.stdout.write(text.getvalue())
        say(said)
        return
    try:
        out.write_text(text.getvalue(), newline="")
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {error.strerror}") from error
    say(f"{said}: {out}")


def _csv(client: "ApiClient", question: str, text: io.StringIO) -> str:
    """One line of names, and then the rows of all pages, as the api wrote them."""
    rows = 0
    for number, page in enumerate(client.pages(question, _TYPES[Format.CSV])):
        head, line_end, rest = page.text.partition("\r\n")
        text.write(rest if number else f"{head}{line_end}{rest}")
        rows += sum(1 for _ in csv.reader(io.StringIO(rest, newline="")))
    return f"{rows} rows"


def _json(client: "ApiClient", question: str, text: io.StringIO) -> str:
    """One array of the rows of all pages, or the value that was asked for."""
    rows: list[Any] = []
    for page in client.pages(question, _TYPES[Format.JSON]):
        found = page.json()["d"]
        if not isinstance(found, list):
            text.write(f"{json.dumps(found)}\n")
            return "1 value"
        rows += found
    text.write(json.dumps(rows, indent=2, ensure_ascii=False) + "\n")
    return f"{len(rows)} rows"


def audit(
    ctx: typer.Context,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=1000, help="How many.")] = 50,
    resource: Annotated[
        str | None, typer.Option("--resource", help="Of these rows only: device, release …")
    ] = None,
    as_json: JsonOption = False,
    fleet: FleetOption = None,
) -> None:
    """Who changed what, the latest last."""
    with client_of(ctx, fleet) as client:
        found = client.audit_entries(count, resource)
    if as_json:
        print_json(found)
        return
    rows = [
        (
            each.at,
            each.who,
            each.action,
            f"{each.resource} {each.name or each.row}",
            ", ".join(f"{name}={value}" for name, value in each.changes.items()),
        )
        for each in found
    ]
    print_table(("time", "who", "did", "what", "set"), rows, "nothing was changed yet")
