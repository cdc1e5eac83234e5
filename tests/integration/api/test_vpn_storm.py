"""Thousands of devices that connect at once, beside others that poll and report."""

import secrets
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg

from .conftest import Api, Device, Fleet
from .vpn import Server, event

DEVICES, LOGINS, SERVERS, BATCH = 2000, 200, 4, 500

_DEVICES = """
with made as (
    insert into actor select from generate_series(1, %(number)s) returning id
),
devices as (
    insert into device (actor, uuid, device_name, belongs_to__application, is_of__device_type)
    select made.id, md5(made.id || %(salt)s), 'storm ' || made.id, application.id,
        application.is_for__device_type
    from made, application where application.id = %(fleet)s
    returning actor, uuid
),
keys as (
    insert into api_key (key_hash, role, is_of__actor, name)
    select encode(sha256((uuid || 'key')::bytea), 'hex'), 'device', actor, 'storm' from devices
)
select uuid from devices
"""


def rows(api: Api, statement: str, values: dict[str, object]) -> list[tuple[object, ...]]:
    url = api.config["database_url"].replace("+psycopg", "")
    with psycopg.connect(url) as connection:
        return connection.execute(statement, values).fetchall()


class Polls:
    """Devices that poll and report until they are told to stop, and what they are answered."""

    def __init__(self, devices: list[Device]) -> None:
        self.statuses: Counter[int] = Counter()
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(each,), daemon=True) for each in devices
        ]
        for each in self._threads:
            each.start()

    def _run(self, device: Device) -> None:
        number = 0
        while not self._over.is_set():
            number += 1
            answer = device.client.get(f"/device/v3/{device.uuid}/state")
            self.statuses[answer.status_code] += 1
            body = {device.uuid: {"cpu_usage": number % 100}}
            answer = device.client.patch("/device/v3/state", json=body)
            self.statuses[answer.status_code] += 1

    def stop(self) -> None:
        """Stop; each of them was always answered."""
        self._over.set()
        for each in self._threads:
            each.join(60)
        assert not any(each.is_alive() for each in self._threads)
        assert set(self.statuses) == {200}
        assert self.statuses[200] > 20


def test_a_storm(shared_api: Api, make_fleet: Callable[[], Fleet]) -> None:
    fleet = make_fleet()
    values = {"number": DEVICES, "salt": secrets.token_hex(8), "fleet": fleet.id}
    uuids = [str(uuid) for (uuid,) in rows(shared_api, _DEVICES, values)]
    servers = [Server(shared_api) for _ in range(SERVERS)]
    polls = Polls([fleet.register() for _ in range(4)])

    def login(number: int) -> str:
        uuid = uuids[number]
        answer = servers[number % SERVERS].authorize(uuid, uuid + "key")
        assert answer.status_code == 200, answer.text
        address: str = answer.json()["address"]
        return address

    def tell(number: int, what: str, session: str) -> None:
        events = [event(each, what, session) for each in uuids[number::SERVERS]]
        for begin in range(0, len(events), BATCH):
            servers[number].tell(*events[begin : begin + BATCH])

    with ThreadPoolExecutor(32) as pool:
        addresses = list(pool.map(login, range(LOGINS)))
        assert len(set(addresses)) == LOGINS
        # All come, and come again under another session before the old one's end is told.
        list(pool.map(lambda n: tell(n, "connected", "first"), range(SERVERS)))
        list(pool.map(lambda n: tell(n, "connected", "second"), range(SERVERS)))
        list(pool.map(lambda n: tell(n, "disconnected", "first"), range(SERVERS)))
        beats = [pool.submit(servers[n].beat, uuids[n::SERVERS]) for n in range(SERVERS)]
        for each in beats:
            each.result()
    counted = rows(
        shared_api,
        "select vpn_server, count(*) from device where is_connected_to_vpn"
        " and belongs_to__application = %(fleet)s group by 1",
        values,
    )
    assert dict(counted) == {each.name: DEVICES // SERVERS for each in servers}
    # One is started anew, while the others' devices go on.
    servers[0].start()
    polls.stop()
    there = f"is_connected_to_vpn and belongs_to__application eq {fleet.id}"
    answer = fleet.user.get(f"/v7/device/$count?$filter={there}")
    assert answer.json()["d"] == DEVICES - DEVICES // SERVERS
