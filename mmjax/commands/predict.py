"""`mmjax predict`: predictions and embeddings of new data, as a Parquet file."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from mmjax.commands.arguments import data_folder
from mmjax.data.npz import read_all
from mmjax.errors import ConfigError
from mmjax.training.config import from_json
from mmjax.training.load import load
from mmjax.training.overrides import load_module
from mmjax.training.run import Run
from mmjax.training.run_directory import RunDirectory

_PRESENT, _MASK = "__present", "__mask"  # suffixes of the names of further arrays of a modality


def predict(parsed: argparse.Namespace, rest: Sequence[str]) -> None:
    """`mmjax predict`: one row per example, with the model's predictions and the embedding."""
    out = Path(parsed.out or "predictions.parquet")
    if out.is_dir() or not out.parent.is_dir():
        raise ConfigError(f"--out {out} cannot be written: give a file in a folder that exists.")
    definitions = load_module(parsed.experiment) if parsed.experiment else None
    run = load(parsed.run_dir, checkpoint=parsed.checkpoint, definitions=definitions)
    given: dict[str, Any]
    if parsed.data.endswith(".npz"):
        given = _of_file(Path(parsed.data))
    elif parsed.data in run.data.splits:
        config = RunDirectory(Path(parsed.run_dir)).config()
        data = from_json(config.get("data"), definitions)
        given = {"data": data, "split": parsed.data, "data_dir": data_folder(parsed)}
    else:
        raise ConfigError(
            f"--data {parsed.data!r} is neither an .npz file nor a split of {run.data.name!r}: "
            "give a file with one array per modality, with the modality's name, or one of "
            f"{', '.join(run.data.splits)}."
        )
    embeddings = {"embedding": run.embed(**given)} if run.fuses else run.embed_each(**given)
    table = _table(run, run.predict(**given), embeddings)
    pyarrow.parquet.write_table(table, out)
    print(f"Wrote {out}: {table.num_rows} rows of {', '.join(table.column_names)}.")


def _of_file(path: Path) -> dict[str, Any]:
    """The arguments of `Run.predict` for the arrays of an .npz file."""
    data: dict[str, Any] = {}
    present, masks = {}, {}
    for name, array in read_all(path).items():
        if name.endswith(_PRESENT):
            present[name.removesuffix(_PRESENT)] = array.astype(bool)
        elif name.endswith(_MASK):
            masks[name.removesuffix(_MASK)] = array.astype(bool)
        elif "." in name:  # a part of a modality
            modality, _, part = name.partition(".")
            data.setdefault(modality, {})[part] = array
        else:
            data[name] = array
    return {"data": data, "present": present, "masks": masks}


def _table(
    run: Run, predictions: dict[str, np.ndarray], embeddings: dict[str, np.ndarray]
) -> pa.Table:
    """The columns of the file: predictions, probabilities and the embeddings."""
    rows = len(next(iter(embeddings.values())))
    columns: dict[str, Any] = {"row": pa.array(np.arange(rows))}
    for name, values in predictions.items():
        target = run.data.targets[name]
        if target.kind == "class":
            decided = np.argmax(values, axis=1)
            columns[name] = pa.array(
                [target.names[number] for number in decided] if target.names else decided
            )
            columns[f"{name}_probabilities"] = _lists(values)
        elif target.kind == "labels":
            columns[name] = pa.array(
                [
                    [target.names[number] if target.names else int(number) for number in labels]
                    for labels in map(np.flatnonzero, values > 0.5)
                ]
            )
            columns[f"{name}_probabilities"] = _lists(values)
        else:
            columns[name] = pa.array(values) if values.ndim == 1 else _lists(values)
    columns |= {name: _lists(values) for name, values in embeddings.items()}
    return pa.table(columns)


def _lists(values: np.ndarray) -> pa.Array:
    """Rows of any shape as lists of numbers, flattened."""
    flat = np.ascontiguousarray(values).reshape(len(values), -1)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat.ravel()), flat.shape[1])
