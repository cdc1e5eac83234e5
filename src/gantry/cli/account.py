"""`gantry login`, `logout`, `whoami` and `gantry key`: who one is."""

import sys
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from gantry.cli.context import FleetOption, JsonOption, chosen_fleet, client_of, stack_url
from gantry.cli.output import moment, print_json, print_table, say
from gantry.cli.secrets import CodeFile, PasswordFile, code_of, password_of
from gantry.client import session
from gantry.client.errors import ClientError, NotFoundError, UsageError
from gantry.deployment.paths import fleet_home

DEFAULT_KEYS = ("id_ed25519.pub", "id_ecdsa.pub", "id_rsa.pub")

key_app = typer.Typer(help="The SSH keys that may push.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Mount the commands."""
    app.command()(login)
    app.command()(logout)
    app.command()(whoami)
    app.add_typer(key_app, name="key")


def login(
    ctx: typer.Context,
    username: Annotated[
        str | None, typer.Argument(help="Your account; asked for when left out.")
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(help="The api; default: the last one, else as the fleet's stack has it."),
    ] = None,
    password_file: PasswordFile = None,
    code_file: CodeFile = None,
    ca: Annotated[
        Path | None,
        typer.Option("--ca", metavar="FILE", help="Trust this certificate authority, and keep it."),
    ] = None,
    proxy: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="The HTTP proxy of this site, kept for later; default: HTTPS_PROXY's, each time. "
            '"" forgets it.',
        ),
    ] = None,
    fleet: FleetOption = None,
) -> None:
    """Log in to a fleet. Password and code are asked for, never given as arguments."""
    from gantry.client.account import lacks_second_factor
    from gantry.client.api_client import ApiClient

    name = chosen_fleet(ctx, fleet)
    address = url or _known_url(name)
    account = username or _ask_username()
    password = password_of(password_file, account, name)
    certificate = ca or session.ca_path(name)
    authority = certificate if ca or certificate.exists() else None
    through = _proxy(name, proxy)
    with ApiClient(address, ca_file=authority, proxy=through) as client:
        token = client.login(account, password)
        if lacks_second_factor(token):
            token = client.account.verify(code_of(code_file))
        user = client.whoami()
        tunnel = client.tunnel_place()
    if ca:
        session.write_private(fleet_home(name) / "ca.crt", ca.read_text())
    kept = session.Session(address, user.username, token, tunnel=tunnel, proxy=through)
    session.save(name, kept)
    say(f"logged in to {name} ({address}) as {user.username}")


def _known_url(fleet: str) -> str:
    if fleet in session.logged_in():
        return session.load(fleet).url
    found = stack_url(fleet)
    if found is None:
        raise UsageError(
            f"where is {fleet}? Say it once: `gantry login --fleet {fleet} --url https://api.…:8443`"
        )
    return found


def _proxy(fleet: str, given: str | None) -> str | None:
    """The site's proxy as it was given, else the one that is kept."""
    if given is None:
        return session.load(fleet).proxy if fleet in session.logged_in() else None
    parts = urlsplit(given)
    if given and (parts.scheme != "http" or not parts.hostname):
        raise UsageError(f"--proxy {given!r}: write http://proxy.example:3128")
    if parts.password:
        raise UsageError("--proxy with a password: command lines are seen; set HTTPS_PROXY instead")
    return given or None


def _ask_username() -> str:
    if not sys.stdin.isatty():
        raise UsageError("no user name: `gantry login NAME --password-file FILE`")
    return str(typer.prompt("user name", err=True))


def logout(ctx: typer.Context, fleet: FleetOption = None) -> None:
    """Forget the session. What was deployed or pushed stays."""
    name = chosen_fleet(ctx, fleet)
    known = session.forget(name)
    say(f"logged out of {name}" if known else f"not logged in to {name}")


def whoami(ctx: typer.Context, as_json: JsonOption = False, fleet: FleetOption = None) -> None:
    """Who is logged in, and where."""
    name = chosen_fleet(ctx, fleet)
    with client_of(ctx, fleet) as client:
        user = client.whoami()
    if as_json:
        print_json({"fleet": name, "url": client.url, "id": user.id, "username": user.username})
    else:
        print(f"{user.username} at {name} ({client.url})")


@key_app.command("add")
def key_add(
    ctx: typer.Context,
    file: Annotated[
        Path | None,
        typer.Argument(help="A .pub file, - for stdin; default: yours in ~/.ssh."),
    ] = None,
    title: Annotated[str | None, typer.Option(help="What to call it.")] = None,
    fleet: FleetOption = None,
) -> None:
    """Let an SSH key push."""
    path = file or _own_key()
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ClientError(f"{path} cannot be read: {error}") from error
    if "PRIVATE KEY" in text:
        raise UsageError(f"{path} is a private key: add its .pub file, and keep this one to you")
    with client_of(ctx, fleet) as client:
        added = client.ensure_key(text, title)
    say(f"{path}: added" if added else f"{path}: your account has this key already")


def _own_key() -> Path:
    home = Path.home() / ".ssh"
    for name in DEFAULT_KEYS:
        if (home / name).is_file():
            return home / name
    raise NotFoundError(f"no key in {home}: make one with `ssh-keygen -t ed25519`")


@key_app.command("list")
def key_list(ctx: typer.Context, as_json: JsonOption = False, fleet: FleetOption = None) -> None:
    """Your SSH keys."""
    with client_of(ctx, fleet) as client:
        keys = client.keys()
    if as_json:
        print_json(keys)
        return
    rows = [(str(k.id), k.title, k.fingerprint, moment(k.created_at)) for k in keys]
    print_table(("id", "title", "fingerprint", "added"), rows, "no keys: `gantry key add`")


@key_app.command("rm")
def key_rm(
    ctx: typer.Context,
    key: Annotated[int, typer.Argument(help="Its id; `gantry key list` has them.")],
    fleet: FleetOption = None,
) -> None:
    """Let an SSH key push no more."""
    with client_of(ctx, fleet) as client:
        client.remove_key(key)
    say(f"key {key} removed")
