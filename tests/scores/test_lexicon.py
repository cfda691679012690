"""The lexicon: what its file may hold, and how a caption becomes tokens."""

import pytest

from builder.core.errors import ArasError
from builder.land.classes import CLASSES
from builder.scores import lexicon as lexicons
from builder.scores.lexicon import MENTION, NUMBER, OTHER, PERCENT, REGION, STRONG

LEXICON = lexicons.load()


def kinds_of(text):
    return dict(zip(*reversed(LEXICON.tokens(text)[::2]), strict=True))


def test_a_fraction_claims_its_surroundings_and_after_a_bound_the_side_of_it():
    quantities = {
        words: LEXICON.tokens(words)[1][0] for words in ("a third", "over a third", "< a third")
    }
    intervals = {words: (quantity.low, quantity.high) for words, quantity in quantities.items()}
    assert intervals["a third"] == pytest.approx((0.233, 0.433))
    assert intervals["over a third"] == pytest.approx((0.333, 1))
    assert intervals["< a third"] == pytest.approx((0.001, 0.333))
    assert all(quantity.fraction for quantity in quantities.values())


def test_a_list_is_named_once_and_used_by_many_phrases(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('version = "1-x"\n[lists]\nwhole = "{chip|tile}"\n')
    mine = lexicons.load(file)
    said = "forest spread over the chip"
    assert (REGION in LEXICON.tokens(said)[0], REGION in mine.tokens(said)[0]) == (False, True)


def test_a_file_that_changed_is_read_again(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('version = "1-x"\n[classes]\nWater = ["wadi"]\n')
    before = lexicons.load(file)
    file.write_text('version = "1-x"\n[classes]\nWater = ["lough"]\n')
    assert "lough" in lexicons.load(file).single
    assert "lough" not in before.single


def test_every_class_has_words():
    named = {token[1] for token in LEXICON.single.values() if token[0] == MENTION}
    assert {1 << k for k in range(len(CLASSES))} <= named


def test_the_longest_phrase_wins():
    assert kinds_of("a river valley")["river valley"] == OTHER
    assert kinds_of("a river")["river"] == MENTION
    assert kinds_of("more than half of it")["more than half"] == STRONG


def test_hyphens_and_case_do_not_matter():
    assert kinds_of("BUILT-UP")["built up"] == kinds_of("built up")["built up"] == MENTION
    assert kinds_of("in the Upper-Left corner")["in the upper left corner"] == REGION


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("86%", (86, 86, 0.5)),
        ("12.5 %", (12.5, 12.5, 0.05)),
        ("12,5%", (12.5, 12.5, 0.05)),
        ("10-15%", (10, 15, 0.5)),
        ("30% to 40%", (30, 40, 0.5)),
        ("57 per cent", (57, 57, 0.5)),
        ("between 20% and 30%", (20, 30, 0.5)),
        ("between 20 and 30 percent", (20, 30, 0.5)),
        ("zero percent", (0, 0, 0.5)),
        ("one hundred percent", (100, 100, 0.5)),
        ("seventy-nine percent", (79, 79, 0.5)),
        ("\uff18\uff16\uff05", (86, 86, 0.5)),
    ],
)
def test_percentages_in_their_many_forms(text, value):
    kinds, values, _ = LEXICON.tokens(text)
    assert kinds == [PERCENT]
    assert values[0] == pytest.approx(value)


def test_a_number_without_percent_sign_is_only_a_number():
    assert LEXICON.tokens("5 fields")[0][0] == NUMBER


def test_another_file_is_laid_over_the_built_in_one(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(
        'version = "1-coast"\nremove = ["river{|s}"]\n[classes]\nWater = ["wadi"]\n'
        "[quantities.limited]\ninterval = [0.01, 0.1]\n"
    )
    mine = lexicons.load(file)
    assert mine.single["wadi"] == mine.single["lake"]
    assert "river" not in mine.single
    assert mine.single["limited"][1].high == 0.1
    assert (mine.version, LEXICON.version) == ("1-coast", "5")
    assert mine.sha256 != LEXICON.sha256


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('[classes]\nWater = ["wadi"]\n', "version of its own"),
        ('version = "1-x"\n[classes]\nForest = ["wood"]\n', "Forest"),
        ('version = "1-x"\n[quantities.limited]\ninterval = [0.5, 0.1]\n', "interval"),
        ('version = "1-x"\n[regions.upper]\nbox = [0, 0, 2, 1]\n', "box"),
        ('version = "1-x"\n[classes]\nWater = ["<deep> pond"]\n', "<deep>, which is not in"),
        ('version = "1-x"\n[fractions]\n"twice" = 2.0\n', "twice"),
        ("version = \n", "cannot read the lexicon"),
        ("version = " + "[" * 5000, "cannot read the lexicon: it is nested too deeply"),
    ],
)
def test_a_wrong_lexicon_is_an_error_that_names_the_file_and_the_place(tmp_path, text, complaint):
    file = tmp_path / "wrong.toml"
    file.write_text(text)
    with pytest.raises(ArasError, match=complaint) as error:
        lexicons.load(file)
    assert str(file) in str(error.value)


def test_a_lexicon_that_is_not_there_is_one_clear_error(tmp_path):
    with pytest.raises(ArasError, match=r"none\.toml: no such lexicon; check the path"):
        lexicons.load(tmp_path / "none.toml")
