"""The deployment engines: the Pulumi CLI where it is installed, else one of our own."""

from gantry.deployment.engine.builtin import Engine, Result
from gantry.deployment.engine.plan import Op, Step
from gantry.deployment.engine.values import EngineError, UnknownStackError

__all__ = ["Engine", "EngineError", "Op", "Result", "Step", "UnknownStackError"]
