"""What the app needs of the Jupyter kernel it runs in.

A browser sends the next change of a widget only after the kernel said `idle` to the last.
ipykernel 7.4 handles messages of widgets also while a cell awaits, and then says nothing:
from there on the widget's changes stay in the browser, clicks and frame clock with them.
"""

from collections.abc import Mapping
from typing import Any

SERVER_VARIABLE = "SERVER_SOFTWARE"


def is_for_visitors(environment: Mapping[str, str]) -> bool:
    """Whether Voila serves the notebook: to visitors, each with a kernel, who run no code."""
    return environment.get(SERVER_VARIABLE, "").startswith("voila")


def answer_while_awaiting() -> None:
    """Make the running kernel say `idle` to messages it handles while a cell awaits.

    `busy` follows, because the cell still runs. Nothing happens without a kernel, with one
    that does not handle them meanwhile, or a second time.
    """
    from ipykernel.kernelbase import Kernel

    if not Kernel.initialized():
        return
    kernel: Any = Kernel.instance()
    dispatch = kernel.dispatch_shell
    if getattr(dispatch, "answers", False):
        return

    async def dispatch_and_answer(message: Any, /, **how: Any) -> None:
        await dispatch(message, **how)
        if how.get("concurrent"):
            kernel._publish_status("idle", "shell")
            kernel._publish_status("busy", "shell")

    dispatch_and_answer.answers = True  # type: ignore[attr-defined]
    kernel.dispatch_shell = dispatch_and_answer
