"""What the pusher reads."""

import io

from gantry.contracts.build import BuildMessage, BuildResult, Phase, ReleaseStatus
from gantry.git.screen import (
    Screen,
    clean,
    format_message,
    format_seconds,
    format_size,
    format_summary,
)


def test_a_message_has_its_phase_and_service() -> None:
    assert list(format_message(BuildMessage("hello", Phase.BUILD, "web"))) == [
        "build   web | hello"
    ]
    assert list(format_message(BuildMessage("hello\nyou", Phase.PUSH, is_error=True))) == [
        "push    ! hello",
        "push    ! you",
    ]


def test_a_terminal_is_not_steered() -> None:
    assert clean("\x1b[1;31mred\x1b[0m") == ["red"]
    assert clean("a\x1b]0;title\x07b\x00\x08\tc") == ["ab\tc"]


def test_of_a_redrawn_line_the_last_state_is_shown() -> None:
    assert clean(" 10%\r 50%\r100%\ndone\r\n") == ["100%", "done"]


def test_a_line_is_bounded() -> None:
    assert len(clean("x" * 100_000)[0]) < 4100


def test_each_line_is_written_at_once() -> None:
    stream = io.StringIO()
    screen = Screen(stream)
    screen.show(BuildMessage("hello", Phase.RESOLVE))
    screen.error("no\nand no")
    assert stream.getvalue() == "resolve | hello\nerror: no\nand no\n"


def test_the_summary() -> None:
    result = BuildResult(
        ReleaseStatus.SUCCESS,
        "1" * 40,
        release_id=7,
        size=1_234_567,
        seconds={"push": 2.0, "build": 75.4, "odd": 1.0},
        services=["web", "worker"],
    )
    assert list(format_summary(result, "ada/bots", "main", 80.04)) == [
        "",
        "success: release 7 of ada/bots: its devices download it now",
        f"  commit    {'1' * 40} (main)",
        "  release   7",
        "  services  web, worker",
        "  size      1.2 MB",
        "  build     1 min 15 s",
        "  push      2.0 s",
        "  odd       1.0 s",
        "  total     1 min 20 s",
        "",
    ]


def test_sizes_and_times() -> None:
    assert [format_size(size) for size in (0, 999, 1000, 5_400_000, 2_000_000_000)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "5.4 MB",
        "2.0 GB",
    ]
    assert [format_seconds(seconds) for seconds in (0.04, 59.9, 60, 3661)] == [
        "0.0 s",
        "59.9 s",
        "1 min 0 s",
        "61 min 1 s",
    ]
