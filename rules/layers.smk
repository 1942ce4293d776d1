rule layers:
    input:
        activations=[
            results(f"activations/{language}") for language in fitted_languages()
        ],
        rows=rows(fitted_languages()),
        code=code("layers"),
    output:
        scores=results("layers/scores.parquet"),
        selected=results("layers/selected.json"),
        manifest=results("layers/manifest.json"),
    log:
        results("logs/layers.log"),
    benchmark:
        results("benchmarks/layers.tsv")
    conda:
        "../envs/mmie.yaml"
    threads: THREADS
    resources:
        gpu=0,
        mem_mb=memory(2000),
        runtime=minutes(30),
    params:
        languages=fitted_languages(),
        forget=experiment.forget_languages,
        options=settings("layers"),
    message:
        "Selecting layers"
    script:
        "../scripts/layers.py"
