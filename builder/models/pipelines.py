"""Drawing tiles with any diffusers pipeline, on our layouts."""

import contextlib
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from builder.core.errors import ArasError
from builder.core.files import digest_of, read_json
from builder.land import prompts
from builder.land.classes import PALETTE, count_pixels
from builder.land.prompts import Request
from builder.models import training, weights
from builder.models.settings import PipelineSection, Sources

INDEX = "model_index.json"
LEFT_OUT = ("safety_checker", "feature_extractor", "image_encoder")
"""Components that are not loaded: a safety checker would put black tiles in."""
_READ = {".json", ".txt", ".model", ".safetensors"}
_WANTED = {"generator", "output_type", "num_inference_steps"}
_FOREIGN = {"image", "mask_image", "class_labels", "prompt_image", "video"}
"""Inputs that we have nothing to give for, unless ``image`` is the layout of a ControlNet."""

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Files:
    """The folders of a pipeline and of its ControlNet, and what pins them."""

    model: Path
    controlnet: Path | None
    named: str
    """Both with their revisions, as the column gen_model names them."""
    digest: str
    """sha256 over all files that are loaded."""


def find(sources: Sources) -> Files:
    """Look for the weights on this machine. Raises ArasError saying how to get what is missing."""
    model, name = _folder(sources.model, INDEX, "pipeline")
    index = _json(model / INDEX)
    parts = [
        key
        for key, value in index.items()
        if isinstance(value, list) and value[0] and key not in LEFT_OUT
    ]
    files = [model / INDEX]
    for part in parts:
        files += [path for path in (model / part).glob("*") if _is_read(path)]
    digests = [weights.digest(files, model, sources.model.cache)]
    controlnet = None
    if sources.controlnet:
        controlnet, other = _folder(sources.controlnet, weights.CONFIG, "ControlNet")
        name = f"{name} with {other}"
        files = [path for path in controlnet.glob("*") if _is_read(path)]
        digests.append(weights.digest(files, controlnet, sources.controlnet.cache))
    return Files(model, controlnet, name, digests[0] if len(digests) == 1 else digest_of(digests))


def _folder(source: weights.Weights, mark: str, kind: str) -> tuple[Path, str]:
    """Where a model lies, and its name, with its commit where it comes from the Hub."""
    folder = source.locate(mark, f"{kind} of diffusers")
    return folder, source.name if source.path else f"{source.name}@{folder.name}"


def _json(path: Path) -> dict[str, Any]:
    try:
        value = read_json(path)
    except ValueError as error:
        raise ArasError(f"{path}: cannot be read ({error}); fetch the model again") from error
    if not isinstance(value, dict):
        raise ArasError(f"{path}: is not a JSON object; fetch the model again")
    return value


def _is_read(path: Path) -> bool:
    """Whether diffusers reads the file: no half-precision variant, nothing pickled."""
    variant = any(part in path.name.split(".") for part in ("fp16", "bf16", "non_ema"))
    return path.suffix in _READ and path.is_file() and not variant


@dataclass(frozen=True)
class Artist:
    """A pipeline in memory. ``layout`` is the input that takes the layout, None for none."""

    pipe: Any
    ask: PipelineSection
    layout: str | None
    prompted: bool
    sized: bool

    @property
    def name(self) -> str:
        return type(self.pipe).__name__

    def sample(self, layouts: Pixels, seeds: Sequence[int], batch: int = 1) -> Pixels:
        """Draw one tile per layout: (n, H, W) ids and n seeds → (n, H, W, 3) uint8.

        The noise of a tile comes from its own seed on the CPU. There tiles are drawn singly
        on one thread, so the bytes are the same at any batch size; on a GPU ``batch`` at
        once. Raises ArasError for a size that does not fit the layouts' and for colours that are
        no numbers.
        """
        alone = training.device().type == "cpu"
        step = 1 if alone else batch
        with training.single_thread() if alone else contextlib.nullcontext():
            parts = [
                self._draw(layouts[i : i + step], seeds[i : i + step])
                for i in range(0, len(layouts), step)
            ]
        return np.concatenate(parts)

    def _draw(self, layouts: Pixels, seeds: Sequence[int]) -> Pixels:
        side = self.ask.size or layouts.shape[2]
        given: dict[str, Any] = {
            "generator": [torch.Generator().manual_seed(seed) for seed in seeds],
            "num_inference_steps": self.ask.steps,
            "output_type": "np",
        }
        if self.sized:
            given |= {"height": side * layouts.shape[1] // layouts.shape[2], "width": side}
        if self.prompted:
            given["prompt"] = [_words(self.ask.prompt, layout) for layout in layouts]
            given["guidance_scale"] = self.ask.guidance
            if self.ask.negative:
                given["negative_prompt"] = [_words(self.ask.negative, layout) for layout in layouts]
        else:
            given["batch_size"] = len(layouts)
        if self.layout:
            given[self.layout] = conditions(layouts, side // layouts.shape[2])
            given["controlnet_conditioning_scale"] = self.ask.control
        takes = inspect.signature(self.pipe.__call__).parameters
        with _telling(self.ask.model):
            drawn = self.pipe(**{k: v for k, v in given.items() if k in takes}).images
        return shrink(np.asarray(drawn, np.float32), layouts.shape[1:], self.name)


def load(ask: PipelineSection, files: Files) -> Artist:
    """The pipeline, on the GPU if available.

    bfloat16 on a GPU and float32 on the CPU unless ``dtype`` says otherwise. Raises ArasError:
    files that do not fit together, a pipeline that asks for what we do not have.
    """
    import diffusers

    device = training.device()
    name = ask.dtype if ask.dtype != "auto" else ("bfloat16", "float32")[device.type == "cpu"]
    how: dict[str, Any] = {
        "local_files_only": True,
        "use_safetensors": True,
        "torch_dtype": getattr(torch, name),
    }
    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    with _telling(ask.model):
        index = _json(files.model / INDEX)
        without = {key: None for key in LEFT_OUT if key in index}
        if files.controlnet:
            kind = _json(files.controlnet / weights.CONFIG).get("_class_name", "")
            net = getattr(diffusers, kind).from_pretrained(files.controlnet, **how)
            pipe = diffusers.AutoPipelineForText2Image.from_pretrained(
                files.model, controlnet=net, trust_remote_code=False, **without, **how
            )
        else:
            pipe = diffusers.DiffusionPipeline.from_pretrained(
                files.model, trust_remote_code=False, **without, **how
            )
    pipe.set_progress_bar_config(disable=True)
    return Artist(pipe.to(device), ask, *_inputs(pipe))


def _inputs(pipe: Any) -> tuple[str | None, bool, bool]:
    """(input that takes the layout, takes a prompt, takes a size) of a pipeline.

    Raises ArasError for a pipeline that needs what we cannot give, such as a picture to start from.
    """
    takes = inspect.signature(pipe.__call__).parameters
    guided = pipe.components.get("controlnet") is not None
    layout = next((key for key in ("control_image", "image") if guided and key in takes), None)
    foreign = (_FOREIGN & set(takes)) - {layout}
    needed = {
        key
        for key, parameter in takes.items()
        if parameter.default is parameter.empty
        and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    } - {"prompt", layout}
    if (missing := _WANTED - set(takes)) or foreign or needed:
        why = f"needs {', '.join(sorted(foreign | needed))}" if foreign or needed else ""
        why = why or f"takes no {', '.join(sorted(missing))}"
        raise ArasError(
            f"{type(pipe).__name__} {why}; a pipeline from a layout (ControlNet), from a prompt, "
            "or from noise alone can replace the generator"
        )
    return layout, "prompt" in takes, {"height", "width"} <= set(takes)


def conditions(layouts: Pixels, factor: int) -> list[Any]:
    """(n, H, W) ids → pictures in the classes' colours, each pixel ``factor`` pixels wide."""
    from PIL import Image

    wide = layouts.repeat(factor, axis=1).repeat(factor, axis=2)
    return [Image.fromarray(picture) for picture in PALETTE[wide]]


def shrink(drawn: npt.NDArray[np.float32], size: Sequence[int], name: str) -> Pixels:
    """(n, h, w, 3) in 0…1 → (n, H, W, 3) uint8, by the mean of whole squares of pixels.

    Raises ArasError when h × w is not a whole multiple of H × W, for other than three channels and
    for values that are not finite.
    """
    if drawn.ndim != 4 or drawn.shape[3] != 3:
        raise ArasError(f"{name}: draws {drawn.shape[1:]}, but tiles have three channels")
    if not np.isfinite(drawn).all():
        raise ArasError(f'{name}: draws values that are not finite; try dtype = "float32"')
    (high, wide), (height, width) = drawn.shape[1:3], size
    factor = wide // width
    if not factor or (high, wide) != (factor * height, factor * width):
        raise ArasError(
            f"{name}: draws {wide}×{high} pixels, not a whole multiple of the tiles' "
            f"{width}×{height}; set size in [generator.pipeline], or size in [tiles]"
        )
    squares = drawn.reshape(len(drawn), height, factor, width, factor, 3)
    return np.asarray((squares.mean((2, 4)).clip(0, 1) * 255).round(), np.uint8)


def _words(prompt: str, layout: Pixels) -> str:
    request = Request("", 0, count_pixels(layout), layout)
    return prompts.render(prompt, ("composition", "layout"), request)


@contextlib.contextmanager
def _telling(model: str) -> Iterator[None]:
    """What diffusers raises, in one line."""
    try:
        yield
    except ArasError:
        raise
    except Exception as error:
        if weights.out_of_memory(error):
            raise ArasError(
                f"{model}: out of memory; lower sampling_batch in [generator], or size or dtype "
                "in [generator.pipeline]; each of several workers loads the model (--workers 1)"
            ) from error
        raise weights.refusal(model, "diffusers", error) from error
