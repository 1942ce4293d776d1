# Hyper-parameters chosen on DEV; never part of a run:
#   snakemake --cores 2 --resources gpu=1 --configfile config/sweep.yaml -- sweep


rule sweep:
    input:
        [results(f"sweep/{arm}/chosen.json") for arm in experiment.sweep.arms],
    message:
        "Every sweep of {config[experiment]} is done: see sweep/ in its results folder"


rule sweep_trial:
    input:
        unpack(arm_inputs),
        evaluated=rows(experiment.languages),
        parallel=rows(fitted_languages()),
        identifier=IDENTIFIER,
        code=code("sweep_trial"),
    output:
        table=results("sweep/{arm}/{trial}.parquet"),
    log:
        results("logs/sweep_trial/{arm}-{trial}.log"),
    benchmark:
        results("benchmarks/sweep_trial/{arm}-{trial}.tsv")
    conda:
        "../envs/mmie.yaml"
    threads: THREADS
    resources:
        gpu=GPUS,
        mem_mb=memory(2500),
        runtime=minutes(60),
    params:
        options=lambda wildcards: trials_of(wildcards.arm)[wildcards.trial].options,
        seed=experiment.sweep.training_seed,
        forget=experiment.forget_languages,
        retain=list(experiment.retain),
        model=device_options(),
        decoding=settings("decoding")["decoding"],
        language=settings("language")["language"],
        prompts=experiment.evaluation.items,
    message:
        "Trial {wildcards.trial} of {wildcards.arm}, scored on DEV"
    script:
        "../scripts/sweep_trial.py"


rule sweep_choice:
    input:
        trials=sweep_trials,
        base=one_seed_evaluations("base"),
        oracle=one_seed_evaluations("oracle_reference"),
        code=code("sweep_choice"),
    output:
        table=results("sweep/{arm}/trials.parquet"),
        chosen=results("sweep/{arm}/chosen.json"),
    log:
        results("logs/sweep_choice/{arm}.log"),
    benchmark:
        results("benchmarks/sweep_choice/{arm}.tsv")
    conda:
        "../envs/mmie.yaml"
    resources:
        gpu=0,
        mem_mb=memory(1000),
        runtime=minutes(10),
    params:
        trials=lambda wildcards: {
            name: {"number": trial.number, "changes": trial.changes}
            for name, trial in trials_of(wildcards.arm).items()
        },
        roles=experiment.roles,
        gates=settings("gates")["gates"],
        threshold=experiment.sweep.threshold,
    message:
        "Choosing among the trials of {wildcards.arm}"
    script:
        "../scripts/sweep_choice.py"
