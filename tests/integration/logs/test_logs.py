"""Lines in, lines out: order, identity, limits, breaks."""

import contextlib
import gzip
import json
import threading
import time
import zlib
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

Line = dict[str, Any]
NOW = 1_790_000_000_000


def lines(first: int, last: int, *, identity: bool = True) -> list[Line]:
    made: list[Line] = []
    for number in range(first, last + 1):
        line: Line = {"timestamp": NOW + number, "message": f"line {number}", "serviceId": 7}
        made.append(line | {"id": f"n{number}"} if identity else line)
    return made


def ndjson(wanted: list[Line]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in wanted)


def post(service: Any, device: Any, body: Any, **headers: str) -> httpx2.Response:
    return httpx2.post(
        f"{service.url}/device/v2/{device.uuid}/log-stream",
        content=body,
        headers={"Authorization": device.write, **headers},
        timeout=30,
    )


def history(service: Any, device: Any, **query: str | int) -> list[Line]:
    answer = httpx2.get(
        f"{service.url}/device/v2/{device.uuid}/logs",
        params=query,
        headers={"Authorization": device.read},
        timeout=30,
    )
    assert answer.status_code == 200, answer.text
    found: list[Line] = answer.json()
    return found


def numbers(found: list[Line]) -> list[int]:
    return [int(line["message"].removeprefix("line ")) for line in found]


def follow(service: Any, device: Any, **query: str | int) -> Iterator[Line]:
    url = f"{service.url}/device/v2/{device.uuid}/logs"
    with httpx2.stream(
        "GET",
        url,
        params={"stream": 1, **query},
        headers={"Authorization": device.read},
        timeout=30,
    ) as answer:
        assert answer.status_code == 200
        for text in answer.iter_lines():
            if text:
                yield json.loads(text)


def test_lines_come_back_in_order_with_all_they_had(service: Any, device: Any) -> None:
    sent = [line | {"serviceName": "main", "shade": "dark"} for line in lines(1, 200)]
    answer = post(service, device, gzip.compress(ndjson(sent)), **{"Content-Encoding": "gzip"})
    assert answer.status_code == 201
    assert answer.json() == {"stored": 200, "duplicates": 0, "dropped": 0}
    found = history(service, device)
    cursors = [line.pop("cursor") for line in found]
    assert cursors == sorted(cursors)
    assert all(abs(line.pop("createdAt") / 1000 - time.time()) < 30 for line in found)
    assert found == sent


def test_count_and_start(service: Any, device: Any) -> None:
    assert history(service, device) == []
    others = [device.__class__(device.uuid[::-1], device.write, device.read)]
    assert others[0].uuid != device.uuid
    now = int(time.time() * 1000)
    sent = [line | {"timestamp": now - 1000 + n} for n, line in enumerate(lines(1, 120))]
    for start in range(0, 120, 20):
        post(service, device, ndjson(sent[start : start + 20]))
    assert numbers(history(service, device, count=5)) == list(range(116, 121))
    assert numbers(history(service, device, count=120)) == list(range(1, 121))
    assert numbers(history(service, device, count="all")) == list(range(1, 121))
    assert history(service, device, count=0) == []
    assert numbers(history(service, device, start=now - 1000 + 110)) == list(range(111, 121))
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime((now + 60_000) / 1000))
    assert history(service, device, start=at) == []
    cursor = history(service, device)[99]["cursor"]
    assert numbers(history(service, device, after=cursor)) == list(range(101, 121))


def test_a_cursor_of_a_store_that_is_gone_begins_anew(service: Any, device: Any) -> None:
    post(service, device, ndjson(lines(1, 3)))
    assert numbers(history(service, device, after=10**12)) == [1, 2, 3]
    found = follow(service, device, after=10**12)
    assert [next(found)["message"] for _ in range(3)] == ["line 1", "line 2", "line 3"]
    found.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("query", [{"count": "many"}, {"start": "yesterday"}, {"after": "x"}])
def test_wrong_questions(service: Any, device: Any, query: dict[str, str]) -> None:
    answer = httpx2.get(
        f"{service.url}/device/v2/{device.uuid}/logs",
        params=query,
        headers={"Authorization": device.read},
    )
    assert answer.status_code == 400
    assert next(iter(query)) in answer.json()["error"]


def test_a_line_sent_again_is_kept_once(service: Any, device: Any, authority: Any) -> None:
    post(service, device, ndjson(lines(1, 30)))
    again = post(service, device, ndjson(lines(21, 50)))
    assert again.json() == {"stored": 20, "duplicates": 10, "dropped": 0}
    assert numbers(history(service, device)) == list(range(1, 51))
    # Another device's line with the same identity is another line.
    other = authority.device()
    assert post(service, other, ndjson(lines(1, 5))).json()["stored"] == 5


def test_lines_without_identity_may_be_equal(service: Any, device: Any) -> None:
    twice = lines(1, 1, identity=False) * 2
    assert post(service, device, ndjson(twice)).json()["stored"] == 2
    assert numbers(history(service, device)) == [1, 1]


def test_a_bad_line_is_dropped_and_the_log_says_so(service: Any, device: Any) -> None:
    body = ndjson(lines(1, 1)) + b"garbage\n{}\n\n" + b"y" * 200_000 + b"\n" + ndjson(lines(2, 2))
    answer = post(service, device, body)
    assert answer.status_code == 201
    assert answer.json() == {"stored": 2, "duplicates": 0, "dropped": 3}
    found = history(service, device)
    assert numbers(found[:2]) == [1, 2]
    assert found[2]["isSystem"] is True
    assert "3 log lines were dropped by the log service" in found[2]["message"]
    assert "garbage" in found[2]["message"]
    assert len(found) == 3


def test_the_oldest_lines_go(service: Any, device: Any) -> None:
    post(service, device, ndjson(lines(1, 350)))
    assert numbers(history(service, device)) == list(range(51, 351))
    assert numbers(history(service, device, count=10)) == list(range(341, 351))


def test_an_array_of_lines(service: Any, device: Any) -> None:
    url = f"{service.url}/device/v2/{device.uuid}/logs"
    headers = {"Authorization": device.write}
    assert httpx2.post(url, json=lines(1, 10), headers=headers).status_code == 201
    assert numbers(history(service, device)) == list(range(1, 11))
    assert httpx2.post(url, json={"no": "array"}, headers=headers).status_code == 400
    assert httpx2.post(url, content=b"{", headers=headers).status_code == 400
    too_much = json.dumps(lines(1, 1) * 10_000).encode()
    assert httpx2.post(url, content=too_much, headers=headers).status_code == 413


def test_follow_gives_history_then_what_comes_without_gap_or_double(
    service: Any, device: Any
) -> None:
    post(service, device, ndjson(lines(1, 100)))
    stop = threading.Event()

    def write() -> None:
        for number in range(101, 1_000_000, 5):
            if stop.is_set():
                return
            post(service, device, ndjson(lines(number, number + 4)))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        found: list[int] = []
        for line in follow(service, device, count=100):
            found.append(int(line["message"].removeprefix("line ")))
            if len(found) >= 250:
                break
    finally:
        stop.set()
        writer.join()
    assert found == list(range(found[0], found[0] + 250))


def test_a_line_reaches_its_follower_before_the_stream_ends(service: Any, device: Any) -> None:
    seen = threading.Event()

    def body() -> Iterator[bytes]:
        packer = zlib.compressobj(wbits=31)
        yield packer.compress(ndjson(lines(1, 1))) + packer.flush(zlib.Z_SYNC_FLUSH)
        assert seen.wait(60)
        yield packer.compress(ndjson(lines(2, 2))) + packer.flush()

    sender = threading.Thread(
        target=post, args=(service, device, body()), kwargs={"Content-Encoding": "gzip"}
    )
    sender.start()
    found = follow(service, device, count="all")
    assert next(found)["message"] == "line 1"
    seen.set()
    assert next(found)["message"] == "line 2"
    sender.join()
    found.close()  # type: ignore[attr-defined]


def test_server_sent_events_go_on_from_the_last(service: Any, device: Any) -> None:
    post(service, device, ndjson(lines(1, 20)))
    cursor = history(service, device)[14]["cursor"]
    headers = {
        "Authorization": device.read,
        "Accept": "text/event-stream",
        "Last-Event-ID": str(cursor),
    }
    url = f"{service.url}/device/v2/{device.uuid}/logs"
    with httpx2.stream("GET", url, headers=headers) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        rows = [row for _, row in zip(range(17), answer.iter_lines(), strict=False)]
    data = [json.loads(row[6:])["message"] for row in rows if row.startswith("data: ")]
    assert data == [f"line {n}" for n in range(16, 21)]
    assert f"id: {cursor + 1}" in rows


def test_readers_of_one_device_leave_room_for_others(
    service: Any, device: Any, authority: Any
) -> None:
    url = f"{service.url}/device/v2/{device.uuid}/logs?stream=1"
    other = authority.device()
    with contextlib.ExitStack() as held, httpx2.Client(timeout=30) as client:
        headers = {"Authorization": device.read}
        streams = []  # one that is forgotten is closed
        for _ in range(50):
            answer = held.enter_context(client.stream("GET", url, headers=headers))
            assert answer.status_code == 200
            streams.append(answer.iter_raw())
            next(streams[-1])
        refused = httpx2.get(url, headers=headers)
        assert refused.status_code == 429
        assert refused.json() == {"error": "too many readers follow this device's log"}
        assert history(service, other) == []


def test_nothing_is_told_of_the_service_itself(service: Any) -> None:
    assert httpx2.get(f"{service.url}/openapi.json").status_code == 404


def test_only_who_may(service: Any, device: Any, authority: Any) -> None:
    url = f"{service.url}/device/v2/{device.uuid}/logs"
    other = authority.device()
    assert httpx2.get(url).status_code == 401
    assert httpx2.get(url, headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert httpx2.get(url, headers={"Authorization": device.write}).status_code == 403
    assert httpx2.get(url, headers={"Authorization": other.read}).status_code == 403
    wrong = device.__class__(device.uuid, other.write, "")
    assert post(service, wrong, ndjson(lines(1, 1))).status_code == 403
    for uuid in ("short", "*" * 32, "A" * 32, device.uuid + ".more"):
        where = f"{service.url}/device/v2/{uuid}/logs"
        assert httpx2.get(where, headers={"Authorization": device.read}).status_code == 404
    assert history(service, device) == []


def test_consent_is_remembered_and_an_api_that_is_away_is_no_refusal(
    service: Any, device: Any, authority: Any
) -> None:
    asked = authority.asked
    for number in range(1, 6):
        post(service, device, ndjson(lines(number, number)))
    assert authority.asked == asked + 1
    authority.failing = True
    try:
        assert post(service, device, ndjson(lines(6, 6))).status_code == 201
        other = authority.device()
        refused = post(service, other, ndjson(lines(1, 1)))
    finally:
        authority.failing = False
    assert refused.status_code == 503
    assert refused.headers["Retry-After"]


def test_wrong_bodies(service: Any, device: Any) -> None:
    assert post(service, device, b"x", **{"Content-Encoding": "br"}).status_code == 415
    assert post(service, device, b"x", **{"Content-Encoding": "gzip"}).status_code == 400
    torn = gzip.compress(ndjson(lines(1, 9)))[:-8]
    assert post(service, device, torn, **{"Content-Encoding": "gzip"}).status_code == 400
    again = post(service, device, ndjson(lines(1, 9)))
    assert again.status_code == 201
    assert numbers(history(service, device)) == list(range(1, 10))


def test_a_device_that_sends_too_much_is_held_back(service: Any, device: Any) -> None:
    began = time.monotonic()
    answer = post(service, device, ndjson(lines(1, 6000)))
    assert answer.json()["stored"] == 6000
    assert time.monotonic() - began >= 1.5
