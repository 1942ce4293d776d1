# A base model waits for checked corpora. Once it is there the mark is a file that no rule makes: a check that runs
# again must not make the model again. `ancient()` would serve, but Snakemake (9.27) plans nothing behind an ancient
# input whose job runs again, so that changed arms and missing results were passed over.
CHECKED = results("data/checked")

if not (Path(results("base")).exists() and Path(CHECKED).exists()):

    rule checked:
        input:
            results("data/report.json"),
        output:
            touch(CHECKED),
        localrule: True
        message:
            "The corpora are checked"


rule base:
    input:
        checked=CHECKED,
        model=model_files(),
        code=code("base"),
    output:
        model=directory(results("base")),
    log:
        results("logs/base.log"),
    benchmark:
        results("benchmarks/base.tsv")
    conda:
        "../envs/mmie.yaml"
    threads: THREADS
    resources:
        gpu=GPUS,
        mem_mb=memory(2000),
        runtime=minutes(30),
    params:
        model=base_options(),
    message:
        "Preparing the base model {params.model[base]}"
    script:
        "../scripts/base.py"


rule oracle:
    input:
        base=results("base"),
        corpora=ancient(oracle_corpora()),
        code=code("oracle"),
    output:
        model=directory(results("oracle/{role}")),
    log:
        results("logs/oracle/{role}.log"),
    benchmark:
        results("benchmarks/oracle/{role}.tsv")
    conda:
        "../envs/mmie.yaml"
    threads: THREADS
    resources:
        gpu=GPUS,
        mem_mb=memory(2000),
        runtime=minutes(60),
    params:
        forget=experiment.forget_languages,
        oracle=lambda wildcards: oracle_options(wildcards.role),
    message:
        "Preparing the {wildcards.role} oracle, which never saw the forget languages"
    script:
        "../scripts/oracle.py"


rule reference:
    input:
        base=results("base"),
        rows=results("data/{language}.parquet"),
        lengths=results("data/{language}.lengths.json"),
        code=code("reference"),
    output:
        table=results("reference/{language}.parquet"),
    log:
        results("logs/reference/{language}.log"),
    benchmark:
        results("benchmarks/reference/{language}.tsv")
    conda:
        "../envs/mmie.yaml"
    threads: THREADS
    resources:
        gpu=GPUS,
        mem_mb=memory(2000),
        runtime=minutes(30),
    params:
        model=device_options(),
        batch_size=experiment.decoding.batch_size,
    message:
        "Log-likelihoods of the base model for answers in {wildcards.language}"
    script:
        "../scripts/reference.py"


rule seal_reference:
    input:
        files=[
            results(f"reference/{language}.parquet") for language in fitted_languages()
        ],
        code=code("seal"),
    output:
        manifest=results("reference/manifest.json"),
    log:
        results("logs/seal_reference.log"),
    benchmark:
        results("benchmarks/seal_reference.tsv")
    conda:
        "../envs/mmie.yaml"
    resources:
        gpu=0,
        mem_mb=memory(500),
        runtime=minutes(5),
    message:
        "Manifest of the reference log-likelihoods"
    script:
        "../scripts/seal.py"
