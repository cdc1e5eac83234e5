"""`gantry delta`: updates as what differs, between images here and over a fleet's history."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gantry.cli.context import (
    FleetOption,
    JsonOption,
    application_of,
    chosen_fleet,
    client_of,
)
from gantry.cli.output import Percent, moment, print_json, print_table, say
from gantry.client.errors import UsageError
from gantry.contracts.deltas import SUFFIX

if TYPE_CHECKING:
    from gantry.deltas.inspect import Description, LayerDescription

delta_app = typer.Typer(help="Updates as what differs between images.")

PlatformOption = Annotated[
    str | None,
    typer.Option("--platform", help="Which image, of an archive with several: linux/arm64."),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="The image's configuration; default: beside FILE."),
]
HOW = ("copied", "patched", "new")
PAGE = 20


def register(app: typer.Typer) -> None:
    """Mount the commands."""
    app.add_typer(delta_app, name="delta", no_args_is_help=True)


@delta_app.command("create")
def create(
    old: Annotated[str, typer.Argument(metavar="OLD", help="An image, or an archive of one.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The image that is to be rebuilt.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file.")],
    more: Annotated[
        list[str] | None,
        typer.Option("--also", metavar="IMAGE", help="Another image that the device has."),
    ] = None,
    platform: PlatformOption = None,
) -> None:
    """Write what a device needs to rebuild NEW, when it has OLD.

    Images are those of the engine here, or tar files as `docker save` or an OCI tool writes them.
    """
    from gantry.client import deltas

    if not output.name.endswith(SUFFIX):
        say(f"{output.name}: deltas are named *{SUFFIX}")
    made = deltas.create([old, *(more or [])], new, output, platform, say, Percent())
    if not made.layers:
        say("nothing differs: a device that has the old image has all layers of the new one")
    share = f", {100 * made.size / made.whole:.1f} % of the layers" if made.whole else ""
    say(f"{made.size:,} bytes{share}; the configuration is in {made.config.name}")
    print(made.path)


@delta_app.command("apply")
def apply(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A delta.")],
    source: Annotated[
        list[str],
        typer.Option("--source", "-s", metavar="IMAGE", help="An image that it was made from."),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="An archive (OCI, docker load).")
    ] = None,
    load: Annotated[bool, typer.Option("--load", help="Into the engine here.")] = False,
    tag: Annotated[str | None, typer.Option("--tag", "-t", help="The image's name.")] = None,
    config: ConfigOption = None,
    platform: PlatformOption = None,
) -> None:
    """Rebuild the image of a delta, bit for bit, as a device does."""
    from gantry.client import deltas

    if (output is None) == (not load):
        raise UsageError("say where the image goes: either --output FILE or --load")
    print(deltas.apply(path, source, config, output, tag, platform, say))


@delta_app.command("inspect")
def inspect(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A delta.")],
    number: Annotated[
        int, typer.Option("-n", min=0, help="How many files of each layer, the costly first.")
    ] = PAGE,
    source: Annotated[
        list[str] | None,
        typer.Option("--source", "-s", metavar="IMAGE", help="An image that it was made from."),
    ] = None,
    config: ConfigOption = None,
    platform: PlatformOption = None,
    as_json: JsonOption = False,
) -> None:
    """What is in a delta: per layer, and per file.

    Files are told as `create` has left them in FILE.files.json; with --source as the delta itself
    tells of them, which takes unpacking the images, and root.
    """
    from gantry.client import deltas

    found = deltas.describe(path, source or (), config, platform, say)
    if as_json:
        print_json(found)
        return
    _show(found, number)


def _show(found: "Description", number: int) -> None:
    columns = ("layer", "unpacked", "in the delta", "share", "headers", "patches", "new")
    rows = []
    for layer in found.layers:
        share = f"{100 * layer.encoded / layer.size:.2f} %" if layer.size else ""
        parts = (f"{layer.parts.get(part, 0):,}" for part in ("headers", "patches", "new"))
        rows.append((layer.diff_id[7:19], f"{layer.size:,}", f"{layer.encoded:,}", share, *parts))
    print_table(columns, rows, "no layers: the target has none that its source has not")
    for layer in found.layers:
        _show_files(layer, number)
    if found.layers and not any(layer.files for layer in found.layers):
        say("files are known where `gantry delta create` has left FILE.files.json, or by --source")


def _show_files(layer: "LayerDescription", number: int) -> None:
    costly = sorted(layer.files, key=lambda file: -file.encoded)[:number]
    if not costly:
        return
    counts = [f"{sum(file.how == how for file in layer.files)} {how}" for how in HOW]
    say(f"\n{layer.diff_id[7:19]}: {len(layer.files)} files, {', '.join(counts)}")
    rows = [
        (file.path, f"{file.size:,}", file.how, f"{file.encoded:,}", file.source or "")
        for file in costly
    ]
    print_table(("file", "size", "how", "bytes", "from"), rows, "")


@delta_app.command("stats")
def stats(
    ctx: typer.Context,
    application: Annotated[
        str | None,
        typer.Argument(metavar="APP", help="Name or user/name; default: the fleet's name."),
    ] = None,
    number: Annotated[int, typer.Option("-n", min=1, max=200, help="How many updates.")] = PAGE,
    svg: Annotated[
        Path | None, typer.Option("--svg", metavar="FILE", help="A picture of it, too.")
    ] = None,
    as_json: JsonOption = False,
    fleet: FleetOption = None,
) -> None:
    """What the updates of a fleet weighed, and what deltas saved."""
    from gantry.cli.delta_picture import draw
    from gantry.client import delta_history

    with client_of(ctx, fleet) as client:
        name = chosen_fleet(ctx, fleet)
        found = application_of(client, application, name)
        updates = delta_history.updates(client, name, found, number)
    if svg is not None:
        _write(svg, draw(found.slug, updates))
    if as_json:
        print_json(updates)
        return
    rows = [
        (
            each.release[:7],
            moment(each.at),
            _size(each.whole),
            _size(each.delta),
            f"{100 * each.saved / each.whole:.1f} %" if each.whole and each.saved else "",
            str(each.downloads),
            each.state,
        )
        for each in updates
    ]
    columns = ("release", "created", "whole", "delta", "saved", "downloads", "state")
    print_table(columns, rows, f"{found.slug} has no two releases yet: push one more")


def _size(size: int | None) -> str:
    from gantry.cli.delta_picture import size_text

    return "" if size is None else size_text(size)


def _write(path: Path, text: str) -> None:
    from gantry.client.errors import ClientError

    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ClientError(f"{path} cannot be written: {error.strerror or error}") from error
    say(f"the picture is in {path}")
