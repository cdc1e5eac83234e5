"""Run the Pulumi program by itself, and print every resource that it registers, as JSON.

    python registered.py STACK < {"gantry:httpsPort": "8443", …}

Pulumi's mocks stand for the engine only: no engine lets one read what a program asks for with all
values known. Certificates and keys are real ones, so that what services read can be checked whole.
"""

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pulumi
from pulumi.runtime import MockCallArgs, MockResourceArgs, Mocks, set_all_config, set_mocks
from pulumi.runtime.stack import run_pulumi_func

from gantry.deployment.certificates import KeyPair, issue, make_authority, make_ssh_key

PROGRAM = Path(__file__).resolve().parents[3] / "infra"


class Recorder(Mocks):
    """Answers as a first `up` would, and remembers what it was asked."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def new_resource(self, args: MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        inputs = {key: value for key, value in args.inputs.items() if key != "__provider"}
        self.seen.append({"type": args.typ, "name": args.name, "inputs": inputs})
        return f"{args.name}-id", {**inputs, **_made(args.typ, inputs)}

    def call(self, args: MockCallArgs) -> tuple[dict[str, Any], list[tuple[str, str]] | None]:
        raise AssertionError(f"the program calls {args.token}: it should only register resources")


def _made(kind: str, inputs: dict[str, Any]) -> dict[str, Any]:
    match kind.rpartition(":")[2]:
        case "CertificateAuthority":
            pair = make_authority(inputs["common_name"])
        case "Certificate":
            authority = KeyPair(inputs["authority_key_pem"], inputs["authority_certificate_pem"])
            names = inputs.get("dns_names", [])
            pair = issue(authority, inputs["common_name"], dns_names=names)
        case "SshHostKey":
            key = make_ssh_key()
            return {"private_pem": key.private_pem, "public": key.public}
        case "RandomSecret":
            return {"value": "a-secret-of-32-bytes-and-some-more-text"}
        case _:
            return {}
    return {"key_pem": pair.key_pem, "certificate_pem": pair.certificate_pem}


def main(stack: str, config: dict[str, str]) -> None:
    """Print the resources, or one line on standard error that says what is wrong."""
    recorder = Recorder()
    set_mocks(recorder, project="gantry", stack=stack, preview=False)
    set_all_config(config)
    sys.path.insert(0, str(PROGRAM))

    async def program() -> None:
        runpy.run_path(str(PROGRAM), run_name="__main__")

    try:
        pulumi.runtime.sync_await._sync_await(run_pulumi_func(program))
    except pulumi.RunError as error:
        print(json.dumps({"error": str(error), "resources": recorder.seen}))
        sys.exit(1)
    print(json.dumps({"resources": recorder.seen}))


if __name__ == "__main__":
    main(sys.argv[1], json.load(sys.stdin))
