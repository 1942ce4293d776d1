"""Fit one arm and save its intervention; the base must be the same before and after."""

from pathlib import Path

from mmie import job
from mmie.interventions import assert_restored, build
from mmie.interventions.fit_data import read_fit_data
from mmie.io import atomic_directory, write_parquet
from mmie.models.loading import load_model
from mmie.training.checkpoint import remove_checkpoints
from mmie.training.tracking import tracked_run

job.start(snakemake)
given, params = snakemake.input, snakemake.params
seed = int(snakemake.wildcards.seed)
device = job.hold_device(params.model["device"])

tracking = tracked_run(
    # No parameter: tracking decides nothing, so changing it must not fit an arm again.
    snakemake.config.get("tracking"),
    experiment=params.experiment,
    arm=snakemake.wildcards.arm,
    seed=seed,
    options=params.options,
    folder=params.tracking,
)
with tracking as observe:
    model, tokenizer = load_model(given.base, device=device, dtype=params.model["dtype"])
    data = read_fit_data(
        dict(given.items()),
        tokenizer=tokenizer,
        forget=params.forget,
        retain=params.retain,
        checkpoints=params.checkpoints,
        observe=observe,
    )
    intervention = build(params.options)
    with assert_restored(model):
        intervention.fit(model, data, seed=seed)
with atomic_directory(snakemake.output.folder) as folder:
    intervention.save(folder)
    if intervention.history is not None:
        write_parquet(folder / "history.parquet", intervention.history)
    job.manifest(
        folder / "manifest.json",
        config=dict(params.options),
        inputs=[Path(given.base) / "manifest.json", *given.get("rows", [])],
        seed=seed if intervention.seeded else None,
        device=device,
        details=intervention.fitted.facts,
    )
# The arm is saved: what only served to take training up again is not needed any more.
remove_checkpoints(Path(params.checkpoints))
