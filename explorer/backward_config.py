"""The `backward_config` of mit-han-lab/tiny-training (Lin et al., NeurIPS 2022) as a document.

Lists are text with dashes, because that repository splits text.
"""

from typing import Annotated, Any, Literal

import numpy as np
import yaml
from pydantic import ConfigDict, Field, ValidationError, model_validator

from explorer.device import first_problem
from explorer.document import Document
from explorer.errors import SpecError
from explorer.units import FloatArray

KEY = "backward_config"
SPLIT = "-"


class BackwardConfig(Document):
    """The keys that repository reads; unknown ones of newer files are an error.

    So are values of its own that no policy here can mean. `freeze_fc` has no effect there
    either, and nothing else has one unless `enable_backward_config` is 1.
    """

    model_config = ConfigDict(strict=True)

    enable_backward_config: Literal[0, 1] = 1
    n_bias_update: Annotated[int, Field(ge=0)] | Literal["all"]
    n_weight_update: Annotated[int, Field(ge=0)] | Literal["all"] | None = 0
    manual_weight_idx: str | int | None = None
    weight_update_ratio: str | float | None = None
    weight_select_criteria: Literal["magnitude+", "random"] = "magnitude+"
    pw1_weight_only: Literal[0, 1] = 0
    quantize_gradient: Literal[0] = 0
    freeze_fc: Literal[0, 1] = 0
    train_scale: Literal[0] = 0

    @model_validator(mode="after")
    def _consistent(self) -> "BackwardConfig":
        """SpecError for what is wrong whatever the network."""
        if not self.enable_backward_config:
            return self
        indices, most = self.indices, self.n_bias_update
        if indices is None:
            weights = self.n_weight_update or 0
            if weights != "all" != most and weights > most:
                raise SpecError.of("n_weight_update", weights, f"all, or 0 to {most}, the biases")
            count = most if weights == "all" else weights
        else:
            count, span = len(indices), indices[-1] - indices[0]
            room = span + 1 if most == "all" else most
            if sorted(set(indices)) != indices or indices[0] < 0 or span >= room:
                allowed = "ascending indices among the last n_bias_update convolutions"
                raise SpecError.of("manual_weight_idx", self.manual_weight_idx, allowed)
        self.shares(None if count == "all" or self.pw1_weight_only else count)
        return self

    @property
    def indices(self) -> list[int] | None:
        """Convolutions whose weights train; None where `n_weight_update` says how many."""
        if self.manual_weight_idx is None:
            return None
        return [int(one) for one in _numbers("manual_weight_idx", self.manual_weight_idx, int)]

    def shares(self, count: int | None) -> FloatArray:
        """Share of the input channels of each of `count` convolutions; None: of any number."""
        given = self.weight_update_ratio
        if not isinstance(given, str):
            shares = np.full(count or 0, 1.0 if given is None else given)
        else:
            shares = np.array(_numbers("weight_update_ratio", given, float))
        known = len(shares) if count is None else count
        if len(shares) != known or not np.all((shares >= 0) & (shares <= 1)):
            raise SpecError.of("weight_update_ratio", given, f"{known} shares from 0 to 1")
        return shares

    def to_yaml(self) -> str:
        """The text that repository reads."""
        text: str = yaml.safe_dump({KEY: self.model_dump()}, sort_keys=False)
        return text


def read_config(text: str, origin: str) -> BackwardConfig:
    """A configuration from YAML, alone or inside a whole training file.

    SpecError names the key, what came and what is allowed.
    """
    try:
        data = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SpecError(f"{origin}: not YAML: {' '.join(str(error).split())}") from None
    found = data.get(KEY, data) if isinstance(data, dict) else data
    if not isinstance(found, dict):
        raise SpecError.of(f"{origin}: {KEY}", found, "a mapping")
    try:
        return BackwardConfig.model_validate(found)
    except ValidationError as error:
        raise SpecError(f"{origin}: {first_problem(error)}") from None


def _numbers(key: str, value: str | int, kind: type) -> list[Any]:
    try:
        return [kind(part) for part in str(value).split(SPLIT)]
    except ValueError:
        raise SpecError.of(key, value, "numbers with dashes between") from None
