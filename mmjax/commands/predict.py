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
from mmjax.training.overrides import load_module
from mmjax.training.restore import restore_run
from mmjax.training.run import Run, load

_PRESENT = "__present"  # suffix of the array of a modality's presence in an .npz file


def predict(parsed: argparse.Namespace, rest: Sequence[str]) -> None:
    """`mmjax predict`: one row per example, with the model's predictions and the embedding."""
    out = Path(parsed.out or "predictions.parquet")
    if out.is_dir() or not out.parent.is_dir():
        raise ConfigError(f"--out {out} cannot be written: give a file in a folder that exists.")
    definitions = load_module(parsed.experiment) if parsed.experiment else None
    run = load(parsed.run_dir, checkpoint=parsed.checkpoint, definitions=definitions)
    if parsed.data.endswith(".npz"):
        arrays = read_all(Path(parsed.data))
        present = {
            name.removesuffix(_PRESENT): array.astype(bool)
            for name, array in arrays.items()
            if name.endswith(_PRESENT)
        }
        inputs = {name: array for name, array in arrays.items() if not name.endswith(_PRESENT)}
        predictions = run.predict(inputs, present=present)
        embedding = run.embed(inputs, present=present)
    else:
        split = parsed.data
        if split not in run.data.splits:
            raise ConfigError(
                f"--data {split!r} is neither an .npz file nor a split of {run.data.name!r}: give "
                "a file with one array per modality, with the modality's name, or one of "
                f"{', '.join(run.data.splits)}."
            )
        setup, _ = restore_run(
            Path(parsed.run_dir), parsed.checkpoint, data_folder(parsed), definitions, split
        )
        data = setup.experiment.data
        folder = data_folder(parsed)
        predictions = run.predict(data, split, data_dir=folder)
        embedding = run.embed(data, split, data_dir=folder)
    table = _table(run, predictions, embedding)
    pyarrow.parquet.write_table(table, out)
    print(f"Wrote {out}: {table.num_rows} rows of {', '.join(table.column_names)}.")


def _table(run: Run, predictions: dict[str, np.ndarray], embedding: np.ndarray) -> pa.Table:
    """The columns of the file: predictions, probabilities and the embedding."""
    columns: dict[str, Any] = {"row": pa.array(np.arange(len(embedding)))}
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
    columns["embedding"] = _lists(embedding)
    return pa.table(columns)


def _lists(values: np.ndarray) -> pa.Array:
    """Rows of any shape as lists of numbers, flattened."""
    flat = np.ascontiguousarray(values).reshape(len(values), -1)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat.ravel()), flat.shape[1])
