"""`gantry account`: one's password and second factor; `gantry users`: others'."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qs, urlsplit

import typer

from gantry.cli.context import FleetOption, JsonOption, chosen_fleet, client_of
from gantry.cli.output import print_json, print_table, say
from gantry.cli.secrets import CodeFile, PasswordFile, code_of, new_password_of, password_of
from gantry.client import session
from gantry.client.errors import ClientError

account_app = typer.Typer(help="Your password and second factor.", no_args_is_help=True)
factor_app = typer.Typer(help="A code besides the password.", no_args_is_help=True)
users_app = typer.Typer(help="Accounts, for the administrator.", no_args_is_help=True)
account_app.add_typer(factor_app, name="second-factor")


def register(app: typer.Typer) -> None:
    """Mount the commands."""
    app.add_typer(account_app, name="account")
    app.add_typer(users_app, name="users")


def _keep(fleet: str, token: str) -> None:
    session.save(fleet, replace(session.load(fleet), token=token))


def _asked_password(file: Path | None, fleet: str) -> str:
    return password_of(file, session.load(fleet).username, fleet)


def _print_codes(codes: Iterable[str]) -> None:
    say("recovery codes, each for one login without the authenticator; keep them in a safe place:")
    print("\n".join(codes))


@account_app.command("password")
def change_password(
    ctx: typer.Context,
    password_file: PasswordFile = None,
    new_password_file: Annotated[
        Path | None, typer.Option(help="Read the new password there; - is the standard input.")
    ] = None,
    fleet: FleetOption = None,
) -> None:
    """Change your password. All other sessions end; API keys and SSH keys stay."""
    name = chosen_fleet(ctx, fleet)
    old = _asked_password(password_file, name)
    new = new_password_of(new_password_file)
    with client_of(ctx, fleet) as client:
        _keep(name, client.account.change_password(old, new))
    say(f"password changed at {name}; other sessions have ended")


@factor_app.command("enable")
def enable(
    ctx: typer.Context,
    password_file: PasswordFile = None,
    code_file: CodeFile = None,
    fleet: FleetOption = None,
) -> None:
    """Ask for a code of your authenticator at each login. Prints recovery codes, this once."""
    name = chosen_fleet(ctx, fleet)
    password = _asked_password(password_file, name)
    with client_of(ctx, fleet) as client:
        url = client.account.set_up_second_factor()
        secret = parse_qs(urlsplit(url).query)["secret"][0]
        say(f"give your authenticator this key, or this address:\n  {secret}\n  {url}")
        _keep(name, client.account.verify(code_of(code_file)))
        say("the second factor is on; other sessions have ended")
        try:
            codes = client.account.recovery_codes(password)
        except ClientError as error:
            again = "`gantry account second-factor recovery-codes` makes them"
            raise type(error)(f"no recovery codes yet: {error}; {again}") from error
    _print_codes(codes)


@factor_app.command("disable")
def disable(
    ctx: typer.Context, password_file: PasswordFile = None, fleet: FleetOption = None
) -> None:
    """Ask for the password alone from now on."""
    name = chosen_fleet(ctx, fleet)
    password = _asked_password(password_file, name)
    with client_of(ctx, fleet) as client:
        _keep(name, client.account.disable_second_factor(password))
    say("the second factor is off; other sessions have ended")


@factor_app.command("recovery-codes")
def recovery_codes(
    ctx: typer.Context, password_file: PasswordFile = None, fleet: FleetOption = None
) -> None:
    """New recovery codes. They are shown this once; the former ones hold no more."""
    password = _asked_password(password_file, chosen_fleet(ctx, fleet))
    with client_of(ctx, fleet) as client:
        _print_codes(client.account.recovery_codes(password))


@users_app.command("list")
def list_users(ctx: typer.Context, as_json: JsonOption = False, fleet: FleetOption = None) -> None:
    """The accounts that you see."""
    with client_of(ctx, fleet) as client:
        users = client.account.users()
    if as_json:
        print_json(users)
        return
    rows = [(str(each.id), each.username, each.email or "") for each in users]
    print_table(("id", "name", "email"), rows, "no accounts")


@users_app.command("reset-second-factor")
def reset_second_factor(
    ctx: typer.Context,
    username: Annotated[str, typer.Argument(help="Who has lost it.")],
    fleet: FleetOption = None,
) -> None:
    """Remove a second factor that somebody has lost; they log in with the password alone."""
    with client_of(ctx, fleet) as client:
        client.account.reset_second_factor(username)
    say(f"{username} logs in with the password alone; their sessions have ended")
