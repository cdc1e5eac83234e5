"""What devices write is shown by the terminal, and not obeyed."""

import io

import pytest
from rich.console import Console

from gantry.cli.logs import print_line
from gantry.cli.output import coloured, table_of
from gantry.client.log_line import LogLine

HOSTILE = "a\x1b[2J\x1b]52;c;aGk=\x07\x1b]0;t\x1b\\\x9b31m\x1bc\x07\x08b"


def printed(line: LogLine) -> str:
    out = Console(file=io.StringIO(), force_terminal=True, color_system="standard", width=200)
    print_line(out, line, {})
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


def line(message: str, service: str) -> LogLine:
    return LogLine(0, message, service, False, False, 1, {})


@pytest.mark.parametrize("where", ["message", "service"])
def test_log_lines_do_nothing_to_the_terminal(where: str) -> None:
    text = printed(line(HOSTILE, "main") if where == "message" else line("x", HOSTILE))
    for sequence in ("\x1b[2J", "\x1b]", "\x9b", "\x1bc", "\x07", "\x08"):
        assert sequence not in text, ascii(text)
    assert "a31mb" in text


def test_a_programs_own_colours_stay() -> None:
    assert "\x1b[31mred\x1b[0m" in printed(line("\x1b[31mred\x1b[0m", "main"))


def test_tables_are_text() -> None:
    out = Console(file=io.StringIO(), force_terminal=True, width=200)
    out.print(table_of(["name", "state"], [[HOSTILE, coloured(HOSTILE, {})]]))
    assert isinstance(out.file, io.StringIO)
    text = out.file.getvalue()
    assert "\x1b[2J" not in text
    assert "\x1b]" not in text
    assert "\x07" not in text
