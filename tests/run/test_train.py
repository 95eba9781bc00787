"""Training through the command line: exact resume, cadence, folders, endings."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.run.conftest import Child, Ending, assert_same_run, load, rows_of

FAMILIES = ("edsr", "tiny_gan")
Aigc = Callable[..., Ending]
Start = Callable[..., Child]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("extra", [[], ["trainer.accumulate=2"], ["trainer.workers=2"]])
def test_stopped_and_resumed_equals_uninterrupted(
    aigc: Aigc, here: Path, family: str, extra: list[str]
) -> None:
    assert aigc("train", f"{family}.yaml", "--out", "whole", *extra).code == 0
    first = aigc("train", f"{family}.yaml", "--out", "cut", "trainer.max_steps=3", *extra)
    assert first.code == 0
    assert load(here / "cut/checkpoints/last.ckpt")["step"] == 3
    # A schedule that depends on max_steps would differ; `constant` does not.
    assert aigc("train", f"{family}.yaml", "--resume", "cut", *extra).code == 0
    rows = {r["step"]: r["train/loss"] for r in rows_of(here / "whole") if "train/loss" in r}
    again = {r["step"]: r["train/loss"] for r in rows_of(here / "cut") if "train/loss" in r}
    assert rows == again
    one = load(here / "whole/checkpoints/last.ckpt")
    other = load(here / "cut/checkpoints/last.ckpt")
    one["best"] = other["best"] = None  # the short run validated at its end, step 3
    for state in (one, other):
        for key in ("recipe", "recipe_path"):
            state.pop(key)
    from tests.run.conftest import assert_same

    assert_same(one, other)


@pytest.mark.parametrize("family", FAMILIES)
def test_resume_does_not_depend_on_workers(aigc: Aigc, here: Path, family: str) -> None:
    assert aigc("train", f"{family}.yaml", "--out", "none").code == 0
    assert aigc("train", f"{family}.yaml", "--out", "two", "trainer.workers=2").code == 0
    assert_same_run(here / "none", here / "two")


@pytest.mark.parametrize("family", FAMILIES)
def test_accumulated_parts_learn_the_same(aigc: Aigc, here: Path, family: str) -> None:
    assert aigc("train", f"{family}.yaml", "--out", "one").code == 0
    assert aigc("train", f"{family}.yaml", "--out", "four", "trainer.accumulate=4").code == 0
    one, four = (load(here / f"{n}/checkpoints/last.ckpt")["weights"] for n in ("one", "four"))
    for key, value in one.items():
        torch.testing.assert_close(value, four[key], rtol=1e-4, atol=1e-5, msg=key)


def test_moments_follow_the_memory_layout_of_the_weights(aigc: Aigc, here: Path) -> None:
    """The fused kernels of optimizers look at the order in memory alone."""
    assert aigc("train", "edsr.yaml", "--out", "whole").code == 0
    assert aigc("train", "edsr.yaml", "--out", "cut", "trainer.max_steps=4").code == 0
    last = ["--resume", "cut", "trainer.channels_last=true"]
    assert aigc("train", "edsr.yaml", *last).code == 0
    one, two = (load(here / f"{n}/checkpoints/last.ckpt")["weights"] for n in ("whole", "cut"))
    for key, value in one.items():
        torch.testing.assert_close(value, two[key], rtol=1e-4, atol=1e-5, msg=key)


def test_in_bf16_every_loss_is_that_of_the_present_weights(
    aigc: Aigc, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """autocast remembers the casts of weights, which the first of two steps of a discriminator
    makes old.
    """
    from aigc_cli.models.image.dcgan import Discriminator

    (here / "critic.yaml").write_text(
        "family: dcgan\nseed: 0\n"
        "data: {kind: images, train: photos, image_size: 16}\n"
        "model: {objective: wgan_gp, d_steps: 2, num_features: 4, lr: 0.1, features: none}\n"
        "trainer: {max_steps: 2, global_batch: 2, precision: bf16}\n"
    )
    forward, seen = Discriminator.forward, []

    def compared(self: Discriminator, *given: torch.Tensor) -> torch.Tensor:
        logits = forward(self, *given)
        if torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
                seen.append(torch.equal(logits, forward(self, *given)))
        return logits

    monkeypatch.setattr(Discriminator, "forward", compared)
    ending = aigc("train", "critic.yaml", "--out", "run")
    assert ending.code == 0, ending.err
    assert len(seen) == 2 * (2 * 2 + 1)  # steps of real and fake, twice, and of the generator
    assert all(seen)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_kill_9_and_resume_is_bit_identical(
    aigc: Aigc, child: Start, here: Path, family: str
) -> None:
    steps = ["trainer.max_steps=60", "trainer.checkpoint_every=10", "trainer.validate_every=20"]
    assert aigc("train", f"{family}.yaml", "--out", "whole", *steps).code == 0
    for kill_at in (15, 34):
        run = child("train", f"{family}.yaml", "--out", "cut", "--resume", "auto", *steps)
        run.wait_for_step(here / "cut", kill_at)
        run.signal(signal.SIGKILL)
        assert run.end().code == -signal.SIGKILL
    assert aigc("train", f"{family}.yaml", "--out", "cut", "--resume", "auto", *steps).code == 0
    assert_same_run(here / "whole", here / "cut")
    rows = [row for row in rows_of(here / "cut") if row["event"] == "step"]
    assert [row["step"] for row in rows] == list(range(1, 61)), "steps done twice are logged once"


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "sigterm"]
)
def test_a_signal_saves_and_says_how_to_continue(
    aigc: Aigc, child: Start, here: Path, number: signal.Signals, code: int
) -> None:
    steps = ["trainer.max_steps=3000", "trainer.checkpoint_every=3000"]
    run = child("train", "tiny_gan.yaml", "--out", "run", *steps, "trainer.validate_every=3000")
    run.wait_for_step(here / "run", 5)
    run.signal(number)
    ending = run.end()
    assert ending.code == code
    step = load(here / "run/checkpoints/last.ckpt")["step"]
    assert step >= 5
    assert f"stopped by signal {int(number)} after step {step}; the state is saved" in ending.err
    assert "hint: continue with: aigc train --resume run" in ending.err
    assert "Traceback" not in ending.err
    assert aigc("train", "--resume", "run", f"trainer.max_steps={step + 2}").code == 0
    assert load(here / "run/checkpoints/last.ckpt")["step"] == step + 2


def test_max_time_stops_cleanly_with_exit_0(aigc: Aigc, here: Path) -> None:
    ending = aigc(
        "train", "tiny_gan.yaml", "--out", "run", "--max-time", "1s", "trainer.max_steps=9999999"
    )
    assert ending.code == 0
    assert "stopped after step" in ending.err
    state = load(here / "run/checkpoints/last.ckpt")
    validated = [row["step"] for row in rows_of(here / "run") if row["event"] == "val"]
    assert validated[-1] == state["step"], "validated once more at the end"


def test_patience_ends_a_run_that_no_longer_improves(aigc: Aigc, here: Path) -> None:
    worse = ["model.lr=0.5", "trainer.max_steps=40", "trainer.validate_every=2"]
    waits = [*worse, "trainer.patience=3"]
    ending = aigc("train", "edsr.yaml", "--out", "run", *waits)
    assert ending.code == 0
    assert "3 validations without a better psnr_y: ending" in ending.err
    validated = [row for row in rows_of(here / "run") if row["event"] == "val"]
    last, best = validated[-1]["step"], validated[-1]["best"]["step"]
    assert last == best + 6 < 40
    assert load(here / "run/checkpoints/last.ckpt")["step"] == last
    assert load(here / "run/checkpoints/best.ckpt")["step"] == best

    assert aigc("train", "edsr.yaml", "--out", "cut", *waits, "trainer.max_steps=4").code == 0
    assert aigc("train", "--resume", "cut", *waits).code == 0
    assert load(here / "cut/checkpoints/last.ckpt")["step"] == last, "waits on after a resume"

    assert aigc("train", "--resume", "run", *waits).code == 0
    assert load(here / "run/checkpoints/last.ckpt")["step"] == last, "it has ended"
    assert aigc("train", "--resume", "run", *worse, "trainer.patience=null").code == 0
    assert load(here / "run/checkpoints/last.ckpt")["step"] == 40


def test_the_last_is_kept_where_the_measure_chooses_badly(aigc: Aigc, here: Path) -> None:
    worse = ["model.lr=0.5", "trainer.max_steps=8", "trainer.validate_every=2"]
    ending = aigc("train", "edsr.yaml", "--out", "run", *worse, "trainer.keep_best=false")
    assert ending.code == 0
    validated = [row for row in rows_of(here / "run") if row["event"] == "val"]
    values = [row["val/psnr_y"] for row in validated]
    assert max(values) > values[-1], "it was better before"
    assert [row["best"]["step"] for row in validated] == [2, 4, 6, 8]
    assert load(here / "run/checkpoints/best.ckpt")["step"] == 8
    assert "best" not in ending.err
    assert f", psnr_y {values[-1]:.4f} at step 8" in ending.err
    ending = aigc("train", "edsr.yaml", *worse, "trainer.keep_best=false", "trainer.patience=1")
    assert ending.code == 2
    assert "patience waits for a better validation, and keep_best is false" in ending.err


@pytest.mark.parametrize("family", FAMILIES)
def test_steps_count_iterations_whatever_the_optimizers(
    aigc: Aigc, here: Path, family: str
) -> None:
    assert aigc("train", f"{family}.yaml", "--out", "run").code == 0
    rows = rows_of(here / "run")
    assert [r["step"] for r in rows if r["event"] == "step"] == list(range(1, 9))
    assert [r["step"] for r in rows if r["event"] == "val"] == [4, 8]
    state = load(here / "run/checkpoints/last.ckpt")
    assert (state["step"], state["samples"]) == (8, 32)
    for optimizer in state["optimizers"]:
        assert {float(s["step"]) for s in optimizer["state"].values()} == {8.0}


def test_d_steps_gives_the_discriminator_more_steps(aigc: Aigc, here: Path) -> None:
    assert aigc("train", "tiny_gan.yaml", "--out", "run", "model.d_steps=3").code == 0
    state = load(here / "run/checkpoints/last.ckpt")
    steps = [{float(s["step"]) for s in o["state"].values()} for o in state["optimizers"]]
    assert steps == [{24.0}, {8.0}]


def test_only_the_generator_is_averaged(aigc: Aigc, here: Path) -> None:
    assert aigc("train", "tiny_gan.yaml", "--out", "run").code == 0
    state = load(here / "run/checkpoints/last.ckpt")
    assert all(key.startswith("generator.") for key in state["ema"])
    assert any(not torch.equal(v, state["weights"][k]) for k, v in state["ema"].items())


def test_the_gradient_is_clipped_to_the_norm(aigc: Aigc, here: Path) -> None:
    assert aigc("train", "edsr.yaml", "--out", "run", "trainer.clip_norm=0.5").code == 0
    norms = [r["train/grad_norm"] for r in rows_of(here / "run") if r["event"] == "step"]
    assert max(norms) > 0.5, "the norm before clipping is logged"


def test_the_schedule_reaches_its_end(aigc: Aigc, here: Path) -> None:
    schedule = ["trainer.schedule.name=linear", "trainer.schedule.warmup=2"]
    assert aigc("train", "tiny_gan.yaml", "--out", "run", *schedule).code == 0
    rates = [r["lr"] for r in rows_of(here / "run") if r["event"] == "step"]
    expected = [5e-4, 1e-3, *(1e-3 * (1 - k / 6) for k in range(6))]
    assert rates == pytest.approx(expected)


def test_bf16_trains_and_validates(aigc: Aigc, here: Path) -> None:
    ending = aigc("train", "edsr.yaml", "--out", "run", "trainer.precision=bf16")
    assert ending.code == 0
    weights = load(here / "run/checkpoints/last.ckpt")["weights"]
    assert {w.dtype for w in weights.values()} == {torch.float32}


def test_the_run_folder_says_what_was_run(aigc: Aigc, here: Path) -> None:
    ending = aigc("train", "edsr.yaml", "model.num_features=6")
    assert ending.code == 0
    (run,) = [p for p in (here / "runs/edsr").iterdir() if not p.is_symlink()]
    assert ending.out.strip() == str(run.relative_to(here))
    assert (here / "runs/edsr/latest").resolve() == run
    names = {"recipe.yaml", "command.json", "environment.json", "status.json", "metrics.jsonl"}
    assert names <= {p.name for p in run.iterdir()}
    assert "num_features: 6" in (run / "recipe.yaml").read_text()
    assert '"state": "finished"' in (run / "status.json").read_text()
    assert list((run / "previews").rglob("*.png"))
    assert list((run / "tensorboard").iterdir())
    assert aigc("recipe", "check", run / "recipe.yaml").code == 0


def test_resume_auto_is_the_same_command_for_the_first_start(aigc: Aigc, here: Path) -> None:
    words = ("train", "edsr.yaml", "--resume", "auto")
    first, second = aigc(*words), aigc(*words, "trainer.max_steps=10")
    assert (first.code, second.code) == (0, 0)
    assert first.out == second.out, "the newest run of the recipe is continued"
    other = aigc(*words, "model.lr=5e-4")
    assert other.code == 0
    assert other.out != first.out, "another recipe starts its own run"


def test_resume_refuses_another_experiment_and_names_what_changed(aigc: Aigc, here: Path) -> None:
    assert aigc("train", "edsr.yaml", "--out", "run").code == 0
    ending = aigc("train", "edsr.yaml", "model.lr=0.5", "seed=4", "--resume", "run")
    assert ending.code == 2
    assert "model.lr (0.001 in the checkpoint, 0.5 now)" in ending.err
    assert "seed (3 in the checkpoint, 4 now)" in ending.err


def test_resume_takes_a_key_that_is_newer_than_the_checkpoint_for_its_default(
    aigc: Aigc, here: Path
) -> None:
    from aigc_cli.run.checkpoint import load_checkpoint, save_checkpoint

    assert aigc("train", "edsr.yaml", "--out", "run").code == 0
    last = here / "run/checkpoints/last.ckpt"
    state = load_checkpoint(last)
    del state["recipe"]["model"]["betas"]
    save_checkpoint(state, last)
    assert aigc("train", "--resume", "run", "trainer.max_steps=5").code == 0
    refused = aigc("train", "--resume", "run", "model.betas=[0.5,0.9]", "trainer.max_steps=6")
    assert refused.code == 2
    assert "model.betas" in refused.err


def test_json_is_one_event_a_line(aigc: Aigc, here: Path) -> None:
    import json

    ending = aigc("train", "edsr.yaml", "--json", "--out", "run")
    events = [json.loads(line) for line in ending.out.splitlines()]
    assert events[0]["event"] == "start"
    assert events[-1]["event"] == "end"
    assert events[-1]["status"] == "finished"
    assert {"step", "val", "checkpoint", "sample"} <= {e["event"] for e in events}
    assert ending.err == ""


def test_dry_run_writes_nothing(aigc: Aigc, here: Path) -> None:
    before = sorted(p for p in here.rglob("*") if "cache" not in p.parts)
    ending = aigc("train", "edsr.yaml", "--dry-run")
    assert ending.code == 0
    assert "parameters" in ending.out
    assert sorted(p for p in here.rglob("*") if "cache" not in p.parts) == before


@pytest.mark.parametrize("family", FAMILIES)
def test_smoke_runs_the_whole_path(aigc: Aigc, here: Path, family: str) -> None:
    ending = aigc("train", f"{family}.yaml", "--smoke")
    assert ending.code == 0, ending.err
    assert "smoke test passed" in ending.err
    assert not (here / "runs").exists()


def test_plan_measures_real_steps(aigc: Aigc) -> None:
    facts = aigc("plan", "edsr.yaml", "--measure", 4, "--json").json
    assert facts["steps"] == 8
    assert facts["samples_per_s"] > 0
    assert facts["train_items"] + facts["val_items"] == 11


def test_init_from_takes_what_fits(aigc: Aigc, here: Path) -> None:
    assert aigc("train", "edsr.yaml", "--out", "x2").code == 0
    ending = aigc("train", "edsr.yaml", "data.scale=3", "init_from=x2", "--out", "x3")
    assert ending.code == 0, ending.err
    assert "from scratch: net.upsample.0.bias, net.upsample.0.weight" in ending.err
    ending = aigc("train", "tiny_gan.yaml", "init_from=x2", "--out", "gan")
    assert ending.code == 2
    assert "family edsr, fits this model" in ending.err


def test_nan_stops_with_the_step_and_the_term(
    aigc: Aigc, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert aigc("train", "tiny_gan.yaml", "--out", "run", "trainer.max_steps=4").code == 0
    ending = aigc("train", "tiny_gan.yaml", "--out", "bad", "model.lr=1e30", "trainer.max_steps=50")
    assert ending.code == 3
    assert "became NaN or Inf in step" in ending.err
    assert "loss term '" in ending.err
    for file in (here / "bad/checkpoints").glob("*.ckpt"):
        state = load(file)
        assert all(w.isfinite().all() for w in state["weights"].values())


@pytest.mark.slow
def test_compiled_and_channels_last_networks_learn_the_same(aigc: Aigc, here: Path) -> None:
    assert aigc("train", "edsr.yaml", "--out", "plain", "trainer.max_steps=3").code == 0
    fast = ["trainer.compile=true", "trainer.channels_last=true", "trainer.max_steps=3"]
    assert aigc("train", "edsr.yaml", "--out", "fast", *fast).code == 0
    plain, fast_ = (load(here / f"{n}/checkpoints/last.ckpt")["weights"] for n in ("plain", "fast"))
    assert plain.keys() == fast_.keys(), "a checkpoint does not know that it was compiled"
    for key, value in plain.items():
        torch.testing.assert_close(value, fast_[key], rtol=1e-3, atol=1e-4, msg=key)


def test_the_budget_may_be_epochs(aigc: Aigc, here: Path) -> None:
    epochs = ["trainer.max_steps=null", "trainer.max_epochs=2"]
    assert aigc("train", "edsr.yaml", "--out", "run", *epochs).code == 0
    assert load(here / "run/checkpoints/last.ckpt")["step"] == 5, "2 x 9 items in batches of 4"


def test_exhausted_memory_is_said_once_and_the_same_is_learned(
    aigc: Aigc, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aigc_cli.models.image.edsr import Model

    loss = Model.loss

    def cramped(self: Model, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        if len(batch["low"]) > 1:
            raise MemoryError
        return loss(self, batch)

    assert aigc("train", "edsr.yaml", "--out", "a", "trainer.accumulate=4").code == 0
    monkeypatch.setattr(Model, "loss", cramped)
    ending = aigc("train", "edsr.yaml", "--out", "b")
    assert ending.code == 0, ending.err
    assert ending.err.count("out of memory in step 1: it was done again in 4 parts") == 1
    a, b = (load(here / run / "checkpoints/last.ckpt")["weights"] for run in "ab")
    for name, value in a.items():
        assert torch.equal(value, b[name]), name


@pytest.mark.parametrize("part", ["", ":train", ":validation"])
def test_photographs_of_a_package_are_no_files_to_look_for(here: Path, part: str) -> None:
    from aigc_cli.run.inputs import check_training

    check_training("edsr_small_x2", [f"data.train=builtin:photos{part}"], None)
