"""A dynamic resource that leaves a file as its trace in the world."""

import time
from pathlib import Path
from typing import Any

import pulumi
from pulumi.dynamic import (
    CheckFailure,
    CheckResult,
    CreateResult,
    DiffResult,
    ReadResult,
    Resource,
    ResourceProvider,
    UpdateResult,
)


class FileProvider(ResourceProvider):
    def check(self, _olds: dict[str, Any], news: dict[str, Any]) -> CheckResult:
        wrong = news["text"] == "forbidden"
        failures = [CheckFailure("text", "this text is forbidden")] if wrong else []
        return CheckResult(news, failures)

    def diff(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        replaces = ["path"] if olds["path"] != news["path"] else []
        return DiffResult(changes=bool(replaces) or olds["text"] != news["text"], replaces=replaces)

    def create(self, props: dict[str, Any]) -> CreateResult:
        path = Path(props["path"])
        if props["text"] == "broken":
            raise RuntimeError("the disk is on fire")
        path.with_suffix(".begun").touch()
        time.sleep(props["seconds"])
        path.write_text(props["text"])
        return CreateResult(str(path), {**props, "length": len(props["text"])})

    def update(self, _id: str, _olds: dict[str, Any], news: dict[str, Any]) -> UpdateResult:
        Path(news["path"]).write_text(news["text"])
        return UpdateResult({**news, "length": len(news["text"])})

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        return ReadResult(id_ if Path(id_).exists() else None, props)

    def delete(self, id_: str, _props: dict[str, Any]) -> None:
        Path(id_).unlink(missing_ok=True)


class File(Resource):
    length: pulumi.Output[int]
    text: pulumi.Output[str]

    def __init__(self, name: str, path: str, text: str, seconds: float, **options: Any) -> None:
        props = {
            "path": path,
            "text": pulumi.Output.secret(text),
            "seconds": seconds,
            "length": None,
        }
        super().__init__(FileProvider(), name, props, pulumi.ResourceOptions(**options))
