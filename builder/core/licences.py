"""Licences by their SPDX ids: which ids there are, and what a Hub and people call them."""

import re

EXAMPLES = "for example CC-BY-4.0, ODbL-1.0 or Apache-2.0; all of them: https://spdx.org/licenses/"
LICENCES = {
    "CC0-1.0": (
        "Creative Commons Zero 1.0 Universal",
        "https://creativecommons.org/publicdomain/zero/1.0/legalcode",
    ),
    "CC-BY-4.0": (
        "Creative Commons Attribution 4.0 International",
        "https://creativecommons.org/licenses/by/4.0/legalcode",
    ),
    "CC-BY-SA-4.0": (
        "Creative Commons Attribution-ShareAlike 4.0 International",
        "https://creativecommons.org/licenses/by-sa/4.0/legalcode",
    ),
    "CC-BY-NC-4.0": (
        "Creative Commons Attribution-NonCommercial 4.0 International",
        "https://creativecommons.org/licenses/by-nc/4.0/legalcode",
    ),
    "CC-BY-NC-SA-4.0": (
        "Creative Commons Attribution-NonCommercial-ShareAlike 4.0 International",
        "https://creativecommons.org/licenses/by-nc-sa/4.0/legalcode",
    ),
    "ODbL-1.0": (
        "Open Data Commons Open Database License v1.0",
        "https://opendatacommons.org/licenses/odbl/1-0/",
    ),
    "ODC-By-1.0": (
        "Open Data Commons Attribution License v1.0",
        "https://opendatacommons.org/licenses/by/1-0/",
    ),
    "PDDL-1.0": (
        "Open Data Commons Public Domain Dedication and License v1.0",
        "https://opendatacommons.org/licenses/pddl/1-0/",
    ),
    "Apache-2.0": ("Apache License 2.0", "https://www.apache.org/licenses/LICENSE-2.0"),
    "MIT": ("MIT License", "https://opensource.org/license/mit"),
}
"""SPDX id → name and address of the text."""
_HUB = {"ODbL-1.0": "odbl", "ODC-By-1.0": "odc-by", "PDDL-1.0": "pddl"}
"""What a Hub calls licences otherwise than by their small SPDX id."""
_ON_HUB = re.compile(
    r"cc0-1\.0|cc-by-(2\.0|2\.5|3\.0|4\.0)|cc-by-sa-[34]\.0|cc-by-nc(-sa)?-[234]\.0|cc-by-nd-4\.0"
    r"|cc-by-nc-nd-[34]\.0|cdla-sharing-1\.0|cdla-permissive-[12]\.0|etalab-2\.0|apache-2\.0|mit"
)
_VERSIONS = ("", "-4.0", "-1.0", "-2.0", ".0", "-3.0")


def checked_id(text: str) -> str:
    """The SPDX id of a licence as the list spells it ("cc-by-4.0" is CC-BY-4.0).

    Raises ValueError for anything else, with the id that was probably meant.
    """
    known = _known(text)
    if known is None or " " in known or known.startswith("LicenseRef-"):
        raise ValueError(f"expected the SPDX id of a licence, {EXAMPLES}{_meant(text)}")
    return known


def checked_terms(text: str) -> str:
    """SPDX ids of the terms of others' data: an id, ids joined by AND or OR, LicenseRef-NAME for
    terms that have no id, or nothing where none are known.

    Raises ValueError for anything else.
    """
    if not text:
        return text
    if (known := _known(text)) is None:
        raise ValueError(
            f"expected the SPDX id of a licence, {EXAMPLES}; or LicenseRef-NAME for terms without "
            f"an id, which notice then says{_meant(text)}"
        )
    return known


def licence(spdx: str) -> dict[str, str]:
    """``name`` and ``url`` of a licence; the page at SPDX for a licence not listed above."""
    name, url = LICENCES.get(spdx, (spdx, f"https://spdx.org/licenses/{spdx}.html"))
    return {"spdx": spdx, "name": name, "url": url}


def on_hub(spdx: str) -> dict[str, str]:
    """The fields of a card's metadata that name a licence as a Hub expects it."""
    name = _HUB.get(spdx, spdx.lower())
    if spdx in _HUB or _ON_HUB.fullmatch(name):
        return {"license": name}
    return {"license": "other", "license_name": name, "license_link": licence(spdx)["url"]}


def _known(text: str) -> str | None:
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

    try:
        return str(canonicalize_license_expression(text))
    except InvalidLicenseExpression:
        return None


def _meant(text: str) -> str:
    """A question with the id that is nearest to ``text``: "CC BY 4.0" is CC-BY-4.0."""
    joined = re.sub(r"[\s_]+", "-", text.strip())
    for version in _VERSIONS:
        known = _known(joined + version)
        if known and " " not in known and not known.startswith("LicenseRef-"):
            return f". Did you mean {known}?"
    return ""
