rule evaluate:
    input:
        base=results("base"),
        arm=results("arms/{arm}/seed{seed}"),
        rows=results("data/{language}.parquet"),
        lengths=results("data/{language}.lengths.json"),
        parallel=rows(fitted_languages()),
        code=code("evaluate"),
    output:
        table=results("eval/{arm}/seed{seed}/{language}.parquet"),
    log:
        results("logs/evaluate/{arm}-{seed}-{language}.log"),
    benchmark:
        results("benchmarks/evaluate/{arm}-{seed}-{language}.tsv")
    conda:
        "../envs/mmie.yaml"
    threads: THREADS
    resources:
        gpu=GPUS,
        mem_mb=memory(2000),
        runtime=minutes(30),
    params:
        model=device_options(),
        decoding=settings("decoding")["decoding"],
        prompts=experiment.evaluation.items,
        languages=fitted_languages(),
    message:
        "Evaluating {wildcards.arm} (seed {wildcards.seed}) in {wildcards.language}"
    script:
        "../scripts/evaluate.py"


rule seal_evaluation:
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
    conda:
        "../envs/mmie.yaml"
    resources:
        gpu=0,
        mem_mb=memory(500),
        runtime=minutes(5),
    message:
        "Manifest of the evaluation of {wildcards.arm} (seed {wildcards.seed})"
    script:
        "../scripts/seal.py"
