rule activations:
    message:
        "Reading the residual stream of every layer in {wildcards.language}"
    input:
        base=results("base"),
        rows=results("data/{language}.parquet"),
        code=code("activations"),
    output:
        folder=directory(results("activations/{language}")),
    params:
        model=device_options(),
        options=settings("activations"),
    log:
        results("logs/activations/{language}.log"),
    benchmark:
        results("benchmarks/activations/{language}.tsv")
    threads: THREADS
    resources:
        gpu=GPUS,
        mem_mb=memory(2000),
        runtime=minutes(30),
    conda:
        "../envs/mmie.yaml"
    script:
        "../scripts/activations.py"
