"""What the augmentation experiment answers in plain words, and what it cannot."""

from collections.abc import Mapping
from typing import Any

from builder.bench.augmentation_figures import FLOOR, TESTED
from builder.bench.verdicts import established, few, nearness, verdict
from builder.landcover import CLASSES
from builder.schema import KINDS

_EMPTY = "no test tile has pixels of these classes"


def learned(analysis: Mapping[str, Any]) -> bool:
    """Whether the model trained on real rows beats calling everything the commonest class."""
    return established(analysis["contrasts"], "real", FLOOR, "macro F1") > 0


def unfound(analysis: Mapping[str, Any]) -> list[str]:
    """Classes of the test tiles of which no trained arm gets any pixel right."""
    arms = [one for name, one in analysis["arms"].items() if name != FLOOR]
    return [k for k in CLASSES if all(one[f"F1 {k}"]["value"] == 0 for one in arms)]


def conclusions(analysis: Mapping[str, Any]) -> list[str]:
    """First the answer to the question, then one plain sentence per contrast and figure."""
    lines = []
    if not learned(analysis):
        lines.append(
            "NO CONCLUSION about synthetic data can be drawn from this run: the model trained on "
            "real rows cannot be told from one that calls every pixel the commonest class. Train "
            "longer, on more rows or with a larger model."
        )
    else:
        lines += [_answer(analysis, figure) for figure in TESTED]
    if lost := unfound(analysis):
        lines.append(
            f"No arm finds {', '.join(lost)} at all: their F1 is 0 everywhere, and whether "
            "synthetic tiles help them is not known. Train longer or a larger model."
        )
    for one in analysis["contrasts"]:
        lines += [
            f"{one['ours']} − {one['theirs']}, {name}: {verdict(one[name], _EMPTY)}"
            for name in TESTED
        ]
    return lines


def _answer(analysis: Mapping[str, Any], figure: str) -> str:
    """Help means: above real rows alone, and above repeating them to the same class shares."""
    real, oversampled = (
        established(analysis["contrasts"], "balanced", arm, figure)
        for arm in ("real", "oversampled")
    )
    if real > 0 and oversampled > 0:
        answer = "yes: above real rows, and above real rows repeated to the same class shares"
    elif real > 0:
        answer = (
            "above real rows alone, but not shown to be above real rows repeated to the same "
            "class shares: the shares may be what helps, not the synthetic tiles"
        )
    elif real < 0:
        answer = "no, they hurt: below real rows alone"
    else:
        answer = "not shown: no difference from real rows is established"
    return f"Do class-balanced synthetic tiles help the segmenter, by {figure}? {answer}."


def limits(
    analysis: Mapping[str, Any], release: Mapping[str, Any], made: Mapping[str, Any]
) -> list[str]:
    """What this run cannot show, whatever its figures are."""
    units = analysis["clusters"]
    lines = [
        f"{analysis['tiles']:,} test tiles in {units['number']:,} {units['unit']}s and "
        f"{analysis['seeds']} seeds: the power above is what there is.",
        "One segmenter architecture trained from scratch: pretrained or larger models may react "
        "otherwise, and absolute figures are no benchmark of segmentation.",
        f"Synthetic rows of {', '.join(made['generators']) or 'an unnamed generator'} only: a "
        "better or worse generator may help or hurt.",
        "Equal steps and batch size in all arms: arms with more distinct rows see each of them "
        "less often.",
        "Both mixtures draw from the same synthetic rows by composition: a generator's run made "
        "for either would repeat fewer of them.",
        "All classes count alike in macro F1, and the rarest have few test pixels.",
        *few(units),
        *nearness(release),
    ]
    agreement = [made[f"mask_agreement_{name}"] for name in KINDS]
    if None not in agreement:
        lines.append(
            "The release's segmenter agrees with the mask on "
            f"{100 * agreement[0]:.1f} % of the pixels of real rows and {100 * agreement[1]:.1f} % "
            "of synthetic ones: far less on synthetic ones means that they do not show what their "
            "masks say."
        )
    if empty := [name for name, n in analysis["test_clusters"].items() if not n]:
        lines.append(f"No test tile has {', '.join(empty)}: left out of every mean.")
    return lines
