rule atlas:
    input:
        config="mmie/data/atlas/atlas.yaml",
        code=code("atlas"),
    output:
        corpus=directory(results("atlas")),
    log:
        results("logs/atlas.log"),
    benchmark:
        results("benchmarks/atlas.tsv")
    conda:
        "../envs/mmie.yaml"
    resources:
        gpu=0,
        mem_mb=memory(1000),
        runtime=minutes(20),
    """Rebuild the shipped corpus from CLDR: `snakemake --cores 1 -- atlas`. Never part of a run."""
    message:
        "Generating the Atlas corpus from the Unicode CLDR"
    script:
        "../scripts/atlas.py"
