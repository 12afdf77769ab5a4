"""The base class of the estimators: from moments of batches to projections and correlations."""

import abc
import copy
import inspect
from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from mmjax.cca.moments import Moments, as_view, check_finite, check_rows
from mmjax.errors import ConfigError, unknown_name

Estimator = TypeVar("Estimator", bound="ViewEstimator")

ROWS = 4096  # rows projected at a time: 128 MiB of 4,096 kernel features


class NotFittedError(RuntimeError, AttributeError):
    """An estimator is used before it is fitted."""


class Solution(NamedTuple):
    """A solution for given moments.

    Attributes:
        weights: the directions of each view, [D_v, k].
        correlations: [k], on the data of the fit.
        extra: further results of the estimator.
    """

    weights: tuple[np.ndarray, ...]
    correlations: np.ndarray
    extra: dict[str, Any]


class ViewEstimator(abc.ABC):
    """A linear analysis of several views that depends on their moments alone.

    Subclasses compute directions from the moments (`_solve`). The solution is computed when it is
    first read after new examples, so that `partial_fit` costs no decomposition.
    """

    moments_: Moments
    _least_views = 2
    _view_names: tuple[str, ...] = ()  # for estimators with a given number of views

    def __init__(self, k: int, ridge: float | int) -> None:
        if not isinstance(k, Integral) or k < 1:
            raise ConfigError(f"k={k} must be a whole number of at least 1")
        if not 0 <= ridge < np.inf:
            raise ConfigError(f"ridge={ridge} must be finite and not negative")
        self.k: int = k
        self.ridge: float = ridge
        self._solution: Solution | None = None

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The arguments of the constructor, for scikit-learn's `clone`."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self.get_params().items())
        return f"{type(self).__name__}({options})"

    def __sklearn_tags__(self) -> Any:
        """The tags that scikit-learn's pipelines, cross-validation and searches read."""
        from sklearn.utils import Tags, TargetTags, TransformerTags  # lazy: importing takes 1 s

        return Tags(
            estimator_type=None,
            target_tags=TargetTags(required=True, two_d_labels=True, single_output=False),
            transformer_tags=TransformerTags(),
        )

    def set_params(self: Estimator, **params: Any) -> Estimator:
        """Changes arguments of the constructor and discards the fit."""
        known = self.get_params()
        for name in params:
            if name not in known:
                raise unknown_name(f"parameter of {type(self).__name__}", name, known)
        self.__dict__.clear()
        self.__init__(**{**known, **params})  # type: ignore[misc]
        return self

    def fit_stream(self: Estimator, batches: Iterable[Sequence[ArrayLike]]) -> Estimator:
        """Fits in one pass over batches, without keeping them.

        Args:
            batches: tuples of the views, as `partial_fit` takes them.

        Returns:
            This object.

        Raises:
            ConfigError: as `partial_fit`, or the stream is empty.
        """
        self._reset()
        for batch in batches:
            self._add_batch(batch, None)
        if not hasattr(self, "moments_"):
            raise ConfigError("the stream is empty: give at least one batch")
        return self._ensure_solved()

    def fit_moments(self: Estimator, moments: Moments) -> Estimator:
        """Fits to moments that were computed elsewhere, or merged.

        Args:
            moments: the moments of the views; they are copied.

        Returns:
            This object.

        Raises:
            ConfigError: moments of a different number of views, or as `fit`.
        """
        self._reset()
        self._check_views(moments.widths)
        self.moments_ = copy.deepcopy(moments)
        return self._ensure_solved()

    @property
    def mean_(self) -> tuple[np.ndarray, ...]:
        """The means of the columns of each view, [D_v]."""
        return self._fitted_moments().means

    @property
    def weights_(self) -> tuple[np.ndarray, ...]:
        """The directions of each view, [D_v, k]."""
        return self._ensure_solved()._result().weights

    @property
    def correlations_(self) -> np.ndarray:
        """The correlations of the projections on the data of the fit, [k]."""
        return self._ensure_solved()._result().correlations

    # For subclasses, to define or to use.

    @abc.abstractmethod
    def _solve(self, moments: Moments) -> Solution:
        """The directions, from the moments of the views or of their features."""

    def _needed_rows(self, widths: tuple[int, ...]) -> int:
        """How many examples a fit without a ridge needs."""
        return max(widths)

    def _correlated(self, widths: tuple[int, ...]) -> tuple[int, ...]:
        """The widths of the views that have directions."""
        return widths

    def _no_moments(self, widths: tuple[int, ...]) -> Moments:
        """Moments without examples, to start from."""
        return Moments(widths)

    def _columns(self) -> tuple[int, ...]:
        """The numbers of columns of the views of the fit."""
        return self._fitted_moments().widths

    def _features(self, view: int, x: np.ndarray) -> np.ndarray:
        """The features of a view [N, D_v] that the moments describe; by default the view itself."""
        return x

    def _fit(self: Estimator, views: Sequence[ArrayLike], weight: ArrayLike | None) -> Estimator:
        self._reset()
        self._add_batch(views, weight)
        return self._ensure_solved()

    def _add_batch(self, views: Sequence[ArrayLike], weight: ArrayLike | None) -> None:
        names = self._names(len(views))
        arrays = [as_view(view, name) for view, name in zip(views, names, strict=True)]
        self._accumulate(arrays, weight, names)
        self._solution = None

    def _accumulate(
        self, views: Sequence[Any], weight: ArrayLike | None, names: Sequence[str]
    ) -> None:
        widths = tuple(view.shape[1] for view in views)
        self._check_views(widths)
        moments = getattr(self, "moments_", None) or self._no_moments(widths)
        self.moments_ = moments.update(*views, weight=weight, names=names)

    def _centred(self, views: Sequence[ArrayLike]) -> tuple[np.ndarray, ...]:
        """The views in float64, checked against the fit, minus the means of the fit."""
        arrays = self._as_fitted(views)
        with np.errstate(over="ignore", invalid="ignore"):
            return tuple(x - mean for x, mean in zip(arrays, self.mean_, strict=True))

    def _transform(self, views: Sequence[ArrayLike]) -> tuple[np.ndarray, ...]:
        arrays = self._as_fitted(views)
        return tuple(self._projected(view, array) for view, array in enumerate(arrays))

    def _transform_view(self, view: int, x: ArrayLike) -> np.ndarray:
        self._fitted_moments()
        columns = self._columns()
        if not 0 <= view < len(columns):
            raise ConfigError(
                f"there is no view {view}: give a number from 0 to {len(columns) - 1}"
            )
        name = self._names(len(columns))[view]
        array = checked_view(x, name)
        if array.shape[1] != columns[view]:
            raise ConfigError(
                f"{name} has {array.shape[1]} columns, but the fit had {columns[view]}: give the "
                "same columns"
            )
        return self._projected(view, array)

    def _projected(self, view: int, x: np.ndarray) -> np.ndarray:
        weights, mean = self.weights_[view], self.mean_[view]
        parts = []
        with np.errstate(over="ignore", invalid="ignore"):
            for start in range(0, max(len(x), 1), ROWS):
                features = self._features(view, x[start : start + ROWS])
                parts.append((features - mean) @ weights)
        return checked_projection(np.concatenate(parts))

    def _checked(self, views: Sequence[ArrayLike]) -> list[np.ndarray]:
        names = self._names(len(views))
        arrays = [checked_view(view, name) for view, name in zip(views, names, strict=True)]
        check_rows(arrays, names)
        return arrays

    def _as_fitted(self, views: Sequence[ArrayLike]) -> list[np.ndarray]:
        self._fitted_moments()
        arrays = self._checked(views)
        self._check_columns(arrays)
        return arrays

    def _check_columns(self, views: Sequence[Any]) -> None:
        given, fitted = tuple(view.shape[1] for view in views), self._columns()
        if given != fitted:
            raise ConfigError(
                f"the views have {' and '.join(map(str, given))} columns, but "
                f"the fit had {' and '.join(map(str, fitted))}: give the same columns"
            )

    def _names(self, count: int) -> tuple[str, ...]:
        names = self._view_names or tuple(f"view {i}" for i in range(count))
        if count != len(names) or count < self._least_views:
            raise ConfigError(
                f"{type(self).__name__} got {count} views: give "
                f"{len(self._view_names) or f'{self._least_views} or more'}"
            )
        return names

    def _check_views(self, widths: tuple[int, ...]) -> None:
        self._names(len(widths))
        narrowest = min(self._correlated(widths))
        if self.k > narrowest:
            raise ConfigError(
                f"k={self.k} is more than the {narrowest} columns of the narrowest view: choose k "
                f"from 1 to {narrowest}"
            )

    def _fitted_moments(self) -> Moments:
        if not hasattr(self, "moments_"):
            raise NotFittedError(f"this {type(self).__name__} is not fitted yet: call fit first")
        return self.moments_

    def _ensure_solved(self: Estimator) -> Estimator:
        moments = self._fitted_moments()
        if self._solution is None:
            if moments.rows < 2:
                raise ConfigError(
                    f"a fit needs at least 2 examples, but got {moments.rows}: give more"
                )
            needed = self._needed_rows(moments.widths)
            if moments.rows < needed and self.ridge == 0:
                raise ConfigError(
                    f"{moments.rows} examples cannot give the covariance of {needed} columns: use "
                    "more examples, fewer columns, or a ridge above 0"
                )
            self._solution = self._solve(moments)
        return self

    def _result(self) -> Solution:
        assert self._solution is not None
        return self._solution

    def _reset(self) -> None:
        self.__dict__.pop("moments_", None)
        self._solution = None


def checked_view(view: ArrayLike, name: str) -> np.ndarray:
    """A view [N, D] in float64; raises a ConfigError if it is not valid."""
    array = np.asarray(as_view(view, name))
    check_finite(array, name)
    return array.astype(np.float64)


def checked_projection(projected: np.ndarray) -> np.ndarray:
    """The projections of a view; raises a ConfigError if they overflow."""
    if not np.isfinite(projected).all():
        raise ConfigError(
            "the projections overflow: bring these examples to the scale of the data of the fit"
        )
    return projected
