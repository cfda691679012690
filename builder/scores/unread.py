"""Texts of which nothing can be read: another language or script, numbers or signs alone."""

import re
import unicodedata

_WORD = re.compile(r"[^\W\d_]+")

ENGLISH = frozenset(
    _WORD.findall(
        "the of with and are is this that there some by from to at for which its a an no in on"
    )
)
OTHERS = frozenset(
    _WORD.findall(
        "der die das und mit von ein eine einer im ist les des une avec est dans du et sur la le "
        "el los las una con por del y di il della e com uma os um ve bir ile het een met van og "
        "med och na jest en w z i"
    )
)
"""Function words of other languages that are written in Latin letters."""

ENOUGH = 3
"""So many words of English hold a function word nearly always."""


def is_unread(text: str) -> bool:
    """Whether a text in which nothing was found is no English: without letters, in another script,
    or with the function words of another language rather than with those of English."""
    letters = [character for character in text if character.isalpha()]
    latin = sum(unicodedata.name(letter, "").startswith("LATIN") for letter in letters[:200])
    if latin * 2 <= len(letters[:200]):
        return True
    words = _WORD.findall(text.lower())
    english, other = (sum(word in known for word in words) for known in (ENGLISH, OTHERS))
    return other > english or (not english and len(words) >= ENOUGH)
