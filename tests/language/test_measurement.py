import pytest

from mmie.errors import InputError
from mmie.language.identify import Identifier
from mmie.language.measurement import main, measure, measure_rows, summary
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
    assert set(table["words"]) <= {"1", "2-3", "4-7", "8+"}
    wrong = table[(table["verdict"] != table["language"]) & (table["verdict"] != ABSTAIN)]
    assert wrong["n"].sum() == 0


def test_rates_of_a_bad_identifier_by_hand() -> None:
    bad = Identifier({"en": "Latn"}, [AlwaysFrench()])
    table = measure(bad, ["The currency of Nepal is"], ["en"])
    assert table.to_dict("records") == [{"language": "en", "words": "4-7", "verdict": "fr", "n": 1}]
    assert summary(table).to_dict("records") == [
        {"language": "en", "words": "4-7", "n": 1, "right": 0.0, "wrong": 1.0, "abstained": 0.0}
    ]


def test_an_experiment_is_measured_on_its_test_rows_only(rows, tmp_path, capsys) -> None:
    table = measure_rows(rows)
    distinct = set(rows.loc[rows["split"] == "test", "prompt"])
    assert table["n"].sum() == len(distinct)
    with pytest.raises(InputError, match="no TEST rows"):
        measure_rows(rows[rows["split"] == "fit"])
    rows.to_parquet(tmp_path / "rows.parquet")
    main([str(tmp_path / "rows.parquet")])
    assert capsys.readouterr().out.startswith("| language | words | texts |")
