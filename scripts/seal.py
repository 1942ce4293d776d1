"""Write the manifest of a directory that several jobs filled."""

from pathlib import Path

from mmie import job

job.start(snakemake)

files = sorted(map(str, snakemake.input.files))
job.manifest(
    snakemake.output.manifest,
    config={"files": [Path(file).name for file in files]},
    inputs=files,
    details={"benchmarks": snakemake.params.get("benchmarks", [])},
)
