rule validate:
    input:
        files=lambda wildcards: files_of(wildcards.language),
        code=code("validate"),
    output:
        rows=results("data/{language}.parquet"),
        report=results("data/{language}.report.json"),
    log:
        results("logs/validate/{language}.log"),
    benchmark:
        results("benchmarks/validate/{language}.tsv")
    conda:
        "../envs/mmie.yaml"
    resources:
        gpu=0,
        mem_mb=memory(1000),
        runtime=minutes(10),
    params:
        options=data_options(),
    message:
        "Checking the rows of {wildcards.language}"
    script:
        "../scripts/validate.py"


rule check_corpora:
    input:
        rows=rows(experiment.languages),
        reports=[
            results(f"data/{language}.report.json")
            for language in experiment.languages
        ],
        code=code("check_corpora"),
    output:
        report=results("data/report.json"),
        card=results("data/card.md"),
        manifest=results("data/manifest.json"),
    log:
        results("logs/check_corpora.log"),
    benchmark:
        results("benchmarks/check_corpora.tsv")
    conda:
        "../envs/mmie.yaml"
    resources:
        gpu=0,
        mem_mb=memory(1500),
        runtime=minutes(10),
    params:
        roles=experiment.roles,
        declared_tests=len(experiment.arms) * len(experiment.forget_languages),
        options=data_options(),
    message:
        "Checking the corpora against each other: overlaps, leaks, empty sets"
    script:
        "../scripts/check_corpora.py"


rule lengths:
    input:
        base=results("base"),
        rows=results("data/{language}.parquet"),
        code=code("lengths"),
    output:
        report=results("data/{language}.lengths.json"),
    log:
        results("logs/lengths/{language}.log"),
    benchmark:
        results("benchmarks/lengths/{language}.tsv")
    conda:
        "../envs/mmie.yaml"
    resources:
        gpu=0,
        mem_mb=memory(1000),
        runtime=minutes(10),
    params:
        max_new_tokens=experiment.decoding.max_new_tokens,
        truncated_limit=experiment.model.truncated_limit,
    message:
        "Counting the tokens of {wildcards.language} against the length limit"
    script:
        "../scripts/lengths.py"
