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
        "Picking latents: {wildcards.picker}"
    input:
        sae=results("sae"),
        selected=results("layers/selected.json"),
        activations=[results(f"activations/{language}") for language in fitted_languages()],
        rows=rows(fitted_languages()),
        code=code("features"),
    output:
        features=results("features/{picker}.json"),
    params:
        languages=fitted_languages(),
        forget=experiment.forget_languages,
    log:
        results("logs/features/{picker}.log"),
    benchmark:
        results("benchmarks/features/{picker}.tsv")
    threads: THREADS
    resources:
        gpu=0,
        mem_mb=memory(2500),
        runtime=minutes(30),
    conda:
        "../envs/mmie.yaml"
    script:
        "../scripts/features.py"


rule seal_features:
    message:
        "Manifest of the picked latents"
    input:
        files=[results(f"features/{picker}.json") for picker in pickers()],
        code=code("seal"),
    output:
        manifest=results("features/manifest.json"),
    log:
        results("logs/seal_features.log"),
    benchmark:
        results("benchmarks/seal_features.tsv")
    resources:
        gpu=0,
        mem_mb=memory(500),
        runtime=minutes(5),
    conda:
        "../envs/mmie.yaml"
    script:
        "../scripts/seal.py"
