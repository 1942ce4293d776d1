def left_by_targets():
    """Hashes of what targets outside a run have left: the report shows it, and never has it made."""
    patterns = ("dose/*/seed*.parquet", "sweep/*/chosen.json", "judge/agreement.json")
    files = sorted(file for pattern in patterns for file in glob.glob(results(pattern)))
    return {file: sha256_file(file) for file in files}


rule report:
    input:
        summary=results("summary/manifest.json"),
        metrics=results("summary/metrics.parquet"),
        tests=results("summary/tests.parquet"),
        gates=results("summary/gates.json"),
        extras=results("summary/extras.json"),
        evaluations=evaluations(),
        attacks=attack_results(),
        companions=attack_companion_results(),
        arms=runs("arms/{arm}/seed{seed}"),
        depth=runs("depth/{arm}/seed{seed}.parquet"),
        costs=runs("depth/{arm}/seed{seed}.json"),
        reliability=results("language/reliability.json"),
        data=results("data/report.json"),
        layers=results("layers/scores.parquet"),
        selected=results("layers/selected.json"),
        causal=results("layers/causal.json"),
        sae=results("sae"),
        features=results("features/manifest.json"),
        picks=results("features/picks.json"),
        contexts=results("features/contexts.parquet"),
        code=code("report"),
    output:
        page=report(
            results("report.html"),
            caption="../docs/captions/report.rst",
            category="Verdict",
        ),
        figures=directory(results("figures")),
    log:
        results("logs/report.log"),
    benchmark:
        results("benchmarks/report.tsv")
    conda:
        "../envs/mmie.yaml"
    resources:
        gpu=0,
        mem_mb=memory(1500),
        runtime=minutes(15),
    params:
        config=experiment.model_dump(mode="json"),
        left=lambda wildcards: left_by_targets(),
    message:
        "Writing the report"
    script:
        "../scripts/report.py"
