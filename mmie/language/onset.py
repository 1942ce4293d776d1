"""Where in an answer a language starts: MMIE's onset score.

It is not extraction strength (`mmie.metrics.likelihood`): it says where a language begins, not how much
of it there is, whether it is right, or why it is absent. It is always shown beside the answer states.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Sequence

import numpy as np

from mmie.errors import InputError
from mmie.language.identify import Identifier
from mmie.language.romanised import RomanisedClassifier
from mmie.language.scripts import character_script, script_share


def onset(first: int | None, n_tokens: int) -> float:
    """onset = 1 - i/n, range [0, 1), down on forget; 0 if the language never appears.

    i is the smallest number of whitespace tokens after which the text is identified as the language
    (`first`, counted from 1), n the number of tokens. Known fault, kept for continuity: an answer of
    one single right-language token scores 0. `onset0` does not have it.
    """
    return 0.0 if first is None or n_tokens == 0 else 1.0 - first / n_tokens


def onset0(first: int | None, n_tokens: int) -> float:
    """onset0 = 1 - (i - 1)/n, range [0, 1], down on forget; 0 if the language never appears."""
    return 0.0 if first is None or n_tokens == 0 else 1.0 - (first - 1) / n_tokens


def first_by_script(text: str, script: str) -> int | None:
    """Smallest prefix, in whitespace tokens, that holds a token mostly in `script`; None without."""
    for number, token in enumerate(text.split(), start=1):
        if script_share(token, script) >= 0.5:  # False for a token without letters (NaN)
            return number
    return None


def first_by_classifier(text: str, languages: Collection[str], classifier: RomanisedClassifier) -> int | None:
    """Smallest prefix, in whitespace tokens, that the classifier takes for one of `languages`.

    One pass over the characters: class scores are cumulative sums, so no prefix is classified by
    itself and the cost is linear in the length.
    """
    scores = classifier.prefixes(text)
    if not len(scores.familiar):
        return None
    wanted = [index for index, label in enumerate(classifier.labels) if label in languages]
    best = scores.confidence.argmax(1)
    sure = (scores.confidence.max(1) >= classifier.floor) & scores.familiar
    hits = np.flatnonzero(np.isin(best, wanted) & sure)
    return int(hits[0]) + 1 if len(hits) else None


def lid_onset(text: str, language: str, identifier: Identifier) -> float:
    """Script-aware onset of `language` in `text`.

    By script where no other language of the experiment uses it, by the closed-set classifier where
    several share the Latin script; NaN where neither can tell the languages apart.
    """
    if identifier.script_is_unique(language):
        first = first_by_script(text, identifier.scripts[language])
    elif identifier.romanised is not None and language in identifier.romanised.labels:
        first = first_by_classifier(text, {language}, identifier.romanised)
    else:
        return math.nan
    return onset(first, len(text.split()))


def lid_onset_script_blind(
    texts: Sequence[str],
    language: str,
    identifier: Identifier,
    romanise: Callable[[str, str], str],
) -> list[float]:
    """Onset of `language` in any script, on romanised texts.

    A model that answers in Hindi but in Latin letters has not forgotten Hindi; the script-aware onset
    of the Devanagari task would be 0.

    Args:
        texts: generations.
        language: a code such as `hi` or `hi_Latn`; its base language is what is looked for.
        identifier: its closed-set classifier must know a written form of the base language.
        romanise: (text, language) -> text in Latin letters; called only for words in a native script
            of the base language, once for each distinct word.

    Returns:
        Scores in [0, 1); NaN where the experiment has no romanised form of the language, or a text
        has a word that cannot be romanised.
    """
    classifier = identifier.romanised
    base = _base(language)
    known = set(classifier.labels if classifier else ()) & set(identifier.scripts)
    forms = {code for code in known if _base(code) == base}
    if classifier is None or not forms:
        return [math.nan] * len(texts)
    native = {script for code, script in identifier.scripts.items() if _base(code) == base}
    spell = functools.cache(lambda word: _spelled(word, base, native - {"Latn"}, romanise))
    scores = []
    for text in texts:
        words = [spell(word) for word in text.split()]
        if None in words:
            scores.append(math.nan)
            continue
        latin = " ".join(word for word in words if word is not None)
        scores.append(onset(first_by_classifier(latin, forms, classifier), len(words)))
    return scores


def _spelled(
    word: str, base: str, native: Collection[str], romanise: Callable[[str, str], str]
) -> str | None:
    """A word in Latin letters; unchanged if it has no native letter, None if it cannot be spelled."""
    scripts = {character_script(letter) for letter in word if letter.isalpha()} - {None}
    if not scripts & set(native) or not scripts <= {*native, "Latn"}:
        return word
    try:
        # One whitespace token must stay one, or the onset would count other positions.
        return "".join(romanise(word, base).split())
    except InputError:
        # Models invent words; one that no rule spells makes this score unknown, not the run fail.
        return None


def _base(code: str) -> str:
    return code.split("_")[0]
