rule relearn:
    input:
        base=results("base"),
        arm=results("arms/{arm}/seed{seed}"),
        rows=rows(experiment.forget_languages),
        retain=rows(experiment.retain),
        parallel=rows(fitted_languages()),
        identifier=IDENTIFIER,
        code=code("relearn"),
    output:
        table=results("attack/{attack}/{arm}/seed{seed}.parquet"),
    log:
        results("logs/relearn/{attack}-{arm}-{seed}.log"),
    benchmark:
        results("benchmarks/relearn/{attack}-{arm}-{seed}.tsv")
    wildcard_constraints:
        attack="relearn(_subset|_held_out|_benign)?",
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
        language=settings("language")["language"],
        options=lambda wildcards: attack_options(wildcards.attack),
        languages=fitted_languages(),
    message:
        "Relearning attack {wildcards.attack} on {wildcards.arm} (seed {wildcards.seed})"
    script:
        "../scripts/relearn.py"


if inference_attacks():

    rule attack:
        input:
            base=results("base"),
            arm=results("arms/{arm}/seed{seed}"),
            rows=rows(experiment.forget_languages),
            parallel=rows(fitted_languages()),
            identifier=IDENTIFIER,
            code=code("attack"),
        output:
            **{
                name: results(f"attack/{name}/{{arm}}/seed{{seed}}.parquet")
                for name in [*inference_attacks(), *attack_companions()]
            },
        log:
            results("logs/attack/{arm}-{seed}.log"),
        benchmark:
            results("benchmarks/attack/{arm}-{seed}.tsv")
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
            language=settings("language")["language"],
            options=attack_options(*inference_attacks()),
            languages=fitted_languages(),
            retain=experiment.retain,
        message:
            "Attacks on {wildcards.arm} (seed {wildcards.seed})"
        script:
            "../scripts/attack.py"


rule seal_attack:
    input:
        files=[*attack_results(), *attack_companion_results()],
        code=code("seal"),
    output:
        manifest=results("attack/manifest.json"),
    log:
        results("logs/seal_attack.log"),
    benchmark:
        results("benchmarks/seal_attack.tsv")
    conda:
        "../envs/mmie.yaml"
    resources:
        gpu=0,
        mem_mb=memory(500),
        runtime=minutes(5),
    message:
        "Manifest of the attacks"
    script:
        "../scripts/seal.py"
