"""Keeps modules out of memory that libraries import and the supervisor does not need.

httpx2 and httpcore2 ask importlib.metadata for their own version, which brings zipfile, csv and
email with it: 0.7 MB, for a word of a header that the supervisor sets itself. To be imported before
them, by the process alone: whoever asks for more of the module gets the real one.
"""

import importlib
import sys
from types import ModuleType
from typing import Any

_NAME = "importlib.metadata"


class _Metadata(ModuleType):
    """Stands for importlib.metadata."""

    @staticmethod
    def version(_distribution: str) -> str:
        return "0"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        sys.modules.pop(_NAME, None)
        return getattr(importlib.import_module(_NAME), name)


if _NAME not in sys.modules:
    sys.modules[_NAME] = importlib.metadata = _Metadata(_NAME)
