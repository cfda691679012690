"""Licences are SPDX ids, spelt as the list spells them, and a card names them as a Hub does."""

import pytest

from builder.core.licences import checked_id, checked_terms, on_hub
from builder.land.legends import PUBLIC_MAPS


@pytest.mark.parametrize("text", ["CC-BY-4.0", "cc-by-4.0", "ODbL-1.0", "MIT", "etalab-2.0"])
def test_an_id_is_spelt_as_the_list_spells_it(text):
    assert checked_id(text).casefold() == text.casefold()
    assert checked_id(text) == checked_id(checked_id(text).lower())


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("CC BY 4.0", "CC-BY-4.0"),
        ("cc-by", "CC-BY-4.0"),
        ("ODbL", "ODbL-1.0"),
        ("apache 2", "Apache-2.0"),
        ("proprietary", ""),
        ("MIT OR Apache-2.0", ""),
        ("LicenseRef-ours", ""),
        ("", ""),
    ],
)
def test_another_text_is_refused_with_the_id_that_was_meant(text, meant):
    with pytest.raises(ValueError, match="expected the SPDX id of a licence, for example") as error:
        checked_id(text)
    assert str(error.value).endswith(f"Did you mean {meant}?" if meant else "licenses/")


def test_data_of_others_may_have_several_licences_terms_without_an_id_or_none_known():
    assert checked_terms("mit or odbl-1.0") == "MIT OR ODbL-1.0"
    assert checked_terms("LicenseRef-Copernicus") == "LicenseRef-Copernicus"
    assert checked_terms("") == ""
    with pytest.raises(ValueError, match="LicenseRef-NAME"):
        checked_terms("free for research")


def test_the_terms_of_public_maps_are_ids():
    for legend in PUBLIC_MAPS.values():
        assert checked_terms(legend.license) == legend.license, legend.title


@pytest.mark.parametrize(
    ("spdx", "name"),
    [("CC-BY-4.0", "cc-by-4.0"), ("ODbL-1.0", "odbl"), ("PDDL-1.0", "pddl"), ("MIT", "mit")],
)
def test_a_card_names_a_licence_as_a_hub_does(spdx, name):
    assert on_hub(spdx) == {"license": name}


def test_a_licence_that_a_hub_does_not_list_is_named_and_linked():
    fields = on_hub("OGL-UK-3.0")
    assert fields["license"] == "other"
    assert fields["license_name"] == "ogl-uk-3.0"
    assert fields["license_link"] == "https://spdx.org/licenses/OGL-UK-3.0.html"
