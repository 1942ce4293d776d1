rule arm:
    input:
        unpack(arm_inputs),
        lengths=lengths(fitted_languages()),
        code=code("arm"),
    output:
        folder=directory(results("arms/{arm}/seed{seed}")),
    log:
        results("logs/arm/{arm}-{seed}.log"),
    benchmark:
        results("benchmarks/arm/{arm}-{seed}.tsv")
    conda:
        "../envs/mmie.yaml"
    threads: THREADS
    resources:
        gpu=GPUS,
        mem_mb=arm_memory,
        runtime=minutes(60),
    params:
        options=lambda wildcards: arm_options(wildcards.arm),
        forget=experiment.forget_languages,
        retain=list(experiment.retain),
        model=device_options(),
        checkpoints=results("checkpoints/{arm}/seed{seed}"),
        experiment=experiment.experiment,
        tracking=results("tracking"),
    message:
        "Fitting {wildcards.arm} (seed {wildcards.seed})"
    script:
        "../scripts/arm.py"
