rule layers:
    input:
        activations=list(scored_activations().values()),
        rows=rows(scored_activations()),
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
        runtime=minutes(120),
    params:
        forget=[
            language
            for language in experiment.forget_languages
            if language in scored_activations()
        ],
        options=selection_options(),
    message:
        "Selecting layers"
    script:
        "../scripts/layers.py"


# Whether the choice of layers mattered: for the report alone, no stage reads it.
rule causal:
    input:
        base=results("base"),
        selected=results("layers/selected.json"),
        activations=[
            results(f"activations/{language}") for language in fitted_languages()
        ],
        rows=rows(fitted_languages()),
        code=code("causal"),
    output:
        report=results("layers/causal.json"),
    log:
        results("logs/causal.log"),
    benchmark:
        results("benchmarks/causal.tsv")
    conda:
        "../envs/mmie.yaml"
    threads: THREADS
    resources:
        gpu=GPUS,
        mem_mb=memory(2000),
        runtime=minutes(30),
    params:
        forget=experiment.forget_languages,
        retain=list(experiment.retain),
        model=device_options(),
        prompts=100,
        pairs=experiment.layers.pairs,
        controls=20,
        draws=3,
    message:
        "Ablating and patching layers on DEV"
    script:
        "../scripts/causal.py"
