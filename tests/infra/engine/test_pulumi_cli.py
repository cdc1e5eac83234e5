"""The engine that is the Pulumi CLI, as far as it goes without one."""

import pytest

from gantry.deployment.engine import EngineError
from gantry.deployment.engine.pulumi_cli import PulumiCli

from .conftest import Deployed


def test_stack_of_the_builtin_engine_is_refused_with_the_way_to_move(deployed: Deployed) -> None:
    deployed.engine.up()
    cli = PulumiCli(deployed.stack, deployed.root, deployed.home)
    with pytest.raises(EngineError, match="is deployed with the built-in engine") as refusal:
        cli.up()
    assert f"gantry export {deployed.stack}" in str(refusal.value)
    assert "pulumi stack import" in str(refusal.value)
