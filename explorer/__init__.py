"""Explorer: what to train on a device, and what it costs; live in a notebook.

A name loads its module when it is first asked for, so that `import explorer` is quick.
"""

import importlib
import logging
from typing import TYPE_CHECKING, Any

from explorer.errors import ExplorerError, SpecError

if TYPE_CHECKING:
    from explorer.accuracy.finetune import measure
    from explorer.accuracy.tracing import trace
    from explorer.app import app
    from explorer.check import check_applied
    from explorer.document import load_policy
    from explorer.procedure import apply_policy, reselect
    from explorer.session import Session

__all__ = [
    "ExplorerError",
    "Session",
    "SpecError",
    "app",
    "apply_policy",
    "check_applied",
    "load_policy",
    "measure",
    "reselect",
    "trace",
]

_HOMES = {
    "Session": "explorer.session",
    "app": "explorer.app",
    "apply_policy": "explorer.procedure",
    "check_applied": "explorer.check",
    "load_policy": "explorer.document",
    "measure": "explorer.accuracy.finetune",
    "reselect": "explorer.procedure",
    "trace": "explorer.accuracy.tracing",
}

logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'explorer' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """What there is, loaded or not: the names that completion offers."""
    return sorted({*globals(), *__all__})
