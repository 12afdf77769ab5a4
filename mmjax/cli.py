"""The `mmjax` command: parses the command line, calls the command, prints errors as a sentence."""

import argparse
import difflib
import importlib
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from mmjax import __version__
from mmjax.errors import ConfigError, UserError, unknown_name

# The losses of `bench objective`, whose module imports JAX.
LOSSES = (
    "dcca",
    "dcca_newton_schulz",
    "squared_cca",
    "eckart_young",
    "barlow_twins",
    "vicreg",
    "info_nce",
    "sigmoid",
)


class _Parser(argparse.ArgumentParser):
    """An argparse parser with errors as plain sentences and without abbreviations of options."""

    explained_further = False  # whether the command itself prints the rest of the help
    takes_overrides = False  # whether the command itself reads the words that are left

    def __init__(self, **kwargs: Any) -> None:
        self.options: list[str] = []
        super().__init__(allow_abbrev=False, **kwargs)

    def add_argument(self, *names: str, **kwargs: Any) -> argparse.Action:
        self.options += [name for name in names if name.startswith("--")]
        return super().add_argument(*names, **kwargs)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if not (self.explained_further and {"-h", "--help"}.intersection(args)):
            return super().parse_known_args(args, namespace)
        self.print_help()
        try:
            return super().parse_known_args(args, namespace)
        except ConfigError:  # no experiment or data set was given whose options could be listed
            self.exit()

    def error(self, message: str) -> NoReturn:
        choice = re.match(
            r"argument (\S+): invalid choice: '?(.*?)'? \(choose from (.*)\)", message
        )
        if choice:
            known = [name.strip(" '") for name in choice[3].split(",")]
            raise unknown_name(choice[1], choice[2], known)
        raise ConfigError(f"{message[:1].upper()}{message[1:]}. See `{self.prog} --help`.")


def main(words: Sequence[str] | None = None) -> int:
    """Runs a command line; exit status 0, 2 for a wrong command or config, else 1."""
    words = list(sys.argv[1:] if words is None else words)
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115 - closed by who started it
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal may lack characters of a path
            stream.reconfigure(errors="backslashreplace")
    try:
        parsed, rest = _parser().parse_known_args(words)
        parsed.words = words
        dotted = parsed.parser.takes_overrides and re.match(r"--[\w-]+\.", " ".join(rest))
        if rest and not (parsed.parser.explained_further or dotted):
            raise _unknown_words(rest, parsed.parser)
        module, _, function = parsed.call.partition(":")
        # Each command imports only what it needs, so that `mmjax --help` is fast.
        getattr(importlib.import_module(f"mmjax.commands.{module}"), function)(parsed, rest)
        sys.stdout.flush()
    except UserError as error:
        print(f"mmjax: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_status
    except SystemExit as ended:  # after the help was printed
        return int(ended.code or 0)
    except BrokenPipeError:  # the reader of the output has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.strerror is None:
            raise
        where = f" {error.filename}" if error.filename else ""
        print(f"mmjax: Cannot read or write the file{where}: {error.strerror}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("mmjax: Interrupted.", file=sys.stderr)
        return 1
    return 0


def _unknown_words(rest: Sequence[str], parser: _Parser) -> ConfigError:
    option = next((word.split("=")[0] for word in rest if word.startswith("--")), None)
    if option is None:
        return ConfigError(f"Unknown argument {' '.join(rest)!r}. See `{parser.prog} --help`.")
    near = difflib.get_close_matches(option, parser.options, n=1)
    hint = f": did you mean {near[0]}?" if near else "."
    return ConfigError(f"Unknown option {option}{hint} See `{parser.prog} --help`.")


def _parser() -> argparse.ArgumentParser:
    top = _Parser(
        prog="mmjax",
        description="Multimodal alignment and fusion in JAX.",
        epilog="`mmjax COMMAND --help` explains a command; `mmjax train EXPERIMENT.py --help` "
        "explains all options of that experiment.",
    )
    top.add_argument("--version", action="version", version=f"mmjax {__version__}")
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, call: str, about: str, within: Any = None, **options: Any) -> _Parser:
        parser = (within or commands).add_parser(name, help=about, description=about, **options)
        parser.set_defaults(call=call, parser=parser)
        return parser

    def experiment_command(name: str, call: str, about: str, **kw: Any) -> _Parser:
        parser = command(name, call, about, add_help=False, **kw)
        parser.add_argument(
            "experiment", metavar="EXPERIMENT.py", help="with it, --help also lists its options"
        )
        parser.explained_further = True
        _add_data_dir(parser)
        parser.usage = f"{parser.prog} EXPERIMENT.py [options] [--dotted.override value ...]"
        return parser

    train = experiment_command(
        "train", "runs:train_experiment", "train and evaluate an experiment in a run directory"
    )
    train.add_argument("--run-dir", metavar="DIR", help="default: runs/<name>-<time>")

    evaluate = command("evaluate", "runs:evaluate", "evaluate a checkpoint of a run on a split")
    evaluate.usage = f"{evaluate.prog} RUN_DIR [options] [--data.NAME value ...]"
    evaluate.takes_overrides = True
    evaluate.add_argument("run_dir", metavar="RUN_DIR", help="a directory that `mmjax train` made")
    evaluate.add_argument(
        "--split", default="test", help="train, valid, test or another of the data; default: test"
    )
    evaluate.add_argument(
        "--checkpoint",
        choices=["best", "last"],
        default="best",
        help="default: best, by training.monitor",
    )
    evaluate.add_argument(
        "--drop",
        action="append",
        default=[],
        metavar="MODALITY",
        help="evaluate as if no example had this modality; may be given several times",
    )
    evaluate.add_argument(
        "--robustness",
        action="store_true",
        help="a metric without each subset of the modalities, and with damaged ones",
    )
    evaluate.add_argument(
        "--metric", metavar="NAME", help="of --robustness; default: training.monitor, or the first"
    )
    evaluate.add_argument(
        "--corruptions", metavar="A,B", help="of --robustness: only these, such as noise,blur"
    )
    evaluate.add_argument(
        "--severities", metavar="1,3,5", help="of --robustness, from 1 to 5; default: all five"
    )
    evaluate.add_argument(
        "--beside",
        metavar="RUN_DIR",
        help="of --robustness: another run on the same data, for the effective robustness",
    )
    evaluate.add_argument("--experiment", metavar="FILE.py", help="file with classes of the config")
    evaluate.add_argument("--json", metavar="FILE", help="also write the metrics to this file")
    _add_data_dir(evaluate)

    predict = command(
        "predict", "predict:predict", "write predictions and embeddings of new data as Parquet"
    )
    predict.add_argument("run_dir", metavar="RUN_DIR", help="directory of a finished run")
    predict.add_argument(
        "--data",
        required=True,
        metavar="DATA",
        help="an .npz file with one array per modality, with the modality's name (NAME.PART for "
        "the parts of a modality; arrays of bool: NAME__present, if some rows lack the modality, "
        "and NAME__mask for valid positions); or a split of the run's data set",
    )
    predict.add_argument("--out", metavar="FILE", help="default: predictions.parquet")
    predict.add_argument(
        "--checkpoint", choices=["best", "last"], default="best", help="default: best"
    )
    predict.add_argument("--experiment", metavar="FILE.py", help="file with classes of the config")
    _add_data_dir(predict)

    ablate = experiment_command(
        "ablate", "studies:ablate", "run the rows of a study over several seeds"
    )
    ablate.add_argument("--run-dir", metavar="DIR", help="default: runs/<name>-<time>")
    ablate.add_argument("--seeds", type=int, metavar="N", help="default: as in the study, or 3")
    ablate.add_argument(
        "--rows", metavar="A,B", help="only these rows, and the rows that they start from"
    )
    ablate.add_argument("--jobs", type=int, default=1, metavar="J", help="runs in parallel")
    ablate.add_argument("--columns", metavar="A,B", help="print these: test/accuracy,test/macro_f1")
    ablate.add_argument(
        "--dry-run", action="store_true", help="list what would run and how long it would take"
    )

    sweep = experiment_command(
        "sweep", "studies:sweep", "search hyperparameters, with Optuna (mmjax[sweep])"
    )
    sweep.add_argument("--run-dir", metavar="DIR", help="default: runs/<name>-<time>")
    sweep.add_argument(
        "--trials", type=int, required=True, metavar="N", help="trials of all workers; required"
    )
    sweep.add_argument("--workers", type=int, default=1, metavar="J", help="trials in parallel")

    bench = command("bench", "", "measure speed").add_subparsers(required=True, metavar="WHAT")
    step = experiment_command(
        "step", "runs:bench_step", "the train step of an experiment", within=bench
    )
    step.add_argument("--steps", type=int, default=30, metavar="N", help="timed steps; default: 30")
    step.add_argument("--json", metavar="FILE", help="also write the results to this file")

    losses = command(
        "objective", "runs:bench_objective", "losses with gradient, on random views", within=bench
    )
    losses.add_argument(
        "--loss", nargs="+", metavar="NAME", help=f"of {', '.join(LOSSES)}; default: all"
    )
    losses.add_argument(
        "--width",
        nargs="+",
        type=int,
        default=[64, 256, 1024],
        metavar="D",
        help="width of both views; default: 64 256 1024",
    )
    losses.add_argument(
        "--batch-size", type=int, default=4096, metavar="B", help="rows; default: 4096"
    )
    losses.add_argument(
        "--precision",
        choices=["float32", "bfloat16"],
        default="float32",
        help="dtype of the views; default: float32",
    )
    losses.add_argument(
        "--rounds", type=int, default=20, metavar="N", help="timed calls of each; default: 20"
    )
    losses.add_argument("--json", metavar="FILE", help="also write the results to this file")

    data = command("data", "", "list, check and preview data sets").add_subparsers(
        required=True, metavar="WHAT"
    )
    command("list", "data:list_all", "all data sets", within=data)
    for name, call, about in (
        ("info", "data:info", "describe a data set and its files"),
        ("verify", "data:verify_files", "compare the files of a data set with their SHA-256"),
        ("preview", "data:draw", "draw a few examples, as the model reads them"),
    ):
        parser = command(name, call, about, within=data, add_help=name != "preview")
        parser.add_argument("name", metavar="NAME", help="a name in `mmjax data list`")
        _add_data_dir(parser)
        if name == "preview":
            parser.explained_further = True
            parser.usage = f"{parser.prog} NAME [options] [--override value ...]"
            parser.add_argument("--out", metavar="FILE.png", help="default: NAME.png")
            parser.add_argument("--split", default="train", help="default: train")
            parser.add_argument("--count", type=int, default=6, metavar="N", help="default: 6")
            parser.add_argument(
                "--seed", type=int, default=0, metavar="N", help="chooses the examples; default: 0"
            )

    ensemble = command("ensemble", "studies:ensemble", "combine predictions of finished runs")
    ensemble.add_argument("runs", metavar="RUN", nargs="+", help="run directories")
    ensemble.add_argument(
        "--method",
        choices=["average", "weighted", "product", "stacking", "gating"],
        default="average",
        help="default: average; weighted, stacking and gating are fitted on valid, or out of fold",
    )
    ensemble.add_argument(
        "--checkpoint", choices=["best", "last"], default="best", help="default: best"
    )
    ensemble.add_argument(
        "--experiment", metavar="FILE.py", help="file with classes of the configs"
    )
    ensemble.add_argument("--json", metavar="FILE", help="also write the results to this file")
    _add_data_dir(ensemble)

    ledger = command("ledger", "studies:write_ledger", "write RESULTS.md from committed results")
    ledger.add_argument(
        "folder", metavar="FOLDER", help="a folder with results/*.json, such as experiments"
    )
    ledger.add_argument(
        "--add",
        metavar="STUDY_DIR",
        action="append",
        help="first copy the results of this study to the folder",
    )

    report = command(
        "report", "studies:report", "write a self-contained report.html of a run, study or sweep"
    )
    report.add_argument("run_dir", metavar="RUN_DIR", help="directory of a run, a study or a sweep")
    return top


def _add_data_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        help="folder of raw data; default: the environment variable MMJAX_DATA",
    )


if __name__ == "__main__":
    sys.exit(main())
