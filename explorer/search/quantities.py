"""What may be an objective or be limited: words of the terminal, columns of the cost model.

`score` is accuracy where it may be predicted, else the proxy score; `accuracy` and `proxy`
insist on one of them. Where another metric ranks runs (explorer.accuracy.metrics), `accuracy`
is that metric, and its column has the metric's name. `memory` is the peak or what training
needs above inference, as the question says. `retention` is the accuracy that fine-tuning loses
on the source domain, a share to make small; it is measured or not known, never predicted.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from explorer import catalog
from explorer.accuracy.metrics import METRIC_NAMES
from explorer.errors import SpecError
from explorer.units import format_quantity, parse_quantity, units_written

MERITS = tuple(METRIC_NAMES)
PROXY_SCORE = "proxy_score"
SCORES = (*MERITS, PROXY_SCORE)
MEMORY_OBJECTIVES = {"peak": "peak_live_bytes", "above-inference": "training_extra_bytes"}
PEAK = MEMORY_OBJECTIVES["peak"]
ENERGY = "step_energy_j"
TIME = "step_time_s"
SCORE_WORDS = ("score", "accuracy", "proxy")
COST_COLUMNS = {
    "memory": (PEAK, "byte"),
    **{word: (column, "byte") for word, column in MEMORY_OBJECTIVES.items()},
    "energy": (ENERGY, "J"),
    "time": (TIME, "s"),
    "macs": ("training_macs", "MAC"),
    "trained-parameters": ("trained_parameter_count", "parameter"),
}
RETENTION = "forgotten_accuracy"
RETENTION_WORD = "retention"
WORDS = (*SCORE_WORDS, *COST_COLUMNS, RETENTION_WORD)
UNITS = dict(COST_COLUMNS.values()) | dict.fromkeys((*SCORES, RETENTION), "1")
DEFAULT_OBJECTIVES = ("score", "memory", "energy")
MOST_OBJECTIVES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A bound on a column in natural units: the most of a cost, the least of a score."""

    name: str
    unit: str
    sense: str
    value: float

    @property
    def sentence(self) -> str:
        """`step_energy_j at most 5.00 mJ`."""
        return f"{self.name} at {self.sense} {format_quantity(self.value, self.unit)}"


def check_objectives(words: Sequence[str]) -> None:
    """SpecError unless these are different quantities, two to MOST_OBJECTIVES of them."""
    if isinstance(words, str) or not all(word in WORDS for word in words):
        raise SpecError.of("objectives", words, ", ".join(WORDS))
    if not 2 <= len(words) <= MOST_OBJECTIVES:
        raise SpecError.of("objectives", words, f"2 to {MOST_OBJECTIVES} quantities")
    if len({_kind(word) for word in words}) != len(words):
        raise SpecError.of("objectives", words, "one score, one memory, every other once")


def check_sampler(name: str, objective_count: int) -> None:
    """SpecError when a sampler of the catalogue cannot do with so many objectives."""
    most = getattr(catalog.load("sampler", name), "MOST_OBJECTIVES", objective_count)
    if objective_count > most:
        raise SpecError.of("objectives", objective_count, f"at most {most} with sampler {name}")


def check_limits(limits: Sequence[str]) -> None:
    """SpecError unless each is `quantity=value`, every quantity once."""
    for text in limits:
        parse_limit(text)
    words = [text.partition("=")[0] for text in limits]
    if len(set(words)) != len(words):
        raise SpecError.of("limits", tuple(limits), "every quantity once")


def parse_limit(text: str) -> tuple[str, float]:
    """`energy=5mJ` as its word and its value in natural units."""
    word, equals, value = text.partition("=")
    if not equals or word not in WORDS:
        raise SpecError.of("limit", text, f"quantity=value with one of {', '.join(WORDS)}")
    unit = COST_COLUMNS[word][1] if word in COST_COLUMNS else "1"
    try:
        return word, parse_quantity(value, unit)
    except ValueError:
        allowed = f"a number above zero, plain or with {', '.join(units_written(unit))}"
        raise SpecError.of(f"limit {word}", value, allowed) from None


def column_of(word: str, score_name: str, memory_objective: str = "peak") -> str:
    """The column a word means; SpecError when it insists on the other score."""
    if word in SCORE_WORDS:
        if word == "accuracy" and score_name not in MERITS:
            raise SpecError(f"{word}: no metric is predicted here; take proxy, or score")
        if word == "proxy" and score_name in MERITS:
            name = METRIC_NAMES[score_name]
            raise SpecError(f"{word}: the score is the predicted {name} here; take accuracy")
        return score_name
    if word == RETENTION_WORD:
        return RETENTION
    return MEMORY_OBJECTIVES[memory_objective] if word == "memory" else COST_COLUMNS[word][0]


def limit_of(text: str, score_name: str) -> Limit:
    """A limit on a column; memory is the peak, as RAM is."""
    word, value = parse_limit(text)
    name = column_of(word, score_name)
    sense = "least" if name in SCORES else "most"
    return Limit(name=name, unit=UNITS[name], sense=sense, value=value)


def asks_retention(objectives: Sequence[str], limits: Sequence[str]) -> bool:
    """Whether retention is among what is asked."""
    words = {*objectives, *(text.partition("=")[0] for text in limits)}
    return RETENTION_WORD in words


def _kind(word: str) -> str:
    """Words of one kind exclude each other: scores, and memories, which differ by a constant."""
    if word in SCORE_WORDS:
        return "score"
    return "memory" if word in MEMORY_OBJECTIVES else word
