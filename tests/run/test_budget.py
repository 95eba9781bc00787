"""`aigc train DATA --budget`: what is proposed for which data, that the time is kept whatever the
machine does meanwhile, and that the recipe gives the same run again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from aigc_cli import registry
from aigc_cli.data.recordings import tone
from aigc_cli.errors import InputError
from aigc_cli.media.audio import sound_bytes
from aigc_cli.recipe.load import load_recipe, recipe_from_dict, recipe_from_text
from aigc_cli.run import budget
from aigc_cli.run.budget import DECAY, Clock, Fitted
from aigc_cli.run.pace import Pace
from aigc_cli.run.proposal import Proposal, proposals, propose
from aigc_cli.run.stop import TIME_IS_UP, Stop
from aigc_cli.run.train import Result, train
from aigc_cli.run.weights import complete
from tests.run.conftest import PLUGIN, Ending, assert_same, load, paint

Aigc = Callable[..., Ending]
WORDS = "the cat sat on a mat and saw two birds fly over the red house by the sea".split()  # noqa: SIM905


def sentence(number: int, words: int = 8) -> str:
    return " ".join(WORDS[(number * 7 + i * (number % 5 + 1)) % len(WORDS)] for i in range(words))


def write(path: Path, rows: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def folder_of(what: str, here: Path) -> str:
    """A tiny source of data of one kind, as people have them."""
    data = here / what.replace(" ", "_")
    match what:
        case "photographs":
            paint(data, 5, size=200)
        case "small images":
            paint(data, 12, size=32)
        case "classes" | "photographs of classes":
            for name in ("cats", "dogs"):
                paint(data / name, 8, size=32 if what == "classes" else 160)
        case "pairs of folders":
            for name in ("sketch", "photo"):
                paint(data / name, 4, size=32)
                for file, word in zip(sorted((data / name).iterdir()), WORDS[1:], strict=False):
                    file.rename(file.with_stem(word))
        case "two domains":
            paint(data / "trainA", 4, size=32)
            paint(data / "trainB", 5, size=32)
        case "text":
            write(data / "book.txt", [sentence(n) for n in range(200)])
        case "parts":
            for part in ("train", "dev"):
                write(data / f"{part}.txt", [sentence(n) for n in range(200)])
        case "languages":
            for code in ("en", "de"):
                write(data / f"train.{code}", [sentence(n) for n in range(20)])
        case "summaries":
            rows = [{"text": sentence(n, 30), "summary": sentence(n, 6)} for n in range(20)]
            write(data / "papers.jsonl", rows)
        case "labeled texts":
            write(data / "mails.tsv", [f"{n} {sentence(n)}\t{n % 2}" for n in range(40)])
        case _ if what in SOUNDS:
            for name in SOUNDS[what]:
                write_sound(data / f"{name}.wav")
        case "instructions":
            rows = [{"instruction": sentence(n), "output": sentence(n + 1)} for n in range(20)]
            write(data / "asked.jsonl", rows)
    return str(data)


def write_sound(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(sound_bytes(tone(220, 0.05)))


SOUNDS = {
    "voices": [f"{voice}/{number}" for voice in ("flute", "horn") for number in range(4)],
    "spoken digits": [f"{n}_{who}_{n}" for n in (0, 1) for who in ("ann", "bob", "eve", "joe")],
    "speech": [f"LJ001-{number:04}" for number in range(4)],
}
FOUND = {
    "photographs": ("super-resolve", "edsr"),
    "small images": ("generate", "dcgan"),
    "classes": ("classify", "classifier"),
    "pairs of folders": ("translate", "pix2pix"),
    "two domains": ("translate", "cyclegan"),
    "text": ("continue", "lm"),
    "parts": ("continue", "lm"),
    "languages": ("translate", "seq2seq"),
    "summaries": ("summarize", "summarize"),
    "labeled texts": ("classify", "text_classifier"),
    "instructions": ("chat", "chat"),
    "voices": ("classify", "audio_classifier"),
    "spoken digits": ("classify", "audio_classifier"),
    "speech": ("generate", "wavenet"),
}


@pytest.mark.parametrize("what", FOUND)
def test_what_a_folder_holds_decides_what_is_proposed(what: str, here: Path) -> None:
    best, _ = propose(folder_of(what, here), None, None)
    assert (best.goal, best.family) == FOUND[what]


def test_parts_that_are_kept_apart_validate(here: Path) -> None:
    best, _ = propose(folder_of("parts", here), None, None)
    assert Path(best.claim.values["val"]).name == "dev.txt"
    assert propose("builtin:shakespeare", None, None)[0].claim.values == {
        "train": "builtin:shakespeare:train",
        "val": "builtin:shakespeare:validation",
    }


def test_a_modality_of_the_user_needs_nothing_else(here: Path) -> None:
    kind = registry.load_data_kind("tunes")
    source = kind.example(here / "songs")["train"]
    best, _ = propose(source, None, None)
    assert (best.goal, best.family) == ("hum", "tune_vae")


DIALS = [
    name
    for name, file in registry.families().items()
    if "\nDIAL = " in file.path.read_text(encoding="utf-8")
]
SOURCE_OF = {family: what for what, (_, family) in FOUND.items()} | {
    "flow": "small images", "vae": "small images", "colorize": "photographs",
}  # fmt: skip


@pytest.mark.parametrize("family", DIALS)
def test_every_size_is_a_recipe_that_can_be_written_and_read(family: str, here: Path) -> None:
    if family in SOURCE_OF:
        source = folder_of(SOURCE_OF[family], here)
    else:  # of another modality: the example of a kind that it takes
        spec, *_ = registry.load_family(family).Model.accepts
        source = registry.load_data_kind(spec.kind).example(here / "data")["train"]
    proposal, _ = propose(source, None, family)
    assert len(recipes_of(proposal)) > 1, "sizes differ, though the data are small"


def test_what_the_user_says_holds_beside_the_size(here: Path) -> None:
    """One of two lists that go together, and one key of a group."""
    proposal, _ = propose(folder_of("classes", here), None, None)
    size = proposal.dial.sizes[0]
    draft = budget._draft(proposal, {**proposal.values, **size}, ["model.widths=[4,8,16]"])
    assert (draft.recipe.model.widths, draft.recipe.model.depths) == ((4, 8, 16), (1, 1, 1))  # type: ignore[attr-defined]
    size = {"model.lora": {"rank": 8, "alpha": 4.0}}
    proposal, _ = propose(folder_of("instructions", here), None, None)
    draft = budget._draft(proposal, {**proposal.values, **size}, ["model.lora.rank=2"])
    assert (draft.recipe.model.lora.rank, draft.recipe.model.lora.alpha) == (2, 4.0)  # type: ignore[attr-defined]


def recipes_of(proposal: Proposal) -> set[str]:
    """Its sizes as recipes, which are what their texts say."""
    found = set()
    for size in proposal.dial.sizes:
        draft = budget._draft(proposal, {**proposal.values, **size}, [])
        draft.suggest("trainer", {"max_steps": (5, "")})
        assert recipe_from_text(draft.text()).as_dict() == draft.recipe.as_dict()
        assert draft.recipe.init_from == proposal.start
        found.add(str(draft.recipe.as_dict()))
    return found


MISTAKES: dict[str, tuple[str, list[str], str]] = {
    "unknown goal": (
        "photographs", ["--budget", "20m", "--goal", "chat"],
        "--goal: 'chat' is not for '{data}'\nhint: these are: super-resolve (edsr), generate",
    ),
    "family of other data": (
        "photographs", ["--budget", "20m", "family=lm"], "family 'lm' is not for such data",
    ),
    "no unit": ("text", ["--budget", "20"], "--budget: '20' has no unit\nhint: write 20m, 20s"),
    "no duration": ("text", ["--budget", "soon"], "--budget: 'soon' is no duration"),
    "no time": ("text", [], "is data and no recipe\nhint: say how long it may take: aigc train"),
    "goal without time": ("text", ["--goal", "chat"], "--goal chat needs data and a time"),
    "too short": ("text", ["--budget", "60s"], "--budget 1m00s is too short: "),
    "two times": (
        "text", ["--budget", "1m", "--max-time", "1m"], "--budget and --max-time contradict",
    ),
    "resume": ("text", ["--budget", "1m", "--resume", "auto"], "--budget and --resume contradict"),
    "empty folder": ("nothing", ["--budget", "1m"], "holds nothing that is known here"),
    "one word": ("word", ["--budget", "1m"], "data.val: nothing is left of"),
    "mixed": (
        "mixed", ["--budget", "1m"],
        "holds 5 images and 1 texts: which of them is meant?\nhint: name a folder of one of them",
    ),
    "nowhere": ("/nowhere/at all", ["--budget", "1m"], "is no folder, file or set of data, and no"),
    "set that is not here": (
        "multi30k", ["--budget", "1m"], "is not here: get it with aigc data get multi30k",
    ),
    "goal of a recipe": (
        "edsr.yaml", ["--budget", "1m", "--goal", "chat"], "--goal is for data, and 'edsr.yaml'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence_and_nothing_is_written(
    mistake: str, aigc: Aigc, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    what, words, said = MISTAKES[mistake]
    monkeypatch.setenv("AIGC_DATA", str(here / "none"))
    if mistake == "too short":  # on a machine that is known to be slow
        monkeypatch.setattr(budget, "measure_pace", lambda *_: Pace(step=9.0, validation=1.0))
    data = here / "data"
    if what == "nothing":
        data.mkdir()
    elif what == "word":
        write(data / "word.txt", ["word"])
    elif what == "mixed":
        paint(data, 5)
        write(data / "book.txt", [sentence(1)])
    elif what in FOUND:
        data = Path(folder_of(what, here))
    else:
        data = Path(what)
    ending = aigc("train", str(data), *words, "--out", "run")
    assert ending.code == 2, ending.err
    assert said.format(data=data) in ending.err, ending.err
    assert not (here / "run").exists()
    assert not (here / "run.yaml").exists()


class Machine:
    """A virtual one: `seconds(step)` says how long each takes, and starts and looks take some."""

    def __init__(self, seconds: Callable[[float], float]) -> None:
        self.now, self.seconds, self.legs = 0.0, seconds, list[int]()

    def train(self, recipe: Any, *, resume: str | None, max_time_s: float, emit: Any, **_: Any):
        step = self.legs[-1] if resume else 0
        self.now += 4
        emit({"event": "start", "run": "run", "steps": recipe.trainer.max_steps})
        until = self.now + max_time_s
        while step < recipe.trainer.max_steps and self.now < until:
            self.now += self.seconds(self.now)
            step += 1
            emit({"event": "tick", "step": step})
        emit({"event": "phase", "phase": "validation"})
        self.now += 2
        emit({"event": "val", "step": step})
        self.legs.append(step)
        status = "finished" if step == recipe.trainer.max_steps else "stopped"
        emit({"event": "end", "status": status, "step": step, "seconds": 0})
        return Result(Path("run"), status, step, 0.0, None)


@pytest.mark.parametrize(
    ("pace", "seconds"),
    [
        ("as measured", lambda now: 0.2),
        ("three times as slow", lambda now: 0.6),
        ("three times as fast", lambda now: 0.07),
        ("slower half-way", lambda now: 0.2 if now < 300 else 0.4),
        ("faster half-way", lambda now: 0.2 if now < 300 else 0.1),
        ("much faster in the end", lambda now: 0.4 if now < 440 else 0.04),
        ("stalling at the end", lambda now: 0.2 if now < 500 else 2.0),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_time_is_kept_whatever_the_machine_does(
    pace: str, seconds: Callable[[float], float], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine, said = Machine(seconds), list[Mapping[str, Any]]()
    monkeypatch.setattr(budget, "train", machine.train)
    monkeypatch.setattr(budget.time, "monotonic", lambda: machine.now)

    def with_steps(count: int) -> Any:
        return type("Recipe", (), {"trainer": type("Trainer", (), {"max_steps": count})})

    fitted = Fitted(with_steps, steps=3000, ending=2.0)
    budget._run(fitted, Clock(600, 0.0), Path("run"), False, said.append)
    assert 0.9 * 600 <= machine.now <= 1.1 * 600
    kinds = [event["event"] for event in said]
    assert kinds.count("start") == kinds.count("end") == 1, "one run, for whoever looks on"


def test_the_recipe_gives_the_same_run_again(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to the decay nothing depends on the length, so a run whose length was counted anew is
    that of the recipe with the last count.
    """
    values = recipe_from_dict(
        {
            "family": "edsr",
            "data": {"kind": "super_resolution", "train": "photos", "patch_size": 8},
            "model": {"num_blocks": 1, "num_features": 4, "lr": 1e-3},
            "trainer": {"max_steps": 5, "global_batch": 4, "precision": "fp32"},
        }
    ).as_dict()
    values["trainer"]["schedule"] |= {"name": "linear", "start": DECAY, "warmup": 2}

    def of_length(count: int) -> Any:
        return recipe_from_dict({**values, "trainer": {**values["trainer"], "max_steps": count}})

    train(of_length(10), out=here / "by hand")
    with monkeypatch.context() as patch:
        patch.setattr(Stop, "agreed", lambda self: TIME_IS_UP)
        assert train(of_length(5), out=here / "run").status == "stopped"
    train(of_length(10), resume=str(here / "run"))
    a, b = (load(here / f"{run}/checkpoints/last.ckpt") for run in ("by hand", "run"))
    assert a["step"] == b["step"] == 10
    assert_same(a["weights"], b["weights"], "weights")
    assert_same(a["optimizers"], b["optimizers"], "optimizers")


def test_a_folder_becomes_a_run_and_a_recipe_beside_it(
    aigc: Aigc, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With counts of steps in place of hours."""
    plan = budget._plan
    monkeypatch.setattr(budget, "_plan", lambda *words: (3, plan(*words)[1]))
    monkeypatch.setattr(budget._Watch, "steps_in", lambda self, seconds: 5)
    words = ("trainer.global_batch=2", "data.patch_size=8", "trainer.preview_every=100")
    ending = aigc("train", folder_of("photographs", here), "--budget", "9h", "--out", "run", *words)
    assert ending.code == 0, ending.err
    assert "super-resolve (edsr)" in ending.err
    assert "others that fit: --goal generate (dcgan, flow, vae); --goal colorize" in ending.err
    assert load(here / "run/checkpoints/last.ckpt")["step"] == 5
    assert aigc("recipe", "check", "run.yaml").code == 0
    assert aigc("recipe", "diff", "run.yaml", "run/recipe.yaml").out == "the recipes are equal\n"
    assert aigc("train", "photographs", "--budget", "9h", "--out", "run").code == 2


STARTED = {  # what is at hand is a model of this recipe, untrained, in place of the catalogue's
    "photographs of classes": (
        "efficientnet_lite0",
        {"family": "classifier", "data": {"kind": "images", "image_size": 32},
         "model": {"arch": "efficientnet_lite0"}},
        "model.arch=cnn",
    ),
    "instructions": (
        "smollm2",
        {"family": "chat", "data": {"kind": "chat", "context": 64},
         "model": {"dim": 8, "num_layers": 1, "num_heads": 2}},
        "model.dim=8",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", STARTED)
def test_a_run_starts_from_what_others_have_trained_where_it_is_here(
    what: str, aigc: Aigc, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, recipe, own = STARTED[what]
    monkeypatch.setenv("AIGC_MODELS", str(here / "models"))
    plan = budget._plan
    monkeypatch.setattr(budget, "_plan", lambda *words: (2, plan(*words)[1]))
    monkeypatch.setattr(budget._Watch, "steps_in", lambda self, seconds: 2)
    monkeypatch.setattr(budget, "measure_pace", lambda *_: Pace(step=9.0, validation=1.0))
    monkeypatch.setattr(budget, "measure_preview", lambda *_: 0.0)
    data = folder_of(what, here)

    def begun(out: str, *words: str) -> Ending:
        words = ("trainer.global_batch=2", "trainer.preview_every=100", *words)
        ending = aigc("train", data, "--budget", "3m", "--out", out, *words)
        assert ending.code == 0, ending.err
        return ending

    # Not here: from nothing, and one line says what to get.
    ending = begun("before")
    assert f"a better start is not here: aigc model get {name} (" in ending.err
    assert load_recipe(here / "before.yaml").init_from is None

    trained = recipe | {"trainer": {"max_steps": 1, "global_batch": 2, "validate_every": 1}}
    trained["data"] = recipe["data"] | {"train": data}
    train(recipe_from_dict(trained), out=here / "theirs")
    (here / "models" / name).mkdir(parents=True)
    shutil.copy("theirs/checkpoints/best.ckpt", here / "models" / name / "model.ckpt")

    # Here: its weights, and the recipe that is written says so and holds.
    ending = begun("run")
    assert f"starts from {name}: " in ending.err
    assert load_recipe(here / "run.yaml").init_from == name
    assert "init_from: " in ending.err
    completed = complete(load_recipe(here / "run.yaml"))
    assert completed.as_dict() == load_recipe(here / "run/recipe.yaml").as_dict()

    (proposal,) = propose(data, None, None)[0].started([])
    assert proposal.start == name
    assert recipes_of(proposal)

    # Not where the user says what the network is, nor where it is too slow for the time.
    begun("own", own)
    assert load_recipe(here / "own.yaml").init_from is None
    begun("nothing", "init_from=null")
    assert load_recipe(here / "nothing.yaml").init_from is None
    paces = iter([Pace(step=60.0, validation=1.0)])
    slow = Pace(step=0.1, validation=0.1)
    monkeypatch.setattr(budget, "measure_pace", lambda *_: next(paces, slow))
    assert "from nothing, since for that --budget 3m00s is too short" in begun("slow").err
    assert load_recipe(here / "slow.yaml").init_from is None


def test_a_recipe_is_stretched_to_the_time(
    aigc: Aigc, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cadence and schedule go with the length; what is learned from stays as it is."""
    folder_of("photographs", here)
    (here / "mine.yaml").write_text(RECIPE, encoding="utf-8")
    pace = Pace(step=9 * 3600 / 20.5, validation=0.0)
    monkeypatch.setattr(budget, "measure_pace", lambda *_: pace)
    monkeypatch.setattr(budget, "measure_preview", lambda *_: 0.0)
    monkeypatch.setattr(budget._Watch, "steps_in", lambda self, seconds: 24)
    ending = aigc("train", "mine.yaml", "--budget", "9h", "--out", "run")
    assert ending.code == 0, ending.err
    assert "24 fit" in ending.err
    assert load(here / "run/checkpoints/last.ckpt")["step"] == 24
    made = load_recipe(here / "run/recipe.yaml")
    assert made.trainer.validate_every == 10
    assert made.trainer.schedule.warmup == 4, "a fifth at most"
    assert made.data == load_recipe(here / "mine.yaml").data
    assert aigc("train", "mine.yaml", "--budget", "1s", "--out", "other").code == 2
    assert not (here / "other").exists()


RECIPE = """\
family: edsr
data: {kind: super_resolution, train: photographs, val: photographs, patch_size: 8}
model: {num_blocks: 1, num_features: 4}
trainer: {max_steps: 1000, global_batch: 2, validate_every: 500, preview_every: 1000,
          schedule: {name: cosine, warmup: 100}}
"""


def test_dry_run_prints_the_recipe_and_writes_nothing(aigc: Aigc, here: Path) -> None:
    source = folder_of("text", here)
    ending = aigc("train", source, "--budget", "10m", "--dry-run")
    assert ending.code == 0, ending.err
    assert recipe_from_text(ending.out).family == "lm"
    assert not (here / "runs").exists()


def test_nothing_but_files_of_families_says_what_they_are_for() -> None:
    """The words of `--goal` are those of families, here and in AIGC_PATH."""
    assert "hum" in (PLUGIN / "models/tune/tune_vae.py").read_text(encoding="utf-8")
    with pytest.raises(InputError, match="not for"):
        propose("builtin:photos", "hum", None)
    assert {p.goal for p in proposals("builtin:photos")} >= {"super-resolve", "generate"}
