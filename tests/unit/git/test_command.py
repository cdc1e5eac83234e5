"""What a client may ask for."""

import pytest

from gantry.git.command import Action, GitCommand, RefusedError, parse_command


@pytest.mark.parametrize(
    "text",
    [
        "git-receive-pack 'ada/devbots.git'",
        "git-receive-pack '/ada/devbots.git'",
        "git-receive-pack 'ada/devbots'",
        "git receive-pack 'ada/devbots'",
        "git-receive-pack ada/devbots.git",
    ],
)
def test_the_forms_of_a_push(text: str) -> None:
    assert parse_command(text) == GitCommand(Action.PUSH, "ada", "devbots")


def test_a_pull() -> None:
    command = parse_command("git-upload-pack 'ada/my-bots_2.x.git'")
    assert command == GitCommand(Action.PULL, "ada", "my-bots_2.x")
    assert command.slug == "ada/my-bots_2.x"


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "git",
        "git-shell",
        "git-receive-pack",
        "git-receive-pack ",
        "git-receive-pack ''",
        "git-receive-pack 'ada/devbots.git' --upload-pack=x",
        "git-receive-pack 'ada/devbots.git'; id",
        "git-receive-pack 'ada/devbots.git'\nid",
        "git-receive-pack 'ada/devbots.git'\n",
        " git-receive-pack 'ada/devbots.git'",
        "git-receive-pack  'ada/devbots.git'",
        'git-receive-pack "ada/devbots.git"',
        "git-upload-archive 'ada/devbots.git'",
        "git-receive-pack 'ada/'\\''devbots.git'",
        "/usr/bin/git-receive-pack 'ada/devbots.git'",
        "sh -c 'git-receive-pack ada/devbots.git'",
    ],
)
def test_anything_else_is_not_offered(text: str) -> None:
    with pytest.raises(RefusedError):
        parse_command(text)


@pytest.mark.parametrize(
    "path",
    [
        "devbots.git",
        "/",
        "//devbots",
        "ada//devbots",
        "ada/devbots/x",
        "../ada/devbots",
        "ada/..",
        "ada/.git",
        "./devbots",
        "-ada/devbots",
        "ada/--help",
        "~ada/devbots",
        "~/devbots",
        "ada/dév",
        "ada/dev\u202ebots",
        "ada/dev bots",
        "ada/dev..bots",
        "ada/" + "x" * 101,
        "C:\\devbots",
    ],
)
def test_odd_paths_are_refused(path: str) -> None:
    with pytest.raises(RefusedError):
        parse_command(f"git-receive-pack '{path}'")


def test_a_refusal_is_safe_to_print() -> None:
    with pytest.raises(RefusedError) as caught:
        parse_command("\x1b[31mred\r\n" + "x" * 500)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 250


def test_a_long_command_is_refused_unread() -> None:
    with pytest.raises(RefusedError, match="too long"):
        parse_command("git-receive-pack 'ada/" + "x" * 2000 + "'")


def test_lfs_has_a_sentence_of_its_own() -> None:
    with pytest.raises(RefusedError, match="Git LFS is not offered"):
        parse_command("git-lfs-authenticate ada/devbots.git upload")
