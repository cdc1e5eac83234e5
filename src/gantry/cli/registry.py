"""`gantry registry`: what the fleet's images and deltas take, and what of it nobody needs."""

import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from gantry.cli.context import FleetOption, JsonOption, client_of
from gantry.cli.cp import size
from gantry.cli.output import coloured, moment, print_json, print_table, say
from gantry.client.errors import UsageError
from gantry.contracts.delta_space import DeltaSpace, LeavingDelta
from gantry.contracts.registry_space import (
    ImageSpace,
    RepositorySpace,
    RunKind,
    RunStatus,
    SpaceReport,
)

if TYPE_CHECKING:
    from gantry.client.space import Run

STATUS_COLOURS = {"done": "green", "running": "yellow", "ordered": "yellow", "failed": "red"}
_SHORT = 19

registry_app = typer.Typer(help="The space that images and deltas take.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Mount the commands."""
    app.add_typer(registry_app, name="registry")


@registry_app.command()
def space(
    ctx: typer.Context,
    whole: Annotated[
        bool,
        typer.Option(
            "--images", help="Each image, and why it stays or that it goes; deltas that go."
        ),
    ] = False,
    as_json: JsonOption = False,
    fleet: FleetOption = None,
) -> None:
    """What is there, what would go, and why the rest stays. Removes nothing."""
    with client_of(ctx, fleet) as client:
        run = client.space.carry_out(RunKind.SURVEY, say)
    report = _report(run)
    if as_json:
        print_json(report.to_json())
        return
    _show(report, whole=whole)
    _sum_up(report)
    if _is_any(report):
        say("`gantry registry collect` removes it")


@registry_app.command()
def collect(
    ctx: typer.Context,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    now: Annotated[
        bool,
        typer.Option(
            "--now", help="Free it at once: pulls of images that are removed may break off."
        ),
    ] = False,
    as_json: JsonOption = False,
    fleet: FleetOption = None,
) -> None:
    """Remove the images and deltas that nobody needs, and free their space."""
    with client_of(ctx, fleet) as client:
        if not yes:
            if not sys.stdin.isatty():
                raise UsageError("no terminal to ask: add --yes")
            found = _report(client.space.carry_out(RunKind.SURVEY, say))
            if not _is_any(found):
                say("there is nothing to collect")
                return
            _show(found, whole=False)
            _sum_up(found)
            typer.confirm("Remove it?", abort=True, err=True)
        run = client.space.carry_out(RunKind.COLLECT, say, 0 if now else None)
    report = _report(run)
    if as_json:
        print_json(report.to_json())
        return
    print(
        f"removed {report.removed} images, freed {size(report.freed)} "
        f"({report.freed_blobs} blobs); {size(report.size)} are left"
    )
    if report.deltas:
        print(_collected(report.deltas))
    if report.waits:
        print(
            f"{size(report.waits)} more are freed in {run.linger // 60} min, when pulls that have "
            "begun have ended"
        )
    if report.skipped:
        print(
            f"{report.skipped} repositories were pushed to meanwhile: the next collection looks at "
            "them again"
        )


@registry_app.command()
def runs(ctx: typer.Context, as_json: JsonOption = False, fleet: FleetOption = None) -> None:
    """The last looks and collections, and how they ended."""
    with client_of(ctx, fleet) as client:
        found = client.space.runs()
    if as_json:
        print_json(found)
        return
    rows = [
        (
            str(each.id),
            each.kind.value,
            coloured(each.status.value, STATUS_COLOURS),
            moment(each.created_at),
            moment(each.ended_at),
            each.error or each.progress or _outcome(each),
        )
        for each in found
    ]
    print_table(
        ("id", "what", "state", "ordered", "ended", ""),
        rows,
        "nothing yet: `gantry registry space` looks",
    )


def _report(run: "Run") -> SpaceReport:
    assert run.report is not None  # noqa: S101 - `carry_out` ends with one
    return run.report


def _show(report: SpaceReport, *, whole: bool) -> None:
    if whole:
        columns: tuple[str, ...] = ("image", "commit", "digest", "size", "why it stays")
        rows = [
            _image(repository.label or repository.name, image)
            for repository in report.repositories
            for image in repository.images
        ]
    else:
        columns = ("image", "there", "size", "go", "frees", "why the others stay")
        rows = [_repository(each) for each in report.repositories]
    print_table(columns, rows, "the registry is empty")
    if whole and report.deltas and report.deltas.deltas:
        labels = {
            f"{repository.name}@{image.digest}": image.label
            for repository in report.repositories
            for image in repository.images
            if image.label
        }
        print()
        going = [_delta(each, labels) for each in report.deltas.deltas]
        print_table(("delta from", "to", "frees", "why it goes"), going, "")


def _image(name: str, image: ImageSpace) -> tuple[str | Text, ...]:
    return (
        name,
        image.label.rpartition(" ")[2] or "-",
        image.digest[:_SHORT],
        size(image.size),
        "; ".join(image.reasons) if image.reasons else Text("goes", "red"),
    )


def _repository(each: RepositorySpace) -> tuple[str | Text, ...]:
    return (
        each.label or each.name,
        str(len(each.images)),
        size(each.size),
        str(sum(not image.reasons for image in each.images)),
        size(each.goes),
        _why(each),
    )


def _delta(each: LeavingDelta, labels: Mapping[str, str]) -> tuple[str, ...]:
    def name(image: str) -> str:
        repository, _, digest = image.partition("@")
        return labels.get(image, f"{repository}@{digest[:_SHORT]}") if image else "-"

    # The service's own comes first; the others are of the same release.
    src = [name(image) for image in each.src] or ["-"]
    more = f" and {len(src) - 1} more" if len(src) > 1 else ""
    return src[0] + more, name(each.dest), size(each.size), each.reason


def _why(repository: RepositorySpace) -> str:
    return _counted(reason for image in repository.images for reason in image.reasons)


def _counted(reasons: Iterable[str]) -> str:
    """The reasons, the most frequent first."""
    counted = Counter(reasons)
    return "; ".join(f"{number} × {reason}" for reason, number in counted.most_common())


def _is_any(report: SpaceReport) -> bool:
    """Whether something can be collected."""
    return bool(report.images or report.frees or (report.deltas and report.deltas.goes))


def _collected(deltas: DeltaSpace) -> str:
    if deltas.error:
        return (
            f"what was removed of the deltas is not known: {deltas.error}; the delta server does "
            "it by itself, within an hour when it can"
        )
    return (
        f"removed {deltas.removed} deltas, freed {size(deltas.freed)}; {deltas.count} are left "
        f"with {size(deltas.size)}"
    )


def _outcome(run: "Run") -> str:
    """What came of a run, shortly."""
    report = run.report
    if report is None or run.status is not RunStatus.DONE:
        return ""
    deltas = report.deltas or DeltaSpace(error="not told of")
    unknown = " (of deltas nothing is known)" if deltas.error else ""
    if run.kind is RunKind.SURVEY:
        number, space = report.images, report.frees + report.waits
        said = f"{number} images and {deltas.goes} deltas go: {size(space + deltas.frees)}"
    else:
        freed = f"{size(report.freed)} and {size(deltas.freed)}"
        said = f"removed {report.removed} images and {deltas.removed} deltas, freed {freed}"
    return said + unknown


def _sum_up(report: SpaceReport) -> None:
    print(
        f"{size(report.size)} in all; {report.images} images go; "
        f"{size(report.frees + report.waits)} can be freed: {size(report.frees)} at once, "
        f"{size(report.waits)} when pulls that have begun have ended"
    )
    if report.young:
        print(f"{size(report.young)} are of no image, but too young to be told from a push")
    if report.uploads:
        print(f"{size(report.uploads)} are unfinished uploads, which the registry itself purges")
    if report.missing:
        print(
            f"{report.missing} images that are needed are not in the registry: was an older "
            "database restored? push their commits again"
        )
    if report.broken:
        print(f"{report.broken} manifests are broken: their content is missing")
    if deltas := report.deltas:
        _sum_up_deltas(deltas)


def _sum_up_deltas(deltas: DeltaSpace) -> None:
    if deltas.error:
        print(f"what deltas take is not known: {deltas.error}")
        return
    line = f"{deltas.count} deltas take {size(deltas.size)}; {deltas.goes} go"
    if deltas.goes:
        line += (
            f", which frees {size(deltas.frees)}: {_counted(each.reason for each in deltas.deltas)}"
        )
    print(line)
