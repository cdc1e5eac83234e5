"""What may go wrong: with a request (`RequestError`), and with the making of a delta."""


class RequestError(Exception):
    """A request that cannot be served, and why: `{"message": sentence}` with its status.

    `retry_after` is in seconds; `challenge` is the `WWW-Authenticate` of a 401.
    """

    status = 400

    def __init__(
        self, sentence: str, *, retry_after: int | None = None, challenge: str | None = None
    ) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.retry_after = retry_after
        self.challenge = challenge


class BadRequestError(RequestError):
    """The request itself is wrong."""


class UnauthorizedError(RequestError):
    """No token, or none that holds."""

    status = 401


class ForbiddenError(RequestError):
    """The token does not allow it."""

    status = 403


class NotFoundError(RequestError):
    """No such image, or no such delta."""

    status = 404


class RangeError(RequestError):
    """A range that the file does not have; `size` is the file's."""

    status = 416

    def __init__(self, sentence: str, size: int) -> None:
        super().__init__(sentence)
        self.size = size


class BusyError(RequestError):
    """The queue is full, or the pair could not be made just now."""

    status = 503


class WholeError(Exception):
    """There will be no delta for this pair: the image is to be pulled. The message says why."""


class NotTodayError(WholeError):
    """There is none for what may be otherwise another day: how busy the machine is, say."""


class TemporaryError(Exception):
    """It could not be done now, and may be tried again. The message says what is in the way."""


class FullError(TemporaryError):
    """The disk is full."""


class NoSuchImageError(TemporaryError):
    """The registry does not have an image, or not any more."""
