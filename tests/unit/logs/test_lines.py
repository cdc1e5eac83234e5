"""Lines as devices send them, and what is kept of them."""

import json

import pytest

from gantry.logs.lines import MAX_MESSAGE, BadLineError, StoredLine, cut, parse

WHOLE = {"timestamp": 1_700_000_000_123, "message": "robot homed", "serviceId": 3, "colour": "red"}


def raw(**fields: object) -> bytes:
    return json.dumps({**WHOLE, **fields}).encode()


def test_a_line_is_kept_with_fields_that_are_not_known_here() -> None:
    assert json.loads(parse(raw()).payload) == WHOLE


def test_the_time_becomes_whole_milliseconds() -> None:
    assert json.loads(parse(raw(timestamp=1.5e12)).payload)["timestamp"] == 1_500_000_000_000


def test_what_the_service_adds_itself_is_not_taken_from_a_device() -> None:
    kept = json.loads(parse(raw(cursor=9, createdAt=1)).payload)
    assert "cursor" not in kept
    assert "createdAt" not in kept


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"not json", "not JSON: not json"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not an object"),
        (b'{"timestamp": 1}', "`message` is not a text"),
        (raw(message=7), "`message` is not a text"),
        (b'{"message": "x"}', "`timestamp` is not in milliseconds"),
        (raw(timestamp="now"), "`timestamp` is not in milliseconds"),
        (raw(timestamp=True), "`timestamp` is not in milliseconds"),
        (raw(timestamp=-1), "`timestamp` is not in milliseconds"),
        (b'{"message": "x", "timestamp": 1e999}', "`timestamp` is not in milliseconds"),
        (b'{"message": "x", "timestamp": NaN}', "not JSON"),
        (b'{"message": "x", "timestamp": 1, "more": 1e999}', "a number that JSON does not have"),
        (raw(isStdErr="yes"), "`isStdErr` is neither true nor false"),
    ],
)
def test_a_bad_line_is_refused_with_its_fault(line: bytes, fault: str) -> None:
    with pytest.raises(BadLineError, match=fault):
        parse(line)


def test_a_fault_quotes_only_the_beginning() -> None:
    with pytest.raises(BadLineError) as caught:
        parse(b"x" * 50_000)
    assert len(str(caught.value)) < 120


def test_a_long_message_is_cut_and_says_so() -> None:
    kept = json.loads(parse(raw(message="ä" * 12_345)).payload)["message"]
    assert kept == "ä" * MAX_MESSAGE + "… [cut: 12345 characters]"
    assert cut("ä" * MAX_MESSAGE) == "ä" * MAX_MESSAGE


def test_half_a_surrogate_pair_does_no_harm() -> None:
    assert json.loads(parse(raw(message="a\ud800b")).payload)["message"] == "a?b"


def test_identity() -> None:
    assert parse(raw()).message_id is None
    assert parse(raw(id="a1")).message_id == "a1"
    assert parse(raw(id=5)).message_id == "5"
    assert parse(raw(seq=7)).message_id == "3-1700000000123-7"
    assert parse(raw(id="a1", seq=7)).message_id == "a1"


def test_a_reader_gets_the_line_its_arrival_and_its_cursor() -> None:
    line = StoredLine(42, 1_700_000_000_456, parse(raw()).payload)
    assert json.loads(line.json) == WHOLE | {"createdAt": 1_700_000_000_456, "cursor": 42}
    assert line.timestamp == WHOLE["timestamp"]
