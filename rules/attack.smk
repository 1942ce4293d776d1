rule relearn:
    input:
        base=results("base"),
        arm=results("arms/{arm}/seed{seed}"),
        rows=rows(experiment.forget_languages),
        parallel=rows(fitted_languages()),
        code=code("relearn"),
    output:
        table=results("attack/relearn/{arm}/seed{seed}.parquet"),
    log:
        results("logs/relearn/{arm}-{seed}.log"),
    benchmark:
        results("benchmarks/relearn/{arm}-{seed}.tsv")
    conda:
        "../envs/mmie.yaml"
    threads: THREADS
    resources:
        gpu=GPUS,
        mem_mb=memory(2500),
        runtime=minutes(60),
    params:
        model=device_options(),
        decoding=settings("decoding")["decoding"],
        options=settings("attacks")["attacks"]["relearn"],
        languages=fitted_languages(),
    message:
        "Relearning attack on {wildcards.arm} (seed {wildcards.seed})"
    script:
        "../scripts/relearn.py"


rule seal_attack:
    input:
        files=lambda wildcards: expand(
            results("attack/{attack}/{arm}/seed{seed}.parquet"),
            attack=wildcards.attack,
            arm=wildcards.arm,
            seed=seeds_of(wildcards.arm),
        ),
        code=code("seal"),
    output:
        manifest=results("attack/{attack}/{arm}/manifest.json"),
    log:
        results("logs/seal_attack/{attack}-{arm}.log"),
    benchmark:
        results("benchmarks/seal_attack/{attack}-{arm}.tsv")
    conda:
        "../envs/mmie.yaml"
    resources:
        gpu=0,
        mem_mb=memory(500),
        runtime=minutes(5),
    message:
        "Manifest of {wildcards.attack} on {wildcards.arm}"
    script:
        "../scripts/seal.py"
