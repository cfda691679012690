"""From a recipe to the steps that build its dataset, in the order in which the data flows."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from builder.captions.stage import Caption, stage_of
from builder.core.bucket import StoreSection
from builder.core.engine import Engine
from builder.core.errors import ArasError
from builder.core.fields import local_path
from builder.core.files import read_json, write_json
from builder.core.store import Store
from builder.land.columns import COLUMNS, KINDS, STREAM_PREFIX
from builder.land.grid import PER_DEGREE
from builder.models.settings import DRAWING, PROFILES, Drawing, RetrieverSettings, own
from builder.models.step import Training
from builder.models.weights import Weights
from builder.official.import_ import Import
from builder.official.import_release import ImportRelease, is_release, streams_of
from builder.official.others import columns_of
from builder.official.streams import UNKNOWN
from builder.pipeline import recipe as recipes
from builder.pipeline.inputs import Inputs
from builder.quality.copies import Copies, Frames
from builder.quality.discriminant import SecondOpinion
from builder.quality.duplicates import Duplicates
from builder.quality.embed import Embed, Encode
from builder.quality.memorize import Memorize, Turned
from builder.quality.pixels import Quality
from builder.quality.realism import Realism
from builder.quality.segment import Segment
from builder.scores.near_duplicates import Repeats
from builder.scores.stage import ClipScore, Score
from builder.steps.plan import Setup
from builder.steps.stage import Report, Stage
from builder.synthesis.balance import BalancePlan
from builder.synthesis.generate import Generate
from builder.synthesis.layouts import Layouts, RowsWithoutLayout, balance_plan
from builder.tiles.cut import Tiles, grouped, matched
from builder.tiles.split import Split

SEGMENTER = "segmenter"
"""Features of the segmenter's encoder, which every judged tile has."""

RESTARTS = 3
"""Most times that a build starts over because a shard on disk turned out corrupt."""

RETRIEVER = "retriever"
"""Model whose vectors a release may hold: the model that the recipe trains itself."""


Step = Stage | Training


@dataclass(frozen=True)
class LastRun:
    """A run that made something, as its report keeps it; ``setup`` is only of a stage with a model.

    A training makes no row and no shard."""

    rows_made: int
    seconds: float
    setup: Setup | None = None
    shards_made: int = 0
    shards: int = 0
    """All of the stage, at that time."""

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "LastRun":
        setup = Setup(**values["setup"]) if "setup" in values else None
        shards_made = int(values.get("shards_made", values.get("made", 0)))
        shards = values.get("shards", 0)
        return cls(values.get("rows_made", 0), values["seconds"], setup, shards_made, shards)

    def as_json(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if value is not None}


def has_made(report: Mapping[str, Any]) -> bool:
    """Whether the run of a report made rows, or a training its model."""
    return bool(report.get("rows_made", report.get("made")))


@dataclass(frozen=True)
class Project:
    """A directory with a dataset.toml."""

    directory: Path

    @cached_property
    def recipe(self) -> recipes.Recipe:
        return recipes.load(self.directory)

    @cached_property
    def store(self) -> Store:
        # Absolute: workers may run elsewhere.
        has_recipe = (self.directory / recipes.FILE).is_file()  # `aras import` writes it later
        section = self.recipe.store if has_recipe else StoreSection()
        store = Store.of_recipe(self.directory.absolute() / "work", section)
        if store.mirror:
            store.mirror.bring()
        return store

    @cached_property
    def models(self) -> Path:
        """Folder of the trained models, those of other machines too."""
        return self.store.root.parent / "models"

    @property
    def digests(self) -> Path:
        """Where the digests of the files of local models are remembered."""
        return self.store.root / ".models.json"

    @property
    def releases(self) -> Path:
        return self.directory / "release"

    def engine(self, kind: str | None = None, workers: int | None = None) -> Engine:
        section = self.recipe.engine
        return Engine(kind or section.kind, section.workers if workers is None else workers)

    def report(self, name: str, summary: Report) -> None:
        """Keep the summary of a step under reports/; where it added no row, together with the last
        run that did, as ``last_made``."""
        values = summary.as_json()
        if not has_made(values) and (earlier := self.last_made(name)):
            values["last_made"] = earlier.as_json()
        write_json(self.directory / "reports" / f"{name}.json", values)
        if self.store.mirror:
            self.store.mirror.keep_report(name)

    def last_made(self, name: str) -> LastRun | None:
        """The last run of a stage that wrote rows, or of a training; None before the first, and
        where its report is damaged."""
        try:
            report = read_json(self.directory / "reports" / f"{name}.json")
        except (FileNotFoundError, ValueError):
            return None
        if not isinstance(report, dict):
            return None
        run = report if has_made(report) else report.get("last_made")
        return LastRun.from_json(run) if run else None

    @property
    def is_imported(self) -> bool:
        """Rows come from [import] instead of tiles, layouts and generate."""
        return bool(self.recipe.imports.sources)

    @property
    def synthetic_rows(self) -> int:
        """Rows to draw; imported rows are not counted."""
        return 0 if self.is_imported else self.recipe.generator.rows

    def steps(self, *, with_tiles: bool = True) -> list[Step]:
        """Every step from input files to captions. `package` comes after them. ``with_tiles``
        false leaves out the step that needs the input rasters."""
        real, *synthetic = self.qualities()
        if self.is_imported:
            section = self.recipe.imports
            blocks = [self.split()] if section.split == "blocks" else []
            trained = self.trainings() if section.segmenter else []
            rows: list[Step] = [self.imports(), real, *blocks, *trained, *synthetic]
        else:
            cut = [self.tiles()] if with_tiles else []
            rows = [*cut, real, self.split(), *self.trainings(), *self.synthesis(), *synthetic]
        judged = (*self.judgements(), *self.captions(), *self.scores())
        return [*rows, *judged, *self.embed()]

    def inputs(self) -> Inputs:
        """What a release is built from.

        Raises ArasError, like `steps`, for what the recipe names and is missing.
        """
        keys = ("clip", "tokenizer", "features")
        encoders = {key: self.encoder(key) for key in keys}
        return Inputs(
            directory=self.directory,
            recipe=self.recipe,
            store=self.store,
            columns={kind: self._columns(kind) for kind in KINDS},
            streams=self.streams(),
            captions={stream: self.caption(stream) for stream in self.recipe.captions},
            split=self.split(),
            imports=self.imports() if self.is_imported else None,
            layouts=None if self.draws_without_layouts else self.layouts(),
            models=self.models,
            encoders={key: weights for key, weights in encoders.items() if weights},
            baseline=self.baseline,
            lexicon=self.lexicon,
        )

    def _columns(self, kind: str) -> frozenset[str]:
        """Columns of the store that the stages make of rows of ``kind``.

        Rows cut from maps have those of the schema, so that no map need be there.
        """
        if self.is_imported:
            stages = (step for step in self.steps() if isinstance(step, Stage))
            return frozenset(name for stage in stages if kind in stage.kinds for name in stage.adds)
        other = {"real": ("layouts", "generate", "memorize", "copies"), "synthetic": ("tiles",)}[
            kind
        ]
        elsewhere = (*other, "import", "package", "caption", "score")
        names = {column.name for column in COLUMNS if column.made_by not in elsewhere}
        names |= {STREAM_PREFIX + stream for stream in self.streams()}
        names |= {name for stage in self.scores() for name in stage.adds}
        return frozenset(names - ({"block"} if kind == "synthetic" else set()))

    def imports(self) -> Import | ImportRelease:
        """The stage that brings rows in. Raises ArasError for sources of two kinds."""
        section = self.recipe.imports
        paths = tuple((self.directory / source).resolve() for source in section.sources)
        if not paths:
            raise ArasError(
                f"{self.directory / recipes.FILE}: no sources in [import]; name the zips, folders "
                "or the release to import, or run `aras import SOURCE…` in a directory "
                "without a recipe"
            )
        if any(is_release(path) for path in paths):
            if len(paths) > 1 or section.md5:
                raise ArasError("a release must be the only source; its own manifest verifies it")
            streams = streams_of(paths[0]) if section.captions else ()
            return ImportRelease(release=paths[0], streams=streams, shard_rows=section.shard_rows)
        return Import(
            sources=paths,
            md5=tuple(sorted(section.md5.items())),
            run=section.run,
            size=self.recipe.tiles.size,
            captions=section.captions,
            text=tuple(section.text),
            columns=columns_of(paths, section.md5, section.text, self.store.root / ".captions.json")
            if section.captions
            else UNKNOWN,
            placed=section.split == "blocks",
            shard_rows=section.shard_rows,
        )

    def streams(self) -> tuple[str, ...]:
        """Caption streams of the rows: imported streams first, then the recipe's own."""
        imported = self.imports().streams if self.is_imported else ()
        return tuple(dict.fromkeys((*imported, *self.recipe.captions)))

    def tiles(self) -> Tiles:
        section = self.recipe.tiles
        composites, scenes = self._composites()
        return Tiles(
            maps=recipes.files(self.directory, section.maps, "tiles.maps"),
            composites=tuple(composites),
            scenes=tuple(scenes),
            offset=section.offset,
            acquired=section.acquired,
            size=section.size,
            reflectance=section.reflectance,
            max_water=section.max_water,
            max_black=section.max_black,
            remap=tuple(sorted(section.remap.items())),
            resample=section.resample,
            legend=section.legend_name,
        )

    def _composites(self) -> tuple[list[Path], list[tuple[Path, Path, Path]]]:
        """Files with all bands, and scenes of a file each of red, green and blue."""
        patterns, key = self.recipe.tiles.composites, "tiles.composites"
        if isinstance(patterns, list):
            return grouped(recipes.files(self.directory, patterns, key))
        bands = [
            recipes.files(self.directory, [pattern], f"{key}.{colour}")
            for colour, pattern in patterns
        ]
        return [], matched(*bands)

    def split(self) -> Split:
        section = self.recipe.split
        return Split(
            shares=(section.shares.train, section.shares.validation, section.shares.test),
            block=section.block,
            buffer_km=section.buffer_km,
            size=self.recipe.tiles.size / PER_DEGREE,
            seed=self.recipe.dataset.seed,
            **self.recipe.duplicates.model_dump(),
        )

    def trainings(self) -> list[Training]:
        wanted = ["segmenter"]
        if self.synthetic_rows and self.recipe.generator.pipeline is None:
            wanted += ["autoencoder"] * self.trains_autoencoder + ["generator"]
        return [self.training(name) for name in wanted]

    @property
    def trains_autoencoder(self) -> bool:
        """Whether the generator works on latents of an autoencoder that is trained here."""
        settings = self.recipe.generator.training
        return settings.kind == "latent" and not settings.autoencoder

    @property
    def _drawing(self) -> Drawing:
        return DRAWING[self.recipe.generator.profile]

    def training(self, model: str) -> Training:
        """The step that trains a model. Raises ArasError for a retriever of an unknown stream."""
        section: Any = getattr(self.recipe, model)
        if model == RETRIEVER and section.stream not in self.streams():
            known = ", ".join(self.streams()) or "none"
            raise ArasError(
                f"{self.directory / recipes.FILE}: retriever.stream = {section.stream!r}: not a "
                f"caption stream; the streams are {known}"
            )
        profile = PROFILES[model][section.profile or self.recipe.generator.profile]
        settings = own(profile, section, seed=self.recipe.dataset.seed)
        if isinstance(settings, RetrieverSettings):
            if name := settings.weights:
                place = local_path(name, self.directory) or name
                settings = replace(settings, weights=str(place))
        else:  # no crop is larger than a tile
            settings = replace(settings, crop=min(settings.crop, self.recipe.tiles.size))
        return Training(model, self.models / model, settings)

    @property
    def draws_without_layouts(self) -> bool:
        """Whether our generator draws without layouts; the segmenter then makes every mask."""
        section = self.recipe.generator
        return section.training.condition == "none" and section.pipeline is None

    def rows_without_layout(self) -> RowsWithoutLayout:
        section = self.recipe.generator
        return RowsWithoutLayout(
            rows=self.synthetic_rows,
            run=section.run,
            seed=self.recipe.dataset.seed,
            shard_rows=self._drawing.shard_rows,
        )

    def layouts(self) -> Layouts:
        section = self.recipe.generator
        return Layouts(
            rows=self.synthetic_rows,
            run=section.run,
            seed=self.recipe.dataset.seed,
            target=str(section.target),
            max_repeats=section.max_repeats,
            variants=section.variants,
            nearest=section.nearest,
            shard_rows=self._drawing.shard_rows,
        )

    def balance_plan(self) -> BalancePlan | None:
        """The plan behind the synthetic rows, met or not; None for no rows and without layouts."""
        if self.draws_without_layouts:
            return None
        return balance_plan(self.layouts(), self.store)

    def synthesis(self) -> list[Stage]:
        """The layouts of the synthetic rows, then the tiles drawn on them."""
        section = self.recipe.generator
        source = self.rows_without_layout() if self.draws_without_layouts else self.layouts()
        pipeline, sources = None, None
        if section.pipeline:  # in place of a generator of ours
            pipeline, sources = section.pipeline.locate(self.directory, self.digests)
        draw = Generate(
            mask=self.mask_origin,
            size=self.recipe.tiles.size if self.draws_without_layouts else 0,
            sampler=section.sampler or self._drawing.sampler,
            sampling_steps=section.sampling_steps or section.training.solver_steps(self._drawing),
            guidance=section.guidance,
            batch=section.sampling_batch or self._drawing.batch,
            compile=section.training.compile,
            channels_last=section.training.channels_last,
            model=self.models / "generator",
            training=None if pipeline else self.training("generator"),
            pipeline=pipeline,
            sources=sources,
        )
        return [source, draw] if section.rows else [source]

    def qualities(self) -> list[Stage]:
        """What pixels alone show of real tiles, and then of synthetic tiles, whose masks, which it
        reads too, come first where the segmenter makes them."""
        real, synthetic = KINDS
        return [Quality(kind=real), *self.labels(), Quality(kind=synthetic)]

    def judgements(self) -> list[Stage]:
        """What the segmenter and all tiles together show of each tile."""
        others: list[Stage] = [Duplicates(**self.recipe.duplicates.model_dump())]
        if model := self.encoder("features"):
            others.append(Encode("features", model, self.recipe.scores.batch))
        if self.is_imported and not self.recipe.imports.segmenter:
            return [Realism(), *others]
        judged = [self.segment(), *self.second_opinions(), Realism()]
        return [*judged, *self.memorization(), *others]

    @property
    def mask_origin(self) -> str:
        """Where the masks of synthetic rows come from: layout or segmenter."""
        return "segmenter" if self.draws_without_layouts else self.recipe.generator.mask

    def labels(self) -> list[Segment]:
        """The stage that makes the masks of synthetic rows; none where those come with a mask."""
        if self.is_imported or self.mask_origin == "layout":
            return []
        model, blanks = self.models / "segmenter", self.draws_without_layouts
        return [Segment(model=model, labels=True, blanks=blanks, rows=("synthetic",))]

    def segment(self) -> Segment:
        """What the segmenter sees of the rows that it made no mask of."""
        return Segment(model=self.models / "segmenter", rows=("real",) if self.labels() else KINDS)

    def second_opinions(self) -> list[SecondOpinion]:
        """The classifier beside the segmenter, of rows that are drawn on a layout."""
        if not self.synthetic_rows or self.draws_without_layouts:
            return []
        if self.mask_origin == "layout":
            return [SecondOpinion()]
        return [SecondOpinion("layout", ("synthetic",)), SecondOpinion("mask", ("real",))]

    def memorization(self) -> list[Stage]:
        if not self.synthetic_rows:
            return []
        section, model = self.recipe.memorization, self.models / "segmenter"
        turned = [Turned(kind=kind, model=model) for kind in KINDS]
        frames = [Frames(kind=kind) for kind in KINDS]
        memorize = Memorize(section.copy_ratio, section.copy_bits)
        return [*turned, memorize, *frames, Copies(quilt=self.draws_quilts)]

    @property
    def draws_quilts(self) -> bool:
        """Whether synthetic tiles are sewn of train tiles, and so copies whatever they measure."""
        section = self.recipe.generator
        return section.pipeline is None and section.training.kind == "quilt"

    @property
    def baseline(self) -> str:
        """Model whose vectors a release holds: a folder, or a name on the Hub; empty for none."""
        name = self.recipe.bench.embeddings
        if not name:
            return ""
        if name == RETRIEVER:
            return str(self.models / name)
        return str(local_path(name, self.directory) or name) if name else name

    def embed(self) -> list[Step]:
        """The vectors of the baseline, and its training where it is the recipe's own."""
        section = self.recipe.bench
        if not section.embeddings:
            return []
        stage = Embed(streams=self.streams(), splits=tuple(section.splits), model=self.baseline)
        own = section.embeddings == RETRIEVER
        return [self.training(RETRIEVER), stage] if own else [stage]

    def captions(self) -> list[Caption]:
        imported = self.imports().streams if self.is_imported else ()
        return [self.caption(name) for name in self.recipe.captions if name not in imported]

    def caption(self, stream: str) -> Caption:
        """The stage of a stream of the recipe."""
        return stage_of(
            stream,
            self.recipe.captions[stream],
            self.directory,
            seed=self.recipe.dataset.seed,
            cache=self.digests,
            lexicon=self.lexicon,
        )

    def scores(self) -> list[Stage]:
        """Every score of every caption stream."""
        batch = self.recipe.scores.batch
        clip, words = self.encoder("clip"), self.encoder("tokenizer")
        stages: list[Stage] = [Encode("clip", clip, batch)] if clip else []
        for name in self.streams():
            stages += [Score(stream=name, lexicon=self.lexicon), Repeats(stream=name)]
            if clip or words:
                stages.append(ClipScore(name, clip, words, batch))
        return stages

    @property
    def lexicon(self) -> Path | None:
        """The file that [scores] lays over the built-in lexicon."""
        name = self.recipe.scores.lexicon
        return (self.directory / name).absolute() if name else None

    def encoder(self, key: str) -> Weights | None:
        """The pretrained model that ``key`` of [scores] names; None for none and for our own."""
        section: Any = self.recipe.scores
        model, revision = getattr(section, key), getattr(section, f"{key}_revision")
        if model in ("", SEGMENTER):
            return None
        return Weights.of_recipe(f"[scores] {key}", model, revision, self.directory, self.digests)
