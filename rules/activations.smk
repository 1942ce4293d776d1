rule activations:
    input:
        base=results("base"),
        rows=results("data/{language}.parquet"),
        lengths=results("data/{language}.lengths.json"),
        code=code("activations"),
    output:
        folder=directory(results("activations/{language}")),
    log:
        results("logs/activations/{language}.log"),
    benchmark:
        results("benchmarks/activations/{language}.tsv")
    conda:
        "../envs/mmie.yaml"
    threads: THREADS
    resources:
        gpu=GPUS,
        mem_mb=memory(2000),
        runtime=minutes(30),
    params:
        model=device_options(),
        options=settings("activations"),
        romanised=False,
    message:
        "Reading the residual stream in {wildcards.language}"
    script:
        "../scripts/activations.py"


# For the script-blind selection of layers alone.
use rule activations as romanised_activations with:
    output:
        folder=directory(results("activations-romanised/{language}")),
    log:
        results("logs/activations-romanised/{language}.log"),
    benchmark:
        results("benchmarks/activations-romanised/{language}.tsv")
    params:
        model=device_options(),
        options=settings("activations"),
        romanised=True,
    message:
        "Reading the residual stream in romanised {wildcards.language}"
