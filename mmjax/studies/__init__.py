"""Ablations over rows and seeds, and the HTML report."""

from mmjax.studies.ablation import ablate

__all__ = ["ablate"]
