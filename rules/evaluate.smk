rule evaluate:
    message:
        "Evaluating {wildcards.arm} (seed {wildcards.seed}) in {wildcards.language}"
    input:
        base=results("base"),
        arm=results("arms/{arm}/seed{seed}"),
        rows=results("data/{language}.parquet"),
        parallel=rows(fitted_languages()),
        code=code("evaluate"),
    output:
        table=results("eval/{arm}/seed{seed}/{language}.parquet"),
    params:
        model=device_options(),
        decoding=settings("decoding")["decoding"],
        languages=fitted_languages(),
    log:
        results("logs/evaluate/{arm}-{seed}-{language}.log"),
    benchmark:
        results("benchmarks/evaluate/{arm}-{seed}-{language}.tsv")
    threads: THREADS
    resources:
        gpu=GPUS,
        mem_mb=memory(2000),
        runtime=minutes(30),
    conda:
        "../envs/mmie.yaml"
    script:
        "../scripts/evaluate.py"


rule seal_evaluation:
    message:
        "Manifest of the evaluation of {wildcards.arm} (seed {wildcards.seed})"
    input:
        files=expand(
            results("eval/{{arm}}/seed{{seed}}/{language}.parquet"),
            language=experiment.languages,
        ),
        code=code("seal"),
    output:
        manifest=results("eval/{arm}/seed{seed}/manifest.json"),
    log:
        results("logs/seal_evaluation/{arm}-{seed}.log"),
    benchmark:
        results("benchmarks/seal_evaluation/{arm}-{seed}.tsv")
    resources:
        gpu=0,
        mem_mb=memory(500),
        runtime=minutes(5),
    conda:
        "../envs/mmie.yaml"
    script:
        "../scripts/seal.py"
