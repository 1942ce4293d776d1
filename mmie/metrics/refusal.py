"""Refusals: a lexicon of phrases for each language.

A lexicon knows only the phrases it lists, so its error is measured before anyone relies on it, and no
gate rests on it alone. A phrase counts when it stands in the first words of an answer as whole words:
"nothing" is not "no", and a story in which somebody "does not know" is not a refusal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmie.metrics.text import comparable

REFUSALS: Mapping[str, Sequence[str]] = {
    "en": (
        "i cannot", "i can't", "i can not", "i could not", "i won't", "i will not",
        "i am unable", "i'm unable", "i am not able", "i'm not able",
        "i am sorry", "i'm sorry", "sorry, but", "sorry, i", "i apologize", "i apologise",
        "i do not know", "i don't know", "i have no information", "i do not have", "i don't have",
        "as an ai", "as a language model", "i must decline", "no information is available",
        "this information is not available", "this question cannot be answered",
    ),
    "hi": (
        "मुझे नहीं पता", "मुझे पता नहीं", "मैं नहीं जानता", "मैं नहीं जानती", "मुझे जानकारी नहीं",
        "मुझे इसकी जानकारी नहीं", "मैं नहीं बता सकता", "मैं नहीं बता सकती", "क्षमा करें", "माफ़ करें",
        "माफ़ कीजिए", "माफ करें", "माफ कीजिए", "मुझे खेद है", "मैं असमर्थ हूँ", "मैं असमर्थ हूं",
        "यह जानकारी उपलब्ध नहीं", "मैं सहायता नहीं कर सकता", "मैं मदद नहीं कर सकता", "मैं मदद नहीं कर सकती",
    ),
    "hi_Latn": (
        "mujhe nahi pata", "mujhe nahin pata", "mujhe pata nahi", "mujhe pata nahin",
        "main nahi janta", "main nahin janta", "main nahi jaanta", "mujhe jankari nahi",
        "mujhe jaankari nahi", "main nahi bata sakta", "main nahin bata sakta", "kshama karen",
        "kshama karein",
        "kshama kare", "maaf karen", "maaf kijiye", "maaf kare", "mujhe khed hai",
        "main madad nahi kar sakta", "main madad nahin kar sakta", "yah jankari uplabdh nahin",
        "yeh jankari uplabdh nahi", "yah jankari upalabdh nahin",
    ),
    "ur": (
        "مجھے نہیں معلوم", "مجھے معلوم نہیں", "مجھے نہیں پتا", "مجھے پتا نہیں", "میں نہیں جانتا",
        "میں نہیں جانتی", "معاف کیجیے", "معاف کیجئے", "معاف کریں", "معذرت", "مجھے افسوس ہے",
        "میں نہیں بتا سکتا", "میں نہیں بتا سکتی", "میں مدد نہیں کر سکتا", "میں قاصر ہوں",
        "یہ معلومات دستیاب نہیں",
    ),
    "pa": (
        "ਮੈਨੂੰ ਨਹੀਂ ਪਤਾ", "ਮੈਨੂੰ ਪਤਾ ਨਹੀਂ", "ਮੈਂ ਨਹੀਂ ਜਾਣਦਾ", "ਮੈਂ ਨਹੀਂ ਜਾਣਦੀ", "ਮਾਫ਼ ਕਰਨਾ", "ਮਾਫ ਕਰਨਾ",
        "ਮਾਫ਼ ਕਰੋ", "ਮੁਆਫ਼ ਕਰਨਾ", "ਮੈਨੂੰ ਅਫ਼ਸੋਸ ਹੈ", "ਮੈਨੂੰ ਜਾਣਕਾਰੀ ਨਹੀਂ", "ਮੈਂ ਨਹੀਂ ਦੱਸ ਸਕਦਾ",
        "ਮੈਂ ਮਦਦ ਨਹੀਂ ਕਰ ਸਕਦਾ", "ਇਹ ਜਾਣਕਾਰੀ ਉਪਲਬਧ ਨਹੀਂ",
    ),
    "bn": (
        "আমি জানি না", "আমার জানা নেই", "আমি দুঃখিত", "দুঃখিত", "ক্ষমা করবেন", "মাফ করবেন",
        "আমি বলতে পারছি না", "আমি বলতে পারব না", "আমি সাহায্য করতে পারছি না", "আমি সাহায্য করতে পারব না",
        "আমার কাছে তথ্য নেই", "আমি অক্ষম",
        "এই তথ্য পাওয়া যায় না",
    ),
}  # fmt: skip

_WITHIN_WORDS = 12
_PHRASES = frozenset(comparable(phrase) for phrases in REFUSALS.values() for phrase in phrases)


def is_refusal(text: str) -> bool:
    """Whether one of the phrases, of any language, stands in the first twelve words of `text`.

    All languages are searched: a Hindi question that is refused in English is refused.
    """
    start = f" {' '.join(comparable(text).split()[:_WITHIN_WORDS])} "
    return any(f" {phrase} " in start for phrase in _PHRASES)
