"""A board, a network and a task of one's own: copied and changed here, or read from files.

What is typed is checked by what reads the files later: a profile by its line, a network by its
layer, a task by reading all of it. `choose` is called with `device`, `model` or `task` and the
path that is then asked about.
"""

import asyncio
import os
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets as widgets

from explorer import catalog
from explorer.accuracy.tasks import SignalTask, check_task, task_for
from explorer.app import fields
from explorer.app.answer import error_html
from explorer.app.kernel import is_for_visitors
from explorer.app.visitors import download_html, place_for
from explorer.app.words import line
from explorer.device import DeviceProfile, load_device
from explorer.device_text import (
    changed_numbers,
    duplicate,
    profile_toml,
    with_changes_assumed,
)
from explorer.errors import ExplorerError, SpecError
from explorer.network import SUFFIX, load_network
from explorer.own_code import is_code
from explorer.paths import check_writable, user_cache, write_whole

_NAMES_SHOWN = 3
_ASK_COPY = "Copy the device that is shown, change its numbers, and save it as a file of yours."
_ASK_NETWORK = "A network as JSON, such as <code>explorer trace</code> writes of a torch module."
_ASK_TASK = (
    "A folder with a subfolder of images for each class, signals (an <code>.npz</code>, or a "
    "folder with <code>labels.csv</code>), or a function that returns either, as "
    "<code>my_task.py:load</code>. Read task runs that function."
)
_TASKS = "a folder, an .npz, file.py:name or package.module:name"


class OwnParts:
    """A profile as text with what is wrong with it, a network from a file, a task by its path.

    `device_now` says the device, `shape_now` what the network reads.
    """

    def __init__(
        self,
        device_now: Callable[[], str],
        shape_now: Callable[[], tuple[int, ...]],
        choose: Callable[[str, str], None],
    ) -> None:
        self._device_now = device_now
        self._shape_now = shape_now
        self._choose = choose
        self._reading: asyncio.Task[None] | None = None
        self._base: DeviceProfile | None = None
        self.copy = fields.button("Duplicate the device", line("copy"))
        self.profile = widgets.Textarea(
            description="Profile (TOML)",
            placeholder="the profile of a board; Duplicate the device fills it",
            tooltip=line("profile"),
            rows=14,
            disabled=True,
        )
        fields.explained(self.profile).add_class("explorer-field")
        self.profile.add_class("explorer-document")
        self.device_words = _words(_ASK_COPY)
        self.device_path = fields.text("Save as", line("device_path"), "my-board.toml")
        self.save = fields.button("Save and show", line("save"))
        self.network_path = fields.text("Network JSON", line("network_path"), placeholder="a path")
        self.show_network = fields.button("Show", line("show_network"))
        self.upload = widgets.FileUpload(
            accept=SUFFIX,
            description="Upload",
            tooltip=line("upload"),
        )
        self.network_words = _words(_ASK_NETWORK)
        self.task_path = fields.text("Task data", line("task_path"), placeholder="a path")
        self.read_task = fields.button("Read task", line("read_task"))
        self.task_words = _words(_ASK_TASK)
        network = [self.network_path, self.show_network, self.upload, self.network_words]
        self.box = widgets.HBox(
            [
                _column([self.copy, self.profile, self.device_words, self.device_path, self.save]),
                _column([*network, self.task_path, self.read_task, self.task_words]),
            ]
        )
        self.box.add_class("explorer-own")
        self.save.disabled = True
        self.copy.on_click(lambda _: self.duplicate())
        self.profile.observe(lambda _: self._check(), names="value")
        self.save.on_click(lambda _: self._try(self._save, self.device_words))
        self.show_network.on_click(lambda _: self._try(self._show_network, self.network_words))
        self.upload.observe(
            lambda _: self._try(self._take_upload, self.network_words), names="value"
        )
        self.read_task.on_click(lambda _: self._try(self._read_task, self.task_words))

    def duplicate(self) -> None:
        """Put a copy of the shown device's profile into the text."""
        name = self._device_now()
        self._base = load_device(name)
        path = _free_path(f"my-{self._base.name}")
        self.profile.disabled = False
        self.profile.value = profile_toml(duplicate(path.stem, name))
        self.device_path.value = str(path)
        self._check()

    def _profiles(self) -> tuple[DeviceProfile, DeviceProfile]:
        """The profile that the text says, and what it is a copy of; SpecError names the line."""
        if self._base is None:
            raise SpecError("profile: empty; Duplicate the device fills it")
        return DeviceProfile.from_toml(self.profile.value, "profile"), self._base

    def _check(self) -> None:
        """Say what is wrong with the text, or what differs from the copied profile."""
        if self._base is None:
            return
        try:
            changed = changed_numbers(*self._profiles())
        except ExplorerError as error:
            self.save.disabled = True
            self.device_words.value = error_html(str(error))
            return
        self.save.disabled = False
        listed = [f"{path} {words}" for path, words in changed.items()]
        more = f" and {len(listed) - _NAMES_SHOWN} more" if len(listed) > _NAMES_SHOWN else ""
        words = "; ".join(listed[:_NAMES_SHOWN]) + more
        self.device_words.value = escape(
            f"A valid profile. Changed, and so assumed: {words}"
            if listed
            else f"A valid profile; every number is still that of {self._base.name}."
        )

    def _save(self) -> None:
        profile, base = self._profiles()
        path = place_for(Path(self.device_path.value.strip()))
        if path.suffix != ".toml":
            raise SpecError.of("Save as", self.device_path.value, "a path that ends in .toml")
        if path.exists():
            raise SpecError(f"{path}: is already there; save under another name")
        text = profile_toml(with_changes_assumed(profile, base))
        _write(path, text.encode())
        self._choose("device", str(path))
        words = escape(f"Saved as {path}, and shown.")
        if is_for_visitors(os.environ):
            words = f"Shown as long as this page is open. {download_html(path.name, text)}"
        self.device_words.value = words

    def _show_network(self) -> None:
        path = self.network_path.value.strip()
        _check_suffix("Network JSON", path)
        graph = load_network(Path(path).expanduser())
        self._choose("model", path)
        count = len(graph.layers)
        self.network_words.value = escape(f"{graph.name} of {count} layers is shown.")

    def _take_upload(self) -> None:
        """Keep an uploaded file under its own name, so that a session can name it."""
        for file in self.upload.value:
            path = place_for(user_cache() / "networks" / Path(file["name"]).name)
            _check_suffix("Upload", str(path))
            _write(path, bytes(file["content"]))
            self.network_path.value = str(path)
            self._show_network()

    def _read_task(self) -> None:
        """Read a task in a thread, since much data takes long."""
        name = self.task_path.value.strip()
        if not catalog.is_own_task(name):
            raise SpecError.of("Task data", name, _TASKS)
        if is_code(name) and is_for_visitors(os.environ):
            raise SpecError("Task data: code is run in a notebook or a terminal, not by visitors")
        check_task(name)
        self.read_task.disabled = True
        self.task_words.value = escape(f"{name} is read.")
        reading = self._read(name, self._shape_now())
        self._reading = asyncio.get_running_loop().create_task(reading)

    async def _read(self, name: str, input_shape: tuple[int, ...]) -> None:
        try:
            task = await asyncio.to_thread(task_for, name, input_shape)
        except Exception as error:  # noqa: BLE001 - shown; nobody awaits this
            self.task_words.value = error_html(str(error))
        else:
            self._choose("task", name)
            what = "signals" if isinstance(task, SignalTask) else "images"
            count = f"{len(task.labels)} {what} of {len(task.class_names)} classes"
            self.task_words.value = escape(f"{count}, and the task is shown.")
        finally:
            self.read_task.disabled = False

    def _try(self, action: Callable[[], None], words: Any) -> None:
        """Do it, or say in one sentence why not."""
        try:
            action()
        except ExplorerError as error:
            words.value = error_html(str(error))


def _check_suffix(field: str, path: str) -> None:
    if not path.endswith(SUFFIX):
        raise SpecError.of(field, path, f"a path that ends in {SUFFIX}")


def _write(path: Path, content: bytes) -> None:
    check_writable(path)
    write_whole(path, content)


def _free_path(stem: str) -> Path:
    """`STEM.toml`, or the first of `STEM-2.toml`, ... that is not there yet."""
    number, path = 1, Path(f"{stem}.toml")
    while place_for(path).exists():
        number += 1
        path = Path(f"{stem}-{number}.toml")
    return path


def _words(html: str) -> Any:
    words = widgets.HTML(html)
    words.add_class("explorer-text")
    return words


def _column(parts: list[Any]) -> Any:
    column = widgets.VBox(parts)
    column.add_class("explorer-column")
    return column
