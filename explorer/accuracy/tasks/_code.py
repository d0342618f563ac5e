"""A task of a user's own code: a function that returns labelled images or signals.

It takes no argument, or `side`, the side of images in pixels, and returns a TaskData or a
SignalTask; or a pair of inputs and labels; or a dict of `images` and `labels`, or of the arrays
of an NPZ of signals (`_own_signals.py`). In a pair uint8 are images, other numbers signals.
Images are of one size; of a fourth axis the shorter of the second and the last is the channels.
Of the images every class is new, and the network reads them from -1 to 1; with `signed` false
in the dict, from 0 to 1.
"""

import traceback
from collections.abc import Mapping
from dataclasses import replace
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explorer.accuracy.tasks import SignalTask, Task, TaskData
from explorer.accuracy.tasks._folder import FEWEST_IMAGES, queries_of
from explorer.accuracy.tasks._own_signals import NPZ_NEEDED, SIGNALS, signal_task
from explorer.accuracy.tasks._vision import image_task
from explorer.errors import ExplorerError, SpecError
from explorer.own_code import code_file, running

IMAGES, SIGNED = ("images", "labels"), "signed"
SHAPES = (
    "uint8 of shape [images, height, width], [images, height, width, channels] or "
    "[images, channels, height, width]"
)
_shapes: dict[str, tuple[int | None, ...]] = {}  # of code that has run in this process


def load_code(name: str, side: int | None) -> Task:
    """Run the code and check what it returns; whatever goes wrong there is one sentence."""
    place = f"task {name}"
    try:
        with running(place, name) as load:
            has_side = _has_side(place, load, side)
            made = load(side=side) if has_side else load()
            task = _task(name, place, made)
    except ExplorerError:
        raise
    except (Exception, SystemExit) as error:
        said = f"{place}: raised {type(error).__name__}: {error}"
        raise SpecError(said + _line(error, code_file(name))) from error
    _shapes[name] = _shape(task, has_side=has_side)
    return task


def known_shape(name: str) -> tuple[int | None, ...] | None:
    """As INPUT_SHAPE of an entry, of code that has run; None when it has not."""
    return _shapes.get(name)


def _has_side(place: str, load: Any, side: int | None) -> bool:
    """Whether a function takes `side`; SpecError when it cannot be called."""
    if not callable(load):
        raise SpecError.of(place, load, "a function")
    try:
        parameters = signature(load).parameters.values()
    except ValueError:  # of a builtin
        return False
    optional = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    needed = {one.name for one in parameters if one.default is one.empty} - {
        one.name for one in parameters if one.kind in optional
    }
    has_side = any(one.name == "side" for one in parameters) and side is not None
    if needed - ({"side"} if has_side else set()):
        raise SpecError.of(f"{place}: arguments", sorted(needed), "none, or side")
    return has_side


def _task(name: str, place: str, made: object) -> Task:
    if isinstance(made, TaskData | SignalTask):
        return replace(made, name=name)
    if isinstance(made, tuple | list) and len(made) == 2:
        inputs = _array(f"{place}: inputs", made[0])
        is_images = inputs.dtype == np.uint8
        if not is_images and inputs.ndim != 3:
            raise SpecError.of(
                f"{place}: inputs", _came(inputs), f"{SHAPES}; or signals, {SIGNALS}"
            )
        made = {"images" if is_images else "signals": inputs, "labels": made[1]}
    if not isinstance(made, Mapping):
        raise SpecError(
            f"{place}: returned a {type(made).__name__}, allowed: images or signals with labels "
            "as a pair or a dict, a TaskData, or a SignalTask"
        )
    arrays = {key: _array(f"{place}: {key}", value) for key, value in made.items()}
    is_images = set(IMAGES) <= set(arrays) <= {*IMAGES, SIGNED}
    if not is_images and not set(arrays) >= set(NPZ_NEEDED):
        allowed = f"{', '.join(IMAGES)} and where wanted {SIGNED}, or those of an .npz of signals"
        raise SpecError.of(f"{place}: names", list(arrays), allowed)
    labels = arrays["labels"]
    if labels.dtype.kind not in "biufUS" or (labels.dtype.kind == "f" and np.isnan(labels).any()):
        raise SpecError.of(f"{place}: labels", labels.flat[:3].tolist(), "numbers or words")
    if not is_images:
        return signal_task(name, place, arrays)
    signed = arrays.get(SIGNED, np.array(True))
    if signed.dtype != bool or signed.ndim:
        raise SpecError.of(f"{place}: {SIGNED}", signed.tolist(), "True or False")
    return _images(name, place, arrays["images"], labels, signed=bool(signed))


def _array(place: str, value: object) -> NDArray[Any]:
    """An array; words of any table's column are words."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise SpecError(f"{place}: cannot be made an array: {error}") from None
    if array.dtype == object and all(isinstance(one, str) for one in array.flat):
        return array.astype(str)
    return array


def _came(array: NDArray[Any]) -> str:
    return f"{array.dtype} of shape {array.shape}"


def _images(
    name: str, place: str, images: NDArray[Any], labels: NDArray[Any], *, signed: bool
) -> TaskData:
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or not images.size:
        raise SpecError.of(f"{place}: images", _came(images), SHAPES)
    if images.ndim == 3:
        pixels = images[:, None]
    elif images.shape[1] == images.shape[3]:
        allowed = "fewer channels than rows or columns, so that they can be told apart"
        raise SpecError.of(f"{place}: images", images.shape, allowed)
    else:
        is_last = images.shape[3] < images.shape[1]
        pixels = images.transpose(0, 3, 1, 2) if is_last else images
    if labels.shape != (len(images),):
        allowed = f"({len(images)},), one for each image"
        raise SpecError.of(f"{place}: labels", labels.shape, allowed)
    class_names, classes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    words = [str(label) for label in class_names]
    if len(words) < 2:
        raise SpecError.of(f"{place}: classes", words, "at least two")
    if counts.min() < FEWEST_IMAGES:
        few = f"{place}: images of class {words[int(counts.argmin())]}"
        raise SpecError.of(few, int(counts.min()), "a support and a query")
    queries = queries_of(int(counts.min()))
    return image_task(name, pixels, classes, words, queries, signed=signed)


def _shape(task: Task, *, has_side: bool) -> tuple[int | None, ...]:
    if isinstance(task, SignalTask):
        sides = task.signals.shape[1:]
        return (*sides[:-1], None) if has_side else sides
    channels = None if task.pixels.shape[1] == 1 else task.pixels.shape[1]
    return (channels, None, None) if has_side else (channels, *task.pixels.shape[2:])


def _line(error: BaseException, file: Path | None) -> str:
    """` (my_task.py, line 12)`: the last line of the user's file on the way to an error."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if file is not None and Path(frame.filename) == file]
    return f" ({own[-1].filename.rpartition('/')[2]}, line {own[-1].lineno})" if own else ""
