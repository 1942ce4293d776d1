"""Write down what will be tested, with its hash; the configuration is all it reads."""

from pathlib import Path

from mmie import job
from mmie.io import read_json, write_json
from mmie.statistics.hypotheses import declared, hypotheses
from mmie.statistics.options import Options

job.start(snakemake)
params = snakemake.params
folder = Path(snakemake.output.hypotheses).parent

options = Options.from_settings(params.experiment, params.statistics, params.part, params.attacks)
content = hypotheses(params.roles, params.gates, options)
verdict = folder / "summary/gates.json"
earlier = read_json(verdict).get("hypotheses") if verdict.is_file() else None
scores = folder.glob("eval/*/*/*.parquet")
write_json(snakemake.output.hypotheses, {**content, "declared": declared(content, earlier, scores)})
