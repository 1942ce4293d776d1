# Strength against forgetting and utility; never part of a run:
#   snakemake --cores 2 --resources gpu=1 -- dose_response


rule dose_response:
    input:
        results("dose/dose.svg"),
    message:
        "Dose and response of {config[experiment]}: see dose/ in its results folder"


rule dose_figure:
    input:
        doses=dose_tables(),
        code=code("dose_figure"),
    output:
        figure=report(results("dose/dose.svg"), category="Dose and response"),
    log:
        results("logs/dose_figure.log"),
    benchmark:
        results("benchmarks/dose_figure.tsv")
    conda:
        "../envs/mmie.yaml"
    resources:
        gpu=0,
        mem_mb=memory(1500),
        runtime=minutes(15),
    params:
        arms=list(experiment.arms),
        roles=experiment.roles,
    message:
        "Drawing dose and response"
    script:
        "../scripts/dose_figure.py"


rule dose:
    input:
        base=results("base"),
        arm=results("arms/{arm}/seed{seed}"),
        rows=rows(fitted_languages()),
        identifier=IDENTIFIER,
        code=code("dose"),
    output:
        table=results("dose/{arm}/seed{seed}.parquet"),
    log:
        results("logs/dose/{arm}-{seed}.log"),
    benchmark:
        results("benchmarks/dose/{arm}-{seed}.tsv")
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
        language=settings("language")["language"],
        prompts=20,
    message:
        "Dose and response of {wildcards.arm} (seed {wildcards.seed})"
    script:
        "../scripts/dose.py"
