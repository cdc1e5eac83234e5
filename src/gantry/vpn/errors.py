"""What a request for a way to a device may fail with: a status and a sentence for whoever asked."""


class VpnError(Exception):
    """It cannot be done, and why. `status` is that of an HTTP answer (RFC 9110)."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence


class RefusedError(VpnError):
    """The api says no; `status` is its answer: 401, 403, 404, 409."""


class UnavailableError(VpnError):
    """The api cannot say: it is away, or its answer cannot be read."""

    def __init__(self, sentence: str) -> None:
        super().__init__(503, sentence)
