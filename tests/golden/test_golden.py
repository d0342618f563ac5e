"""One test runs every golden row: published against reproduced."""

import tomllib
from pathlib import Path

import pytest

from explorer.costmodel.tables import layer_table
from explorer.session import Session

FOLDER = Path(__file__).parent


def rows(name):
    table = tomllib.loads((FOLDER / name).read_text("utf-8"))
    return [pytest.param(row, id=f"{row['model']}-{row['quantity']}") for row in table["row"]]


@pytest.mark.parametrize("row", rows("networks.toml"))
def test_network_size(row):
    table = layer_table(Session(model=row["model"], policy="none").graph)
    assert getattr(table, row["quantity"]).sum() == row["published"]
