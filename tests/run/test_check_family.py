"""`aigc model check`: a sound family passes, and each broken promise is found and named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import chdir
from pathlib import Path

import pytest

from aigc_cli.recipe.example import example_recipe
from aigc_cli.registry import load_family
from aigc_cli.run.check_family import CHECKS, Case, _tried
from tests.run.conftest import PLUGIN, Ending

Aigc = Callable[..., Ending]
SOURCE = (PLUGIN / "models/toy/tiny_gan.py").read_text(encoding="utf-8")

BROKEN = [
    (  # noise of its own makes
        "sampling", "noise.randn(self.config.latent_dim)",
        "torch.rand(noise.count, self.config.latent_dim, "
        "generator=torch.Generator().manual_seed(time_ns()))",
        "with the same seed",
    ),
    (  # the same for every seed
        "sampling", "noise.randn(self.config.latent_dim)",
        "torch.ones(noise.count, self.config.latent_dim)",
        "the same with seed 0 and seed 1",
    ),
    (  # what is made beside it
        "batch size", "z = options.truncation * noise.randn(self.config.latent_dim)",
        "z = len(noise.randn(1)) * noise.randn(self.config.latent_dim)", "is another one",
    ),
    (  # a sum instead of a mean
        "accumulation", "real = F.softplus(-self.discriminator(batch[\"image\"])).mean()",
        "real = F.softplus(-self.discriminator(batch[\"image\"])).sum()", "in two parts",
    ),
    (  # state that no checkpoint has
        "resuming", "z = self.randn(len(batch[\"image\"]), self.config.latent_dim)",
        "self.calls = getattr(self, 'calls', 0) + 1\n"
        "        z = self.calls * self.randn(len(batch[\"image\"]), self.config.latent_dim)",
        "differs by",
    ),
    (  # a weight that nothing uses
        "gradients", "        self.discriminator = nn.Sequential(",
        "        self.generator.spare = nn.Parameter(torch.ones(1))\n"
        "        self.discriminator = nn.Sequential(",
        "generator.spare receives no gradient",
    ),
    ("validation", '{"distance": (', '{"dist": (', "returns dist, promised are distance"),
    ("validation", ".abs().mean(1)}", ".abs().mean()}", "has shape () for 2 items"),
    ("contract", '    """Factor on the noise."""\n', "", "Options.truncation has no text under it"),
    ("loss", "real + fake,", "real / 0 + fake,", "loss term 'loss' is inf"),
    ("validation", ".abs().mean(1)}", ".abs().mean(1).wrong}", "tiny_gan.py:"),
]  # fmt: skip


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Case]]:
    """A family from the text of its file."""

    def made(source: str) -> Case:
        file = tmp_path / "user/models/toy/tiny_gan.py"
        file.parent.mkdir(parents=True)
        file.write_text(source)
        monkeypatch.setenv("AIGC_PATH", str(tmp_path / "user"))
        return Case(
            load_family("tiny_gan"), example_recipe("tiny_gan", tmp_path / "data"), tmp_path
        )

    with chdir(tmp_path):
        yield made


@pytest.mark.parametrize(("check", "right", "wrong", "said"), BROKEN)
def test_a_broken_promise_is_found_and_named(
    case: Callable[[str], Case], check: str, right: str, wrong: str, said: str
) -> None:
    assert SOURCE.count(right) == 1
    source = SOURCE.replace(right, wrong)
    source = source.replace("from typing import", "from time import time_ns\nfrom typing import", 1)
    found = _tried(check, CHECKS[check], case(source))
    assert found.status == "failed"
    assert said in found.message


def test_a_sound_family_passes_every_check(aigc: Aigc, here: Path) -> None:
    ending = aigc("model", "check", "tiny_gan", "--json")
    assert ending.code == 0, ending.err
    assert [check["name"] for check in ending.json["checks"]] == list(CHECKS)
    assert {check["status"] for check in ending.json["checks"]} == {"ok"}
    assert not (here / "runs").exists()


def test_what_needs_no_training_is_checked_as_far_as_it_goes(aigc: Aigc) -> None:
    ending = aigc("model", "check", "deepdream")
    assert ending.code == 0, ending.err
    assert [line.split()[:2] for line in ending.out.splitlines()] == [
        ["ok", "contract"],
        ["ok", "sampling"],
    ]


def test_a_family_that_is_not_there_is_named(aigc: Aigc) -> None:
    ending = aigc("model", "check", "tiny_gna")
    assert ending.code == 2
    assert "unknown family 'tiny_gna'" in ending.err
    assert "did you mean 'tiny_gan'?" in ending.err
