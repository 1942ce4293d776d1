"""Which language a text is in: ordered evidence, recorded votes, and abstention where it ends.

Script and language stay separate answers. Devanagari alone never makes a text Hindi; the verdict names
a language only on the word of a classifier, or because the text is a known answer of one language.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mmie.errors import InputError
from mmie.language.general import GENERAL_MEMBERS, general_member
from mmie.language.latin import ENGLISH, MIXED_LANGUAGES, ROMANISED, LatinClassifier, words_of
from mmie.language.romanised import RomanisedClassifier
from mmie.language.scripts import MIXED, NO_LETTERS, dominant_script, script_share
from mmie.language.votes import ABSTAIN, Member, Vote, majority
from mmie.metrics.text import comparable

if TYPE_CHECKING:
    import pandas as pd

# Languages written without spaces: a count of words says nothing about their length.
_UNSPACED = frozenset({"Jpan", "Hani", "Hira", "Kana", "Thai", "Laoo", "Khmr", "Mymr", "Tibt"})

# From this confidence on the Latin-script classifier ties with the closed set that says otherwise.
_RIVAL = 0.9

# What an answer is to the language that was expected of it.
EXPECTED, OTHER, UNDETERMINED = "expected", "other", "undetermined"


class Verdict(NamedTuple):
    """The ensemble's answer for one text.

    language: a language code, or `und`. A code of the experiment where the evidence fits one (`hi`,
    `hi_Latn`), otherwise the member's raw label. script: ISO 15924, "mixed" or "none". basis: what
    decided ("known answer", "closed set", "romanised", "majority") or why nothing did ("no letters",
    "mixed script", "mixed languages", "short", "no majority"). votes: every member's vote, also those
    that did not count.
    """

    language: str
    script: str
    basis: str
    votes: tuple[Vote, ...] = ()

    def record(self) -> str:
        """The votes as one line of JSON, for the table of results."""
        votes = {vote.member: [vote.label, round(vote.confidence, 3)] for vote in self.votes}
        return json.dumps({"basis": self.basis, "script": self.script, "votes": votes}, ensure_ascii=False)


@dataclass
class Identifier:
    """An ensemble for the languages of one experiment.

    Evidence in order; the first that speaks decides:

    1. the whole text is a known answer of exactly one language of the experiment;
    2. a text without letters, or without a script that holds `script_threshold` of them: abstain;
    3. Latin script, where several languages of the experiment use it: the closed-set classifier fitted on
       them. Two general members who agree on a language outside the set overrule it, on one inside they
       tie with it; so does the Latin-script classifier if it is very sure of something else;
    4. Latin script: the Latin-script classifier, where it hears romanised Hindi, Urdu, Punjabi or Bengali.
       A mix of languages abstains unless two general members agree. English counts as one vote more;
    5. texts of at least `least_words` words: strict majority of the general members, each with its
       own confidence floor; a tie abstains. Shorter texts: abstain, all of them guess there. Steps 3
       and 4 hear the general and the Latin-script members from that length on only, too.

    scripts: ISO 15924 script of each language of the experiment. label_map: raw member label to the
    label to use instead; empty, so that nothing is renamed in silence.
    """

    scripts: Mapping[str, str]
    members: Sequence[Member]
    romanised: RomanisedClassifier | None = None
    latin: Member | None = None
    known_answers: Mapping[str, frozenset[str]] = field(default_factory=dict)
    label_map: Mapping[str, str] = field(default_factory=dict)
    least_words: int = 4
    script_threshold: float = 0.8
    _verdicts: dict[str, Verdict] = field(default_factory=dict, repr=False)

    def identify(self, texts: Sequence[str]) -> list[Verdict]:
        """One verdict a text, in order. Every distinct text is classified once, ever."""
        new = [text for text in dict.fromkeys(texts) if text not in self._verdicts]
        for text, verdict in zip(new, self._classify(new), strict=True):
            self._verdicts[text] = verdict
        return [self._verdicts[text] for text in texts]

    def agreement(self, text: str, expected: str) -> str:
        """Whether `text` is in the `expected` language: "expected", "other" or "undetermined".

        A text with less than half of its letters in the expected script is "other", whatever its
        language. Where the verdict abstains because the text is short, the script decides if no
        other language of the experiment uses it: there is nothing else to go by in three words.
        """
        share = script_share(text, self.scripts[expected])
        if share != share:  # no letters
            return UNDETERMINED
        if share < 0.5:
            return OTHER
        verdict = self.identify([text])[0]
        if verdict.language != ABSTAIN:
            return EXPECTED if verdict.language == expected else OTHER
        if verdict.basis == "short" and self.script_is_unique(expected):
            return EXPECTED
        return UNDETERMINED

    def script_is_unique(self, language: str) -> bool:
        """Whether no other language of the experiment is written in the script of `language`."""
        return list(self.scripts.values()).count(self.scripts[language]) == 1

    def all_members(self) -> list[Member]:
        """General members, then those for Latin script."""
        own: list[Member | None] = [self.latin, self.romanised]
        return [*self.members, *(member for member in own if member is not None)]

    def forget(self) -> None:
        """Drop remembered verdicts: the next call classifies again."""
        self._verdicts.clear()

    def description(self) -> dict[str, object]:
        """Members, versions, model hashes and the rule, for the manifest."""
        return {
            "members": [member.description() for member in self.all_members()],
            "rule": "known answer, script, closed set, romanised, strict majority",
            "least_words": self.least_words,
            "script_threshold": self.script_threshold,
            "label_map": dict(self.label_map),
        }

    def _classify(self, texts: Sequence[str]) -> list[Verdict]:
        if not texts:
            return []
        scripts = [dominant_script(text, threshold=self.script_threshold) for text in texts]
        latin_texts = [text for text, script in zip(texts, scripts, strict=True) if script == "Latn"]
        general = list(zip(*(member.vote(texts) for member in self.members), strict=True))
        shipped = iter(self.latin.vote(latin_texts) if self.latin else ())
        closed = iter(self.romanised.vote(latin_texts) if self.romanised else ())
        verdicts = []
        for index, (text, script) in enumerate(zip(texts, scripts, strict=True)):
            votes = general[index] if general else ()
            latin = next(shipped, None) if script == "Latn" else None
            own = next(closed, None) if script == "Latn" else None
            language, basis = self._decide(text, script, votes, latin, own)
            heard = votes + tuple(vote for vote in (latin, own) if vote is not None)
            verdicts.append(Verdict(language, script, basis, heard))
        return verdicts

    def _decide(
        self, text: str, script: str, votes: Sequence[Vote], latin: Vote | None, own: Vote | None
    ) -> tuple[str, str]:
        known = self.known_answers.get(comparable(text), frozenset()) if self.known_answers else ()
        if len(known) == 1:
            return next(iter(known)), "known answer"
        if script == NO_LETTERS:
            return ABSTAIN, "no letters"
        if script == MIXED:
            return ABSTAIN, "mixed script"
        if self._is_short(text, script):
            return self._decide_short(own)
        if own is not None and own.label != ABSTAIN:
            return self._decide_closed(text, votes, latin, own)
        if latin is not None and latin.label in ROMANISED:
            return self._code(latin.label, script), "romanised"
        label = majority([*votes, latin] if latin is not None and latin.label == ENGLISH else votes)
        if latin is not None and latin.label == MIXED_LANGUAGES and _agreeing(votes, label) < 2:
            return ABSTAIN, "mixed languages"
        if label == ABSTAIN:
            return ABSTAIN, "no majority"
        return self._code(label, script), "majority"

    @staticmethod
    def _decide_short(own: Vote | None) -> tuple[str, str]:
        """A text of too few words for a sentence: only the closed set, made for such answers, speaks."""
        if own is not None and own.label != ABSTAIN:
            return own.label, "closed set"
        return ABSTAIN, "short"

    def _decide_closed(
        self, text: str, votes: Sequence[Vote], latin: Vote | None, own: Vote
    ) -> tuple[str, str]:
        label = majority(votes)
        shipped = latin.label if latin is not None else ABSTAIN
        if shipped != own.label and label != _base(own.label) and _agreeing(votes, label) >= 2:
            if self.romanised and label in map(_base, self.romanised.labels):
                return ABSTAIN, "no majority"
            return self._code(label, "Latn"), "majority"
        # A mix is no language that could compete: prompts and answers of the experiment often are one.
        rival = latin is not None and latin.confidence >= _RIVAL and shipped not in (ABSTAIN, MIXED_LANGUAGES)
        # Tokens such as `???` make no sentence of two words that are repeated.
        if rival and shipped != own.label and len(words_of(text).split()) >= self.least_words:
            return ABSTAIN, "no majority"
        return own.label, "closed set"

    def _is_short(self, text: str, script: str) -> bool:
        if script in _UNSPACED:
            return sum(character.isalpha() for character in text) < 2 * self.least_words
        return len(text.split()) < self.least_words

    def _code(self, label: str, script: str) -> str:
        """The code of a raw label in a script: a language of the experiment keeps its script apart."""
        label = self.label_map.get(label, label)
        if label.endswith(f"_{script}"):
            return label
        if self.scripts.get(label, script) == script:
            return label
        return f"{label}_{script}"


def build_identifier(
    rows: pd.DataFrame,
    references: pd.DataFrame | None = None,
    *,
    members: Sequence[str] = GENERAL_MEMBERS,
    fasttext_model: str | Path | None = None,
    label_map: Mapping[str, str] | None = None,
) -> Identifier:
    """The identifier of an experiment.

    Args:
        rows: cleaned rows of all languages: language, script, split, kind, prompt, answer. Direct
            rows of the split "fit" train the closed-set classifier where several languages share the
            Latin script.
        references: known answers: language, answer.
        members: general members; one that cannot be loaded is an error.
        fasttext_model: the user's own fastText model instead of lid.176.
        label_map: raw label to language code, where the experiment wants labels merged.

    Raises:
        InputError: no rows, an unknown or missing member, too little text for the closed set.
    """
    if len(rows) == 0:
        raise InputError("language identification: no rows. Check the languages of the experiment.")
    # A few rows may hold a second script; the language's own is the one that most of its rows have.
    scripts = {
        str(language): str(part["script"].value_counts().index[0])
        for language, part in rows.groupby("language", sort=True)
    }
    return Identifier(
        scripts=scripts,
        members=[general_member(name, fasttext_model=fasttext_model) for name in members],
        romanised=_closed_set(rows, [code for code, script in scripts.items() if script == "Latn"]),
        latin=LatinClassifier(),
        known_answers=_known_answers(references),
        label_map=dict(label_map or {}),
    )


def _closed_set(rows: pd.DataFrame, languages: Sequence[str]) -> RomanisedClassifier | None:
    if len(languages) < 2:
        return None
    # Mixed and adversarial prompts hold other languages than their label says.
    fit = rows[(rows["split"] == "fit") & (rows["kind"] == "direct") & rows["language"].isin(languages)]
    texts = [*fit["prompt"], *fit["answer"]]
    return RomanisedClassifier.fit(texts, [*fit["language"], *fit["language"]])


def _known_answers(references: pd.DataFrame | None) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    if references is not None:
        for language, answer in zip(references["language"], references["answer"], strict=True):
            found.setdefault(comparable(str(answer)), set()).add(str(language))
    return {answer: frozenset(languages) for answer, languages in found.items()}


def _agreeing(votes: Sequence[Vote], label: str) -> int:
    return sum(vote.label == label != ABSTAIN for vote in votes)


def _base(code: str) -> str:
    return code.split("_")[0]
