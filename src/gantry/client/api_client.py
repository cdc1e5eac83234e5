"""The one doorway to a fleet's api (and, over it, to its logs and builds).

Used by the commands and by whoever else acts for a user: `ApiClient(url)` with a token, or
`open_fleet(name)` with the session that `gantry login` kept.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx2

from gantry.client import records, session
from gantry.client.account import Account
from gantry.client.actions import Actions
from gantry.client.errors import ClientError, NotFoundError, UsageError
from gantry.client.records import (
    Application,
    AuditEntry,
    Device,
    FleetConfig,
    PublicKey,
    Release,
    Supervisors,
    User,
    Variable,
)
from gantry.client.space import Space
from gantry.client.transport import Transport

REFRESH_SECONDS = 24 * 3600.0
# Their uuids must fit into one URL.
_DELETED_AT_ONCE = 100
_APPLICATION = {
    "$select": "id,app_name,slug,uuid",
    "$expand": "is_for__device_type($select=slug),should_be_running__release($select=commit),"
    "owns__device($select=id,is_online)",
    # Others' that are for everybody to read are no fleets of one's own.
    "$filter": "is_of__class eq 'fleet' and is_directly_accessible_by__user/any()",
    "$orderby": "slug asc",
}
_DEVICE = {
    "$select": "id,uuid,device_name,is_online,overall_status,overall_progress,ip_address,"
    "os_version,supervisor_version,last_connectivity_event,update_status,is_connected_to_vpn,"
    "last_vpn_event,is_web_accessible",
    "$expand": "is_of__device_type($select=slug),belongs_to__application($select=slug),"
    "is_running__release($select=commit),should_be_running__release($select=commit),"
    "device_tag($select=tag_key,value;$orderby=tag_key asc)",
    "$orderby": "device_name asc",
}
_RELEASE = {
    "$select": "id,commit,status,raw_version,created_at,end_timestamp,error_message,"
    "images_removed_timestamp",
    "$expand": "belongs_to__application($select=slug,should_be_running__release)",
    "$orderby": "id desc",
}


class ApiClient:
    """A connection to one fleet's api, for one user.

    Every method raises UnreachableError when the server does not answer, NotAuthorisedError when it
    refuses this user, NotFoundError when it has no such thing, ClientError for other refusals.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        ca_file: Path | None = None,
        *,
        logs_url: str | None = None,
        builder_url: str | None = None,
        fleet: str | None = None,
        proxy: str | None = None,
    ) -> None:
        """`ca_file`: the certificate authority to trust besides the system's. `proxy`: the site's.

        Raises:
            ClientError: that file cannot be read as certificates.
        """
        self._http = Transport(url, token, ca_file, fleet, proxy)
        self.account = Account(self._http, self._rows)
        self.actions = Actions(self._http, self._rows)
        self.space = Space(self._http)
        self._logs_url = (logs_url or self.url).rstrip("/")
        self._builder_url = builder_url

    @property
    def url(self) -> str:
        """The api's."""
        return self._http.url

    @property
    def token(self) -> str | None:
        """Of the session, or an API key: a secret."""
        return self._http.token

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._http.close()

    def login(self, username: str, password: str) -> str:
        """A session token, which this client uses from now on.

        Where the account has a second factor, it does nothing but `account.verify` yet.
        """
        body = {"username": username, "password": password}
        self._http.token = self._http.request("POST", "/login_", json=body).text.strip()
        return self._http.token

    def refresh_token(self) -> str:
        """A new session token in place of one that grows old."""
        self._http.token = self._http.request("GET", "/user/v1/refresh-token").text.strip()
        return self._http.token

    def whoami(self) -> User:
        """The user whose token this is."""
        fields = self._http.request("GET", "/user/v1/whoami").json()
        return User(fields["id"], fields["username"], fields.get("email"))

    def fleet_config(self) -> FleetConfig:
        """Where the fleet's parts are."""
        fields = self._http.request("GET", "/config").json()
        return FleetConfig(
            fleet=fields["fleet"],
            host=fields["gitServerUrl"],
            git_port=fields["gitServerPort"],
            api_url=fields["apiUrl"],
            builder_url=fields["builderUrl"],
            logs_url=fields["logsUrl"],
            registry=fields["registry"],
            tunnel=_tunnel(fields),
            devices=fields.get("deviceUrlsBase", ""),
            deltas=fields.get("deltaUrl") or "",
        )

    def tunnel_place(self) -> str | None:
        """`host:port` of the way to devices; None: the fleet has no VPN."""
        return _tunnel(self._http.request("GET", "/config").json())

    def keys(self) -> list[PublicKey]:
        """The SSH keys of this user."""
        query = {"$select": "id,title,fingerprint,created_at", "$orderby": "id asc"}
        return [
            PublicKey(row["id"], row["title"], row["fingerprint"], row["created_at"])
            for row in self._rows("user__has__public_key", query)
        ]

    def ensure_key(self, public_key: str, title: str | None = None) -> bool:
        """Adds an SSH key (one line of a `.pub` file); False: the account had it already."""
        body = {"public_key": public_key.strip()} | ({"title": title} if title else {})
        answer = self._http.request("POST", "/v7/user__has__public_key", json=body, accept=(409,))
        return answer.status_code != 409

    def remove_key(self, key_id: int) -> None:
        """Removes an SSH key."""
        if all(each.id != key_id for each in self.keys()):
            raise NotFoundError(f"no SSH key {key_id}: `gantry key list` has yours")
        self._http.request("DELETE", f"/v7/user__has__public_key({key_id})")

    def applications(self) -> list[Application]:
        """All applications that this user sees."""
        return [records.application(row) for row in self._rows("application", _APPLICATION)]

    def application(self, name: str) -> Application:
        """The application of this name, slug (`user/name`), uuid or id."""
        text = _quoted(name)
        wanted = f"app_name eq {text} or slug eq {text} or uuid eq {text}{_or_id(name)}"
        rows = self._rows("application", _APPLICATION | {"$filter": wanted})
        found = [records.application(row) for row in rows]
        exact = [each for each in found if name in (each.slug, each.uuid)] or found
        if not exact:
            raise NotFoundError(f"no application {name!r}: `gantry fleets` has those that you see")
        if len(exact) > 1:
            slugs = ", ".join(each.slug for each in exact)
            raise UsageError(f"several applications are called {name!r}: use one of {slugs}")
        return exact[0]

    def create_application(self, name: str, device_type: str) -> Application:
        """A new application for devices of this type (a slug, such as `raspberrypi3-64`)."""
        body = {"app_name": name, "is_for__device_type": device_type}
        made = self._http.request("POST", "/v7/application", json=body).json()
        return self.application(str(made["id"]))

    def devices(self, application: Application | None = None) -> list[Device]:
        """All devices that this user sees, or those of one application."""
        query = dict(_DEVICE)
        if application:
            query["$filter"] = f"belongs_to__application eq {application.id}"
        return [records.device(row) for row in self._rows("device", query)]

    def device(self, reference: str) -> Device:
        """The device of this name, id, uuid, or the only one whose uuid begins so."""
        text = _quoted(reference)
        wanted = f"device_name eq {text}{_or_id(reference)}"
        if reference and set(reference) <= set("0123456789abcdef"):
            wanted += f" or startswith(uuid,{text})"
        found = [records.device(row) for row in self._rows("device", _DEVICE | {"$filter": wanted})]
        exact = [each for each in found if reference in (each.name, str(each.id), each.uuid)]
        found = exact or found
        if not found:
            raise NotFoundError(f"no device {reference!r}: `gantry devices` has those that you see")
        if len(found) > 1:
            uuids = ", ".join(each.uuid[:12] for each in found)
            raise UsageError(f"{reference!r} is not one device: use more of a uuid ({uuids})")
        return found[0]

    def remove_device(self, device: Device) -> None:
        """Makes the fleet forget a device: its key opens nothing any more."""
        self._http.request("DELETE", f"/v7/device({device.id})")

    def remove_devices(self, uuids: Sequence[str]) -> int:
        """Makes the fleet forget these devices, of which some may not be there; how many were."""
        removed = 0
        for begin in range(0, len(uuids), _DELETED_AT_ONCE):
            named = ",".join(_quoted(uuid) for uuid in uuids[begin : begin + _DELETED_AT_ONCE])
            wanted = {"$filter": f"uuid in ({named})"}
            removed += len(self._rows("device", {"$select": "id"} | wanted))
            self._http.request("DELETE", "/v7/device", params=wanted)
        return removed

    def set_web_accessible(self, device: Device, on: bool) -> None:
        """Gives a device a public URL, or takes it away."""
        body = {"is_web_accessible": on}
        self._http.request("PATCH", f"/v7/device({device.id})", json=body)

    def supervisors(self, device: Device) -> Supervisors:
        """Which supervisor a device runs, and which it is to run."""
        query = {
            "$select": "supervisor_version",
            "$expand": "should_be_managed_by__release($select=raw_version)",
            "$filter": f"id eq {device.id}",
        }
        [row] = self._rows("device", query)
        wanted = records.first(row["should_be_managed_by__release"]).get("raw_version")
        return Supervisors(device.name, row["supervisor_version"], wanted)

    def set_supervisor(self, device: Device, version: str | None) -> None:
        """Has a device run this supervisor from now on; None: it keeps whichever it has."""
        release = None if version is None else self._supervisor_release(device, version)
        body = {"should_be_managed_by__release": release}
        self._http.request("PATCH", f"/v7/device({device.id})", json=body)

    def _supervisor_release(self, device: Device, version: str) -> int:
        query = {
            "$select": "id,raw_version",
            "$filter": "status eq 'success' and belongs_to__application/any(a:a/is_public eq true "
            "and endswith(a/slug,'-supervisor') and a/is_for__device_type/any(t:"
            "t/is_of__cpu_architecture/any(c:c/is_supported_by__device_type/any(d:"
            f"d/slug eq {_quoted(device.device_type)}))))",
            "$orderby": "id asc",
        }
        known = {row["raw_version"]: int(row["id"]) for row in self._rows("release", query)}
        if version not in known:
            raise NotFoundError(
                f"no supervisor {version!r} for a {device.device_type}: there are "
                f"{', '.join(known) or 'none'} (a push makes that of the builder)"
            )
        return known[version]

    def set_target(self, application_id: int, release_id: int) -> None:
        """Makes a release the one that an application's devices should run."""
        body = {"should_be_running__release": release_id}
        self._http.request("PATCH", f"/v7/application({application_id})", json=body)

    def releases(
        self, application: Application | None = None, limit: int | None = None
    ) -> list[Release]:
        """Releases, the newest first."""
        query = dict(_RELEASE)
        if application:
            query["$filter"] = f"belongs_to__application eq {application.id}"
        return [records.release(row) for row in self._rows("release", query, limit)]

    def fleet_app(self, application: Application, commit: str) -> dict[str, Any]:
        """An application as devices are to run it with this release, in version 3 of the target."""
        path = f"/device/v3/fleet/{application.uuid}/state"
        state = self._http.request("GET", path, params={"releaseUuid": commit}).json()
        app: dict[str, Any] = state[application.uuid]["apps"][application.uuid]
        return app

    def service_variables(self, device: Device) -> dict[str, dict[str, str]]:
        """The variables that single services have on this device, by the services' names."""
        query = {
            "$select": "id,name,value",
            "$filter": f"service_install/any(each:each/device eq {device.id})",
            "$expand": "service_install($expand=installs__service($select=service_name))",
        }
        found: dict[str, dict[str, str]] = {}
        for row in self._rows("device_service_environment_variable", query):
            service = row["service_install"][0]["installs__service"][0]["service_name"]
            found.setdefault(service, {})[row["name"]] = row["value"]
        return found

    def build_log(self, release_id: int) -> str:
        """The whole output of a release's build."""
        # The builder tells nobody whether a release is not there or another's: the api does.
        if not self._rows("release", {"$select": "id", "$filter": f"id eq {release_id}"}):
            raise NotFoundError(
                f"no release {release_id}: `gantry releases` has those that you see"
            )
        base = self._builder_url or self.fleet_config().builder_url
        return self._http.request("GET", f"{base.rstrip('/')}/v3/builds/{release_id}/log").text

    def variables(self, owner: Application | Device) -> list[Variable]:
        """The variables of an application or of a device alone, by name."""
        resource, field = _variables_of(owner)
        query = {
            "$select": "id,name,value",
            "$filter": f"{field} eq {owner.id}",
            "$orderby": "name asc",
        }
        is_device = isinstance(owner, Device)
        return [
            Variable(
                id=row["id"],
                name=row["name"],
                value=row["value"],
                application=None if is_device else owner.name,
                device=owner.name if is_device else None,
            )
            for row in self._rows(resource, query)
        ]

    def set_variable(self, owner: Application | Device, name: str, value: str) -> bool:
        """Gives a variable this value; False: it had it already."""
        resource, field = _variables_of(owner)
        known = next((each for each in self.variables(owner) if each.name == name), None)
        if known is None:
            body = {field: owner.id, "name": name, "value": value}
            self._http.request("POST", f"/v7/{resource}", json=body)
        elif known.value == value:
            return False
        else:
            self._http.request("PATCH", f"/v7/{resource}({known.id})", json={"value": value})
        return True

    def remove_variable(self, owner: Application | Device, name: str) -> None:
        """Removes a variable."""
        resource, _ = _variables_of(owner)
        known = next((each for each in self.variables(owner) if each.name == name), None)
        if known is None:
            raise NotFoundError(f"{owner.name} has no variable {name!r} of its own")
        self._http.request("DELETE", f"/v7/{resource}({known.id})")

    def reachable_ports(self, owner: Application | Device) -> str | None:
        """Which ports of it members reach who are no administrators; None: nothing is said."""
        query = {"$select": "reachable_ports", "$filter": f"id eq {owner.id}"}
        [row] = self._rows(_resource_of(owner), query)
        ports: str | None = row["reachable_ports"]
        return ports

    def set_reachable_ports(self, owner: Application | Device, ports: str | None) -> None:
        """Says which ports of it those reach: `80,8000-8010`; empty for none, None for nothing."""
        body = {"reachable_ports": ports}
        self._http.request("PATCH", f"/v7/{_resource_of(owner)}({owner.id})", json=body)

    def set_tag(self, device: Device, key: str, value: str) -> bool:
        """Gives a device's tag this value; False: it had it already."""
        known = self._tag_id(device, key)
        if known is None:
            body = {"device": device.id, "tag_key": key, "value": value}
            self._http.request("POST", "/v7/device_tag", json=body)
        elif device.tags.get(key) == value:
            return False
        else:
            self._http.request("PATCH", f"/v7/device_tag({known})", json={"value": value})
        return True

    def remove_tag(self, device: Device, key: str) -> None:
        """Takes a tag from a device."""
        known = self._tag_id(device, key)
        if known is None:
            raise NotFoundError(f"{device.name} has no tag {key!r}")
        self._http.request("DELETE", f"/v7/device_tag({known})")

    def _tag_id(self, device: Device, key: str) -> int | None:
        wanted = f"device eq {device.id} and tag_key eq {_quoted(key)}"
        rows = self._rows("device_tag", {"$select": "id", "$filter": wanted})
        return rows[0]["id"] if rows else None

    def download_config(
        self,
        application: Application,
        device_type: str | None = None,
        *,
        key_name: str | None = None,
        key_expires: datetime | None = None,
    ) -> dict[str, Any]:
        """A config.json for new devices, with a provisioning key of its own: a secret."""
        body: dict[str, Any] = {"appId": application.id}
        if device_type:
            body["deviceType"] = device_type
        if key_name:
            body["provisioningKeyName"] = key_name
        if key_expires:
            body["provisioningKeyExpiryDate"] = key_expires.isoformat()
        config: dict[str, Any] = self._http.request("POST", "/download-config", json=body).json()
        return config

    def service_names(self, device: Device) -> dict[int, str]:
        """The services of a device's application by their ids, as log lines bear them."""
        wanted = f"application/slug eq {_quoted(device.application)}"
        query = {"$select": "id,service_name", "$filter": wanted}
        return {row["id"]: row["service_name"] for row in self._rows("service", query)}

    def log_history(self, device: Device, query: Mapping[str, str | int]) -> list[dict[str, Any]]:
        """Lines of a device, oldest first; `query` as the endpoint takes it."""
        url = f"{self._logs_url}/device/v2/{device.uuid}/logs"
        lines: list[dict[str, Any]] = self._http.request("GET", url, params=dict(query)).json()
        return lines

    def log_stream(self, device: Device, query: Mapping[str, str | int]) -> Iterator[str]:
        """Lines as NDJSON, for as long as the connection holds."""
        url = f"{self._logs_url}/device/v2/{device.uuid}/logs"
        with self._http.stream(url, {**query, "stream": "1"}) as lines:
            yield from lines

    def audit_entries(self, count: int, resource: str | None = None) -> list[AuditEntry]:
        """Who changed what, the latest last; of one resource's rows only where it is named."""
        query = {"$orderby": "id desc"}
        if resource is not None:
            query["$filter"] = f"resource eq {_quoted(resource)}"
        return [
            AuditEntry(
                at=row["created_at"],
                who=row["actor_name"] or "",
                action=row["action"],
                resource=row["resource"],
                row=row["row"],
                name=row["row_name"],
                changes=row["changes"],
            )
            for row in reversed(self._rows("audit_entry", query, count))
        ]

    def pages(self, query: str, media_type: str) -> Iterator[httpx2.Response]:
        """Whatever one asks the resource model, page after page: `device?$filter=…`."""
        path: str | None = f"/v7/{query.removeprefix('/v7/').lstrip('/')}"
        while path is not None:
            answer = self._http.request("GET", path, accept_type=media_type)
            yield answer
            path = _following(answer)

    def _rows(
        self, resource: str, query: Mapping[str, str], limit: int | None = None
    ) -> list[dict[str, Any]]:
        """All rows; the api gives them in pages."""
        rows: list[dict[str, Any]] = []
        params: dict[str, str | int] = dict(query)
        if limit is not None:
            params["$top"] = limit
        while True:
            if rows:
                params["$skip"] = len(rows)
            answer = self._http.request("GET", f"/v7/{resource}", params=params).json()
            rows += answer["d"]
            if limit is not None or "@odata.nextLink" not in answer or not answer["d"]:
                return rows


def _following(answer: httpx2.Response) -> str | None:
    """The path of the next page: in the header `Link` (RFC 8288) of CSV, in the body of JSON."""
    url = answer.links.get("next", {}).get("url")
    if url is None and answer.headers.get("content-type", "").startswith("application/json"):
        body = answer.json()
        url = body.get("@odata.nextLink") if isinstance(body, dict) else None
    if url is None:
        return None
    # Of the api that was asked, whatever name it goes by itself.
    parts = urlsplit(str(url))
    return f"{parts.path}?{parts.query}"


def open_fleet(fleet: str) -> ApiClient:
    """A client with the session of `gantry login`, renewed when it is a day old.

    Raises:
        NotAuthorisedError: nobody is logged in to this fleet.
    """
    kept = session.load(fleet)
    certificate = session.ca_path(fleet)
    client = ApiClient(
        kept.url,
        kept.token,
        certificate if certificate.exists() else None,
        logs_url=kept.logs_url,
        builder_url=kept.builder_url,
        fleet=fleet,
        proxy=kept.proxy,
    )
    if session.age(fleet) > REFRESH_SECONDS:
        # The old one may do; if not, the command itself says what is wrong
        with contextlib.suppress(ClientError):
            session.save(fleet, replace(kept, token=client.refresh_token()))
    return client


def _tunnel(fields: Mapping[str, Any]) -> str | None:
    """`host:port` of a fleet's tunnels: its api tells a name, as the family's do, or a URL."""
    told = fields.get("tunnelUrl")
    if not told:
        return None
    parts = urlsplit(told if "//" in told else f"//{told}")
    return f"{parts.hostname}:{parts.port or fields.get('vpnPort', 443)}"


def _resource_of(owner: Application | Device) -> str:
    return "device" if isinstance(owner, Device) else "application"


def _variables_of(owner: Application | Device) -> tuple[str, str]:
    kind = _resource_of(owner)
    return f"{kind}_environment_variable", kind


def _quoted(text: str) -> str:
    """An OData string: quotes are doubled."""
    doubled = text.replace("'", "''")
    return f"'{doubled}'"


def _or_id(text: str) -> str:
    return f" or id eq {text}" if text.isdecimal() and len(text) < 18 else ""
