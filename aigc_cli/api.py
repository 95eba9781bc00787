"""The toolkit from Python: what the commands of the same names do, with plain arguments and values.

    from aigc_cli import evaluate, load, sample, train

    run = train("classifier_demo", {"trainer.max_steps": 50})
    evaluate(run)["metrics"]["accuracy"]

Nothing here is decided otherwise than on the command line: the same functions check and do it, and
what they raise is an `AigcError`, whose message is the sentence that the command would print.
"""

from __future__ import annotations

import csv
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aigc_cli.errors import InputError

if TYPE_CHECKING:
    from aigc_cli.run.trained import Trained

PathLike = str | Path
Values = Mapping[str, Any]
"""Values by key, such as {"trainer.max_steps": 50}."""


def train(
    recipe: PathLike | None = None,
    values: Values | None = None,
    *,
    out: PathLike | None = None,
    resume: PathLike | None = None,
    overwrite: bool = False,
    max_time: str | None = None,
    budget: str | None = None,
    goal: str | None = None,
    progress: bool = True,
) -> Path:
    """Train a recipe by name or file, with `values` in place of its own; returns the run folder.

    With `budget`, such as "20m", as many steps as fit, and `recipe` may be data, of which `goal`
    says what to learn. `resume` is a run to go on with, or "auto". `progress` shows lines on
    stderr, or a bar on a terminal.

    Raises:
        AigcError: InputError for what is wrong with recipe, data or arguments, before anything is
            written; RunError when the run fails; Interrupted when it is stopped, with all saved.
    """
    from aigc_cli.cli._progress import watching
    from aigc_cli.run.events import parse_duration
    from aigc_cli.run.inputs import check_budget, check_training

    started = time.monotonic()
    subject, again = _text(recipe), _text(resume)
    overrides = _overrides(values)
    folder = None if out is None else Path(out)
    with watching(json=False, quiet=not progress) as emit:
        if budget is not None:
            if resume is not None or max_time is not None:
                raise InputError("budget goes with neither resume nor max_time")
            is_data = check_budget(subject, overrides, goal)
            from aigc_cli.run.budget import Clock, train_data, train_recipe
            from aigc_cli.run.start import resolve

            clock = Clock(parse_duration(budget, "budget", unit=True), started)
            if is_data:
                made = train_data(
                    str(subject), goal=goal, overrides=overrides, clock=clock, out=folder,
                    overwrite=overwrite, emit=emit, write=True,
                )  # fmt: skip
                return Path(made)
            chosen = resolve(subject, overrides, None)
            return train_recipe(chosen, clock=clock, out=folder, overwrite=overwrite, emit=emit)
        check_training(subject, overrides, again)
        from aigc_cli.run.start import resolve, start

        run = start(
            resolve(subject, overrides, again),
            sys.argv[1:],
            out=folder,
            resume=again,
            overwrite=overwrite,
            max_time_s=None if max_time is None else parse_duration(max_time),
            emit=emit,
        )
    assert run is not None, "a worker of several processes returns no run"
    return run


def sample(
    source: PathLike,
    values: Values | None = None,
    *,
    out: PathLike | None = None,
    count: int | None = None,
    input: PathLike | None = None,
    prompts: Sequence[str] = (),
    references: Sequence[PathLike] = (),
    seed: int = 0,
    batch_size: int = 16,
    overwrite: bool = False,
    device: str = "auto",
) -> list[Path]:
    """Write samples of a run or checkpoint, or its answers to `input`; returns the files.

    `values` are options of the family, and `write.KEY` and `read.KEY` of files. Without `out` they
    lie in a new folder in `samples`.

    Raises:
        AigcError: as `aigc sample`.
    """
    from aigc_cli.run.sample import sample as make

    request, options = _request(
        str(source), values, out, count, input, prompts, references, seed, batch_size, overwrite
    )
    report = make(str(source), request, options, device=device)
    return _files(report, Path(report["out"]))


def evaluate(
    source: PathLike | None = None,
    metrics: Sequence[str] = (),
    values: Values | None = None,
    *,
    data: PathLike | None = None,
    generated: PathLike | None = None,
    references: Sequence[PathLike] = (),
    require: Sequence[str] = (),
    count: int | None = None,
    limit: int | None = None,
    seed: int = 0,
    batch_size: int = 64,
    device: str = "auto",
) -> dict[str, Any]:
    """Score a run or checkpoint on its validation data or on `data`, or files in `generated`
    beside `references`; returns what `aigc evaluate --json` prints.

    `require` are conditions such as "psnr_y>=36". `values` are options of metrics, such as
    {"bleu.tokenize": "zh"}.

    Raises:
        AigcError: as `aigc evaluate`; RequirementError where a condition is not met.
    """
    from aigc_cli.run import asked, inputs

    paths = {"generated": generated, "data": data}
    for option, path in paths.items():
        inputs.require_paths(option, None if path is None else str(path))
    given = asked.Asked(
        metrics=tuple(metrics),
        require=tuple(require),
        options=tuple(_overrides(values)),
        data=None if data is None else Path(data),
        generated=None if generated is None else Path(generated),
        references=tuple(map(str, references)),
        count=count,
        limit=limit,
        seed=seed,
        batch_size=batch_size,
        device=device,
    )
    report: dict[str, Any] | None = asked.open_job(_text(source), given)()
    assert report is not None, "a worker of several processes reports nothing"
    asked.check_requirements(report, report["require"])
    return report


def load(
    source: PathLike, values: Values | None = None, *, device: str = "auto", ema: bool = True
) -> Model:
    """The model of a run or checkpoint, in memory; `values` are options of its family.

    Raises:
        AigcError: CheckpointError for a file that is damaged, foreign or unsafe, InputError where
            there is none.
    """
    from aigc_cli.run.trained import load_trained

    return Model(load_trained(str(source), _overrides(values), device=device, ema=ema))


class Model:
    """A trained model that answers in Python's own things."""

    def __init__(self, trained: Trained) -> None:
        self._trained = trained

    @property
    def recipe(self) -> dict[str, Any]:
        """All its values."""
        return self._trained.recipe.as_dict()

    @property
    def step(self) -> int:
        """At which its weights were saved."""
        return self._trained.step

    @property
    def module(self) -> Any:
        """The torch module; what it has beyond `torch.nn.Module` may change."""
        return self._trained.model

    def __repr__(self) -> str:
        return f"<{self._trained.recipe.family} of {self._trained.recipe.name}, step {self.step:,}>"

    def sample(
        self,
        count: int | None = None,
        *,
        input: Any = None,
        prompts: Sequence[str] = (),
        references: Sequence[PathLike] = (),
        seed: int = 0,
        batch_size: int = 16,
    ) -> list[Any]:
        """Samples, or answers to `input`: a path, or a PIL image. Images are `PIL.Image`, texts
        `str`, audio (samples, sample_rate), classes a dict a thing; all else the bytes of a file.

        Raises:
            AigcError: as `aigc sample`.
        """
        from aigc_cli.modalities import find_modality
        from aigc_cli.run.sample import Told, make

        texts: list[str] = []
        with tempfile.TemporaryDirectory(prefix="aigc-") as folder, _as_path(input) as path:
            request, _ = _request(
                folder, None, Path(folder) / "made", count, path, prompts, references, seed,
                batch_size, False,
            )  # fmt: skip
            report = make(self._trained, request, told=Told(text=texts.append))
            files = _files(report, request.out)
            if self._trained.model.makes == "labels":
                with files[0].open(encoding="utf-8", newline="") as table:
                    return list(csv.DictReader(table))
            if texts:
                return list(texts)
            opened = find_modality(self._trained.model.makes).opened
            return [opened(file) for file in files]


@contextmanager
def _as_path(thing: Any) -> Iterator[Path | None]:
    """Where a thing lies: a path as it is, an image in a file of its own meanwhile."""
    if thing is None or isinstance(thing, str | Path):
        yield None if thing is None else Path(thing)
        return
    from PIL.Image import Image

    if not isinstance(thing, Image):
        raise InputError(f"input is a {type(thing).__name__}, and must be a path or a PIL image")
    with tempfile.TemporaryDirectory(prefix="aigc-") as folder:
        path = Path(folder) / "input.png"
        thing.save(path)
        yield path


def _request(
    source: str,
    values: Values | None,
    out: PathLike | None,
    count: int | None,
    input: PathLike | None,
    prompts: Sequence[str],
    references: Sequence[PathLike],
    seed: int,
    batch_size: int,
    overwrite: bool,
) -> tuple[Any, list[str]]:
    """What is asked for, and the options of the family."""
    from aigc_cli.run import inputs
    from aigc_cli.run.request import Request, default_output

    inputs.require_paths("input", None if input is None else str(input))
    texts = _overrides(values)
    reading, writing = (
        tuple(text.removeprefix(start) for text in texts if text.startswith(start))
        for start in ("read.", "write.")
    )
    request = Request(
        out=default_output(source) if out is None else Path(out),
        input=None if input is None else Path(input),
        prompts=tuple(prompts),
        references=tuple(map(Path, references)),
        count=count,
        seed=seed,
        batch_size=batch_size,
        reading=reading,
        writing=writing,
        overwrite=overwrite,
    )
    return request, [text for text in texts if not text.startswith(("read.", "write."))]


def _files(report: Mapping[str, Any], out: Path) -> list[Path]:
    """Of samples, without the sheets that show several."""
    return [out / item["path"] for item in report["items"] if item.get("sample", True)]


def _text(value: PathLike | None) -> str | None:
    return None if value is None else str(value)


def _overrides(values: Values | None) -> list[str]:
    """KEY=VALUE as on the command line; JSON is YAML."""
    return [
        f"{key}={value if isinstance(value, str | Path) else json.dumps(value)}"
        for key, value in (values or {}).items()
    ]
