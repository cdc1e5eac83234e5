"""Answers that are not as one wishes, each with its sentence and its exit code."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gantry.client.api_client import ApiClient
from gantry.client.errors import ClientError, ExitCode, NotFoundError
from tests.unit.conftest import answer, speak_tls


def failure(server: Any, status: int, body: Any) -> ClientError:
    server.answers["/user/v1/whoami"] = answer(status, body)
    with (
        ApiClient(server.url, "token", fleet="devbots") as client,
        pytest.raises(ClientError) as got,
    ):
        client.whoami()
    return got.value


@pytest.mark.parametrize(
    ("status", "code", "sentence"),
    [
        (401, ExitCode.NOT_AUTHORISED, "no: log in again with `gantry login --fleet devbots`"),
        (403, ExitCode.NOT_AUTHORISED, "no (not allowed for this user)"),
        (404, ExitCode.NOT_FOUND, "no"),
        (409, ExitCode.FAILED, "no"),
        (503, ExitCode.UNREACHABLE, "localhost is not able to answer: no"),
    ],
)
def test_refusals(server: Any, status: int, code: ExitCode, sentence: str) -> None:
    error = failure(server, status, {"error": "no"})
    assert (error.code, str(error)) == (code, sentence)


def test_a_device_that_is_away_is_not_the_api_s_fault(server: Any) -> None:
    told = "robot-1 is not connected to the VPN since 2026-11-29 08:00:00 UTC"
    server.answers["/supervisor/v1/restart"] = answer(504, {"error": told})
    device: Any = SimpleNamespace(uuid="ab" * 16)
    with ApiClient(server.url, "token") as client, pytest.raises(ClientError) as got:
        client.actions.ask_now(device, "/v1/restart", {})
    assert (got.value.code, str(got.value)) == (ExitCode.UNREACHABLE, told)


def test_the_way_on_is_said_once(server: Any) -> None:
    error = failure(server, 401, {"error": "not valid (any more): log in again"})
    assert str(error) == "not valid (any more): log in again with `gantry login --fleet devbots`"


def test_a_page_of_a_proxy_is_not_quoted(server: Any) -> None:
    error = failure(server, 502, b"<html>Bad Gateway</html>")
    assert str(error) == "localhost is not able to answer: HTTP 502"


def test_all_pages_are_read(server: Any) -> None:
    def page(handler: Any) -> None:
        rows = [{"id": 1, "title": "t", "fingerprint": "f", "created_at": "now"}]
        more = {"d": rows} | ({} if "skip=2" in handler.path else {"@odata.nextLink": "more"})
        answer(200, more)(handler)

    server.answers["/v7/user__has__public_key"] = page
    with ApiClient(server.url, "token") as client:
        assert len(client.keys()) == 3


def test_a_build_log_is_read_where_the_fleet_says(server: Any) -> None:
    config = {
        "fleet": "devbots",
        "gitServerUrl": "devbots.gantry.internal",
        "gitServerPort": 2222,
        "apiUrl": server.url,
        "builderUrl": server.url,
        "logsUrl": server.url,
        "registry": "registry.devbots.gantry.internal:8443",
    }
    server.answers["/config"] = answer(200, config)
    server.answers["/v7/release"] = answer(200, {"d": [{"id": 7}]})
    server.answers["/v3/builds/7/log"] = answer(200, b"Step 1/1\n", "text/plain")
    with ApiClient(server.url, "token") as client:
        assert client.build_log(7) == "Step 1/1\n"


def test_a_build_log_of_no_release(server: Any) -> None:
    server.answers["/v7/release"] = answer(200, {"d": []})
    with ApiClient(server.url, "token") as client, pytest.raises(NotFoundError, match="release 7"):
        client.build_log(7)


def test_the_fleets_own_authority_is_trusted_when_it_is_given(server: Any, tmp_path: Path) -> None:
    ca = speak_tls(server, tmp_path)
    server.answers["/login_"] = answer(200, b"jwt", "text/plain")
    with ApiClient(server.url) as client, pytest.raises(ClientError) as got:
        client.login("ann", "pw")
    assert "`gantry login --ca FILE`" in str(got.value)
    assert got.value.code == ExitCode.UNREACHABLE
    with ApiClient(server.url, ca_file=ca) as client:
        assert client.login("ann", "pw") == "jwt"


def test_a_file_without_certificates(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("none")
    with pytest.raises(ClientError, match="holds no certificate"):
        ApiClient("https://localhost", ca_file=tmp_path / "ca.crt")
    with pytest.raises(ClientError, match="holds no certificate"):
        ApiClient("https://localhost", ca_file=tmp_path / "missing.crt")
