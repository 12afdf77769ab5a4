"""`gmu_synthetic`: two modalities, of which a hidden switch says which one carries the class."""

import dataclasses
from pathlib import Path
from typing import ClassVar

import numpy as np

from mmjax.data.dataset import About, ArraySource, Dataset, Modality, Target
from mmjax.errors import ConfigError, check_sizes

_SPLITS = {"train": 0, "valid": 1, "test": 2}


@dataclasses.dataclass(frozen=True)
class GMUSynthetic(Dataset):
    """A binary class in one of two vectors; the other holds noise. Made from random numbers.

        C ~ Bernoulli(p_class)                   the class, target `label`
        M ~ Bernoulli(p_switch)                  the switch, target `switch`; 1: visual
        y_v, y_t ~ N(gamma_v), N(gamma_t)        noise of each modality
        x_v, x_t ~ N(alpha_C), N(alpha_C)        what each would say of the class
        x_v = M x_v + (1 - M) y_v,   x_t = (1 - M) x_t + M y_t

    After the generative model of Arevalo et al. 2017, section 4.1 and figure 3. The means are ours:
    the class is at +1 and -1, and the noise at 3 in the visual and at -3 in the textual modality,
    all in one direction of each modality's space and with a deviation of `spread`. So whoever reads
    one modality can tell whether it is noise. As in the paper, there are about 200 examples of each
    class in training.

    Attributes:
        train_size: examples of `train`.
        valid_size: examples of `valid`.
        test_size: examples of `test`.
        width: numbers of each modality; all but the first are noise around 0.
        spread: standard deviation of all numbers.
        p_class: probability of class 1.
        p_switch: probability that the visual modality carries the class.
        seed: of everything.

    Reference:
        Arevalo, Solorio, Montes-y-Gomez and Gonzalez 2017, Gated Multimodal Units for Information
        Fusion, section 4.1.
    """

    name: ClassVar[str] = "gmu_synthetic"
    about: ClassVar[About] = About(
        title="Two vectors, of which a hidden switch says which one carries the class",
        citation="Arevalo et al. 2017, Gated Multimodal Units, section 4.1; the numbers are ours",
        licence="no rights are claimed: random numbers",
    )

    train_size: int = 400
    valid_size: int = 400
    test_size: int = 2000
    width: int = 1
    spread: float = 0.4
    p_class: float = 0.5
    p_switch: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        check_sizes(self, "train_size", "valid_size", "test_size", "width")
        check_sizes(self, "seed", least=0)
        for name in ("p_class", "p_switch"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(
                    f"GMUSynthetic: {name} is {getattr(self, name)}; choose it from 0 to 1."
                )
        if not 0 < self.spread < float("inf"):
            raise ConfigError(f"GMUSynthetic: spread is {self.spread}; choose it above 0.")

    @property
    def modalities(self) -> dict[str, Modality]:
        """Modality name -> kind, shape and dtype of one example."""
        return {name: Modality("vector", (self.width,)) for name in ("textual", "visual")}

    @property
    def targets(self) -> dict[str, Target]:
        """Target name -> kind and shape of the target of one example."""
        return {
            "label": Target("class", 2),
            "switch": Target("class", 2, names=("textual", "visual")),
        }

    def load(self, split: str, folder: Path | None) -> ArraySource:
        """Makes a split; see `Dataset.load`."""
        self.check_split(split)
        size = {"train": self.train_size, "valid": self.valid_size, "test": self.test_size}[split]
        rng = np.random.default_rng([self.seed, _SPLITS[split]])
        label = (rng.random(size) < self.p_class).astype(np.int32)
        switch = (rng.random(size) < self.p_switch).astype(np.int32)
        inputs = {}
        for name, carries, noise in (("textual", switch == 0, -3), ("visual", switch == 1, 3)):
            mean = np.zeros((size, self.width))
            mean[:, 0] = np.where(carries, 2 * label - 1, noise)
            drawn = mean + self.spread * rng.standard_normal(mean.shape)
            inputs[name] = drawn.astype(np.float32)
        return ArraySource(inputs, {"label": label, "switch": switch})
