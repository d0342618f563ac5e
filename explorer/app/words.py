"""One line for every control: what it is for, and a source: a paper, a document, a file.

What no paper and no document says is defined in a file of ours.
"""

from explorer import catalog
from explorer.question import is_file

_LINES = {
    "model": (
        "the network that is trained; its figures are counted from the layers of its paper",
        "explorer/zoo",
    ),
    "device": ("the board; Evidence names the source of each of its numbers", "explorer/devices"),
    "task": (
        "what is learned on the device; only tasks that the network can read are listed",
        "docs/how-to/task.md",
    ),
    "batch": (
        "samples of one weight update, 1 to 128; as the policy or the network is published, else 1",
        "docs/cost-model.md",
    ),
    "micro_batch": (
        "samples in memory at once, a divisor of the batch; 0: as published, else all",
        "docs/cost-model.md",
    ),
    "precision": (
        "number format of weights and activations; the device's profile says its own",
        "explorer/devices",
    ),
    "optimizer": (
        "the rule of the update and its state in memory; as published, else sgd",
        "docs/cost-model.md",
    ),
    "policy": ("which layers and channels train; each family names its paper", "explorer/policies"),
    "memory_objective": (
        "what panels and a search compare: the peak, or what training adds",
        "docs/cost-model.md",
    ),
    "worth_axis": (
        "the score, predicted where that is earned; or only what was really measured",
        "docs/evidence.md",
    ),
    "update_timing": (
        "fused: each weight is updated as soon as its gradient is there; "
        "deferred: at the end of the step, as accumulation must",
        "docs/cost-model.md",
    ),
    "recompute": (
        "none: keep what backward needs; blocks: run blocks again in backward (modelled)",
        "Chen et al., arXiv 1604.06174",
    ),
    "norm": (
        "another normalisation than the network's own; batch norm needs the whole batch",
        "docs/cost-model.md",
    ),
    "reserve": (
        "RAM that belongs to the application and is taken off what is usable",
        "defined here: explorer/question.py",
    ),
    "more": ("settings that are rarely changed", "defined here: explorer/app/controls.py"),
    "forget": (
        "choose nothing of the setup: policy and network say it, or it is usual",
        "defined here: explorer/question.py",
    ),
    "own": (
        "duplicate the device and change its numbers; take a network or data of yours",
        "docs/how-to/device.md",
    ),
    "copy": ("its profile as text, every number with the source it has", "docs/how-to/device.md"),
    "profile": (
        "the profile that is saved; a number you change is marked assumed there",
        "docs/how-to/device.md",
    ),
    "device_path": (
        "a new .toml file; a file that is there is left alone",
        "docs/how-to/device.md",
    ),
    "save": (
        "write the profile with its changed numbers assumed, and ask about it",
        "docs/how-to/device.md",
    ),
    "network_path": (
        "path of a network, as explorer trace writes it",
        "docs/how-to/network.md",
    ),
    "show_network": (
        "check the network of that path and ask about it",
        "docs/how-to/network.md",
    ),
    "upload": (
        "a network JSON from your own machine; it is kept in the cache of Explorer",
        "docs/how-to/network.md",
    ),
    "task_path": (
        "what is learned on the device: a folder, an .npz, file.py:name or package.module:name",
        "docs/how-to/task.md",
    ),
    "read_task": (
        "read the data, running the code where it is code, and ask about it",
        "docs/how-to/task.md",
    ),
    "search": ("search designs with Optuna", "Akiba et al., arXiv 1907.10902"),
    "pause": ("pause after this batch, or go on", "defined here: explorer/app/searching.py"),
    "stop": ("stop after this batch", "defined here: explorer/app/searching.py"),
    "run": (
        "front: designs that no other beats in every objective; hypervolume: the volume of "
        "objectives that the front beats, in units of their scales; more is better",
        "defined here: explorer/search/front.py",
    ),
    "trials": (
        "designs that Optuna asks for in total, 20 to 100,000",
        "defined here: explorer/search/loop.py",
    ),
    "seed": ("the same seed asks the same", "defined here: explorer/search/loop.py"),
    "sampler": (
        "how Optuna chooses what to try next; the Search tab says more of each",
        "docs/how-to/sampler.md",
    ),
    "back": ("previous point", "defined here: explorer/app/view.py"),
    "ahead": ("next point", "defined here: explorer/app/view.py"),
    "points": (
        "the selected design, everywhere on the page",
        "defined here: explorer/app/view.py",
    ),
    "pin": (
        "keep this design in the Compare tab, up to four",
        "defined here: explorer/app/pins.py",
    ),
    "unpin": (
        "take this design out of the comparison",
        "defined here: explorer/app/pins.py",
    ),
    "fits_only": ("leave out candidates that do not fit the device", "docs/cost-model.md"),
    "path": (
        "where Export policy writes, with its folder; visitors of a page download it",
        "docs/policy-json.md",
    ),
    "export": ("write the selected design as JSON", "docs/policy-json.md"),
    "measure": (
        "really fine-tune the selected policy on the task",
        "docs/evidence.md",
    ),
    "picks": (
        "really fine-tune three of the front: knee, best, cheapest near the best",
        "defined here: explorer/search/picks.py",
    ),
    "episodes": (
        "times the policy is fine-tuned and tested; more make the interval narrower",
        "docs/evidence.md",
    ),
    "cancel": ("stop measuring after this fine-tuning", "defined here: explorer/app/measuring.py"),
    "advise": (
        "of the selected design: largest micro-batch, smallest device, what saves memory",
        "defined here: explorer/advice.py",
    ),
    "strip": (
        "what the strip under the layers shows, as a share of the whole network",
        "Kwon et al., ICML 2024",
    ),
    "cell": ("charge that the cell holds", "Wang et al., arXiv 2604.13359"),
    "volts": ("nominal voltage of the cell", "Wang et al., arXiv 2604.13359"),
}
CHANGE = "defined here: explorer/advice.py"
PAST = "defined here: explorer/app/past.py"


def line(name: str, more: str = "") -> str:
    """The line of a control by its name, with what is known of it now."""
    words, source = _LINES[name]
    return sourced(words + more, source)


def sourced(words: str, source: str) -> str:
    """A line and where it is from."""
    return f"{words}. Source: {source}"


def entry_line(words: str, kind: str, name: str) -> str:
    """A line that an entry of the catalogue says, or a file of one's own."""
    return sourced(words, name if is_file(name) else catalog.load(kind, name).__name__)
