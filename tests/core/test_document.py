"""Templates: found, strict about names, and safe in YAML and in tables."""

import jinja2
import pytest
import yaml

from builder.core.document import environment, table, templates


def test_every_template_is_there_and_parses() -> None:
    names = {path.name for path in templates().glob("*.j2")}
    assert names >= {"README.md.j2", "CITATION.cff.j2", "zenodo.json.j2", "dataset.toml.j2"}
    for name in names:
        assert environment().get_template(name)


def test_an_undefined_name_is_an_error_never_an_empty_string() -> None:
    with pytest.raises(jinja2.UndefinedError, match="nobody"):
        environment().from_string("{{ nobody }}").render()


@pytest.mark.parametrize(
    "text",
    ["plain", "with: colon", "quote's", "both \"kinds'", "- dash", "Çağlar", "# no", "3.10", ""],
)
def test_the_yaml_filter_gives_a_scalar_that_reads_back(text: str) -> None:
    line = environment().from_string("title: {{ text|yaml }}").render(text=text)
    assert yaml.safe_load(line) == {"title": text}
    assert "\n" not in line


def test_numbers_and_shares_are_written_for_people() -> None:
    templates = environment()
    assert templates.from_string("{{ 1234567|number }}").render() == "1,234,567"
    assert templates.from_string("{{ 0.1234|share }} {{ 0.9|share(0) }}").render() == "12.3 % 90 %"


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("a | b", r"a \| b"),
        ("two\nlines  here", "two lines here"),
        ("<b>", "&lt;b>"),
        ("p < 0.01", "p < 0.01"),
    ],
)
def test_a_table_cell_cannot_break_its_table(text: str, cell: str) -> None:
    assert table(["name"], [[text]]).splitlines()[-1] == f"| {cell} |"


def test_html_templates_escape_what_they_are_given() -> None:
    page = environment().get_template("document.html.j2").render(title="<b>&", blocks=["<p>x</p>"])
    assert "<title>&lt;b&gt;&amp;</title>" in page
    assert "<p>x</p>" in page
