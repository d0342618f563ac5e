"""Any torch module as a model graph."""

from explorer.accuracy.tracing.walk import Trace, trace

__all__ = ["Trace", "trace"]
