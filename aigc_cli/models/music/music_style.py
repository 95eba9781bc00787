"""Style transfer of pieces between folders: one conditional generator, one discriminator.

The game, the cycle and the identity loss are those of CycleGAN (Zhu et al., 2017,
https://arxiv.org/abs/1703.10593) on piano rolls, as in Brunner et al., "Symbolic Music Genre
Transfer with CycleGAN", 2018, https://arxiv.org/abs/1809.07575. One generator is told the style, as
that of StarGAN (Choi et al., 2018, https://arxiv.org/abs/1711.09020), whose discriminator also
names the style of real rolls, so that the generator hears of it from the first step on; and it has
an output for each style, of which that of the style in question counts (Liu et al., 2019,
https://arxiv.org/abs/1905.01723). So any number of styles share both networks.

Differs from the papers: cells are binary neurons, so the discriminator never sees half a note; the
generator begins as the identity and says what to change; rolls know where keys are struck again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from aigc_cli.errors import DataError, InputError, did_you_mean
from aigc_cli.media.events import Music
from aigc_cli.media.roll import from_roll, to_roll
from aigc_cli.models._adversarial import AdversarialModule
from aigc_cli.models._base import Batch, Example, Terms
from aigc_cli.models._classifier import Judge
from aigc_cli.models.music._style import Discriminator, Generator, binary, content, nats
from aigc_cli.nn.adversarial import discriminator_loss, generator_loss
from aigc_cli.recipe.sections import Name, Section
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs import Spec
from aigc_cli.specs.rolls import RollSpec

AT_ONCE = 32  # windows of a piece


class Config(Section):
    """The two networks and the weights of their losses."""

    TINY: ClassVar[Mapping[str, Any]] = {"features": 4, "blocks": 1, "discriminator_features": 4}

    features: int = Field(16, gt=0, le=512)
    """Channels of the generator at full size; four times as many in its blocks."""
    blocks: int = Field(4, gt=0, le=32)
    """Residual blocks of the generator."""
    discriminator_features: int = Field(24, gt=0, le=512)
    """Channels after the first convolution of the discriminator."""
    cycle_weight: float = Field(0.2, ge=0)
    """Weight of the nats of a step that went there and back."""
    identity_weight: float = Field(0.1, ge=0)
    """Weight of the nats of a step that was of the style already."""
    style_weight: float = Field(1.0, ge=0)
    """Weight of the nats of the style, as the discriminator names it: of real rolls for itself, of
    transferred ones for the generator.
    """
    classifier: Name = "none"
    """Run or checkpoint of family music_emotion that names these styles. It judges in validation
    how much of the style was transferred, and teaches nothing.
    """
    lr: float = Field(5e-4, gt=0, le=1)
    """Learning rate of both networks before the schedule, of Adam."""
    betas: tuple[float, float] = (0.5, 0.99)
    """Of Adam."""


class Options(Section):
    """What is made of a piece."""

    label: str | None = None
    """The style that it is brought into, by name or number; without it each in turn."""
    threshold: float = Field(0.5, gt=0, lt=1)
    """How likely a note must be; lower writes more of them."""


class Model(AdversarialModule):
    """rolls (B, 2, 88, S) of one style -> rolls of another."""

    accepts = (RollSpec,)
    takes = "music"
    makes = "music"
    averaged = ("generator",)
    conditional = True
    suffix = "_styled"
    frozen: ClassVar[Mapping[str, str]] = {"judge": "classifier"}
    metrics: ClassVar[dict[str, Literal["max", "min"]]] = {"chroma": "max", "onsets": "max"}
    config: Config
    spec: RollSpec

    def __init__(self, config: Config, spec: Spec) -> None:
        super().__init__(config, spec)
        assert isinstance(spec, RollSpec)
        styles = len(spec.labels)
        if styles < 2:
            raise DataError(f"all pieces are {spec.labels[0]!r}: there is no style to transfer to")
        self.generator = Generator(styles, config.features, config.blocks)
        self.discriminator = Discriminator(styles, config.discriminator_features)
        if config.classifier != "none":
            self.metrics = {"transfer": "max", "strength": "max", **type(self).metrics}  # type: ignore[misc]
            self.counted = ("chroma", "onsets", *self._by_style)  # type: ignore[misc]

    @property
    def _by_style(self) -> list[str]:
        """Names of what is summed of the rolls of each style: how many, and their two drops."""
        return [f"{what}_{k}" for k in range(len(self.spec.labels)) for what in ("count", "drops")]

    def suited(self, judge: Judge) -> Judge:
        """
        Raises:
            InputError: it does not know the styles.
        """
        if missing := [name for name in self.spec.labels if name not in judge.labels]:
            raise InputError(
                f"model.classifier: {judge.stamp} knows no class {missing[0]!r}",
                hint=did_you_mean(missing[0], judge.labels),
            )
        return judge

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        c = self.config
        networks = (self.discriminator, self.generator)
        return [torch.optim.Adam(net.parameters(), c.lr, c.betas) for net in networks]

    def others(self, batch: Batch, uniform: Tensor | None = None) -> Tensor:
        """(B,): for each roll a style that is not its own; without numbers in [0, 1) the next."""
        K = len(self.spec.labels)
        step = 1 if uniform is None else 1 + (uniform * (K - 1)).long().clamp(max=K - 2)
        return (batch["label"] + step) % K

    def discriminator_loss(self, batch: Batch) -> Terms:
        roll, label = batch["roll"], batch["label"]
        other = self.others(batch, self.rand(len(label)))
        with torch.no_grad():
            fake = binary(self.generator(roll, other))
        on_real, named = self.discriminator(roll, label)
        on_fake, _ = self.discriminator(fake, other)
        style = F.cross_entropy(named, label)
        loss = discriminator_loss("lsgan", on_real, on_fake) + self.config.style_weight * style
        return {"loss": loss, "real": on_real.mean(), "fake": on_fake.mean(), "style": style}

    def generator_loss(self, batch: Batch) -> Terms:
        roll, label, c = batch["roll"], batch["label"], self.config
        other = self.others(batch, self.rand(len(label)))
        # one pass for the transfer and the identity: rolls are normalized alone
        logits, same = self.generator(torch.cat([roll, roll]), torch.cat([other, label])).chunk(2)
        fake = binary(logits)
        on_fake, named = self.discriminator(fake, other)
        game, style = generator_loss("lsgan", on_fake), F.cross_entropy(named, other)
        cycle, identity = nats(self.generator(fake, label), roll), nats(same, roll)
        kept = c.cycle_weight * cycle + c.identity_weight * identity
        terms = {"game": game, "style": style, "cycle": cycle, "identity": identity}
        return {"loss": game + c.style_weight * style + kept, **terms}

    @torch.no_grad()
    def evaluate_batch(self, batch: Batch) -> dict[str, Tensor]:
        other = self.others(batch)
        made = self._brought(batch["roll"], other)
        return self._judged(batch, made, self._brought(made, batch["label"]))

    def baselines(self, batch: Batch) -> dict[str, dict[str, Tensor]]:
        """The piece as it is, and another of the batch."""
        roll = batch["roll"]
        return {
            "unchanged": self._judged(batch, roll, roll),
            "another": self._judged(batch, roll.roll(1, 0), roll),
        }

    def _brought(self, roll: Tensor, style: Tensor) -> Tensor:
        return (self.generator(roll, style) > 0).float()

    def _judged(self, batch: Batch, made: Tensor, back: Tensor) -> dict[str, Tensor]:
        """What is kept of the content. With a classifier also how much less of its own style it
        finds in a transferred roll, beside the roll itself and beside what was brought back:
        section IV of Brunner et al.
        """
        found = content(made, batch["roll"])
        judge: Judge | None = self.frozen_networks.get("judge")
        if judge is None:
            return found
        model = judge.model.to(self.device)
        own = torch.tensor([judge.labels.index(name) for name in self.spec.labels])
        place = own.to(self.device)[batch["label"]][:, None]

        def says(roll: Tensor) -> Tensor:
            return model.classify({"roll": roll}).gather(1, place)[:, 0]

        drops = (says(batch["roll"]) + says(back)) / 2 - says(made)
        of_style = F.one_hot(batch["label"], len(self.spec.labels)).T.to(drops)  # (K, B)
        values = torch.stack([of_style, of_style * drops], 1).flatten(0, 1)
        return {**found, **dict(zip(self._by_style, values, strict=True))}

    def summarize(self, means: dict[str, float]) -> dict[str, float]:
        """strength: the mean of both drops, and of that over styles; transfer: its harmonic mean
        with chroma.
        """
        if "count_0" not in means:
            return means
        sums = [means[name] for name in self._by_style]
        each = [drops / n for n, drops in zip(sums[::2], sums[1::2], strict=True) if n > 0]
        strength = sum(each) / max(len(each), 1)
        kept = {name: means[name] for name in ("chroma", "onsets")}
        both = max(strength, 0.0), max(kept["chroma"], 0.0)
        transfer = 2 * both[0] * both[1] / max(sum(both), 1e-9)
        return {"transfer": transfer, "strength": strength, **kept}

    def example(self, batch: Batch, options: Options) -> Example:
        """The notes of the stretch."""
        spec = self.spec
        music = from_roll(
            batch["roll"][0].bool().cpu().numpy(), spec.resolution, spec.beats_per_bar
        )
        style = spec.labels[int(batch["label"][0])]
        return Example(torch.from_numpy(music.notes), beside={"style": style})

    @torch.no_grad()
    def sample(
        self,
        noise: SampleNoise,
        options: Options,
        given: Any = None,
        references: Sequence[Any] = (),
    ) -> list[Music]:
        """Of the notes (N, 4) of a piece, that piece in other styles."""
        spec = self.spec
        bar = spec.resolution * spec.beats_per_bar
        rows = given.cpu().numpy()
        bars = int(rows[:, 0].max(initial=0)) // bar + 1
        whole = Music(rows, spec.resolution, spec.beats_per_bar, bars, 120, 0)
        roll = torch.from_numpy(to_roll(whole)).float().to(self.device)
        labels = [self.labels_of(options, number, 1) for number in noise.numbers]
        styles = [int(label) for label in labels if label is not None]
        cells = {style: self.transferred(roll, style) > options.threshold for style in set(styles)}
        made = {
            style: from_roll(cell.cpu().numpy(), spec.resolution, spec.beats_per_bar)
            for style, cell in cells.items()
        }
        return [made[style] for style in styles]

    def transferred(self, roll: Tensor, style: int) -> Tensor:
        """Probabilities (2, 88, T) of a whole piece: windows of `spec.steps` steps that overlap by
        half, each step weighed by how far it is from the edges of its window.
        """
        spec, T = self.spec, roll.shape[2]
        S, hop = spec.steps, max(spec.steps // 2, 1)
        count = max(-(-(T - S) // hop), 0) + 1
        padded = F.pad(roll, (0, (count - 1) * hop + S - T))
        windows = padded.unfold(2, S, hop).permute(2, 0, 1, 3)  # (W, 2, 88, S)
        parts = []
        for part in windows.split(AT_ONCE):
            told = torch.full((len(part),), style, device=roll.device)
            parts.append(self.generator(part, told).sigmoid())
        weight = 1 - (torch.arange(S, device=roll.device) - (S - 1) / 2).abs() / (S / 2 + 1)
        total, weights = torch.zeros_like(padded), torch.zeros_like(padded[0, 0])
        for number, one in enumerate(torch.cat(parts)):
            place = slice(number * hop, number * hop + S)
            total[:, :, place] += one * weight
            weights[place] += weight
        return (total / weights)[:, :, :T]
