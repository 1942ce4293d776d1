from snakemake.utils import min_version

min_version("9.20")


configfile: "config/config.yaml"


include: "rules/inputs.smk"
include: "rules/data.smk"
include: "rules/atlas.smk"
include: "rules/base.smk"
include: "rules/activations.smk"
include: "rules/layers.smk"
include: "rules/sae.smk"
include: "rules/arms.smk"
include: "rules/evaluate.smk"
include: "rules/attack.smk"
include: "rules/aggregate.smk"
include: "rules/report.smk"


wildcard_constraints:
    arm=r"[A-Za-z0-9_-]+",
    attack=r"[a-z]+",
    language=r"[a-z]{2,3}(_[A-Z][a-z]{3})?",
    picker=r"[a-z_]+",
    role=r"reference|arm",
    seed=r"\d+",


localrules:
    all,
    seal_attack,
    seal_evaluation,
    seal_reference,


rule all:
    default_target: True
    input:
        results("report.html"),
        sealed_directories(),
    message:
        "{config[experiment]} is done: see report.html in its results folder"
