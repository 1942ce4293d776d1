"""What targets outside a run make, and what they have left for the report."""

import glob

from mmie.io import sha256_file


def dosed_arms():
    """Configured arms whose strength can be varied after the fit."""
    return [arm for arm in experiment.arms if "strength" in arm_options(arm)]


def dose_tables():
    """One table an arm: its first seed at several strengths."""
    return [
        results(f"dose/{arm}/seed{seed}.parquet")
        for arm in dosed_arms()
        for seed in seeds_of(arm)[:1]
    ]


def left_by_targets():
    """Hashes of what targets outside a run have left: the report shows it, and never has it made."""
    patterns = ("dose/*/seed*.parquet", "sweep/*/chosen.json", "judge/agreement.json")
    files = sorted(file for pattern in patterns for file in glob.glob(results(pattern)))
    return {file: sha256_file(file) for file in files}
