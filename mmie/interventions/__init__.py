"""Everything that can be done to a model, behind one interface."""

from mmie.interventions.interface import FitData, Intervention, assert_restored
from mmie.interventions.registry import KINDS, build, load_intervention
from mmie.training.fingerprint import probe_hash

__all__ = [
    "KINDS",
    "FitData",
    "Intervention",
    "assert_restored",
    "build",
    "load_intervention",
    "probe_hash",
]
