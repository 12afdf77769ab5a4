"""The `mmjax` command: reads the words, calls the part, prints one sentence where a user erred."""

import argparse
import dataclasses
import datetime
import difflib
import itertools
import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from mmjax.errors import ConfigError, UserError, unknown_name


class _Parser(argparse.ArgumentParser):
    """An argparse parser whose complaint is a sentence and that guesses no abbreviations."""

    explained_further = False  # whether who is called prints the rest of the help

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
        except ConfigError:  # nothing is named of which more could be told
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
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal may know less letters than a path holds
            stream.reconfigure(errors="backslashreplace")
    try:
        parsed, rest = _parser().parse_known_args(words)
        parsed.words = words
        if rest and not parsed.parser.explained_further:
            raise _unknown_words(rest, parsed.parser)
        parsed.call(parsed, rest)
        sys.stdout.flush()
    except UserError as error:
        print(f"mmjax: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_status
    except SystemExit as ended:  # after the help was printed
        return int(ended.code or 0)
    except BrokenPipeError:  # who reads the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.strerror is None:
            raise
        where = f" {error.filename}" if error.filename else ""
        print(f"mmjax: Cannot use the file{where}: {error.strerror}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("mmjax: Interrupted.", file=sys.stderr)
        return 1
    return 0


def _unknown_words(rest: Sequence[str], parser: _Parser) -> ConfigError:
    option = next((word.split("=")[0] for word in rest if word.startswith("--")), None)
    if option is None:
        return ConfigError(f"Nothing is known of {' '.join(rest)!r}. See `{parser.prog} --help`.")
    near = difflib.get_close_matches(option, parser.options, n=1)
    hint = f": did you mean {near[0]}?" if near else "."
    return ConfigError(f"There is no option {option}{hint} See `{parser.prog} --help`.")


def _parser() -> argparse.ArgumentParser:
    top = _Parser(
        prog="mmjax",
        description="Multimodal alignment and fusion in JAX.",
        epilog="`mmjax COMMAND --help` tells more; `mmjax train EXPERIMENT.py --help` explains "
        "every option of that experiment.",
    )
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(
        name: str, call: Callable[..., None], about: str, within: Any = None, **options: Any
    ) -> _Parser:
        parser = (within or commands).add_parser(name, help=about, description=about, **options)
        parser.set_defaults(call=call, parser=parser)
        return parser

    def experiment_command(name: str, call: Callable[..., None], about: str, **kw: Any) -> _Parser:
        parser = command(name, call, about, add_help=False, **kw)
        parser.add_argument(
            "experiment", metavar="EXPERIMENT.py", help="with it, --help tells its options too"
        )
        parser.explained_further = True
        _add_data_dir(parser)
        parser.usage = f"{parser.prog} EXPERIMENT.py [options] [--dotted.override value ...]"
        return parser

    train = experiment_command("train", _train, "train, evaluate and leave a run directory")
    train.add_argument("--run-dir", metavar="DIR", help="default: runs/<name>-<time>")

    evaluate = command("evaluate", _evaluate, "evaluate a run again")
    evaluate.add_argument("run_dir", metavar="RUN_DIR", help="that `mmjax train` made")
    evaluate.add_argument("--split", default="test", help="default: test")
    evaluate.add_argument(
        "--checkpoint",
        choices=["best", "last"],
        default="best",
        help="best, the default, is by training.monitor",
    )
    evaluate.add_argument("--experiment", metavar="FILE.py", help="defines classes of the config")
    evaluate.add_argument("--json", metavar="FILE", help="write the metrics there too")
    _add_data_dir(evaluate)

    ablate = experiment_command("ablate", _ablate, "run the rows of an experiment over seeds")
    ablate.add_argument("--run-dir", metavar="DIR", help="default: runs/<name>-<time>")
    ablate.add_argument("--seeds", type=int, default=3, metavar="N", help="default: 3")
    ablate.add_argument("--rows", metavar="A,B", help="only these rows")
    ablate.add_argument("--columns", metavar="A,B", help="print these metrics")

    bench = command("bench", _no_call, "measure speed").add_subparsers(
        required=True, metavar="WHAT"
    )
    step = experiment_command("step", _bench_step, "the train step of an experiment", within=bench)
    step.add_argument("--steps", type=int, default=30, metavar="N", help="timed steps; default: 30")
    step.add_argument("--json", metavar="FILE", help="write the figures there too")

    data = command("data", _no_call, "look at the data sets").add_subparsers(
        required=True, metavar="WHAT"
    )
    command("list", _data_list, "all data sets", within=data)
    for name, call, about in (
        ("info", _data_info, "what a data set is, and how its files are to lie"),
        ("verify", _data_verify, "compare the files of a data set with their SHA-256"),
        ("preview", _data_preview, "draw a few examples, as the model sees them"),
    ):
        parser = command(name, call, about, within=data, add_help=name != "preview")
        parser.add_argument("name", metavar="NAME", help="as `mmjax data list` has it")
        _add_data_dir(parser)
        if name == "preview":
            parser.explained_further = True
            parser.usage = f"{parser.prog} NAME [options] [--override value ...]"
            parser.add_argument("--out", metavar="FILE.png", help="default: NAME.png")
            parser.add_argument("--split", default="train", help="default: train")
            parser.add_argument("--count", type=int, default=6, metavar="N", help="default: 6")
            parser.add_argument("--seed", type=int, default=0, metavar="N", help="which examples")

    report = command("report", _report, "write a self-contained report.html into a run or study")
    report.add_argument("run_dir", metavar="RUN_DIR", help="of a run or a study")
    return top


def _add_data_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-dir", metavar="DIR", help="folder of raw data; default: the variable MMJAX_DATA"
    )


def _no_call(parsed: argparse.Namespace, rest: Sequence[str]) -> None:
    raise AssertionError("argparse asks for the sub-command")


def _folder(parsed: argparse.Namespace) -> Path | None:
    from mmjax.data.catalogue import resolve_folder

    return resolve_folder(parsed.data_dir)


def _experiment(parsed: argparse.Namespace, rest: Sequence[str]) -> tuple[ModuleType, Any]:
    """The experiment file, run, and its experiment with what the words after it change."""
    from mmjax.training.overrides import experiment_of, load_module, override

    if not Path(parsed.experiment).exists() and any(word.endswith(".py") for word in rest):
        raise ConfigError(
            f"{parsed.experiment!r} is no experiment file: name the file before the options that "
            f"change it, as in `{parsed.parser.prog} EXPERIMENT.py --training.steps 100`."
        )
    module = load_module(parsed.experiment)
    experiment = override(experiment_of(module), rest, _prog(parsed), parsed.parser.options)
    return module, experiment


def _prog(parsed: argparse.Namespace) -> str:
    return f"{parsed.parser.prog} {parsed.experiment}"


def _run_dir(parsed: argparse.Namespace, name: str) -> Path:
    """The directory that --run-dir names, or a fresh runs/<name>-<time>."""
    if parsed.run_dir:
        return Path(parsed.run_dir)
    time = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    fresh = Path("runs") / f"{name}-{time}"
    for number in itertools.count(2):  # a second run within the second
        if not fresh.exists():
            break
        fresh = fresh.with_name(f"{name}-{time}-{number}")
    return fresh


def _train(parsed: argparse.Namespace, rest: Sequence[str]) -> None:
    from mmjax.training.loop import train

    _, experiment = _experiment(parsed, rest)
    run_dir = _run_dir(parsed, experiment.name)
    result = train(experiment, run_dir, _folder(parsed), ["mmjax", *parsed.words])
    _print_metrics(result["metrics"])
    print(f"The run is in {run_dir}; `mmjax report {shlex.quote(str(run_dir))}` draws it.")


def _evaluate(parsed: argparse.Namespace, rest: Sequence[str]) -> None:
    from mmjax.training.overrides import load_module
    from mmjax.training.restore import evaluate_run

    _check_json(parsed.json)
    definitions = load_module(parsed.experiment) if parsed.experiment else None
    metrics = evaluate_run(
        Path(parsed.run_dir), parsed.split, parsed.checkpoint, _folder(parsed), definitions
    )
    _print_metrics(metrics)
    _write_json(parsed.json, metrics)


def _ablate(parsed: argparse.Namespace, rest: Sequence[str]) -> None:
    from mmjax.studies.ablation import ablate, rows_of, show

    module, experiment = _experiment(parsed, rest)
    columns = _listed(getattr(module, "columns", ()))
    if parsed.columns:
        columns = [name for name in parsed.columns.split(",") if name]
    for name in columns:
        split, slash, _ = name.partition("/")
        if not slash or split not in experiment.data.splits:
            raise ConfigError(
                f"The column {name!r} is no metric of a split: write it as in 'test/accuracy'."
            )
    only = _names(parsed.rows or "", _listed(getattr(module, "rows", ())))
    rows = rows_of(module, experiment, only)
    study_dir = _run_dir(parsed, experiment.name)
    title = (module.__doc__ or experiment.name).strip().splitlines()[0]
    study = ablate(
        experiment.name,
        title,
        rows,
        parsed.seeds,
        study_dir,
        _folder(parsed),
        ["mmjax", *parsed.words],
    )
    print(f"The study is in {study_dir}; `mmjax report {shlex.quote(str(study_dir))}` draws it.")
    show(study, columns)


def _listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else [str(item) for item in value]


def _names(option: str, known: Collection[str]) -> list[str]:
    """The names in a list with commas, where a name may itself hold commas."""
    pieces = option.split(",")
    names = []
    while pieces:
        for count in range(len(pieces), 0, -1):  # the longest name that there is, or one piece
            name = ",".join(pieces[:count]).strip()
            if name in known or count == 1:
                break
        names.append(name)
        pieces = pieces[count:]
    return list(dict.fromkeys(name for name in names if name))


def _bench_step(parsed: argparse.Namespace, rest: Sequence[str]) -> None:
    from mmjax.benchmarks import bench_step

    _check_json(parsed.json)
    _, experiment = _experiment(parsed, rest)
    figures = dataclasses.asdict(bench_step(experiment, _folder(parsed), parsed.steps))
    for name, value in figures.items():
        shown = f"{value:.4g}" if isinstance(value, float) else value
        if isinstance(value, tuple):
            shown = " to ".join(f"{each:.4g}" for each in value)
        print(f"{name:24} {shown}")
    _write_json(parsed.json, figures)


def _data_list(parsed: argparse.Namespace, rest: Sequence[str]) -> None:
    from mmjax.data.catalogue import DATASETS

    for name, dataset in DATASETS.items():
        kinds = ", ".join(f"{m} ({o.kind})" for m, o in dataset().modalities.items())
        print(f"{name:16} {dataset.about.title}\n{'':16} {kinds}")


def _data_info(parsed: argparse.Namespace, rest: Sequence[str]) -> None:
    from mmjax.data.catalogue import describe, find

    print(describe(find(parsed.name)()))


def _data_verify(parsed: argparse.Namespace, rest: Sequence[str]) -> None:
    from mmjax.data.catalogue import find, verify
    from mmjax.errors import DataError

    dataset = find(parsed.name)()
    statuses = verify(dataset, _folder(parsed))
    for file, status in statuses.items():
        print(f"{file}: {status}")
    bad = [file for file, status in statuses.items() if status != "ok"]
    if bad:
        raise DataError(
            f"{len(bad)} of {len(statuses)} files of {parsed.name} are not as published: get them "
            f"anew from {dataset.about.homepage}."
        )
    if not statuses:
        print(f"{parsed.name} needs no files.")


def _data_preview(parsed: argparse.Namespace, rest: Sequence[str]) -> None:
    from mmjax.data.catalogue import find
    from mmjax.data.preview import preview
    from mmjax.training.overrides import override

    prog = f"{parsed.parser.prog} {parsed.name}"
    dataset = override(find(parsed.name)(), rest, prog, parsed.parser.options)
    if parsed.seed < 0:
        raise ConfigError(f"--seed is {parsed.seed}: it must be 0 or more.")
    if parsed.split not in dataset.splits:
        raise unknown_name("split", parsed.split, dataset.splits)
    path = Path(parsed.out or f"{parsed.name}.png")
    preview(
        dataset, _folder(parsed), path, split=parsed.split, count=parsed.count, seed=parsed.seed
    )
    print(f"Wrote {path}.")


def _report(parsed: argparse.Namespace, rest: Sequence[str]) -> None:
    from mmjax.studies.ablation import RESULTS
    from mmjax.studies.report import write_run_report
    from mmjax.studies.study_report import write_study_report

    run_dir = Path(parsed.run_dir)
    write = write_study_report if (run_dir / RESULTS).exists() else write_run_report
    print(f"Wrote {write(run_dir)}.")


def _print_metrics(metrics: Mapping[str, float | None]) -> None:
    width = max(map(len, metrics), default=0)
    for name, value in metrics.items():
        print(f"{name:{width}}  {'not finite' if value is None else f'{value:.4f}'}")


def _check_json(path: str | None) -> None:
    """Refuses a file that could not be written when the work is done."""
    if path and (Path(path).is_dir() or not Path(path).parent.is_dir()):
        raise ConfigError(f"--json {path} cannot be written: name a file in a folder that exists.")


def _write_json(path: str | None, value: Any) -> None:
    if path:
        Path(path).write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
