# Before every evaluation where there is a choice: an identifier that errs too much ends the run early. It is
# no input of the evaluation, whose rows do not depend on it.
rule identifier:
    input:
        rows=rows(experiment.languages),
        identifier=IDENTIFIER,
        code=code("identifier"),
    output:
        confusion=results("language/confusion.parquet"),
        reliability=results("language/reliability.json"),
        manifest=results("language/manifest.json"),
    log:
        results("logs/identifier.log"),
    benchmark:
        results("benchmarks/identifier.tsv")
    priority: 50
    conda:
        "../envs/mmie.yaml"
    resources:
        gpu=0,
        mem_mb=memory(1500),
        runtime=minutes(15),
    params:
        language=settings("language")["language"],
        limits=settings("identification")["identification"],
    message:
        "Measuring the language identification on texts of known language"
    script:
        "../scripts/identifier.py"
