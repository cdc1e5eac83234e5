"""The rules of the model: declared once, held by the database, whoever makes a change."""

from gantry.api.rules.broken import Broken, broken
from gantry.api.rules.declarations import GROUPS, RULES
from gantry.api.rules.kinds import Rule
from gantry.api.rules.tables import METADATA

__all__ = ["GROUPS", "METADATA", "RULES", "Broken", "Rule", "broken"]
