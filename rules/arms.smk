rule arm:
    message:
        "Fitting {wildcards.arm} (seed {wildcards.seed})"
    input:
        unpack(arm_inputs),
        code=code("arm"),
    output:
        folder=directory(results("arms/{arm}/seed{seed}")),
    params:
        options=lambda wildcards: arm_options(wildcards.arm),
        forget=experiment.forget_languages,
        retain=list(experiment.retain),
        model=device_options(),
        checkpoints=results("checkpoints/{arm}/seed{seed}"),
    log:
        results("logs/arm/{arm}-{seed}.log"),
    benchmark:
        results("benchmarks/arm/{arm}-{seed}.tsv")
    threads: THREADS
    resources:
        gpu=GPUS,
        mem_mb=memory(2500),
        runtime=minutes(60),
    conda:
        "../envs/mmie.yaml"
    script:
        "../scripts/arm.py"
