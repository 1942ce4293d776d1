"""Train the Latin-script language classifier from unpacked public packages."""

from pathlib import Path
from tempfile import TemporaryDirectory

from mmie import job
from mmie.io import atomic_directory, write_json
from mmie.language.latin_corpus import training_examples
from mmie.language.latin_training import train, write_lines

job.start(snakemake)
packages = Path(snakemake.input.packages)

with atomic_directory(snakemake.output.model) as folder, TemporaryDirectory() as scratch:
    lines = Path(scratch) / "lines.txt"
    labels = write_lines(training_examples(packages), lines)
    write_json(folder / "recipe.json", {"lines": labels, **train(lines, folder / "latin.ftz")})
