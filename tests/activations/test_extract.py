from __future__ import annotations

import shutil
import weakref
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from mmie.activations.extract import ExtractionOptions, check_room, extract_language, length_buckets
from mmie.activations.selection import select_layers
from mmie.activations.storage import load_rows, load_sentences, open_rows
from mmie.errors import InputError
from mmie.io import read_json, read_parquet, read_safetensors, write_json
from mmie.models.hooks import capture, hook_count
from mmie.models.prompts import encode

WORDS = [f"w{at}" for at in range(30)]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {word: at for at, word in enumerate(["<pad>", "<s>", "</s>", "<unk>", *WORDS])}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )


def tiny(blocks: int = 3) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=34,
        hidden_size=16,
        num_hidden_layers=blocks,
        num_attention_heads=2,
        num_key_value_heads=2,
        intermediate_size=32,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return LlamaForCausalLM(config).eval()


def item_rows(count: int = 9) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    words = [rng.choice(WORDS, size=rng.integers(1, 9)).tolist() for _ in range(count)]
    return pd.DataFrame(
        {
            "example_id": [f"f{at}/q1" for at in range(count)],
            "group": [f"g{at}" for at in range(count)],
            "language": "hi",
            "split": ["dev" if at % 3 == 2 else "fit" for at in range(count)],
            "prompt": [" ".join(item) for item in words],
            "answer": rng.choice(WORDS, size=count),
        }
    )


@pytest.mark.regression("ACT-01", "ACT-02")
def test_rows_equal_the_unpadded_pass_one_by_one(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    model, rows = tiny(), item_rows()
    extract_language(model, tokenizer, rows, tmp_path / "hi", ExtractionOptions(token_budget=30))
    table = read_safetensors(tmp_path / "hi" / "rows.safetensors")
    stored = open_rows(tmp_path / "hi" / "layer1.safetensors")
    sentences = read_safetensors(tmp_path / "hi" / "sentences.safetensors")["layer1"]
    assert table["item"].tolist() == sorted(table["item"].tolist())
    for at, (prompt, answer) in enumerate(zip(rows["prompt"], rows["answer"], strict=True)):
        ids = encode(tokenizer, prompt, answer).ids
        with torch.no_grad(), capture(model, [1]) as seen:
            model(input_ids=torch.tensor([ids]))
        alone = seen.hidden[1][0, 1:-1]
        mine = (table["item"] == at).numpy()
        assert table["token"][mine].tolist() == ids[1:-1]
        assert table["position"][mine].tolist() == list(range(1, len(ids) - 1))
        assert np.allclose(stored[mine], alone.numpy(), atol=1e-5)
        assert torch.allclose(sentences[at], alone.mean(0), atol=1e-6)


@pytest.mark.regression("ACT-02")
def test_batch_size_and_input_order_do_not_change_the_rows(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    model, rows = tiny(), item_rows()
    for name, budget, order in (("a", 10_000, 1), ("b", 12, 1), ("c", 40, -1)):
        options = ExtractionOptions(token_budget=budget)
        extract_language(model, tokenizer, rows.iloc[::order], tmp_path / name, options)
    a, b, c = (open_rows(tmp_path / name / "layer2.safetensors") for name in "abc")
    assert np.allclose(a, b, atol=1e-5)
    items = read_safetensors(tmp_path / "c" / "rows.safetensors")["item"].numpy()
    back = np.concatenate([np.asarray(c[items == at]) for at in reversed(range(len(rows)))])
    assert np.allclose(a, back, atol=1e-5)


@pytest.mark.regression("ACT-01")
def test_neither_first_token_nor_special_tokens_nor_pads_become_rows(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    report = extract_language(tiny(), tokenizer, item_rows(), tmp_path / "hi")
    table = read_safetensors(tmp_path / "hi" / "rows.safetensors")
    assert not set(table["token"].tolist()) & set(tokenizer.all_special_ids)
    assert (table["position"] > 0).all()
    assert report["rows"] == len(table["token"])
    assert report["dropped"]["first"] == 9 and report["dropped"]["special"] == 9
    assert read_json(tmp_path / "hi" / "extraction.json") == report
    assert read_parquet(tmp_path / "hi" / "items.parquet")["tokens"].sum() == report["rows"]


@pytest.mark.regression("ACT-22")
def test_a_value_that_is_not_finite_fails_with_its_place_and_leaves_nothing(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    model, rows = tiny(), item_rows()
    rows.loc[4, "prompt"] = "w1 w2 w29"
    rows["prompt"] = [
        prompt if at == 4 else prompt.replace("w29", "w1") for at, prompt in rows["prompt"].items()
    ]
    rows["answer"] = "w3"
    with torch.no_grad():
        model.model.embed_tokens.weight[33] = float("nan")
    with pytest.raises(InputError, match=r"layer 0, example f4/q1, token \d"):
        extract_language(model, tokenizer, rows, tmp_path / "hi")
    assert not (tmp_path / "hi").exists()
    assert hook_count(model) == 0


def test_rows_of_sink_norm_are_set_aside_in_one_layer_only(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = tiny()
    with torch.no_grad():
        model.model.embed_tokens.weight[8] = 300.0
    rows = item_rows()
    rows.loc[0, "prompt"] = "w5 w4 w6"
    report = extract_language(model, tokenizer, rows, tmp_path / "hi")
    table = read_safetensors(tmp_path / "hi" / "rows.safetensors")
    assert set(table["token"][~table["keep"][0]].tolist()) == {tokenizer.convert_tokens_to_ids("w4")}
    assert report["dropped"]["sink"]["0"] == int((~table["keep"][0]).sum())
    stored = open_rows(tmp_path / "hi" / "layer0.safetensors")
    mine = ((table["item"] == 0) & table["keep"][0]).numpy()
    sentence = read_safetensors(tmp_path / "hi" / "sentences.safetensors")["layer0"][0]
    assert np.allclose(sentence.numpy(), stored[mine].mean(0), atol=1e-5)
    store = load_rows(tmp_path, 0, ["hi"])
    assert len(store) == int(table["keep"][0].sum())
    norms = np.linalg.norm(stored, axis=1)
    assert store.median_norm["hi"] == pytest.approx(np.median(norms))
    assert norms[mine].max() <= store.sink_limit["hi"] == 10 * store.median_norm["hi"]


def test_an_item_all_of_whose_tokens_are_sinks_is_an_error_with_its_layer(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    model, rows = tiny(), item_rows()
    with torch.no_grad():
        model.model.embed_tokens.weight[8] = 300.0
    rows.loc[4, ["prompt", "answer"]] = ["w4", "w4"]
    with pytest.raises(InputError, match=r"example f4/q1: every token is a sink at layer 0.*sink_factor"):
        extract_language(model, tokenizer, rows, tmp_path / "hi")
    assert not (tmp_path / "hi").exists()


def test_sentence_means_do_not_depend_on_how_much_is_read_at_a_time(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, rows = tiny(), item_rows()
    extract_language(model, tokenizer, rows, tmp_path / "a")
    # Ten rows of width 16 in fp32.
    monkeypatch.setattr("mmie.activations.extract.CHUNK_BYTES", 640)
    extract_language(model, tokenizer, rows, tmp_path / "b")
    for name in ("sentences", "rows"):
        a, b = (read_safetensors(tmp_path / folder / f"{name}.safetensors") for folder in "ab")
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a)


def test_an_item_without_kept_tokens_and_an_empty_table_are_errors(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    rows = item_rows()
    with pytest.raises(InputError, match="no rows"):
        extract_language(tiny(), tokenizer, rows.iloc[:0], tmp_path / "hi")
    rows.loc[3, ["prompt", "answer"]] = ["", ""]
    with pytest.raises(InputError, match="f3/q1"):
        extract_language(tiny(), tokenizer, rows, tmp_path / "hi")


def test_half_precision_that_overflows_is_refused(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(InputError, match="float16"):
        extract_language(tiny().half(), tokenizer, item_rows(), tmp_path / "hi")


def test_bf16_activations_are_stored_as_they_are_and_read_as_fp32(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    model, rows = tiny().bfloat16(), item_rows(1)
    report = extract_language(model, tokenizer, rows, tmp_path / "hi")
    assert report["dtype"] == "bfloat16"
    ids = encode(tokenizer, rows["prompt"][0], rows["answer"][0]).ids
    with torch.no_grad(), capture(model, [1]) as seen:
        model(input_ids=torch.tensor([ids]))
    alone = seen.hidden[1][0, 1:-1]
    assert torch.equal(read_safetensors(tmp_path / "hi" / "layer1.safetensors")["h"], alone)
    store = load_rows(tmp_path, 1, ["hi"], "fit")
    assert torch.equal(store[np.arange(len(store))], alone.float())
    assert torch.equal(torch.cat([block for block, _ in store.batches("hi", 2)]), alone.float())
    sentence = read_safetensors(tmp_path / "hi" / "sentences.safetensors")["layer1"][0]
    assert torch.allclose(sentence, alone.float().mean(0), atol=1e-6)


def test_over_the_budget_of_tokens_whole_items_are_sampled_and_the_report_says_so(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, caplog: pytest.LogCaptureFixture
) -> None:
    model, rows = tiny(), item_rows(30)
    whole = extract_language(model, tokenizer, rows, tmp_path / "whole")
    assert whole["sampled"] is None
    assert not caplog.messages
    budget = whole["rows"] // 2
    report = extract_language(model, tokenizer, rows, tmp_path / "hi", ExtractionOptions(max_tokens=budget))
    assert report["sampled"] == {"max_tokens": budget, "seed": 0, "items": 30, "rows": whole["rows"]}
    assert f"activations.max_tokens keeps {report['items']} of 30 items" in caplog.text
    assert budget - 2 * 9 < report["rows"] <= budget
    items = read_parquet(tmp_path / "hi" / "items.parquet")
    table = read_safetensors(tmp_path / "hi" / "rows.safetensors")
    everything = read_parquet(tmp_path / "whole" / "items.parquet").set_index("example_id")
    assert items["tokens"].tolist() == everything.loc[items["example_id"], "tokens"].tolist()
    assert torch.bincount(table["item"].long()).tolist() == items["tokens"].tolist()
    at = list(everything.index).index(items["example_id"][3])
    stored, origin = (open_rows(tmp_path / name / "layer1.safetensors") for name in ("hi", "whole"))
    source = read_safetensors(tmp_path / "whole" / "rows.safetensors")["item"].numpy()
    assert np.allclose(stored[table["item"].numpy() == 3], origin[source == at], atol=1e-5)


def test_a_disk_without_room_stops_the_stage_before_the_model_reads_anything(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """3 layers of width 16: fp32 rows with flag and norm, sentence means, and four columns of int32."""
    model, calls = tiny(), []
    rows = int(extract_language(model, tokenizer, item_rows(), tmp_path / "en")["rows"])
    needed = 3 * (rows * (16 * 4 + 5) + 9 * 16 * 4) + rows * 16
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed - 1))
    model.model.layers[0].register_forward_hook(lambda *_: calls.append(1))
    with pytest.raises(InputError, match=rf"max_tokens to {rows - 1} or less"):
        extract_language(model, tokenizer, item_rows(), tmp_path / "hi")
    assert len(calls) == 1, "the probe of four tokens alone"
    assert not (tmp_path / "hi").exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed))
    extract_language(model, tokenizer, item_rows(), tmp_path / "hi")
    written = sum(file.stat().st_size for file in (tmp_path / "hi").glob("*.safetensors"))
    # The norms are gone again, headers were not counted.
    assert needed - rows * 3 * 4 < written < needed - rows * 3 * 4 + 5 * 500


def test_a_disk_is_asked_for_the_room_that_is_really_there(tmp_path: Path) -> None:
    check_room(tmp_path, tmp_path, 1, 1)
    with pytest.raises(InputError, match=r"1152921504\.6 GB of activations for 10 tokens"):
        check_room(tmp_path, tmp_path, 2**60, 10)


def test_the_store_reads_languages_as_one_sequence_by_split(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = tiny()
    options = ExtractionOptions(layers=(1,), identity={"model": "a"})
    extract_language(model, tokenizer, item_rows(9), tmp_path / "hi", options)
    extract_language(model, tokenizer, item_rows(6), tmp_path / "en", options)
    store = load_rows(tmp_path, 1, ["hi", "en"], "fit")
    table = read_safetensors(tmp_path / "hi" / "rows.safetensors")
    fit = np.isin(table["item"].numpy() % 3, [0, 1])
    whole = open_rows(tmp_path / "hi" / "layer1.safetensors")[fit]
    assert store.range_of("hi") == range(len(whole))
    assert len(store) == len(whole) + len(store.range_of("en"))
    chosen = np.array([len(store) - 1, 3, 0])
    assert torch.equal(store[chosen][1:], torch.from_numpy(whole[[3, 0]]))
    assert store.language_of(chosen).tolist() == [1, 0, 0]
    blocks = list(store.batches("hi", 4))
    assert torch.equal(torch.cat([block for block, _ in blocks]), torch.from_numpy(whole))
    sentences, items = load_sentences({code: tmp_path / code for code in ("hi", "en")}, "dev")
    assert sentences["hi"][1].shape == (3, 16)
    assert items["hi"]["split"].unique().tolist() == ["dev"]
    other = ExtractionOptions(layers=(1,), identity={"model": "b"})
    extract_language(model, tokenizer, item_rows(6), tmp_path / "en", other)
    with pytest.raises(InputError, match="different models"):
        load_rows(tmp_path, 1, ["hi", "en"])
    with pytest.raises(InputError, match="layer 2 was not read"):
        load_rows(tmp_path, 2, ["hi"])


@pytest.mark.regression("SAE-03")
def test_held_out_rows_are_disjoint_from_training_rows(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    extract_language(tiny(), tokenizer, item_rows(), tmp_path / "hi")
    items = {
        split: {int(at) for _, item in load_rows(tmp_path, 0, ["hi"], split).batches("hi", 5) for at in item}
        for split in ("fit", "dev")
    }
    assert items == {"fit": {0, 1, 3, 4, 6, 7}, "dev": {2, 5, 8}}


def test_missing_and_truncated_files_are_errors(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_rows(tmp_path, 0, ["hi"])
    extract_language(tiny(), tokenizer, item_rows(), tmp_path / "hi")
    path = tmp_path / "hi" / "layer0.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(InputError, match="truncated"):
        load_rows(tmp_path, 0, ["hi"])


def test_extraction_stops_after_the_last_wanted_block(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = tiny()
    reached: list[tuple[int, ...]] = []
    watch = model.model.layers[1].register_forward_hook(
        lambda _block, _inputs, output: reached.append(tuple(output.shape[:2]))
    )
    extract_language(model, tokenizer, item_rows(), tmp_path / "hi", ExtractionOptions(layers=(0,)))
    watch.remove()
    assert reached == [(1, 4)], "only the probe of four tokens that verifies the blocks"


def test_layers_are_chosen_among_the_blocks_that_were_read(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = tiny(blocks=5)
    options = ExtractionOptions(layers=[3, 0, 1])
    for language in ("hi", "en"):
        extract_language(model, tokenizer, item_rows(), tmp_path / language, options)
    folders = {language: tmp_path / language for language in ("hi", "en")}
    scores, selected = select_layers(folders, forget=["hi"], method="middle")
    assert scores["layer"].tolist() == [0, 1, 3]
    assert selected["candidates"] == [1, 3], "3 is not the last of five blocks"
    assert selected["layers"] == [1], "2 is the middle; of 1 and 3, equally near, the lower"
    with pytest.raises(InputError, match=r"activations\.layers \[0, 5\]: .* from 0 to 4"):
        extract_language(model, tokenizer, item_rows(), tmp_path / "bn", ExtractionOptions(layers=[0, 5]))
    report = read_json(tmp_path / "hi" / "extraction.json")
    del report["depth"]
    write_json(tmp_path / "hi" / "extraction.json", report)
    with pytest.raises(InputError, match="no `depth`"):
        select_layers(folders, forget=["hi"], method="middle")


def test_sentence_vectors_are_held_by_nobody_but_the_reader(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    extract_language(tiny(), tokenizer, item_rows(), tmp_path / "hi")
    sentences = load_sentences({"hi": tmp_path / "hi"}, "dev")[0]["hi"]
    assert list(sentences) == [0, 1, 2]
    stored = read_safetensors(tmp_path / "hi" / "sentences.safetensors")
    vectors = sentences[1]
    assert np.array_equal(vectors, stored["layer1"].numpy()[[2, 5, 8]])
    held = weakref.ref(vectors)
    del vectors
    assert held() is None
    with pytest.raises(KeyError):
        sentences[3]


def test_files_load_with_the_safetensors_library(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    extract_language(tiny(), tokenizer, item_rows(), tmp_path / "hi")
    loaded = read_safetensors(tmp_path / "hi" / "layer0.safetensors")
    assert list(loaded) == ["h"]
    assert np.array_equal(loaded["h"].numpy(), open_rows(tmp_path / "hi" / "layer0.safetensors"))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 50), max_size=30), st.integers(1, 120))
def test_buckets_hold_every_item_once_within_the_budget(lengths: list[int], budget: int) -> None:
    batches = list(length_buckets(lengths, budget))
    assert sorted(at for batch in batches for at in batch) == list(range(len(lengths)))
    for batch in batches:
        padded = len(batch) * max(lengths[at] for at in batch)
        assert padded <= budget or len(batch) == 1
