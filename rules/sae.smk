rule sae:
    message:
        "Training a sparse autoencoder for each selected layer"
    input:
        base=results("base"),
        selected=results("layers/selected.json"),
        activations=[results(f"activations/{language}") for language in fitted_languages()],
        rows=rows(fitted_languages()),
        code=code("sae"),
    output:
        folder=directory(results("sae")),
    params:
        languages=fitted_languages(),
        model=device_options(),
        options=settings("sae"),
    log:
        results("logs/sae.log"),
    benchmark:
        results("benchmarks/sae.tsv")
    threads: THREADS
    resources:
        gpu=GPUS,
        mem_mb=memory(2500),
        runtime=minutes(60),
    conda:
        "../envs/mmie.yaml"
    script:
        "../scripts/sae.py"


rule features:
    message:
        "Picking latents that speak for the forget languages"
    input:
        sae=results("sae"),
        activations=[results(f"activations/{language}") for language in fitted_languages()],
        code=code("features"),
    output:
        latents=results("features/latents.parquet"),
        contrast=results("features/contrast.json"),
        manifest=results("features/manifest.json"),
    params:
        forget=experiment.forget_languages,
        retain=list(experiment.retain),
        top=features_wanted(),
    log:
        results("logs/features.log"),
    benchmark:
        results("benchmarks/features.tsv")
    threads: THREADS
    resources:
        gpu=0,
        mem_mb=memory(2500),
        runtime=minutes(30),
    conda:
        "../envs/mmie.yaml"
    script:
        "../scripts/features.py"
