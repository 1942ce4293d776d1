# The languages that arms are fitted on come in one job, which loads the model once. A neighbour has a job
# of its own, so that adding one measures that one alone.
rule evaluate:
    input:
        base=results("base"),
        arm=results("arms/{arm}/seed{seed}"),
        rows=rows(fitted_languages()),
        lengths=lengths(fitted_languages()),
        parallel=rows(fitted_languages()),
        identifier=IDENTIFIER,
        code=code("evaluate"),
    output:
        tables=expand(
            results("eval/{{arm}}/seed{{seed}}/{language}.parquet"),
            language=fitted_languages(),
        ),
    log:
        results("logs/evaluate/{arm}-{seed}.log"),
    benchmark:
        results("benchmarks/evaluate/{arm}-{seed}.tsv")
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
        language=settings("language")["language"],
    message:
        "Evaluating {wildcards.arm} (seed {wildcards.seed})"
    script:
        "../scripts/evaluate.py"


use rule evaluate as evaluate_neighbour with:
    input:
        base=results("base"),
        arm=results("arms/{arm}/seed{seed}"),
        rows=results("data/{language}.parquet"),
        lengths=results("data/{language}.lengths.json"),
        parallel=rows(fitted_languages()),
        identifier=IDENTIFIER,
        code=code("evaluate"),
    output:
        tables=[results("eval/{arm}/seed{seed}/{language}.parquet")],
    log:
        results("logs/evaluate_neighbour/{arm}-{seed}-{language}.log"),
    benchmark:
        results("benchmarks/evaluate_neighbour/{arm}-{seed}-{language}.tsv")
    wildcard_constraints:
        language="|".join(experiment.neighbour_languages) or "none",
    message:
        "Evaluating {wildcards.arm} (seed {wildcards.seed}) in {wildcards.language}"


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
