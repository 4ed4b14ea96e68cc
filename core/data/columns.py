"""Columns of Parquet tables as numpy arrays and strings, checked: what the table modules of this package share.

Every check raises ``ValueError`` with a sentence on the column; the caller says which file, and what to do.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["fixed_lists", "matrix", "numbers", "plain_array", "strings"]


def fixed_lists(rows: NDArray[Any]) -> Any:
    """An Arrow array of lists of one length, from (n, width)."""
    import pyarrow as pa

    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(rows).reshape(-1)), rows.shape[1])


def strings(table: Any, name: str) -> list[str]:
    """The column's strings.

    Raises:
        ValueError: a place is empty or holds something else.
    """
    values = table.column(name).to_pylist()
    if not all(isinstance(value, str) for value in values):
        raise ValueError(f"column {name!r} holds something other than text")
    return list(values)


def numbers(table: Any, name: str) -> NDArray[Any]:
    """The column's numbers, (n,).

    Raises:
        ValueError: a place is empty or holds no number.
    """
    column = table.column(name)
    if column.null_count:
        raise ValueError(f"column {name!r} has empty places")
    try:
        return plain_array(column)
    except (TypeError, BufferError) as wrong:
        raise ValueError(f"column {name!r} holds {column.type}, wanted numbers") from wrong


def matrix(table: Any, name: str) -> NDArray[Any]:
    """A column of lists of one length, (n, width).

    Raises:
        ValueError: the lists differ in length, one is empty, or they hold no numbers.
    """
    column = table.column(name).combine_chunks()
    if column.null_count or not hasattr(column, "flatten"):
        raise ValueError(f"column {name!r} is {column.type}, wanted a list of numbers in every row")
    values = column.flatten()
    width = len(values) // max(1, len(column))
    is_even = getattr(column.type, "list_size", None) is not None or set(column.value_lengths().to_pylist()) <= {width}
    if not is_even or values.null_count:
        raise ValueError(f"column {name!r} is {column.type}, wanted lists of one length in every row")
    try:
        return plain_array(values).reshape(len(column), width)
    except (TypeError, BufferError) as wrong:
        raise ValueError(f"column {name!r} is {column.type}, wanted lists of numbers") from wrong


def plain_array(column: Any) -> NDArray[Any]:
    """The column's numbers, as they lie in memory.

    Its own ``to_numpy`` would import pandas, which takes longer than to draw a map.
    """
    whole = column.combine_chunks() if hasattr(column, "combine_chunks") else column
    return np.from_dlpack(whole)
