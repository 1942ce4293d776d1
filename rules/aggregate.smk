rule hypotheses:
    output:
        hypotheses=results("hypotheses.json"),
    log:
        results("logs/hypotheses.log"),
    benchmark:
        results("benchmarks/hypotheses.tsv")
    # Before any result: it needs nothing, so this makes it the first job. No job that scores has it as an input,
    # or new hypotheses would have everything scored again.
    priority: 100
    conda:
        "../envs/mmie.yaml"
    resources:
        gpu=0,
        mem_mb=memory(500),
        runtime=minutes(5),
    params:
        experiment=experiment.experiment,
        part=arm_parts(),
        attacks=attacks(),
        gates=settings("gates")["gates"],
        roles=experiment.roles,
        statistics=settings("statistics")["statistics"],
    message:
        "What will be tested, written down before there are results"
    script:
        "../scripts/hypotheses.py"


rule aggregate:
    input:
        hypotheses=results("hypotheses.json"),
        evaluations=evaluations(),
        attacks=attack_results(),
        data=results("data/report.json"),
        reliability=results("language/reliability.json"),
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
        attacks=attacks(),
        gates=settings("gates")["gates"],
        roles=experiment.roles,
        statistics=settings("statistics")["statistics"],
        frozen=frozen(),
        # Outlives the results of one configuration, so it is no output of this rule.
        ledger=results("test-readings.json"),
    message:
        "Bootstrap, tests, gates and verdicts"
    script:
        "../scripts/aggregate.py"
