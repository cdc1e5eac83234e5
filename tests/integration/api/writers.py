"""Writes of every kind that concerns several rows or tables, and what must hold after them."""

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx2 as httpx
import psycopg

from .conftest import Api, Fleet

Write = Callable[[httpx.Client, int], tuple[str, httpx.Response]]
DEVICES, KEYS = 25, 60
# Each says rows that are there because something was done by halves.
HALVES = {
    "users without an organization, a membership or an actor": """
        select u.username from "user" u
        left join organization o on o.handle = u.username
        left join organization_membership m
            on m."user" = u.id and m.is_member_of__organization = o.id
        left join actor a on a.id = u.actor
        where o.id is null or m.id is null or a.id is null""",
    "organizations of nobody": """
        select handle from organization o where not exists
        (select from organization_membership m where m.is_member_of__organization = o.id)""",
    "actors of nothing": """
        select id from actor where id not in (select actor from "user")
        and id not in (select actor from device) and id not in (select actor from application)""",
    "devices without a key, a service or an entry in the audit log": """
        select uuid from device d where
        not exists (select from api_key k where k.is_of__actor = d.actor)
        or not exists (select from service_install s where s.device = d.id)
        or not exists (select from audit_entry e
            where e.resource = 'device' and e.action = 'create' and e.row = d.id)""",
    "notes of a part of the devices": """
        select min(note), max(note) from device where note is not null
        having count(distinct note) > 1""",
    "tags of a part of the devices": """
        select tag_key, count(*) from device_tag group by tag_key
        having count(*) <> (select count(*) from device where note is not null)""",
    "tags that were deleted without an entry in the audit log": """
        select d.id, k from device d cross join generate_series(1, 60) k
        where d.note is not null
        and not exists (select from device_tag t where t.device = d.id and t.tag_key = 'k' || k)
        and not exists (select from audit_entry e where e.resource = 'device_tag'
            and e.action = 'delete' and e.row_name = 'k' || k)""",
    "releases without an image": """
        select id from release r where not exists
        (select from release_image i where i.is_part_of__release = r.id)""",
}


def rows(api: Api, statement: str, values: Any = ()) -> list[Any]:
    url = api.config["database_url"].replace("+psycopg", "")
    with psycopg.connect(url) as connection:
        cursor = connection.execute(statement, values)
        return cursor.fetchall() if cursor.description else []


@dataclass
class Writers:
    """Threads that write until the api is gone, and what they were told is done."""

    api: Api
    fleet: Fleet
    done: dict[str, list[str]] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)
    threads: list[threading.Thread] = field(default_factory=list)

    def start(self, kind: str, write: Write) -> None:
        """One thread that does `write` again and again; it gives a name for what it did."""
        said = self.done.setdefault(kind, [])
        credential = self.fleet.user.headers["Authorization"].split()[1]

        def run() -> None:
            client = self.api.client(credential)
            number = 0
            while not self.stopped.is_set():
                number += 1
                try:
                    name, answer = write(client, number)
                except httpx.TransportError:
                    return
                if answer.is_success:
                    said.append(name)
                elif answer.status_code != 503:
                    self.refused.append(f"{kind} {answer.status_code} {answer.text}")

        self.threads.append(threading.Thread(target=run, daemon=True))
        self.threads[-1].start()

    def start_all(self) -> None:
        """Every kind of write that concerns several rows or tables, twice."""
        provisioning = self.api.client(self.fleet.provisioning_key())
        for thread in "ab":
            left = iter(range(1, KEYS + 1))

            def note(client: httpx.Client, number: int, by: str = thread) -> Any:
                name = f"{by}{number}"
                filtered = f"belongs_to__application eq {self.fleet.id} and note ne null"
                url = "/v7/device"
                body = {"note": name}
                return name, client.patch(url, params={"$filter": filtered}, json=body)

            def untag(client: httpx.Client, _: int, left: Iterator[int] = left) -> Any:
                time.sleep(0.02)
                name = f"k{next(left, 0)}"
                filtered = f"tag_key eq '{name}'"
                return name, client.delete("/v7/device_tag", params={"$filter": filtered})

            def user(client: httpx.Client, _: int) -> Any:
                name = f"user{secrets.token_hex(6)}"
                body = {"username": name, "password": "long enough"}
                return name, client.post("/v7/user", json=body)

            def device(_: httpx.Client, __: int) -> Any:
                uuid = secrets.token_hex(16)
                body = {"application": self.fleet.id, "uuid": uuid}
                return uuid, provisioning.post("/device/register", json=body)

            def release(_: httpx.Client, __: int) -> Any:
                body = {
                    "application_id": self.fleet.id,
                    "user_id": self.fleet.application["belongs_to__user"]["__id"],
                    "commit": secrets.token_hex(20),
                    "composition": {"services": {"main": {}, "more": {}}},
                    "services": ["main", "more"],
                }
                builder = self.api.service("builder")
                return body["commit"], builder.post("/services/builder/releases", json=body)

            for kind in (note, untag, user, device, release):
                self.start(kind.__name__, kind)

    def wait_for_one_of_each(self) -> None:
        """Until each kind of write was done at least once, however busy the machine."""
        deadline = time.monotonic() + 60
        while not all(self.done.values()):
            assert time.monotonic() < deadline, (self.done, self.refused)
            time.sleep(0.1)

    def finish(self) -> None:
        """Wait for all of them."""
        self.stopped.set()
        for each in self.threads:
            each.join(60)
            assert not each.is_alive()


def check(api: Api, writers: Writers) -> None:
    """Nothing half done, and all that was said to be done is done."""
    for what, statement in HALVES.items():
        assert rows(api, statement) == [], what
    done = writers.done
    assert writers.refused == []
    users = {name for (name,) in rows(api, 'select username from "user"')}
    assert set(done["user"]) <= users
    devices = {uuid for (uuid,) in rows(api, "select uuid from device")}
    assert set(done["device"]) <= devices
    tags = {key for (key,) in rows(api, "select distinct tag_key from device_tag")}
    assert not set(done["untag"]) & tags
    commits = {commit for (commit,) in rows(api, 'select "commit" from release')}
    assert set(done["release"]) <= commits


def fill(api: Api) -> Fleet:
    """A fleet with a release, devices with notes, and tags that all of these devices have."""
    fleet = Fleet(api, api.login(), "admin/devbots")
    fleet.release()
    for _ in range(DEVICES):
        fleet.register()
    rows(api, "update device set note = 'none yet'")
    rows(
        api,
        "insert into device_tag (device, tag_key, value)"
        " select d.id, 'k' || k, '' from device d, generate_series(1, %s) k",
        [KEYS],
    )
    return fleet
