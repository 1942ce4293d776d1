from snakemake.utils import min_version

min_version("9.20")


configfile: "config/config.yaml"


include: "rules/inputs.smk"
include: "rules/on_request.smk"
include: "rules/data.smk"
include: "rules/atlas.smk"
include: "rules/lid.smk"
include: "rules/base.smk"
include: "rules/language.smk"
include: "rules/activations.smk"
include: "rules/layers.smk"
include: "rules/sae.smk"
include: "rules/arms.smk"
include: "rules/evaluate.smk"
include: "rules/depth.smk"
include: "rules/sweep.smk"
include: "rules/attack.smk"
include: "rules/dose.smk"
include: "rules/judge.smk"
include: "rules/aggregate.smk"
include: "rules/report.smk"


wildcard_constraints:
    arm=r"[A-Za-z0-9_-]+",
    attack=r"[a-z0-9_]+",
    language=r"[a-z]{2,3}(_[A-Z][a-z]{3})?",
    picker=r"[a-z_]+",
    role=r"reference|arm",
    seed=r"\d+",
    trial=r"[0-9a-f]{8}",


localrules:
    all,
    dose_response,
    sweep,
    seal_attack,
    seal_depth,
    seal_evaluation,
    seal_reference,


rule all:
    default_target: True
    input:
        results("report.html"),
        sealed_directories(),
    message:
        "{config[experiment]} is done: see report.html in its results folder"
