# What the project ships, made anew beside it and never part of a run:
#   snakemake --cores 1 -- atlas
#   snakemake --cores 1 -- nano


rule atlas:
    input:
        config="data/atlas/atlas.yaml",
        templates=sorted(map(str, Path("mmie/data/atlas/templates").glob("*.yaml"))),
        code=code("atlas"),
    output:
        corpus=directory("results/rebuilt/atlas"),
    log:
        "results/rebuilt/logs/atlas.log",
    benchmark:
        "results/rebuilt/benchmarks/atlas.tsv"
    conda:
        "../envs/mmie.yaml"
    resources:
        gpu=0,
        mem_mb=memory(1000),
        runtime=minutes(20),
    message:
        "Generating the Atlas corpus from the Unicode CLDR"
    script:
        "../scripts/atlas.py"


rule nano:
    input:
        corpora=sorted(map(str, Path("data/atlas").glob("*.jsonl"))),
        code=code("nano"),
    output:
        model=directory("results/rebuilt/nano"),
    log:
        "results/rebuilt/logs/nano.log",
    benchmark:
        "results/rebuilt/benchmarks/nano.tsv"
    conda:
        "../envs/mmie.yaml"
    threads: THREADS
    resources:
        gpu=0,
        mem_mb=memory(2000),
        runtime=minutes(60),
    params:
        seed=0,
    message:
        "Training nano on all of Atlas (about ten minutes on one core)"
    script:
        "../scripts/nano.py"
