"""`gantry device restart` and so on: what a device is to do, now or when it comes."""

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gantry.cli.context import DeviceArgument, FleetOption, client_of
from gantry.cli.output import moment, plain, say, shown
from gantry.cli.times import end_of
from gantry.client.errors import ClientError, ExitCode, UsageError

if TYPE_CHECKING:
    from gantry.client.actions import Action, Wish
    from gantry.client.api_client import ApiClient
    from gantry.client.records import Device

PANEL = "A device, from afar"
WAIT_SECONDS = 0.5
# What the supervisor calls them. {app} is the application's id.
_PATHS = {
    "restart": "/v1/restart",
    "restart-service": "/v2/applications/{app}/restart-service",
    "start-service": "/v2/applications/{app}/start-service",
    "stop-service": "/v2/applications/{app}/stop-service",
    "purge": "/v1/purge",
    "reboot": "/v1/reboot",
    "shutdown": "/v1/shutdown",
    "update": "/v1/update",
    "identify": "/v1/blink",
}

ForceOption = Annotated[bool, typer.Option("--force", help="Whatever update locks hold.")]
ExpiresOption = Annotated[
    str | None,
    typer.Option(
        "--expires", metavar="TIME", help="Keep it so long for a device that is offline: 30m, 7d."
    ),
]
NowOption = Annotated[bool, typer.Option("--now", help="At once or not at all: it is not kept.")]
WaitOption = Annotated[
    bool, typer.Option("--wait", "-w", help="Wait until it is done, and say how it ended.")
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
ServiceArgument = Annotated[str, typer.Argument(metavar="SERVICE", help="The service's name.")]


class How:
    """What all of these commands take: `expires` as typed."""

    def __init__(self, expires: str | None, now: bool, wait: bool) -> None:
        if now and (expires or wait):
            raise UsageError("--now is done or refused when it ends: without --expires and --wait")
        self.now, self.wait = now, wait
        until = end_of(expires)
        self.expires_at = until.isoformat() if until else None


def register(app: typer.Typer) -> None:
    """Mount the commands."""
    for command in (restart, update, reboot, shutdown, purge, identify, journal):
        app.command(rich_help_panel=PANEL)(command)
    app.command("start-service", rich_help_panel=PANEL)(start_service)
    app.command("stop-service", rich_help_panel=PANEL)(stop_service)
    app.command("public-url", rich_help_panel=PANEL)(public_url)


def restart(
    ctx: typer.Context,
    device: DeviceArgument,
    service: Annotated[
        str | None, typer.Option("--service", "-s", help="This one alone; else all.")
    ] = None,
    force: ForceOption = False,
    expires: ExpiresOption = None,
    now: NowOption = False,
    wait: WaitOption = False,
    fleet: FleetOption = None,
) -> None:
    """Restart what a device runs, or one service of it."""
    action = "restart-service" if service else "restart"
    act(ctx, fleet, device, _wish(action, service, force), How(expires, now, wait))


def start_service(
    ctx: typer.Context,
    device: DeviceArgument,
    service: ServiceArgument,
    expires: ExpiresOption = None,
    now: NowOption = False,
    wait: WaitOption = False,
    fleet: FleetOption = None,
) -> None:
    """Start a service that was stopped."""
    act(ctx, fleet, device, _wish("start-service", service), How(expires, now, wait))


def stop_service(
    ctx: typer.Context,
    device: DeviceArgument,
    service: ServiceArgument,
    force: ForceOption = False,
    expires: ExpiresOption = None,
    now: NowOption = False,
    wait: WaitOption = False,
    fleet: FleetOption = None,
) -> None:
    """Stop a service, until it is started, another release comes or the device starts anew."""
    act(ctx, fleet, device, _wish("stop-service", service, force), How(expires, now, wait))


def update(
    ctx: typer.Context,
    device: DeviceArgument,
    force: ForceOption = False,
    expires: ExpiresOption = None,
    now: NowOption = False,
    wait: WaitOption = False,
    fleet: FleetOption = None,
) -> None:
    """Have a device ask for its target now."""
    act(ctx, fleet, device, _wish("update", None, force), How(expires, now, wait))


def reboot(
    ctx: typer.Context,
    device: DeviceArgument,
    force: ForceOption = False,
    expires: ExpiresOption = None,
    now: NowOption = False,
    wait: WaitOption = False,
    fleet: FleetOption = None,
) -> None:
    """Restart a device itself."""
    act(ctx, fleet, device, _wish("reboot", None, force), How(expires, now, wait))


def shutdown(
    ctx: typer.Context,
    device: DeviceArgument,
    force: ForceOption = False,
    expires: ExpiresOption = None,
    now: NowOption = False,
    wait: WaitOption = False,
    yes: YesOption = False,
    fleet: FleetOption = None,
) -> None:
    """Switch a device off. Somebody must be there to switch it on again."""
    wish = _wish("shutdown", None, force)
    question = "Switch {} off? Somebody must go there to switch it on again."
    act(ctx, fleet, device, wish, How(expires, now, wait), None if yes else question)


def purge(
    ctx: typer.Context,
    device: DeviceArgument,
    force: ForceOption = False,
    expires: ExpiresOption = None,
    now: NowOption = False,
    wait: WaitOption = False,
    yes: YesOption = False,
    fleet: FleetOption = None,
) -> None:
    """Empty the volumes of what a device runs, and start it anew."""
    wish = _wish("purge", None, force)
    question = "Empty the volumes of {}? What its services keep there is gone."
    act(ctx, fleet, device, wish, How(expires, now, wait), None if yes else question)


def identify(
    ctx: typer.Context,
    device: DeviceArgument,
    expires: ExpiresOption = None,
    now: NowOption = False,
    wait: WaitOption = False,
    fleet: FleetOption = None,
) -> None:
    """Have a device's LED blink for 15 s."""
    act(ctx, fleet, device, _wish("identify"), How(expires, now, wait))


def journal(
    ctx: typer.Context,
    device: DeviceArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes.")] = False,
    number: Annotated[int, typer.Option("-n", "--lines", min=1, help="The last lines.")] = 100,
    unit: Annotated[
        str | None, typer.Option("--unit", "-u", help="Of this unit of systemd alone.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help='From then on, as journalctl has it: "-2h", "2026-05-01".')
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    fleet: FleetOption = None,
) -> None:
    """A device host's own journal, while the device is online. Ctrl-C ends following."""
    options: dict[str, Any] = {"follow": follow, "count": number}
    options |= {"unit": unit} if unit else {}
    options |= {"since": since} if since else {}
    options |= {"format": "json" if as_json else "short"}
    try:
        with client_of(ctx, fleet) as client:
            found = client.device(device)
            with client.actions.journal(found, options) as lines:
                for line in lines:
                    print(line if as_json else shown(line), flush=True)
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.OK if follow else ExitCode.INTERRUPTED) from None


def public_url(
    ctx: typer.Context,
    device: DeviceArgument,
    on: Annotated[
        bool | None, typer.Option("--on/--off", help="Switch it; else it is only shown.")
    ] = None,
    fleet: FleetOption = None,
) -> None:
    """A device's public URL, which leads anybody to its port 80. Without one: code 1."""
    with client_of(ctx, fleet) as client:
        found = client.device(device)
        if on is not None and on != found.is_web_accessible:
            client.set_web_accessible(found, on)
        config = client.fleet_config()
    if not (found.is_web_accessible if on is None else on):
        if on is None:
            raise ClientError(f"{found.name} has no public URL: --on gives it one")
        say(f"{found.name} has no public URL any more")
        return
    print(public_url_of(found.uuid, config.devices, config.api_url))


def public_url_of(uuid: str, devices: str, api_url: str) -> str:
    """`https://<uuid>.devices.<host>`, at the port of all names of the fleet."""
    from urllib.parse import urlsplit

    port = urlsplit(api_url).port
    return f"https://{uuid}.{devices}" + (f":{port}" if port not in (None, 443) else "")


def act(
    ctx: typer.Context,
    fleet: str | None,
    reference: str,
    wish: "Wish",
    how: How,
    question: str | None = None,
) -> None:
    """Have a device do something, and say what becomes of it. `question` is asked first; {} in it
    is the device.

    Raises:
        ClientError: refused; or, where it was waited for, not done.
    """
    with client_of(ctx, fleet) as client:
        device = client.device(reference)
        if question is not None:
            if not sys.stdin.isatty():
                raise UsageError("no terminal to ask: add --yes")
            typer.confirm(question.format(device.name), abort=True)
        if how.now:
            _now(client, device, wish)
            return
        made = client.actions.create(device, wish, how.expires_at)
        print(made.id, flush=True)
        say(kept_text(device, made))
        if how.wait:
            _wait(client, made)


def kept_text(device: "Device", action: "Action") -> str:
    """What becomes of an action that was asked for."""
    what = f"{what_of(action)} on {device.name}"
    if device.is_vpn_connected:
        return f"{what}: asked for (action {action.id})"
    return (
        f"{what}: {device.name} is offline; kept until {moment(action.expires_at)} "
        f"(action {action.id}; `gantry actions cancel {action.id}` takes it back)"
    )


def what_of(action: "Action") -> str:
    """`restart-service main`."""
    return f"{action.action} {action.service}" if action.service else action.action


def _wish(action: str, service: str | None = None, force: bool = False) -> "Wish":
    from gantry.client.actions import Wish

    return Wish(action, service, force)


def _now(client: "ApiClient", device: "Device", wish: "Wish") -> None:
    application = client.application(device.application).id
    data: dict[str, Any] = {"force": True} if wish.force else {}
    if wish.action in ("restart", "purge"):
        data["appId"] = application
    if wish.service:
        data["serviceName"] = wish.service
    client.actions.ask_now(device, _PATHS[wish.action].format(app=application), data)
    say(f"{wish.action}{f' {wish.service}' if wish.service else ''} on {device.name}: done")


def _wait(client: "ApiClient", action: "Action") -> None:
    """Until it is over.

    Raises:
        ClientError: it was not done.
    """
    from gantry.client.actions import ActionStatus

    told = ""
    try:
        while not ActionStatus(action.status).is_over:
            if action.status != told:
                told = action.status
                say(f"action {action.id}: {told}")
            time.sleep(WAIT_SECONDS)
            action = client.actions.get(action.id)
    except KeyboardInterrupt:
        say(f"action {action.id} stays: `gantry actions` shows it, `gantry actions cancel` ends it")
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    result = f": {plain(action.result)}" if action.result else ""
    if action.status != ActionStatus.DONE:
        raise ClientError(f"{what_of(action)} on {action.device}: {action.status}{result}")
    say(f"{what_of(action)} on {action.device}: done{result}")
