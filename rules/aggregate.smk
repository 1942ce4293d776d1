rule aggregate:
    input:
        evaluations=evaluations(),
        attacks=attack_results(),
        data=results("data/report.json"),
        code=code("aggregate"),
    output:
        metrics=results("summary/metrics.parquet"),
        tests=results("summary/tests.parquet"),
        gates=results("summary/gates.json"),
        extras=results("summary/extras.json"),
        manifest=results("summary/manifest.json"),
    log:
        results("logs/aggregate.log"),
    benchmark:
        results("benchmarks/aggregate.tsv")
    conda:
        "../envs/mmie.yaml"
    threads: THREADS
    resources:
        gpu=0,
        mem_mb=memory(3000),
        runtime=minutes(60),
    params:
        experiment=experiment.experiment,
        part=arm_parts(),
        gates=settings("gates")["gates"],
        roles=experiment.roles,
        statistics=settings("statistics")["statistics"],
    message:
        "Bootstrap, tests, gates and verdicts"
    script:
        "../scripts/aggregate.py"
