"""The notebook app; `explorer.app()` shows it.

The package is itself callable, because importing a submodule binds the name
`explorer.app` to this package and would hide a function of that name.
"""

import sys
from types import ModuleType

from explorer.app.keeper import attend
from explorer.app.kernel import answer_while_awaiting
from explorer.app.main import App
from explorer.session import Session

__all__ = ["App", "app", "get_app"]

_current: App | None = None


def get_app(session: Session | None = None) -> App:
    """The app of this kernel: the same one again, unless it is for another session."""
    global _current
    wanted = Session() if session is None else session
    if _current is not None and (_current.is_closed or _current.origin != wanted):
        _current.close()
        _current = None
    if _current is None:
        answer_while_awaiting()
        _current = App(wanted)
        attend(_current)
    return _current


app = get_app


class _CallablePackage(ModuleType):
    __call__ = staticmethod(get_app)


sys.modules[__name__].__class__ = _CallablePackage
