"""openvpn's management interface: notices put together, commands that nothing can break out of."""

import asyncio
import socket
from collections.abc import Iterable
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantry.vpn import management
from gantry.vpn.management import ClientNotice, Kind, Management, ManagementError, Parser


def notices(lines: Iterable[str]) -> list[ClientNotice]:
    parser = Parser()
    return [notice for line in lines if (notice := parser.feed(line))]


def test_a_notice_is_a_head_and_its_environment() -> None:
    lines = [
        ">INFO:OpenVPN Management Interface Version 5 -- type 'help' for more info",
        ">CLIENT:CONNECT,3,1",
        ">CLIENT:ENV,username=4f00",
        ">CLIENT:ENV,password=a=b,c",
        ">CLIENT:ENV,END",
        ">CLIENT:ADDRESS,3,100.64.0.2,1",
        ">CLIENT:ESTABLISHED,3",
        ">CLIENT:ENV,END",
        ">CLIENT:DISCONNECT,3",
        ">CLIENT:ENV,bytes_sent=12",
        ">CLIENT:ENV,END",
    ]
    found = notices(lines)
    assert [(each.kind, each.client, each.key) for each in found] == [
        (Kind.CONNECT, 3, 1),
        (Kind.ESTABLISHED, 3, None),
        (Kind.DISCONNECT, 3, None),
    ]
    assert found[0].environment == {"username": "4f00", "password": "a=b,c"}
    assert found[2].environment == {"bytes_sent": "12"}
    assert "a=b,c" not in repr(found[0])


def test_kinds_that_are_not_ours_are_passed_over_with_their_environment() -> None:
    lines = [
        ">CLIENT:CR_RESPONSE,1,2,cmVz",
        ">CLIENT:ENV,username=x",
        ">CLIENT:ENV,END",
        ">CLIENT:REAUTH,1,2",
        ">CLIENT:ENV,END",
    ]
    assert [(each.kind, dict(each.environment)) for each in notices(lines)] == [(Kind.REAUTH, {})]


def test_a_head_without_numbers_is_an_error() -> None:
    with pytest.raises(ManagementError, match="has no number"):
        Parser().feed(">CLIENT:CONNECT,x,y")


def test_commands() -> None:
    address, netmask = IPv4Address("100.64.0.9"), IPv4Address("255.192.0.0")
    assert management.allow(1, 2, address, netmask) == (
        "client-auth 1 2\nifconfig-push 100.64.0.9 255.192.0.0\nEND"
    )
    assert management.allow_again(1, 2) == "client-auth-nt 1 2"
    assert management.deny(1, 2, "no") == 'client-deny 1 2 "no" "no"'
    assert management.deny_for_now(1, 2, "busy", 7) == (
        'client-deny 1 2 "busy" "TEMP[backoff 7]:busy"'
    )
    assert management.kill(5) == "client-kill 5"


@given(st.text())
def test_no_reason_ends_its_quotes_or_its_line(text: str) -> None:
    quoted = management.quoted(text)
    assert quoted[0] == quoted[-1] == '"'
    inner = quoted[1:-1]
    assert inner.isascii()
    assert inner.isprintable()
    assert '"' not in inner.replace("\\\\", "").replace('\\"', "")
    assert not inner.replace("\\\\", "").replace('\\"', "").endswith("\\")
    assert len(management.deny_for_now(2**31, 2**31, text, 60)) < 1024


def test_answers_reach_who_asked_in_their_order() -> None:
    asyncio.run(_conversation())


async def _conversation() -> None:
    here, there = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=here)
    openvpn_reader, openvpn_writer = await asyncio.open_connection(sock=there)
    heard: list[ClientNotice] = []
    found = Management(reader, writer)
    running = asyncio.create_task(found.run(heard.append))
    assert await openvpn_reader.readline() == b"env-filter 1\n"
    first, second = found.send("client-kill 1"), found.send("client-kill 2")
    openvpn_writer.write(
        b"SUCCESS: env-filter\r\n>CLIENT:ESTABLISHED,9\r\nERROR: common name not found\r\n"
        b">CLIENT:ENV,END\r\n>BYTECOUNT:1,2\r\nSUCCESS: killed\r\n"
    )
    assert (await first, await second) == ("ERROR: common name not found", "SUCCESS: killed")
    last = found.send("client-kill 3")
    openvpn_writer.close()
    await running
    assert [each.client for each in heard] == [9]
    # Who waits for an answer when openvpn ends gets one, and so does who asks later.
    assert (await last).startswith("ERROR")
    assert (await found.send("client-kill 4")).startswith("ERROR")
    assert found.closed
