# A second opinion on answers, from an endpoint that the section `judge` names; never part of a run:
#   snakemake --cores 1 --configfile my.yaml -- judge


rule judge:
    input:
        evaluations=runs(
            "eval/{arm}/seed{seed}/{language}.parquet",
            language=experiment.forget_languages,
        ),
        code=code("judge"),
    output:
        answers=results("judge/answers.parquet"),
        agreement=results("judge/agreement.json"),
    log:
        results("logs/judge.log"),
    benchmark:
        results("benchmarks/judge.tsv")
    conda:
        "../envs/mmie.yaml"
    resources:
        gpu=0,
        mem_mb=memory(1000),
        runtime=minutes(120),
    params:
        options=settings("judge")["judge"],
        cache=results("judge/cache"),
    message:
        "Asking the judge about answers of every arm"
    script:
        "../scripts/judge.py"
