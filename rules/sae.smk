rule sae:
    input:
        base=results("base"),
        selected=results("layers/selected.json"),
        activations=[
            results(f"activations/{language}") for language in fitted_languages()
        ],
        rows=rows(fitted_languages()),
        existing=existing_autoencoders(),
        code=code("sae"),
    output:
        folder=directory(results("sae")),
    log:
        results("logs/sae.log"),
    benchmark:
        results("benchmarks/sae.tsv")
    conda:
        "../envs/mmie.yaml"
    threads: THREADS
    resources:
        gpu=GPUS,
        mem_mb=memory(2500),
        runtime=minutes(60),
    params:
        languages=fitted_languages(),
        model=device_options(),
        options=settings("sae"),
    message:
        "Training or loading a sparse autoencoder for each selected layer"
    script:
        "../scripts/sae.py"


rule features:
    input:
        base=results("base"),
        sae=results("sae"),
        activations=[
            results(f"activations/{language}") for language in contrasted_languages()
        ],
        rows=rows(contrasted_languages()),
        code=code("features"),
    output:
        latents=results("features/latents.parquet"),
        contrast=results("features/contrast.json"),
        contexts=results("features/contexts.parquet"),
        picks=results("features/picks.json"),
        manifest=results("features/manifest.json"),
    log:
        results("logs/features.log"),
    benchmark:
        results("benchmarks/features.tsv")
    conda:
        "../envs/mmie.yaml"
    threads: THREADS
    resources:
        gpu=GPUS,
        mem_mb=memory(2500),
        runtime=minutes(30),
    params:
        forget=experiment.forget_languages,
        retain=list(experiment.retain),
        negatives=list(experiment.negative_languages),
        top=features_wanted(),
        prompts=60,
        seed=0,
        model=device_options(),
    message:
        "Picking latents that speak for the forget languages, and clamping them on DEV"
    script:
        "../scripts/features.py"
