"""What a request may fail with. Each becomes `{"error": sentence}` with its status."""


class LogsError(Exception):
    """A request that cannot be served, and why, in a sentence for whoever sent it.

    `retry_after` is in seconds; None sends no such header.
    """

    status = 400

    def __init__(self, sentence: str, retry_after: int | None = None) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.retry_after = retry_after


class BadRequestError(LogsError):
    """The request itself is wrong."""


class RefusedError(LogsError):
    """The api says no; `status` is the api's own answer (401, 403 or 404)."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class IdleError(LogsError):
    """A stream that brought nothing for too long."""

    status = 408


class TooLargeError(LogsError):
    """More than the endpoint takes at once."""

    status = 413


class UnsupportedError(LogsError):
    """A content encoding that is not spoken here."""

    status = 415


class TooManyError(LogsError):
    """Too many connections at once."""

    status = 429


class UnavailableError(LogsError):
    """JetStream or the api cannot be reached: nothing was lost, whoever sent it sends it again."""

    status = 503

    def __init__(self, sentence: str, retry_after: int = 5) -> None:
        super().__init__(sentence, retry_after)
