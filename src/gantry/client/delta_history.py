"""What the updates of a fleet weighed: its releases, and the delta server's figures of them.

An update is a release after the one before it. For each of its services a device asks for the
delta from the images of the release before: the service's own first, then by service name.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

import httpx2

from gantry.client import session
from gantry.client.api_client import ApiClient
from gantry.client.errors import ClientError, NotAuthorisedError, NotFoundError, UnreachableError
from gantry.client.records import Application, Release
from gantry.client.transport import explained
from gantry.client.trust import trust
from gantry.contracts.deltas import (
    FIGURES_PATH,
    MAX_SOURCES,
    DeltaContractError,
    DeltaPair,
    DeltaState,
    Figures,
    ImageReference,
    PairFigures,
    figures_question,
)

_TIMEOUT = httpx2.Timeout(60.0, connect=15.0)
# The names of all their images go into one URL.
_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Update:
    """From one release to the next. Sizes in bytes, of all services together.

    `whole` is what a pull fetches, `delta` what a device that takes deltas fetches (the pull, where
    that is the smaller), each None as long as the delta server does not know it of all services.
    `downloads` is how often deltas of it were fetched. `state` is the server's word for the least
    known of its pairs; `unchanged` where no image is another.
    """

    release: str
    at: str
    whole: int | None
    delta: int | None
    downloads: int
    state: str

    @property
    def saved(self) -> int | None:
        """Bytes that a device does not fetch."""
        if self.whole is None or self.delta is None:
            return None
        return self.whole - self.delta


def updates(client: ApiClient, fleet: str, application: Application, number: int) -> list[Update]:
    """The newest updates of an application, the oldest of them first.

    Raises:
        ClientError: one of its kinds; NotFoundError where the fleet has no delta server.
    """
    url = client.fleet_config().deltas
    if not url:
        raise NotFoundError(f"{fleet} has no delta server: `gantry up` with this version makes one")
    built = [each for each in client.releases(application) if each.status == "success"]
    releases = list(reversed(built[: number + 1]))
    images = [_images(client.fleet_app(application, each.commit)) for each in releases]
    pairs = [pairs_between(old, new) for old, new in pairwise(images)]
    asked = list(dict.fromkeys(pair for each in pairs for pair in each))
    known = _figures(client, fleet, url, asked) if asked else {}
    return [
        update_of(release, [known[pair] for pair in each])
        for release, each in zip(releases[1:], pairs, strict=True)
    ]


def _images(app: Mapping[str, Any]) -> dict[str, str]:
    """The images of a release by service, in the order of the services' names."""
    (release,) = app["releases"].values()
    return {name: str(each["image"]) for name, each in sorted(release["services"].items())}


def pairs_between(old: Mapping[str, str], new: Mapping[str, str]) -> list[DeltaPair]:
    """What a device asks for: a pair for each image that it does not have yet."""
    had = list(dict.fromkeys(old.values()))
    found = []
    for service, image in new.items():
        if image in had or not had:
            continue
        own = [old[service]] if service in old else []
        src = dict.fromkeys([*own, *had])
        found.append(DeltaPair(tuple(src)[:MAX_SOURCES], image))
    return list(dict.fromkeys(found))


def update_of(release: Release, figures: Sequence[PairFigures]) -> Update:
    """The figures of a release's pairs, added up."""
    whole = _sum([each.whole for each in figures])
    delta = _sum([_fetched(each) for each in figures])
    order = (DeltaState.UNKNOWN, DeltaState.FAILED, DeltaState.WORKING, DeltaState.WHOLE)
    states = {each.state for each in figures}
    state = next((each for each in order if each in states), DeltaState.READY)
    downloads = sum(each.downloads for each in figures)
    named = state.value if figures else "unchanged"
    return Update(release.commit, release.created_at, whole, delta, downloads, named)


def _fetched(figures: PairFigures) -> int | None:
    if figures.state is DeltaState.READY:
        return figures.size
    return figures.whole if figures.state is DeltaState.WHOLE else None


def _sum(sizes: Sequence[int | None]) -> int | None:
    known = [each for each in sizes if each is not None]
    return sum(known) if len(known) == len(sizes) else None


def _figures(
    client: ApiClient, fleet: str, url: str, pairs: Sequence[DeltaPair]
) -> dict[DeltaPair, PairFigures]:
    certificate = session.ca_path(fleet)
    context = trust(certificate if certificate.exists() else None)
    found: dict[DeltaPair, PairFigures] = {}
    with httpx2.Client(verify=context, timeout=_TIMEOUT) as http:
        for begin in range(0, len(pairs), _AT_ONCE):
            some = pairs[begin : begin + _AT_ONCE]
            token = _token(http, client, url, some)
            where = f"{url.rstrip('/')}{FIGURES_PATH}"
            with explained(where):
                answer = http.post(
                    where,
                    json=figures_question(some),
                    headers={"Authorization": f"Bearer {token}"},
                )
            found |= zip(some, _read(answer, len(some)).pairs, strict=True)
    return found


def _token(http: httpx2.Client, client: ApiClient, url: str, pairs: Sequence[DeltaPair]) -> str:
    """A token of the api for the delta server, which may pull all of these images."""
    try:
        images = [ImageReference.parse(each) for pair in pairs for each in (*pair.src, pair.dest)]
    except DeltaContractError as error:
        raise ClientError(f"a release has an image that is not in the registry: {error}") from error
    names = sorted({each.name for each in images})
    parameters: list[tuple[str, str | int | float | bool | None]]
    parameters = [("service", urlsplit(url).netloc)]
    parameters += [("scope", f"repository:{name}:pull") for name in names]
    login = f"{client.whoami().username}:{client.token or ''}"
    basic = base64.b64encode(login.encode()).decode()
    where = f"{client.url}/auth/v1/token"
    with explained(where):
        answer = http.get(where, params=parameters, headers={"Authorization": f"Basic {basic}"})
    if answer.status_code in (401, 403):
        raise NotAuthorisedError(f"{client.url} gives no token for deltas: log in again")
    if not answer.is_success:
        raise UnreachableError(f"{where}: {answer.status_code}: try again")
    return str(answer.json()["token"])


def _read(answer: httpx2.Response, number: int) -> Figures:
    host = answer.request.url.host
    if answer.status_code in (401, 403):
        raise NotAuthorisedError(f"{host} does not show these figures to this user")
    if not answer.is_success:
        raise UnreachableError(f"{host} is not able to answer: HTTP {answer.status_code}")
    try:
        figures = Figures.from_json(answer.json())
    except ValueError as error:
        raise ClientError(f"{host} answers what is not understood here: {error}") from error
    if len(figures.pairs) != number:
        raise ClientError(
            f"{host} knows {len(figures.pairs)} of {number} pairs: of what version is it?"
        )
    return figures
