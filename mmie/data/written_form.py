"""Is a text written in the language and script that its file declares?

Script is judged by the Unicode Script property. A romanised set must also be shown to be romanised: that
it has no native letters is true of English as well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import regex

from mmie.data.options import DataOptions
from mmie.data.problems import Problem
from mmie.errors import InputError
from mmie.language.scripts import script_share, script_shares

_WORD = regex.compile(r"\p{L}[\p{L}\p{M}']*")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Frequent function words as people type them: enough to tell a sentence from English, which shares the
# script. A word that English has as well counts for the language only, never as evidence for English.
MARKERS: dict[str, frozenset[str]] = {
    "hi": _words("""
        hai hain tha thi ka ki ke ko se mein me mai aur nahi nahin kya kyon kyun kaun kaunsa kaunsi kis kisi
        kab kahan kahaan kaise kitna kitne kitni yah yeh woh vah iska iski iske uska uski uske unka jo jis
        apna apni apne bhi hi liye saath baad raha rahi rahe karta karti karte kiya gaya gayi hota hoti hote
        naam bataiye batao bataen likhiye likho bolo bharat"""),
    "ur": _words("""
        hai hain tha thi ka ki ke ko se mein aur nahi nahin kya kyun kaun konsa konsi kis kab kahan kaise
        kitna yeh woh iska iski uska uski jo apna apni apne bhi liye saath baad raha rahi karta karti kiya
        gaya naam bataiye likhiye"""),
    "pa": _words("""
        hai han hun da di de nu nun vich ate te ton naal nal ki kee kaun kihri kihra kithe kiven kinna eh oh
        isda usda apna vi lai si san nahi nahin karda kardi kita gaya naam"""),
    "bn": _words("""
        ache achhe ki ke kar kon kothay kothae kemon kokhon ebong o er ta ti ei oi tar amar tomar apnar
        jonno sathe theke hoy hoi chilo naam bhasha ra na kore korte holo"""),
}  # fmt: skip
ENGLISH = _words("""
    the of and is are was were what which who where when how in to a an that this it its on for with as by
    from at be has have had not does did do called official used name answer please tell write""")


def likely_script(language: str) -> str:
    """ISO 15924 code of a language: named in the code (`hi_Latn`), else the most likely one by CLDR.

    Raises:
        InputError: CLDR does not know the language.
    """
    base, _, script = language.replace("-", "_").partition("_")
    if len(script) == 4:
        return script
    from babel.core import get_global

    likely = get_global("likely_subtags").get(base)
    if likely is None:
        raise InputError(
            f"data.corpora: the script of {language!r} is unknown. Name it in the code, e.g. {base}_Latn."
        )
    return next(part for part in str(likely).split("_") if len(part) == 4)


def native_script(language: str) -> str | None:
    """The usual script of a romanised language; None where Latin is the language's own script."""
    base, _, script = language.partition("_")
    if script != "Latn" or not base:
        return None
    usual = likely_script(base)
    return None if usual == "Latn" else usual


def misplaced_rows(
    rows: Sequence[Mapping[str, str | int]], language: str, script: str, options: DataOptions
) -> dict[int, Problem]:
    """Rows not written as their language is, by their place in `rows`.

    Answers are always judged. Prompts only where `kind` is `direct`: mixed and adversarial ones hold other
    languages on purpose. A text without letters is no evidence against a row.
    """
    native = native_script(language)
    found: dict[int, Problem] = {}
    for place, row in enumerate(rows):
        texts = [str(row["answer"])]
        if row["kind"] == "direct":
            texts.append(str(row["prompt"]))
        reason = _misplaced(texts, script, native, language, options)
        if reason:
            found[place] = Problem(str(row["file"]), int(row["line"]), *reason)
    return found


def _misplaced(
    texts: Sequence[str], script: str, native: str | None, language: str, options: DataOptions
) -> tuple[str, str] | None:
    for text in texts:
        share = script_share(text, script)
        if not math.isnan(share) and share < options.script_share_minimum:
            written = ", ".join(f"{name} {part:.0%}" for name, part in script_shares(text).items())
            detail = f"letters are {written}, but {language} is written in {script}. Move or correct the row."
            return "script_mismatch", detail
        if native and script_share(text, native) > 0:
            detail = f"a romanised text holds letters of {native}. Romanise it whole, or move the row."
            return "native_letters", detail
    if native and reads_as_english(" ".join(texts), language):
        return "language_mismatch", f"reads as English, not as romanised {language}. Move or correct the row."
    return None


def reads_as_romanised(text: str, language: str) -> bool | None:
    """Positive evidence that a text is the romanised language; None where no word list is known.

    More of its frequent function words than of English ones, and at least one.
    """
    markers = MARKERS.get(language.split("_")[0])
    if markers is None:
        return None
    own, english = _hits(text, markers)
    return own > 0 and own > english


def reads_as_english(text: str, language: str) -> bool:
    """Clear evidence for English: two of its function words, and more than of the romanised language."""
    own, english = _hits(text, MARKERS.get(language.split("_")[0], frozenset()))
    return english >= 2 and english > own


def romanised_share(rows: Sequence[Mapping[str, str | int]], language: str) -> float:
    """Share of the direct rows that read as the romanised language; NaN without a word list.

    Raises:
        InputError: no direct rows.
    """
    texts = [f"{row['prompt']} {row['answer']}" for row in rows if row["kind"] == "direct"]
    if not texts:
        raise InputError(f"{language}: no direct rows, so nothing shows that the set is romanised. Add some.")
    verdicts = [reads_as_romanised(text, language) for text in texts]
    if verdicts[0] is None:
        return math.nan
    return sum(map(bool, verdicts)) / len(verdicts)


def _hits(text: str, markers: frozenset[str]) -> tuple[int, int]:
    words = [match.group().casefold() for match in _WORD.finditer(text)]
    return sum(word in markers for word in words), sum(word in ENGLISH - markers for word in words)
