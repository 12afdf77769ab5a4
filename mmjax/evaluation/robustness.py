"""How a model holds out: without modalities, and with damaged ones."""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence

from mmjax.data import Modality
from mmjax.data.corruptions import SEVERITIES, check_severity, corrupted, corruptions_of
from mmjax.errors import ConfigError, unknown_name
from mmjax.structs import Batch

Measure = Callable[[Callable[[Batch], Batch]], float]  # a metric, of changed batches


@dataclasses.dataclass(frozen=True)
class Robustness:
    """A metric of a model under everything that was tried.

    Attributes:
        metric: its name.
        subsets: modalities that are there, joined by ` + ` (`none` for no modality) -> metric.
        curves: `MODALITY: CORRUPTION` -> metric at severity 0 (clean) and those that were tried.
        relative: the same -> area under the curve, over severities 0 to 1 of the largest.
        contributions: modality -> Shapley value of the metric.
    """

    metric: str
    subsets: Mapping[str, float]
    curves: Mapping[str, tuple[float, ...]]
    relative: Mapping[str, float]
    contributions: Mapping[str, float]

    def effective(self, baseline: "Robustness") -> dict[str, float]:
        """The relative robustness beyond a baseline's, each from its own clean metric.

        MultiBench's effective robustness: the area between a method's curve and that of late
        fusion, moved to the same clean value.

        Raises:
            ConfigError: the baseline was measured by another metric or on other corruptions.
        """
        if baseline.metric != self.metric or set(baseline.curves) != set(self.curves):
            raise ConfigError(
                "The two runs have other metrics or modalities: compare runs on the same data, "
                "with the same evaluation."
            )
        return {
            name: (self.relative[name] - curve[0])
            - (baseline.relative[name] - baseline.curves[name][0])
            for name, curve in self.curves.items()
        }


def measure_robustness(
    measure: Measure,
    metric: str,
    modalities: Mapping[str, Modality],
    used: Sequence[str],
    *,
    only: Sequence[str] = (),
    severities: Sequence[int] = SEVERITIES,
    seed: int = 0,
) -> Robustness:
    """Measures every subset of the modalities, and every corruption of each at every severity.

    Args:
        measure: from a change of batches to the metric on a split.
        metric: its name.
        modalities: of the data set.
        used: those that the model reads.
        only: names of corruptions, of any kind; empty for all.
        severities: 1 to 5, in rising order.
        seed: of the corruptions.

    Raises:
        ConfigError: an unknown corruption, one that no modality of the model can have, or a
            severity out of range.

    Reference:
        Liang et al., MultiBench, NeurIPS 2021 (relative and effective robustness).
    """
    for severity in severities:
        check_severity(severity)
    if list(severities) != sorted(set(severities)) or not severities:
        raise ConfigError(f"The severities {tuple(severities)} must rise: give each once.")
    possible = {name: corruptions_of(modalities[name]) for name in used}
    known = dict.fromkeys(itertools.chain.from_iterable(possible.values()))
    for name in only:
        if name not in known:
            raise unknown_name("corruption of the modalities of this model,", name, known)

    def without(*absent: str) -> Callable[[Batch], Batch]:
        return lambda batch: dropped(batch, absent)

    subsets = {}
    for size in range(len(used), -1, -1):
        for kept in itertools.combinations(sorted(used), size):
            absent = [name for name in used if name not in kept]
            subsets[kept] = measure(without(*absent))
    clean, curves = subsets[tuple(sorted(used))], {}
    for name, corruptions in possible.items():
        for kind, corruption in corruptions.items():
            if only and kind not in only:
                continue
            points = [clean]
            for severity in severities:
                damage = corruption(name, severity)
                points.append(measure(functools.partial(corrupted, damage, seed=seed)))
            curves[f"{name}: {kind}"] = tuple(points)
    return Robustness(
        metric,
        {" + ".join(kept) or "none": value for kept, value in subsets.items()},
        curves,
        {name: area((0, *severities), curve) for name, curve in curves.items()},
        shapley(subsets),
    )


def dropped(batch: Batch, absent: Sequence[str]) -> Batch:
    """The batch with these modalities absent from all examples."""
    present = {name: batch.present[name] & False for name in absent}
    return dataclasses.replace(batch, present={**batch.present, **present})


def area(severities: Sequence[int], values: Sequence[float]) -> float:
    """The area under a curve by trapezoids, with the largest severity at 1."""
    total = sum(
        (right - left) * (one + other) / 2
        for left, right, one, other in zip(
            severities[:-1], severities[1:], values[:-1], values[1:], strict=True
        )
    )
    return total / severities[-1]


def shapley(values: Mapping[tuple[str, ...], float]) -> dict[str, float]:
    """The contribution of each player: its mean gain over all orders of joining.

        phi_m = sum over S without m of |S|! (M - |S| - 1)! / M! (v(S + m) - v(S))

    Args:
        values: v, of every subset, as sorted names; the empty one too.

    Returns:
        Player -> contribution; they sum to v(all) - v(none).

    Reference:
        Shapley 1953, A Value for n-Person Games, equation 13.
    """
    players = max(values, key=len)
    found = {}
    for player in players:
        total = 0.0
        for subset, value in values.items():
            if player in subset:
                continue
            with_it = values[tuple(sorted((*subset, player)))]
            ways = math.factorial(len(subset)) * math.factorial(len(players) - len(subset) - 1)
            total += ways / math.factorial(len(players)) * (with_it - value)
        found[player] = total
    return found
