"""Parallel coordinates: the columns behind the figure, and that it draws."""

import numpy as np
import pytest

from explorer.figures import parallel
from explorer.session import Session

DIGITS = Session(model="digits-cnn", policy="none", batch=4)


@pytest.fixture(scope="module")
def table():
    return DIGITS.search(50, genes=("micro-batch", "norm=gn/none", "adapters")).table


def column(data, title):
    return next(one for one in data.columns if one.title == title)


def test_columns_are_genes_and_quantities_of_each_candidate(table):
    data = parallel.parallel_data(table)
    assert sorted(data.rows) == list(range(len(table)))
    assert np.array_equal(data.on_front, table.on_front[data.rows])
    assert data.on_front[-1]
    assert not np.any(np.diff(data.on_front.astype(int)) < 0)  # the front is drawn over the rest
    designs, layer_count = table.designs, len(table.designs.axes.names)
    for place, row in enumerate(data.rows):
        trained = np.flatnonzero(designs.slices[row])
        depth = layer_count - trained[0] if len(trained) else 0
        assert column(data, "depth").values[place] == depth
        assert column(data, "trained layers").values[place] == len(trained)
        assert column(data, "adapters").values[place] == len(designs.adapters[row])
        size = column(data, "micro batch")
        text = size.tick_texts[int(size.values[place])]
        assert text == str(designs.row_setups[row].micro_batch)
        assert column(data, "peak RAM").values[place] == table.peak_live_bytes[row]
    assert data.columns[-1].title == table.score_name
    assert column(data, "micro batch").tick_texts == ("1", "2", "4")
    assert "own" in column(data, "norm").tick_texts


def test_the_whole_front_stays_when_lines_are_few(table):
    count = int(table.on_front.sum())
    data = parallel.parallel_data(table, cap=count + 5)
    assert (len(data.rows), int(data.on_front.sum())) == (count + 5, count)
    assert parallel.parallel_data(table, cap=1).on_front.all()


def test_it_draws_a_line_for_each_candidate_on_each_axis(table):
    data = parallel.parallel_data(table)
    (lines,) = parallel.draw(data).data
    assert [axis.label for axis in lines.dimensions] == [one.title for one in data.columns]
    assert {len(axis["values"]) for axis in lines.dimensions} == {len(data.rows)}
    nothing = parallel.parallel_data(table.take(np.zeros(0, dtype=np.int64)))
    assert len(parallel.draw(nothing).data) == 1
