"""Texts in the place of a caption that are not captions: error messages and refusals.

One idea of them for the backends, which must not store them, and for the reader of foreign caption
files, which counts them as missing. Each pattern is matched at the beginning of a text, past
punctuation, in any case; a caption that only uses such a word ("error-prone terrain") passes.
"""

import re

_IMAGE = r"(image|picture|photo|caption|description|content|file|url)"
_DO = (
    r"(generate|create|caption|describe|process|load|open|read|decode|analy[sz]e|access|fetch"
    r"|retrieve|download|connect)"
)
_WHOLE = (
    r"null|none|nil|nan|n/a|undefined|unknown|true|false|empty|error|exception|failed|failure|sorry"
    r"|not\s+available|unavailable|access\s+denied|no\s+(answer|response|output)"
    r"|timed?\s?-?out"
)
"""Texts that are an error when nothing else is said."""
_STATUS = (
    r"(internal\s+server\s+error|bad\s+gateway|bad\s+request|gateway\s+time-?out"
    r"|service\s+(temporarily\s+)?unavailable|too\s+many\s+requests|rate\s+limit|(page\s+)?not\s+found"
    r"|unauthori[sz]ed|forbidden|(client|server)?\s*error)"
)
"""What servers say with a status code."""

_ERROR = re.compile(
    rf"""\W*(
      ({_WHOLE}|{_STATUS}(\s+(exceeded|reached))?)\W*$
    | (\w*error|\w*exception)["']?\s*[:(]
    | (detail|message)["']\s*:
    | error\s+(\d|(code|message|occurred|while|when|in|from|during|communicating|generating
        |processing|calling|loading|reading|connecting)\b)
    | (an?\s+)?([a-z]+\s+){{0,2}}(error|exception)\s+(has\s+)?(occurred|was\s+(raised|thrown))\b
    | traceback\s+\(most\s+recent
    | ((the\s+)?(model|server)\s+(is\s+|was\s+)?)?(failed|unable|not\s+able|could\s+not
        |couldn['’]t|cannot|can['’]t)\s+(to\s+)?{_DO}\b
    | (the\s+|your\s+)?(request|connection|operation|server|model|service|read|gateway)\s+
        ((has|was|is|currently)\s+)*(timed\s+out|time-?out|refused|reset|aborted|failed|unavailable
        |not\s+available|overloaded|error)\b
    | (the\s+|this\s+|your\s+)?{_IMAGE}\s+(
          (is|was)\s+(currently\s+)?(not\s+(available|found|provided)|unavailable|corrupt(ed)?)\b
        | (is|was)\s+missing\W*$
        | (could\s+not|cannot|couldn['’]t|can['’]t)\s+be\s+
          (loaded|opened|displayed|read|found|decoded|processed|generated)\b )
    | no\s+{_IMAGE}(\s+(was|is|has\s+been))?(\s+(available|provided|given|found|generated|attached
        |supplied|returned|uploaded))?\W*$
    | \d{{3}}\W+{_STATUS}\b
    | (http|status)(\s+(code|error|status))*\W+\d{{3}}\b
    | (!doctype\s+html|html)\b
    )""",
    re.IGNORECASE | re.VERBOSE,
)
_REFUSAL = re.compile(
    rf"""\W*(
      i(['’]m|\s+am)\s+(very\s+|so\s+)?sorry\b
    | i\s+apologi[sz]e\b | (my\s+|our\s+)?apologies\b
    | sorry\b\W*((but\s+)?(i|we)\b | something\b | the\s+{_IMAGE}\b | (an?\s+)?error\b | unable\b)
    | as\s+an?\s+(ai|(large\s+)?language\s+model|text-based)\b
    | i\s+(can(not|['’]t|\s+not)|could(\s+not|n['’]t)|am\s+(unable|not\s+able)\s+to)\s+
        (see|view|describe|assist|help|access|analy[sz]e|interpret|provide|generate|process)\b
    | i['’]m\s+(unable|not\s+able)\s+to\b
    | i\s+do(\s+not|n['’]t)\s+(see\s+(an?|any|the)\s+{_IMAGE}|have\s+(an?|any|the)?\s*
        (access|{_IMAGE}|ability))\b
    | (please|kindly)\s+(provide|upload|share|attach|send)\b
    | (it\s+)?(seems|appears|looks)\s+(like\s+|that\s+)*(you\b|no\s+{_IMAGE}|the\s+{_IMAGE}\s+
        (is|was|did)\s*n)
    )""",
    re.IGNORECASE | re.VERBOSE,
)


def no_caption(text: str) -> str | None:
    """What ``text`` is instead of a caption ("an error message", "a refusal", …), or None."""
    if _ERROR.match(text):
        return "an error message"
    if _REFUSAL.match(text):
        return "a refusal"
    return None
