"""`mmjax data`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmjax.commands.arguments import data_folder
from mmjax.data.catalogue import DATASETS, describe, find, verify
from mmjax.data.preview import preview
from mmjax.errors import ConfigError, DataError, unknown_name
from mmjax.training.overrides import override


def list_all(parsed: argparse.Namespace, rest: Sequence[str]) -> None:
    """`mmjax data list`: all data sets, with title and modalities."""
    for name, dataset in DATASETS.items():
        kinds = ", ".join(f"{m} ({o.kind})" for m, o in dataset().modalities.items())
        print(f"{name:16} {dataset.about.title}\n{'':16} {kinds}")


def info(parsed: argparse.Namespace, rest: Sequence[str]) -> None:
    """`mmjax data info`: the catalogue's entry of a data set."""
    print(describe(find(parsed.name)()))


def verify_files(parsed: argparse.Namespace, rest: Sequence[str]) -> None:
    """`mmjax data verify`: compares the files with their published SHA-256."""
    dataset = find(parsed.name)()
    statuses = verify(dataset, data_folder(parsed))
    for file, status in statuses.items():
        print(f"{file}: {status}")
    bad = [file for file, status in statuses.items() if status != "ok"]
    if bad:
        raise DataError(
            f"{len(bad)} of {len(statuses)} files of {parsed.name} are missing or differ from the "
            f"published ones: download them again from {dataset.about.homepage}."
        )
    if not statuses:
        print(f"{parsed.name} needs no files.")


def draw(parsed: argparse.Namespace, rest: Sequence[str]) -> None:
    """`mmjax data preview`: draws a few examples."""
    prog = f"{parsed.parser.prog} {parsed.name}"
    dataset = override(find(parsed.name)(), rest, prog, parsed.parser.options)
    if parsed.seed < 0:
        raise ConfigError(f"--seed is {parsed.seed}: it must be 0 or more.")
    if parsed.split not in dataset.splits:
        raise unknown_name("split", parsed.split, dataset.splits)
    path = Path(parsed.out or f"{parsed.name}.png")
    preview(
        dataset, data_folder(parsed), path, split=parsed.split, count=parsed.count, seed=parsed.seed
    )
    print(f"Wrote {path}.")
