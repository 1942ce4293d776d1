"""The typed configuration and every function that rules use to name files and resources."""

import glob
import json
import sys
from pathlib import Path

# The library must be found also where it is not installed: a bare checkout on a cluster node.
sys.path.insert(0, workflow.basedir)

from mmie.configuration import read_configuration
from mmie.errors import InputError
from mmie.job import announce_workflow
from mmie.models.loading import SPREAD
from mmie.provenance import code_files
from mmie.training.memory import arm_megabytes

announce_workflow()
try:
    experiment = read_configuration(config, ", ".join(map(str, workflow.configfiles)))
except InputError as problem:
    sys.exit(f"{problem}")

# Jobs wait for each other on a GPU; on a CPU the cores are the limit.
GPUS = 0 if experiment.model.device == "cpu" else experiment.model.gpus
THREADS = experiment.model.threads
TRAINING_ARMS = (
    "lora",
    "reft",
    "negative_reft",
    "gated_reft",
    "lingtea",
    "crisp",
    "full",
    "task_vector",
    "rmu",
    "contrastive",
)
SEEDED_ARMS = (*TRAINING_ARMS, "sae_clamp")
# Shipped classifier of romanised text.
IDENTIFIER = "data/lid/latin.ftz"
# Arms that act on latents of an autoencoder.
LATENT_ARMS = ("sae_clamp", "crisp")
# Arms that are fitted in closed form on stored activations.
STREAM_ARMS = ("diff_means", "leace", "script_scrub", "subspace")


def results(path):
    return f"results/{experiment.experiment}/{path}"


def code(script):
    """Library files that a script reaches: editing one re-runs the rule."""
    return code_files(f"scripts/{script}.py")


def files_of(language):
    """Corpus files of a language, as a list."""
    files = experiment.data.corpora[language]
    return [files] if isinstance(files, str) else list(files)


def rows(languages):
    return [results(f"data/{language}.parquet") for language in languages]


def lengths(languages):
    return [results(f"data/{language}.lengths.json") for language in languages]


def settings(*names):
    """Parts of the configuration as plain, sorted values: a changed one re-runs the rule."""
    return {name: experiment.model_dump(mode="json")[name] for name in sorted(names)}


def frozen():
    """The configuration that decides the results; another one is another reading of TEST."""
    resolved = experiment.model_dump(mode="json")
    return {
        name: value
        for name, value in resolved.items()
        if name not in ("sweep", "judge")
    }


def fitted_languages():
    """Languages that arms are fitted on. A neighbour is not among them: another one re-fits only arms on latents."""
    return [*experiment.forget_languages, *experiment.retain]


def contrasted_languages():
    """Languages that latents are picked on; neighbours only where the configuration asks for them."""
    return [*fitted_languages(), *experiment.negative_languages]


def scored_activations():
    """By language, the activations that layers are scored on: as they are, or of romanised rows."""
    return {
        language: results(f"activations{'-romanised' if romanised else ''}/{language}")
        for language, romanised in experiment.scored_languages.items()
    }


def selection_options():
    """How layers are chosen; how the report checks the choice may change."""
    options = settings("layers")["layers"]
    return {name: value for name, value in options.items() if name != "pairs"}


def model_files():
    """What tells one base model from another: the manifest and config of a local model."""
    folder = Path(experiment.model.base)
    names = ("manifest.json", "config.json", "model.safetensors.index.json")
    return [str(folder / name) for name in names if (folder / name).is_file()]


def arm_options(arm):
    """The config block of an arm; the reference oracle is an arm without one."""
    if arm == "oracle_reference":
        return {"kind": "oracle"}
    return experiment.arms[arm].model_dump(mode="json")


def all_arms():
    """Configured arms, and the oracle that scores are normalised by."""
    return [
        *experiment.arms,
        *(["oracle_reference"] if experiment.model.oracle else []),
    ]


def seeds_of(arm):
    """Seeds of an arm: only what trains or draws has more than one."""
    options = arm_options(arm)
    if options["kind"] == "combined":
        return max((seeds_of(part) for part in options["parts"]), key=len)
    trained = options["kind"] in TRAINING_ARMS
    return experiment.seeds if trained or is_control(options) else [0]


def is_trained(options):
    """Whether an arm trains, or is put together from one that does."""
    parts = options.get("parts", [])
    return options["kind"] in TRAINING_ARMS or any(
        is_trained(arm_options(part)) for part in parts
    )


def is_control(options):
    """Whether an arm is a draw of latents, neurons, directions, labels or layers."""
    return (
        "random" in (options.get("picker"), options.get("layers"))
        or options.get("direction", "diff_means") != "diff_means"
        or options.get("shuffled", False) is True
        or options.get("head_only", False)
    )


def arm_inputs(wildcards):
    """What fitting an arm needs, by its kind."""
    options = arm_options(wildcards.arm)
    needed = {"base": results("base")}
    if options["kind"] == "combined":
        needed["parts"] = parts_of(wildcards)
    if options["kind"] == "oracle":
        role = "reference" if wildcards.arm == "oracle_reference" else "arm"
        needed["oracle"] = results(f"oracle/{role}")
    if options["kind"] in TRAINING_ARMS:
        needed["rows"] = rows(fitted_languages())
        needed["reference"] = [
            results(f"reference/{language}.parquet") for language in fitted_languages()
        ]
    if options["kind"] in ("language_neurons", "prompt_only"):
        needed["rows"] = rows(fitted_languages())
    if options["kind"] in LATENT_ARMS:
        needed["sae"] = results("sae")
        needed["latents"] = results("features/latents.parquet")
    if options["kind"] in ("sae_clamp", *STREAM_ARMS):
        everything = options.get("gate") != "static"
        needed["activations"] = [
            results(f"activations/{language}")
            for language in (fitted_languages() if everything else experiment.retain)
        ]
    if options["kind"] == "contrastive":
        needed["triples"] = options["triples"]
    chosen = {str(options.get(key)) for key in ("layers", "layer", "contrast_layers")}
    if chosen & {"selected", "random", "worst", "middle"}:
        needed["layers"] = results("layers/selected.json")
    return needed


def parts_of(wildcards):
    """Fitted arms that a combined one applies: of its own seed, or the one run of an arm without seeds."""
    seed = int(getattr(wildcards, "seed", experiment.sweep.training_seed))
    return [
        results(f"arms/{part}/seed{seed if seed in seeds_of(part) else 0}")
        for part in arm_options(wildcards.arm)["parts"]
    ]


def runs(pattern, **wildcards):
    """A path for every arm and seed."""
    return [
        path
        for arm in all_arms()
        for seed in seeds_of(arm)
        for path in expand(results(pattern), arm=arm, seed=seed, **wildcards)
    ]


def attacks():
    return experiment.attacks.configured


def inference_attacks():
    """Attacks that only read the model: all in one job, which loads it once."""
    return [name for name in attacks() if not name.startswith("relearn")]


def attack_companions():
    """Tables beside those of an attack: every rewrite apart, and the random control of steering."""
    beside = {"rewrite": "rewrite_variants", "steer": "steer_random"}
    return [name for attack, name in beside.items() if attack in attacks()]


def attack_options(*names):
    """Settings of some attacks and how many prompts they score; the others may change."""
    options = settings("attacks")["attacks"]
    return {name: options[name] for name in sorted({"items", *names})}


def evaluations():
    return runs(
        "eval/{arm}/seed{seed}/{language}.parquet", language=experiment.languages
    )


def attack_results():
    return [
        path
        for attack in attacks()
        for path in runs("attack/{attack}/{arm}/seed{seed}.parquet", attack=attack)
    ]


def attack_companion_results():
    return [
        path
        for name in attack_companions()
        for path in runs("attack/{attack}/{arm}/seed{seed}.parquet", attack=name)
    ]


def sealed_directories():
    """Manifests of the directories that several jobs fill."""
    return [
        *runs("eval/{arm}/seed{seed}/manifest.json"),
        *([results("attack/manifest.json")] if attacks() else []),
        results("depth/manifest.json"),
        results("reference/manifest.json"),
    ]


def memory(megabytes):
    """Memory of a job in MB; a job that failed gets more when it is tried again."""
    return lambda wildcards, attempt: megabytes * attempt


def arm_memory(wildcards, input, attempt):
    """Memory of fitting an arm in MB: planned where a plan was measured, else a constant."""
    # Before the lengths are counted, Snakemake takes the missing file for "not known yet".
    fit = [json.loads(Path(file).read_text())["fit"] for file in input.lengths]
    planned = arm_megabytes(
        experiment.model.base,
        arm_options(wildcards.arm),
        longest=max(entry["longest"] for entry in fit),
        rows=sum(entry["rows"] for entry in fit),
    )
    return (2500 if planned is None or GPUS else planned) * attempt


def minutes(number):
    return lambda wildcards, attempt: number * attempt


def data_options():
    """How rows are read, without the list of corpora: adding one leaves the others alone."""
    options = settings("data")["data"]
    return {name: value for name, value in options.items() if name != "corpora"}


def existing_autoencoders():
    """Files of `sae.load`, of whatever layer will be chosen: a changed one re-runs the rule."""
    if experiment.sae.load is None:
        return []
    parts = experiment.sae.load.split("{layer}")
    pattern = "*".join(glob.escape(part) for part in parts)
    return sorted(
        glob.glob(f"{pattern}/cfg.json") + glob.glob(f"{pattern}/*.safetensors")
    )


def device_options():
    device = SPREAD if experiment.model.gpus > 1 else experiment.model.device
    return {"device": device, "dtype": experiment.model.dtype}


def base_options():
    return {
        **device_options(),
        "base": experiment.model.base,
        "revision": experiment.model.revision,
        "attention": experiment.model.attention,
        "blocks": experiment.model.blocks,
        "max_length": experiment.model.max_length,
    }


def oracle_corpora():
    """What the base model was trained on, which is more than an experiment may measure."""
    oracle = experiment.model.oracle
    return sorted(map(str, Path(oracle.corpus).glob("*.jsonl"))) if oracle else []


def oracle_options(role):
    oracle = experiment.model.oracle
    seed = oracle.reference_seed if role == "reference" else oracle.arm_seed
    return {"seed": seed, "shipped": oracle.shipped, "corpus": oracle.corpus}


def features_wanted():
    """The most latents that a configured arm clamps."""
    options = [arm_options(arm) for arm in experiment.arms]
    return max(
        (entry["features"] for entry in options if entry["kind"] in LATENT_ARMS),
        default=16,
    )


def arm_parts():
    """Which arm plays which part in calibration; every other arm is judged."""
    kinds = {arm: arm_options(arm) for arm in experiment.arms}
    named = {
        part: next(
            (arm for arm, options in kinds.items() if options["kind"] == kind), kind
        )
        for part, kind in {
            "base": "none",
            "oracle": "oracle",
            "broken": "noise",
        }.items()
    }
    return {
        **named,
        "controls": tuple(arm for arm, options in kinds.items() if is_control(options)),
        "trained_arms": tuple(
            arm for arm, options in kinds.items() if is_trained(options)
        ),
    }


def trials_of(arm):
    """Configurations of a swept arm, by the name that stands in their files."""
    return {trial.name: trial for trial in experiment.trials(arm)}


def sweep_trials(wildcards):
    return [
        results(f"sweep/{wildcards.arm}/{name}.parquet")
        for name in trials_of(wildcards.arm)
    ]


def one_seed_evaluations(arm):
    """Evaluations of an arm without seeds in every language; none of an arm that is not there."""
    if arm not in all_arms():
        return []
    return [
        results(f"eval/{arm}/seed0/{language}.parquet")
        for language in experiment.languages
    ]
