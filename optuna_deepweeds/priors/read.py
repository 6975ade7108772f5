"""Files of prior trials of every format."""

from __future__ import annotations

from pathlib import Path

from optuna_deepweeds.errors import InvalidInputError, NotFoundError
from optuna_deepweeds.priors.record import PriorTrial, with_metric
from optuna_deepweeds.priors.smac import read_smac_json
from optuna_deepweeds.priors.tables import read_csv

_MAX_BYTES = 256 * 2**20


def read_priors(path: Path, *, metric: str | None = None) -> list[PriorTrial]:
    """Read a file of prior trials; the format is recognised by its content.

    Args:
        path: Our CSV, the lecture's run-history CSV or SMAC3's `runhistory.json`.
        metric: What the values are, in place of what the file says.

    Raises:
        NotFoundError: No such file.
        InvalidInputError: The file is not readable as any of the formats.
    """
    text = _read_text(path)
    read = read_smac_json if text.lstrip().startswith(("{", "[")) else read_csv
    return with_metric(read(str(path), path.stem, text), metric)


def _read_text(path: Path) -> str:
    if not path.exists():
        raise NotFoundError(f"the prior file {path} does not exist.")
    if not path.is_file():
        raise InvalidInputError(f"a prior must be a file, but {path} is not one.")
    try:
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise InvalidInputError(
                f"a prior file must not exceed {_MAX_BYTES // 2**20} MiB, but {path} has "
                f"{size / 2**20:.0f} MiB."
            )
        data = path.read_bytes()
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror or error}.") from None
    if not data.strip():
        raise InvalidInputError(f"a prior file must hold trials, but {path} is empty.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInputError(
            f"a prior file must be UTF-8 text, but {path} is not (byte {error.start})."
        ) from None
    if "\0" in text:
        raise InvalidInputError(f"a prior file must be text, but {path} is binary.")
    return text
