rule depth:
    input:
        base=results("base"),
        arm=results("arms/{arm}/seed{seed}"),
        rows=rows(experiment.forget_languages),
        code=code("depth"),
    output:
        table=results("depth/{arm}/seed{seed}.parquet"),
        cost=results("depth/{arm}/seed{seed}.json"),
    log:
        results("logs/depth/{arm}-{seed}.log"),
    benchmark:
        results("benchmarks/depth/{arm}-{seed}.tsv")
    conda:
        "../envs/mmie.yaml"
    threads: THREADS
    resources:
        gpu=GPUS,
        mem_mb=memory(2000),
        runtime=minutes(30),
    params:
        model=device_options(),
        options=settings("depth")["depth"],
    message:
        "Depth of {wildcards.arm} (seed {wildcards.seed})"
    script:
        "../scripts/depth.py"


rule seal_depth:
    input:
        files=runs("depth/{arm}/seed{seed}.parquet"),
        code=code("seal"),
    output:
        manifest=results("depth/manifest.json"),
    log:
        results("logs/seal_depth.log"),
    benchmark:
        results("benchmarks/seal_depth.tsv")
    conda:
        "../envs/mmie.yaml"
    resources:
        gpu=0,
        mem_mb=memory(500),
        runtime=minutes(5),
    message:
        "Manifest of the depth of every arm"
    script:
        "../scripts/seal.py"
