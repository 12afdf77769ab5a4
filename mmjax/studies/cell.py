"""The process of one run of a study or a sweep; people do not call it.

    python -m mmjax.studies.cell train RUN_DIR [--definitions FILE.py] [--data-dir DIR] ...
    python -m mmjax.studies.cell check DIR [--definitions FILE.py] [--data-dir DIR] ...

`train` trains the experiment of `config.json` in the run directory.

`check` prepares the rows of `rows.json` without training them (name -> `config`, with `after` and
`parts` of a Stage; the name is empty for what is not a row of a study), and writes the SHA-256 of
the data of each to `hashes.json` (name -> file -> hash). It is another process so that the parent
never allocates an accelerator that its children need.

The standard input of both is a pipe from the parent: when the parent has ended, however it ended,
they stop as on SIGTERM.
"""

import argparse
import json
import os
import shlex
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from mmjax.data.catalogue import fingerprint
from mmjax.errors import ConfigError, RunError, UserError
from mmjax.studies.processes import HASHES, INTERRUPTED, ROWS
from mmjax.training.checkpoints import dtype_and_shape, named_leaves
from mmjax.training.config import from_json
from mmjax.training.experiment import Experiment
from mmjax.training.loop import Interrupted, train
from mmjax.training.overrides import load_module
from mmjax.training.run_directory import RunDirectory
from mmjax.training.setup import prepare
from mmjax.training.start import names_taken


def main(words: Sequence[str]) -> int:
    """Runs one of the two commands; a user's mistake is one line that begins with `mmjax:`."""
    parser = argparse.ArgumentParser(prog="mmjax.studies.cell")
    parser.add_argument("what", choices=["train", "check"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--definitions", type=Path)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--command", default="")
    parsed = parser.parse_args(words)
    try:
        threading.Thread(target=_stop_without_parent, daemon=True).start()
        definitions = load_module(parsed.definitions) if parsed.definitions else None
        if parsed.what == "check":
            rows = json.loads((parsed.folder / ROWS).read_bytes())
            hashes = _check(rows, parsed.data_dir, definitions)
            (parsed.folder / HASHES).write_text(json.dumps(hashes), encoding="utf-8")
        else:
            config = RunDirectory(parsed.folder).read("config.json")
            experiment = _experiment(config, definitions, parsed.folder / "config.json")
            command = shlex.split(parsed.command)
            train(experiment, parsed.folder, parsed.data_dir, command, definitions)
    except UserError as error:
        print(f"mmjax: {' '.join(str(error).split())}", file=sys.stderr)
        return INTERRUPTED if isinstance(error, Interrupted) else error.exit_status
    return 0


def _stop_without_parent() -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _check(
    rows: Mapping[str, Any], folder: Path | None, definitions: ModuleType | None
) -> dict[str, dict[str, str]]:
    """Prepares rows; returns name -> file of the data -> SHA-256."""
    setups, hashes = {}, {}
    for name, row in rows.items():
        try:
            experiment = _experiment(row["config"], definitions, Path(name))
            setups[name] = prepare(experiment, folder)
            hashes[name] = fingerprint(experiment.data, folder)
        except UserError as error:
            raise type(error)(f"Row {name!r}: {error}" if name else str(error)) from error
    for name, row in rows.items():
        if not row["after"]:
            continue
        source = named_leaves(setups[row["after"]].abstract_state)
        arrays = {name: dtype_and_shape(leaf) for name, leaf in source.items()}
        like, parts = setups[name].abstract_state, tuple(row["parts"])
        try:
            names_taken(arrays, like, parts, f"The row {row['after']!r} that it starts from")
        except ConfigError as error:
            raise ConfigError(f"Row {name!r}: {error}") from error
    return hashes


def _experiment(config: object, definitions: ModuleType | None, where: Path) -> Experiment:
    try:
        experiment = from_json(config, definitions)
    except ConfigError as error:
        raise RunError(f"{where}: {error}") from error
    if not isinstance(experiment, Experiment):
        raise RunError(f"{where} holds no experiment: start a new study in another directory.")
    return experiment


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
