"""CSV files read safely: every defect becomes one line that names file, line and column."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from optuna_deepweeds.errors import InvalidInputError


@dataclass(frozen=True)
class Row:
    """One data row: its cells by column name and its place."""

    path: str
    line: int
    cells: Mapping[str, str]

    def number(self, column: str, *, required: bool = True) -> float | None:
        """The cell as a float (NaN and infinities pass); None if it is empty and not required.

        Raises:
            InvalidInputError: The cell is empty though required, or is not a number.
        """
        text = self.cells.get(column, "").strip()
        if not text and not required:
            return None
        try:
            return float(text)
        except ValueError:
            raise self.error(column, f"must be a number, but is {text!r}") from None

    def count(self, column: str, *, required: bool = False) -> int | None:
        """The cell as a whole number of at least 0 ("20.0" passes); None if it is empty.

        Raises:
            InvalidInputError: As `number`, and if the number is not whole or negative.
        """
        number = self.number(column, required=required)
        if number is None:
            return None
        if not number.is_integer() or number < 0:
            raise self.error(column, f"must be a whole number >= 0, but is {number:g}")
        return int(number)

    def text(self, column: str, *, choices: Sequence[str] = ()) -> str:
        """The cell as text.

        Raises:
            InvalidInputError: `choices` are given and the cell is none of them.
        """
        text = self.cells.get(column, "").strip()
        if choices and text not in choices:
            raise self.error(column, f"must be one of {', '.join(choices)}, but is {text!r}")
        return text

    def error(self, column: str, rule: str) -> InvalidInputError:
        return InvalidInputError(f"{self.path}, line {self.line}, column {column}: {rule}.")


def header_of(text: str) -> list[str]:
    """Column names of a CSV text; empty if it does not start like one."""
    try:
        return next(csv.reader(io.StringIO(text[:65536])), [])
    except csv.Error:
        return []


def read_rows(path: str, text: str, *, required: Sequence[str]) -> Iterator[Row]:
    """Yield the data rows of a CSV text.

    Args:
        path: Name of the file for messages.
        text: The whole file.
        required: Columns that must exist.

    Raises:
        InvalidInputError: A required column is missing, a name occurs twice, a row has another
            number of cells than the header, or the quoting is broken.
    """
    reader = csv.reader(io.StringIO(text), strict=True)
    try:
        header = next(reader, [])
        _check_header(path, header, required)
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                raise InvalidInputError(
                    f"{path}, line {reader.line_num}: a row must have {len(header)} cells as the "
                    f"header has, but has {len(cells)}."
                )
            yield Row(path, reader.line_num, dict(zip(header, cells, strict=True)))
    except csv.Error as error:
        raise InvalidInputError(
            f"{path}, line {reader.line_num}: must be CSV, but {error}."
        ) from None


def _check_header(path: str, header: Sequence[str], required: Sequence[str]) -> None:
    missing = [column for column in required if column not in header]
    if missing:
        raise InvalidInputError(
            f"{path}, line 1: the columns {', '.join(required)} must exist, "
            f"but {', '.join(missing)} is missing."
        )
    twice = sorted({column for column in header if header.count(column) > 1})
    if twice:
        raise InvalidInputError(
            f"{path}, line 1: each column must occur once, but {', '.join(twice)} occurs twice."
        )
