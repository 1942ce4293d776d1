import pandas as pd
import pytest

from mmie.errors import InputError
from mmie.language.identify import Identifier, build_identifier
from mmie.language.measurement import main, matrix_markdown, measure, measure_rows, summary
from mmie.language.votes import ABSTAIN, Vote


class AlwaysFrench:
    name = "always-french"

    def vote(self, texts):
        return [Vote(self.name, "fr", 1.0) for _ in texts]

    def description(self):
        return {"member": self.name}


def test_confusion_counts_carry_length_and_sample_size(identifier, held_out) -> None:
    texts, labels = zip(*held_out, strict=True)
    table = measure(identifier, texts, labels)
    assert table["n"].sum() == len(held_out)
    assert set(table["words"]) <= {"1-3", "4-8", "9+"}
    wrong = table[(table["verdict"] != table["language"]) & (table["verdict"] != ABSTAIN)]
    assert wrong["n"].sum() == 0


def test_rates_of_a_bad_identifier_by_hand() -> None:
    bad = Identifier({"en": "Latn"}, [AlwaysFrench()])
    table = measure(bad, ["The currency of Nepal is"], ["en"])
    assert table.to_dict("records") == [
        {"language": "en", "script": "Latn", "words": "4-8", "verdict": "fr", "n": 1}
    ]
    assert summary(table).to_dict("records") == [
        {
            "language": "en",
            "script": "Latn",
            "words": "4-8",
            "n": 1,
            "right": 0.0,
            "wrong": 1.0,
            "abstained": 0.0,
        }
    ]


def test_an_experiment_is_measured_on_its_test_rows_only(rows, tmp_path, capsys) -> None:
    table = measure_rows(build_identifier(rows), rows)
    distinct = set(rows.loc[rows["split"] == "test", "prompt"])
    assert table["n"].sum() == len(distinct)
    with pytest.raises(InputError, match="no TEST rows"):
        measure_rows(build_identifier(rows), rows[rows["split"] == "fit"])
    rows.to_parquet(tmp_path / "rows.parquet")
    main([str(tmp_path / "rows.parquet")])
    assert capsys.readouterr().out.startswith("experiment\n\n| language | script | words | texts |")


def test_matrix_shows_common_verdicts_and_gathers_rare_ones() -> None:
    counts = {"hi": 150, "ur": 40, "mr": 1, "ne": 1, ABSTAIN: 8}
    confusion = pd.DataFrame(
        [
            {"language": "hi", "script": "Deva", "words": "4-8", "verdict": verdict, "n": n}
            for verdict, n in counts.items()
        ]
    )
    assert matrix_markdown(confusion).splitlines() == [
        "| | hi | ur | rest | und |",
        "|---|---|---|---|---|",
        "| hi | 150 | 40 | 2 | 8 |",
    ]


def test_mixed_text_that_is_called_mixed_is_right_and_other_text_called_mixed_is_open() -> None:
    confusion = pd.DataFrame(
        [
            {"language": "mixed", "script": "Latn", "words": "4-8", "verdict": "mixed", "n": 3},
            {"language": "en", "script": "Latn", "words": "4-8", "verdict": "mixed", "n": 1},
            {"language": "en", "script": "Latn", "words": "4-8", "verdict": "en", "n": 3},
        ]
    )
    rates = summary(confusion).set_index("language")[["right", "wrong", "abstained"]]
    assert rates.loc["mixed"].tolist() == [1.0, 0.0, 0.0]
    assert rates.loc["en"].tolist() == [0.75, 0.0, 0.25]


def test_stored_counts_print_the_same_tables(rows, tmp_path, capsys) -> None:
    rows.to_parquet(tmp_path / "rows.parquet")
    main([str(tmp_path / "rows.parquet"), "--json", str(tmp_path / "counts.json")])
    first = capsys.readouterr().out
    main([str(tmp_path / "counts.json")])
    assert capsys.readouterr().out == first
