"""Kernel rates from measured times: the cost model's own times, fitted in logarithms.

A number moves by a factor `exp(z)`, z > 0 where the board is faster. Numbers that the rows
cannot tell apart move together, as one block: first all forward rates, then all backward
ratios, where the designs of the rows alone say that with an error of `NOISE` a row neither
would be uncertain by more than `WORTH` (one standard deviation of z). Then single numbers are
taken out, the one that explains most first, as long as Akaike's criterion for few rows (AICc)
falls and no standard error is above `WORTH`. Numbers that no row spends time on keep their
value. NOISE and WORTH are assumed.

Least squares of log(modelled / measured), with a pull to the base as weak as one row that says
"within a factor of ten", so that nothing runs away.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from explorer.costmodel.timing import Rates, seconds_by_feature
from explorer.costmodel.uncertainty import SLOWS, MicroBatch
from explorer.units import BoolArray, FloatArray

NOISE = 0.1
WORTH = 0.3
AICC_SPARE = 2  # rows that the criterion needs beyond the blocks
EXACT = 0.01  # rows agree no better than this
FOLDS = 20
LEAST_SHARE = 0.01  # of a row's time, below which a number counts as not spent on
RIDGE = NOISE / np.log(10)
STEP = 1e-4  # of the differences
FORWARD = (
    "conv_macs_per_cycle",
    "pointwise_macs_per_cycle",
    "depthwise_macs_per_cycle",
    "linear_macs_per_cycle",
    "thin_macs_per_cycle",
    "wide_depthwise_macs_per_cycle",
    "elements_per_cycle",
    "weight_bytes_per_s",
    "activation_bytes_per_s",
    "layer_overhead_cycles",
    "thin_overhead_cycles",
)
BACKWARD = (
    "input_grad_speed_ratio",
    "weight_grad_speed_ratio",
    "depthwise_grad_speed_ratio",
    "thin_grad_speed_ratio",
)
FITTED = (*FORWARD, *BACKWARD, "trainer_speed_ratio")

Blocks = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Timing:
    """One measured row: a design's work, the seconds of a step, those waited in it.

    Rows of one `group` are held out together. A group named as a network takes all rows of
    that network out of the fit that predicts it.
    """

    work: MicroBatch
    time_s: float
    wait_s: float
    network: str
    group: str


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Fit:
    """What a fit found: blocks of numbers and the logarithm of each one's factor."""

    blocks: Blocks
    log_factors: dict[str, float]

    def rates(self, base: Rates) -> Rates:
        """The numbers, moved."""
        return _moved(base, tuple(self.log_factors), np.array([[*self.log_factors.values()]]))

    def value(self, base: Rates, name: str) -> float:
        """One number, moved."""
        return float(np.squeeze(self.rates(base)[name]))


def fit_rates(base: Rates, rows: Sequence[Timing]) -> Fit:
    """Numbers of a profile that explain the rows, those of one precision."""
    names = tuple(name for name in FITTED if name in base and base[name] > 0)
    found = Fit(blocks=(), log_factors=dict.fromkeys(names, 0.0))
    slopes = _slopes(base, rows, names, np.zeros(len(names)))
    found = _fitted(base, rows, names, _groups(names, slopes, _most_blocks(rows)), found)
    while found.blocks:
        slopes = _slopes(base, rows, names, np.array([*found.log_factors.values()]))
        options = _refinements(names, slopes, found, log_errors(base, rows, found))
        if not options:
            break
        finer = _fitted(base, rows, names, min(options)[1], found)
        before, after = (log_errors(base, rows, one) for one in (found, finer))
        if _criterion(after, len(finer.blocks)) >= _criterion(before, len(found.blocks)):
            break
        found = finer
    return found


def log_errors(base: Rates, rows: Sequence[Timing], fit: Fit | None = None) -> FloatArray:
    """log(modelled / measured) of each row [R], as the base stands or with a fit."""
    factors = {} if fit is None else fit.log_factors
    point = np.array([[*factors.values()]]).reshape(1, len(factors))
    errors: FloatArray = _log_seconds(base, rows, tuple(factors), point)[0] - _measured(rows)
    return errors


def hold_out(base: Rates, rows: Sequence[Timing]) -> FloatArray:
    """Errors [R] as of `log_errors`, each row predicted by a fit that has not seen its group.

    More than `FOLDS` groups leave several at a time.
    """
    errors = np.zeros(len(rows))
    groups = list(dict.fromkeys(row.group for row in rows))
    for fold in range(min(FOLDS, len(groups))):
        out = groups[fold::FOLDS]
        held = np.array([row.group in out for row in rows])
        unseen = [row for row in rows if row.group not in out and row.network not in out]
        errors[held] = log_errors(base, _of(rows, held), fit_rates(base, unseen))
    return errors


def spread_ratio(errors: FloatArray, group_count: int) -> float:
    """One relative standard deviation from hold-out errors [R] of so many groups.

    The root mean square, widened as Student's t is against the normal at 5 and 95 %: a few
    rows may agree by luck.
    """
    from scipy.special import ndtri, stdtrit

    widened = stdtrit(group_count, 0.95) / ndtri(0.95)
    return float(np.expm1(widened * np.sqrt(np.mean(errors**2))))


def _most_blocks(rows: Sequence[Timing]) -> int:
    """One less than there are different works, so that something is left to err."""
    different = {(id(row.work.table), row.work.setup, row.work.column.tobytes()) for row in rows}
    return max(1, len(different) - 1)


def _groups(names: tuple[str, ...], slopes: FloatArray, most: int) -> Blocks:
    """Forward rates as one block and backward ratios as another, where rows [R, K] tell them."""
    blocks: Blocks = ()
    for whole in (FORWARD, BACKWARD):
        together = tuple(name for name in _spent_on(names, slopes) if name in whole)
        wider = (*blocks, together)
        known = together and len(wider) <= most
        if known and NOISE * _leverage(slopes @ _spread_over(names, wider)) <= WORTH:
            blocks = wider
    return blocks


def _refinements(
    names: tuple[str, ...], slopes: FloatArray, fit: Fit, errors: FloatArray
) -> list[tuple[float, Blocks]]:
    """Blocks with one more single number, and what the criterion would be as far as is linear."""
    apart = {name for block in fit.blocks for name in block if len(block) == 1}
    options = []
    for name in _spent_on(names, slopes):
        blocks = _with_single(fit.blocks, name)
        spare = len(errors) - len(blocks) - AICC_SPARE
        if name in apart or spare <= 0:
            continue
        columns = slopes @ _spread_over(names, blocks)
        left = errors - columns @ np.linalg.lstsq(columns, errors)[0]
        error = np.sqrt(_square_sum(left) / (len(errors) - len(blocks)))
        if error * _leverage(columns) <= WORTH:
            options.append((_criterion(left, len(blocks)), blocks))
    return options


def _criterion(errors: FloatArray, block_count: int) -> float:
    """AICc of errors [R] left by so many blocks; one more number is their variance."""
    rows, numbers = len(errors), block_count + 1
    if rows <= numbers + 1:
        return float("inf")
    penalty = 2 * numbers + 2 * numbers * (numbers + 1) / (rows - numbers - 1)
    return float(rows * np.log(_square_sum(errors) / rows) + penalty)


def _square_sum(errors: FloatArray) -> float:
    return float(np.sum(errors**2 + EXACT**2))


def _spent_on(names: tuple[str, ...], slopes: FloatArray) -> list[str]:
    """Numbers that some row spends time on."""
    largest = np.abs(slopes).max(axis=0)
    return [name for name, share in zip(names, largest, strict=True) if share > LEAST_SHARE]


def _with_single(blocks: Blocks, name: str) -> Blocks:
    """The blocks with one number taken out of its own, into one of its own."""
    others = (tuple(one for one in block if one != name) for block in blocks)
    return (*(block for block in others if block), (name,))


def _leverage(columns: FloatArray) -> float:
    """Largest standard error of a block [R, B], for errors of one in each row."""
    information = columns.T @ columns
    if np.linalg.matrix_rank(information) < len(information):
        return float("inf")
    return float(np.sqrt(np.diag(np.linalg.inv(information)).max()))


def _spread_over(names: tuple[str, ...], blocks: Blocks) -> FloatArray:
    """Which numbers each block moves [K, B]."""
    return np.array([[float(name in block) for block in blocks] for name in names])


def _fitted(
    base: Rates, rows: Sequence[Timing], names: tuple[str, ...], blocks: Blocks, start: Fit
) -> Fit:
    """The blocks' factors by least squares, from those of another fit."""
    if not blocks:
        return Fit(blocks=(), log_factors=dict.fromkeys(names, 0.0))
    from scipy.optimize import least_squares

    moves = _spread_over(names, blocks)
    ridge = RIDGE * np.eye(len(blocks))
    measured = _measured(rows)

    def errors(point: FloatArray) -> FloatArray:
        seconds = _log_seconds(base, rows, names, (moves @ point)[None])[0]
        return np.concatenate([seconds - measured, ridge @ point])

    def slopes(point: FloatArray) -> FloatArray:
        return np.concatenate([_slopes(base, rows, names, moves @ point) @ moves, ridge])

    first = [np.mean([start.log_factors[name] for name in block]) for block in blocks]
    found = moves @ least_squares(errors, np.array(first), jac=slopes).x
    return Fit(blocks=blocks, log_factors=dict(zip(names, found.tolist(), strict=True)))


def _slopes(
    base: Rates, rows: Sequence[Timing], names: tuple[str, ...], point: FloatArray
) -> FloatArray:
    """Change of each row's log seconds with each number's logarithm [R, K]."""
    around = np.concatenate([point + STEP * np.eye(len(names)), point - STEP * np.eye(len(names))])
    seconds = _log_seconds(base, rows, names, around)
    return (seconds[: len(names)] - seconds[len(names) :]).T / (2 * STEP)


def _log_seconds(
    base: Rates, rows: Sequence[Timing], names: tuple[str, ...], points: FloatArray
) -> FloatArray:
    """Logarithm of each row's modelled seconds [N, R] at points [N, K]."""
    rates = _moved(base, names, points)
    seconds = np.zeros((len(points), len(rows)))
    by_feature = {}
    for at, row in enumerate(rows):
        work = row.work
        key = (id(work.table), work.setup, work.training)
        if key not in by_feature:
            by_feature[key] = seconds_by_feature(
                work.table, work.setup, rates, training=work.training
            )
        seconds[:, at] = by_feature[key] @ work.column * work.setup.accumulation_steps + row.wait_s
    return np.log(seconds)


def _moved(base: Rates, names: tuple[str, ...], points: FloatArray) -> Rates:
    """Every number [N], at points [N, K] of some."""
    rates = {name: np.full(len(points), float(value)) for name, value in base.items()}
    for name, column in zip(names, points.T, strict=True):
        rates[name] = rates[name] * np.exp(-column if name in SLOWS else column)
    return rates


def _measured(rows: Sequence[Timing]) -> FloatArray:
    """Logarithm of each row's measured seconds [R]."""
    return np.asarray(np.log([row.time_s for row in rows]))


def _of(rows: Sequence[Timing], mask: BoolArray) -> list[Timing]:
    return [row for row, kept in zip(rows, mask, strict=True) if kept]
