"""The notebook app; `explorer.app()` shows it.

The package is itself callable, because importing a submodule binds the name
`explorer.app` to this package and would hide a function of that name.
"""

import sys
from types import ModuleType

from explorer.app.main import App, get_app

__all__ = ["App", "app", "get_app"]

app = get_app


class _CallablePackage(ModuleType):
    __call__ = staticmethod(get_app)


sys.modules[__name__].__class__ = _CallablePackage
