# The shipped language classifier, made anew beside it and never part of a run:
#   snakemake --cores 1 --sdm conda -- lid_measured
# It needs a Debian or Ubuntu with apt-get and dpkg, npm and pip to get the packages of data/lid/packages.txt.


rule lid_packages:
    input:
        packages="data/lid/packages.txt",
        fetch="data/lid/fetch.sh",
    output:
        packages=directory("results/rebuilt/lid-packages"),
    log:
        "results/rebuilt/logs/lid_packages.log",
    benchmark:
        "results/rebuilt/benchmarks/lid_packages.tsv"
    conda:
        "../envs/lid.yaml"
    resources:
        gpu=0,
        mem_mb=memory(1000),
        runtime=minutes(30),
    message:
        "Fetching the packages whose texts train the language classifier (about 60 MB)"
    shell:
        "sh {input.fetch} {input.packages} {output.packages} > {log} 2>&1"


rule lid:
    input:
        packages="results/rebuilt/lid-packages",
        code=code("lid"),
    output:
        model=directory("results/rebuilt/lid"),
    log:
        "results/rebuilt/logs/lid.log",
    benchmark:
        "results/rebuilt/benchmarks/lid.tsv"
    conda:
        "../envs/lid.yaml"
    resources:
        gpu=0,
        mem_mb=memory(4000),
        runtime=minutes(30),
    message:
        "Training the language classifier for Latin script (about five minutes on one core)"
    script:
        "../scripts/lid.py"


rule lid_measured:
    input:
        packages="results/rebuilt/lid-packages",
        model="results/rebuilt/lid",
        code=code_files("mmie/language/held_out.py"),
    output:
        counts="results/rebuilt/lid-measured.json",
    log:
        "results/rebuilt/logs/lid_measured.log",
    benchmark:
        "results/rebuilt/benchmarks/lid_measured.tsv"
    conda:
        "../envs/mmie.yaml"
    resources:
        gpu=0,
        mem_mb=memory(2000),
        runtime=minutes(15),
    message:
        "Measuring language identification on sources that were held out"
    shell:
        "python -m mmie.language.held_out {input.packages} {input.model}/latin.ftz {output.counts} > {log} 2>&1"
