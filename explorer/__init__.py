"""Explorer: what to train on a device, and what it costs; live in a notebook.

Names that pull in heavy libraries (widgets, torch) load when first asked for.
"""

import logging
from typing import Any

from explorer.document import load_policy
from explorer.errors import ExplorerError, SpecError
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

logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    if name == "app":
        from explorer.app import app

        return app
    if name == "apply_policy":
        from explorer.procedure import apply_policy

        return apply_policy
    if name == "check_applied":
        from explorer.check import check_applied

        return check_applied
    if name == "measure":
        from explorer.accuracy.finetune import measure

        return measure
    if name == "reselect":
        from explorer.procedure import reselect

        return reselect
    if name == "trace":
        from explorer.accuracy.tracing import trace

        return trace
    raise AttributeError(f"module 'explorer' has no attribute {name!r}")
