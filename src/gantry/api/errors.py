"""What a request may fail with. Each becomes `{"error": sentence}` with its status."""

from collections.abc import Mapping


class ApiError(Exception):
    """A request that cannot be served, and why, in a sentence for whoever sent it."""

    status = 400

    def __init__(self, sentence: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.headers = dict(headers or {})


class BadRequestError(ApiError):
    """The request itself is wrong."""


class UnauthorizedError(ApiError):
    """Nobody known sent this."""

    status = 401


class ForbiddenError(ApiError):
    """Whoever sent this is known, and may not do it."""

    status = 403


class NotFoundError(ApiError):
    """It does not exist, or not for whoever asks."""

    status = 404


class ConflictError(ApiError):
    """It is at odds with what is there already."""

    status = 409


class TooManyRequestsError(ApiError):
    """Too often; `Retry-After` says when again, in seconds."""

    status = 429

    def __init__(self, sentence: str, retry_after: int) -> None:
        super().__init__(sentence, headers={"Retry-After": str(retry_after)})
