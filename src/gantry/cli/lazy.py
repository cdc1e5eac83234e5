"""Commands whose modules take long to import (docker, pulumi) are imported when they are called."""

from collections.abc import Callable
from typing import Any

import typer
from typer._click import Context  # typer's own copy of click, which it makes public nowhere else
from typer._click.shell_completion import CompletionItem
from typer._completion_classes import BashComplete
from typer.core import TyperCommand

_PASS_ON = {
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    "allow_interspersed_args": False,  # what follows the first word is passed on untouched
}


def mount(
    app: typer.Typer, name: str, summary: str, load: Callable[[], typer.Typer], panel: str
) -> None:
    """A command that stands for another: `load()` gives it, and it gets the arguments as they are.

    `load` returns an app that has a command or a group called `name`. `panel` is the part of the
    help where it is listed.
    """

    class Deferred(TyperCommand):
        def shell_complete(self, ctx: Context, incomplete: str) -> list[CompletionItem]:
            """What the command behind this one proposes. Whatever fails: no proposals."""
            try:
                # Which words are proposed depends on no shell: any of the classes will do.
                real = BashComplete(typer.main.get_command(load()), {}, "gantry", "")
                return real.get_completions([name, *ctx.args], incomplete)
            except Exception:
                return []

    def run(ctx: typer.Context) -> Any:
        program = ctx.parent.command_path if ctx.parent else None
        return load()([name, *ctx.args], prog_name=program)

    settings: dict[str, Any] = _PASS_ON | {"help_option_names": []}
    app.command(
        name,
        cls=Deferred,
        help=summary,
        context_settings=settings,
        add_help_option=False,
        rich_help_panel=panel,
    )(run)
