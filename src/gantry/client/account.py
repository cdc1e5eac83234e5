"""One's account over the api: password, second factor, API keys; others' second factors."""

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from gantry.client.errors import NotFoundError
from gantry.client.records import ApiKey, User
from gantry.client.transport import Transport

Rows = Callable[[str, Mapping[str, str]], list[dict[str, Any]]]


def lacks_second_factor(token: str) -> bool:
    """Whether a session token says that its second factor is still to be passed (RFC 7519)."""
    try:
        body = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        return claims.get("twoFactorRequired") is True
    except (IndexError, binascii.Error, ValueError, AttributeError):
        return False


class Account:
    """What `ApiClient.account` offers; it raises what that does."""

    def __init__(self, http: Transport, rows: Rows) -> None:
        self._http = http
        self._rows = rows

    def _token_of(self, path: str, body: dict[str, str]) -> str:
        self._http.token = self._http.request("POST", path, json=body).text.strip()
        return self._http.token

    def change_password(self, old: str, new: str) -> str:
        """The token of a new session; all others end."""
        body = {"password": old, "newPassword": new}
        return self._token_of("/user/v1/change-password", body)

    def set_up_second_factor(self) -> str:
        """An `otpauth://` URL for an authenticator; `verify` with its first code enables it."""
        return self._http.request("GET", "/auth/totp/setup").text.strip()

    def verify(self, code: str) -> str:
        """The token of a session that has passed, by a code or a recovery code."""
        return self._token_of("/auth/totp/verify", {"code": code})

    def disable_second_factor(self, password: str) -> str:
        """The token of a new session of an account without a second factor."""
        return self._token_of("/auth/totp/disable", {"password": password})

    def recovery_codes(self, password: str) -> list[str]:
        """New ones; the former hold no more."""
        body = {"password": password}
        answer = self._http.request("POST", "/auth/totp/recovery-codes", json=body)
        codes: list[str] = answer.json()["codes"]
        return codes

    def reset_second_factor(self, username: str) -> None:
        """Removes somebody's lost second factor; only the administrator may."""
        self._http.request("POST", "/auth/totp/reset", json={"username": username})

    def users(self) -> list[User]:
        """The accounts that one sees: all for the administrator, else one's own."""
        query = {"$select": "id,username,email", "$orderby": "username asc"}
        rows = self._rows("user", query)
        return [User(row["id"], row["username"], row["email"]) for row in rows]

    def api_keys(self, *, of_all: bool = False) -> list[ApiKey]:
        """One's own API keys; `of_all`: those of one's applications and devices too."""
        query = {
            "$select": "id,name,description,role,is_of__actor,created_at,expiry_date",
            "$orderby": "id asc",
        }
        owners: dict[int, str] = {}
        if of_all:
            for resource, name in (("application", "slug"), ("device", "device_name")):
                found = self._rows(resource, {"$select": f"actor,{name}", "$orderby": "id asc"})
                owners |= {_id(row["actor"]): row[name] for row in found}
        else:
            query["$filter"] = "role eq 'user'"
        return [
            ApiKey(
                id=row["id"],
                name=row["name"] or "",
                role=row["role"],
                owner=owners.get(_id(row["is_of__actor"]), ""),
                created_at=row["created_at"],
                expires_at=row["expiry_date"],
            )
            for row in self._rows("api_key", query)
        ]

    def create_api_key(
        self,
        kind: str,
        owner: int,
        name: str,
        description: str | None = None,
        expires: datetime | None = None,
    ) -> str:
        """A new key of a `user`, a `device` or an `application`: a secret, shown this once."""
        body = {
            "actorType": kind,
            "actorTypeId": owner,
            "name": name,
            "description": description,
            "expiryDate": expires.isoformat() if expires else None,
        }
        key: str = self._http.request("POST", "/api-key/v2/", json=body).json()
        return key

    def remove_api_key(self, key_id: int) -> None:
        """Revokes a key: it opens nothing from now on."""
        wanted = {"$select": "id", "$filter": f"id eq {key_id}"}
        if not self._rows("api_key", wanted):
            raise NotFoundError(f"no API key {key_id}: `gantry api-key list --all` has yours")
        self._http.request("DELETE", f"/v7/api_key({key_id})")


def _id(reference: int | dict[str, int]) -> int:
    return reference["__id"] if isinstance(reference, dict) else reference
