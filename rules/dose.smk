# Strength against forgetting and utility; never part of a run:
#   snakemake --cores 2 --resources gpu=1 -- dose_response


rule dose_response:
    input:
        [
            results(f"dose/{arm}/seed{seed}.parquet")
            for arm in dosed_arms()
            for seed in seeds_of(arm)[:1]
        ],
    message:
        "Dose and response of {config[experiment]}: see dose/ in its results folder"


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
