"""What a browser hears from a kernel while a cell awaits."""

import queue
import time
from collections.abc import Iterator

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from explorer.app.kernel import answer_while_awaiting

MAKE = """
from explorer.app.kernel import answer_while_awaiting
answer_while_awaiting()
answer_while_awaiting()
import asyncio, ipywidgets
field = ipywidgets.IntText()
heard = asyncio.Event()
field.observe(lambda _: heard.set(), "value")
"""
AWAIT = """
await asyncio.wait_for(heard.wait(), 20)
await asyncio.sleep(0.3)
"""


@pytest.fixture(scope="module")
def client() -> Iterator[BlockingKernelClient]:
    manager = KernelManager()
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        yield client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_a_widget_hears_idle_while_a_cell_awaits(client: BlockingKernelClient) -> None:
    client.execute(MAKE)
    opened = _until(client, lambda said: "IntTextModel" in str(said["content"]))
    _until(client, lambda said: said["content"].get("execution_state") == "idle")
    cell = client.execute(AWAIT)
    _until(client, lambda said: said["msg_type"] == "execute_input")
    change = {"method": "update", "state": {"value": 7}, "buffer_paths": []}
    content = {"comm_id": opened["content"]["comm_id"], "data": change}
    message = client.session.msg("comm_msg", content)
    client.shell_channel.send(message)
    states = []
    while (cell, "idle") not in states:
        said = _until(client, lambda said: said["msg_type"] == "status")
        states.append((said["parent_header"]["msg_id"], said["content"]["execution_state"]))
    answered = (message["header"]["msg_id"], "idle")
    assert states.count(answered) == 1
    assert states[states.index(answered) + 1][1] == "busy"  # the cell still runs


def test_without_a_kernel_nothing_happens() -> None:
    answer_while_awaiting()


def _until(client: BlockingKernelClient, is_it) -> dict:
    """The next message of the kernel that is what is waited for."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            said = client.get_iopub_msg(timeout=1)
        except queue.Empty:
            continue
        if is_it(said):
            return said
    raise TimeoutError("the kernel did not say it")
