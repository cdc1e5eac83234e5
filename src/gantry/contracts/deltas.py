"""What the delta server is asked, and what it answers: docs/deltas.md has the requests.

A delta is known by its pair: the images that a device has, and the one that it is to have. An
image is `registry.<host>[:port]/NAME@sha256:…`, as targets have it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import urlencode

SUFFIX = ".gantry-delta"
MEDIA_TYPE = "application/vnd.gantry.delta"
# `GET /gantry/v1/delta?src=…&dest=…`: where a pair stands, and it is made if it is not there.
DELTA_PATH = "/gantry/v1/delta"
# `GET /gantry/v1/deltas/{digest}?src=…&dest=…`: the file.
FILES_PATH = "/gantry/v1/deltas"
# `POST`: figures of pairs.
FIGURES_PATH = "/gantry/v1/deltas/figures"
MAX_SOURCES = 8
# Longer than this no question waits for its answer: proxies end silent connections at 60 s.
MAX_WAIT_SECONDS = 50
MAX_FIGURES = 1000
MAX_WANTED = 500

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
# Names as the registry has them, with the host (and port) in front.
_REFERENCE = re.compile(
    r"(?P<registry>[a-z0-9.-]+(?::[0-9]{1,5})?)/(?P<name>[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)"
    r"@(?P<digest>sha256:[0-9a-f]{64})"
)
_REFERENCE_LENGTH = 512


class DeltaContractError(ValueError):
    """A question or an answer is not as agreed; the message says what is wrong with it."""


class DeltaState(StrEnum):
    """Where a pair stands.

    `ready`: the delta can be fetched. `working`: it waits or is being made; ask again. `whole`:
    pull the image, `reason` says why. `failed`: it could not be made just now and is tried again
    by itself; whoever asks gets 503 meanwhile. `unknown`: nobody has asked for it yet (figures).
    """

    READY = "ready"
    WORKING = "working"
    WHOLE = "whole"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class ImageReference:
    """An image in the fleet's registry. `registry` is host and port, `name` the repository."""

    registry: str
    name: str
    digest: str

    @classmethod
    def parse(cls, text: str) -> "ImageReference":
        """The reference that `text` is.

        Raises:
            DeltaContractError: it is none, or none by digest.
        """
        match = _REFERENCE.fullmatch(text) if len(text) <= _REFERENCE_LENGTH else None
        if match is None:
            raise DeltaContractError(
                f"{text[:120]!r} is no image by its digest: "
                "give registry.<host>/<name>@sha256:<64 hexadecimal digits>"
            )
        return cls(match["registry"], match["name"], match["digest"])

    def __str__(self) -> str:
        return f"{self.registry}/{self.name}@{self.digest}"


@dataclass(frozen=True, slots=True)
class DeltaPair:
    """From these images (their order means nothing) to this one."""

    src: tuple[str, ...]
    dest: str

    def query(self, **more: int) -> str:
        """The pair as a URL's query, and what else is in it (`wait`)."""
        fields = [("src", each) for each in self.src]
        return urlencode([*fields, ("dest", self.dest), *more.items()])

    def to_json(self) -> dict[str, Any]:
        return {"src": list(self.src), "dest": self.dest}

    @classmethod
    def from_json(cls, document: object) -> "DeltaPair":
        """Raises DeltaContractError."""
        told = _object(document, "a pair")
        src = tuple(_text(each, "src") for each in _list(told.get("src"), "src", MAX_SOURCES))
        if not src:
            raise DeltaContractError("a pair without src: name the images that are there")
        return cls(src, _text(told.get("dest"), "dest"))


@dataclass(frozen=True, slots=True)
class DeltaAnswer:
    """`GET /gantry/v1/delta`: 200 for `ready` and `whole`, 202 for `working`.

    `size` is the delta's in bytes, `whole` what a pull would fetch: the compressed layers that no
    source has. `digest` (of the file) and `url` (a path, with the pair in its query) come with
    `ready`; `reason` with `whole`; `percent` and `retry_after` (seconds) with `working`. There
    `seconds` is when it should be ready, and `size` what it should have, where the server can tell.
    """

    state: DeltaState
    digest: str | None = None
    size: int | None = None
    whole: int | None = None
    url: str | None = None
    reason: str | None = None
    percent: int | None = None
    retry_after: int | None = None
    seconds: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Fields that say nothing are left out, but for `percent` and `size` where they are due."""
        due = {DeltaState.WORKING: {"percent"}, DeltaState.WHOLE: {"size"}}.get(self.state, set())
        return {k: v for k, v in asdict(self).items() if v is not None or k in due}

    @classmethod
    def from_json(cls, document: object) -> "DeltaAnswer":
        """Raises DeltaContractError: no answer, or what its state needs is missing."""
        told = _object(document, "an answer")
        state = _state(told.get("state"))
        answer = cls(
            state=state,
            digest=_digest(told.get("digest")),
            size=_number(told.get("size"), "size"),
            whole=_number(told.get("whole"), "whole"),
            url=_optional_text(told.get("url"), "url"),
            reason=_optional_text(told.get("reason"), "reason"),
            percent=_number(told.get("percent"), "percent"),
            retry_after=_number(told.get("retry_after"), "retry_after"),
            seconds=_number(told.get("seconds"), "seconds"),
        )
        if state is DeltaState.READY and None in (answer.digest, answer.size, answer.url):
            raise DeltaContractError("an answer that is ready, without digest, size or url")
        if answer.url is not None and not answer.url.startswith("/"):
            raise DeltaContractError(
                f"url is {answer.url[:80]!r}: a path on the server is expected"
            )
        return answer


@dataclass(frozen=True, slots=True)
class PairFigures:
    """What is known of a pair. `generate_seconds`: how long it took to make, without the wait."""

    src: tuple[str, ...]
    dest: str
    state: DeltaState
    size: int | None = None
    whole: int | None = None
    downloads: int = 0
    generate_seconds: float | None = None
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "src": list(self.src)}

    @classmethod
    def from_json(cls, document: object) -> "PairFigures":
        """Raises DeltaContractError."""
        told = _object(document, "figures")
        pair = DeltaPair.from_json(told)
        seconds = told.get("generate_seconds")
        if isinstance(seconds, bool) or not isinstance(seconds, int | float | None):
            raise DeltaContractError(f"generate_seconds is {seconds!r:.80}: a number is expected")
        return cls(
            src=pair.src,
            dest=pair.dest,
            state=_state(told.get("state")),
            size=_number(told.get("size"), "size"),
            whole=_number(told.get("whole"), "whole"),
            downloads=_number(told.get("downloads"), "downloads") or 0,
            generate_seconds=seconds,
            reason=_optional_text(told.get("reason"), "reason"),
        )


@dataclass(frozen=True, slots=True)
class Figures:
    """The answer of `POST /gantry/v1/deltas/figures`, one for each pair, in the same order."""

    pairs: tuple[PairFigures, ...]

    def to_json(self) -> dict[str, Any]:
        return {"pairs": [each.to_json() for each in self.pairs]}

    @classmethod
    def from_json(cls, document: object) -> "Figures":
        """Raises DeltaContractError."""
        pairs = _list(_object(document, "figures").get("pairs"), "pairs", MAX_FIGURES)
        return cls(tuple(PairFigures.from_json(each) for each in pairs))


@dataclass(frozen=True, slots=True)
class WantedPair:
    """A pair that so many devices need now."""

    pair: DeltaPair
    devices: int


@dataclass(frozen=True, slots=True)
class WantedPairs:
    """The api's `GET /services/deltas/wanted`: most devices first."""

    pairs: tuple[WantedPair, ...]

    def to_json(self) -> dict[str, Any]:
        return {"pairs": [{**each.pair.to_json(), "devices": each.devices} for each in self.pairs]}

    @classmethod
    def from_json(cls, document: object) -> "WantedPairs":
        """Raises DeltaContractError."""
        pairs = _list(_object(document, "what is wanted").get("pairs"), "pairs", MAX_WANTED)
        return cls(
            tuple(
                WantedPair(DeltaPair.from_json(each), _number(each.get("devices"), "devices") or 0)
                for each in pairs
            )
        )


def figures_question(pairs: Sequence[DeltaPair]) -> dict[str, Any]:
    """The body of `POST /gantry/v1/deltas/figures`; at most MAX_FIGURES at once."""
    return {"pairs": [each.to_json() for each in pairs]}


def asked_figures(document: object) -> tuple[DeltaPair, ...]:
    """The pairs in the body that `figures_question` makes. Raises DeltaContractError."""
    pairs = _list(_object(document, "the body").get("pairs"), "pairs", MAX_FIGURES)
    return tuple(DeltaPair.from_json(each) for each in pairs)


def _object(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise DeltaContractError(f"{what} is {value!r:.80}: a JSON object is expected")
    return value


def _list(value: object, name: str, most: int) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise DeltaContractError(f"{name}: a list of at most {most} is expected")
    return value


def _state(value: object) -> DeltaState:
    try:
        return DeltaState(str(value))
    except ValueError as error:
        raise DeltaContractError(f"state {value!r:.80} is not known here") from error


def _text(value: object, name: str) -> str:
    if not isinstance(value, str) or not value or len(value) > 8192:
        raise DeltaContractError(f"{name} is {value!r:.80}: a text is expected")
    return value


def _optional_text(value: object, name: str) -> str | None:
    return None if value is None else _text(value, name)


def _number(value: object, name: str) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise DeltaContractError(f"{name} is {value!r:.80}: a whole number is expected")
    return value


def _digest(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or _DIGEST.fullmatch(value) is None:
        raise DeltaContractError(f"{value!r:.80}: a digest (sha256:…) is expected")
    return value
