"""Networks that give the next frame of a piece: which of the keys sound.

`bernoulli`: every key by itself, as the recurrent and convolutional networks of Bai, Kolter and
Koltun, 2018, https://arxiv.org/abs/1803.01271. `autoregressive`: every key after the lower ones of
its frame, by NADE (Larochelle and Murray, 2011) whose biases follow from the frames before, as
RNN-NADE (Boulanger-Lewandowski et al., 2012, https://arxiv.org/abs/1206.6392).

Letters: B rows, T frames, P = 88 keys, D features of the body, H hidden units of NADE.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aigc_cli.errors import InputError
from aigc_cli.media.events import Music
from aigc_cli.media.frames import KEYS, music_of
from aigc_cli.models._base import Batch
from aigc_cli.models.music._network import Config, build, reader_of
from aigc_cli.nn.recurrent_lm import RecurrentLM
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs.music import FramesSpec

CERTAIN = 30.0  # a logit beyond which float32 knows no doubt


class Bernoulli(nn.Module):
    """Features (B, T, D) -> logits (B, T, P) of each key by itself."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.keys = nn.Linear(dim, KEYS)

    def forward(self, features: Tensor, frames: Tensor) -> Tensor:
        logits: Tensor = self.keys(features)
        return logits

    def draw(self, features: Tensor, uniform: Tensor, temperature: float) -> Tensor:
        """Frames (R, P) for features (R, D), by a number in [0, 1) for each key."""
        return falls(self.keys(features), uniform, temperature)


class Nade(nn.Module):
    """Features (B, T, D) and frames (B, T, P) -> logits (B, T, P) of each key after those below."""

    above: Tensor

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.keys = nn.Linear(dim, KEYS)
        self.hidden = nn.Linear(dim, hidden)
        self.W = nn.Parameter(torch.randn(KEYS, hidden) * 0.1)  # what a sounding key adds
        self.V = nn.Parameter(torch.randn(KEYS, hidden) * 0.1)  # how a key reads it
        above = torch.ones(KEYS, KEYS).triu(1)[..., None]
        self.register_buffer("above", above, persistent=False)  # (P, P, 1): second above first

    def forward(self, features: Tensor, frames: Tensor) -> Tensor:
        each = (self.W[:, None] * self.above).flatten(1)  # (P, P H)
        below = (frames @ each).unflatten(-1, self.W.shape)  # (B, T, P, H)
        units = torch.relu(self.hidden(features)[..., None, :] + below)
        logits: Tensor = self.keys(features) + torch.einsum("...ph,ph->...p", units, self.V)
        return logits

    def draw(self, features: Tensor, uniform: Tensor, temperature: float) -> Tensor:
        """Frames (R, P) for features (R, D), from the lowest key to the highest."""
        bias, below = self.keys(features), self.hidden(features)  # (R, P), (R, H)
        frame = torch.zeros_like(bias)
        for key in range(KEYS):
            logit = bias[:, key] + (torch.relu(below) * self.V[key]).sum(-1)
            frame[:, key] = falls(logit, uniform[:, key], temperature)
            below = below + frame[:, key, None] * self.W[key]
        return frame


def falls(logits: Tensor, uniform: Tensor, temperature: float) -> Tensor:
    """1 where a number in [0, 1) falls on a key that sounds with this logit, otherwise 0; at
    temperature 0 where it is likelier than not.
    """
    if temperature == 0:
        return (logits > 0).float()
    return (uniform < torch.sigmoid((logits / temperature).double())).float()


class FrameNet(nn.Module):
    """What was seen (B, T, P + 1) -> nats (B, T) of each frame."""

    def __init__(self, config: Config, context: int) -> None:
        super().__init__()
        self.body = build(config.model_copy(update={"tied": True}), KEYS + 1, context)
        # Vectors of length 1 hardly move a recurrent state: what sounds is read at full strength.
        if isinstance(self.body, RecurrentLM):
            nn.init.normal_(self.body.embed_tokens.weight)
        dim, hidden = config.dim, config.pitch_dim
        self.head = Bernoulli(dim) if config.head == "bernoulli" else Nade(dim, hidden)

    def forward(self, seen: Tensor, frames: Tensor) -> Tensor:
        T = seen.shape[1]
        features = self.body.hidden(seen, slice(T), None, T > 1)
        logits = self.head(features, frames)
        return F.binary_cross_entropy_with_logits(logits, frames, reduction="none").sum(-1)


class FrameWriter:
    """How pieces are learned and written frame by frame."""

    def __init__(self, config: Config, spec: FramesSpec) -> None:
        self.spec = spec
        self.net = FrameNet(config, spec.context)

    def nats(self, batch: Batch) -> Tensor:
        """(B, T), 0 where a frame does not count."""
        counted = batch["counted"]
        T = int(counted.any(0).nonzero().max()) + 1  # beyond there is padding
        found: Tensor = self.net(batch["seen"][:, :T].float(), batch["frames"][:, :T].float())
        return F.pad(found * counted[:, :T], (0, counted.shape[1] - T))

    def counted(self, batch: Batch) -> Tensor:
        """(B, T): whether a frame counts."""
        return batch["counted"]

    def baselines(self, batch: Batch) -> dict[str, Tensor]:
        """Nats (B, T) of two models without a network: how often each key sounds, and how often
        after it did or did not sound.
        """
        frames, seen = batch["frames"].float(), batch["seen"][..., :KEYS].float()
        unigram, markov = (frames.new_tensor(t) for t in (self.spec.unigram, self.spec.markov))
        after = torch.where(seen > 0, markov[KEYS:], markov[:KEYS])
        found = {"unigram": unigram.expand_as(frames), "markov": after}
        return {
            name: F.binary_cross_entropy(p, frames, reduction="none").sum(-1) * batch["counted"]
            for name, p in found.items()
        }

    @torch.no_grad()
    def sample(
        self, noise: SampleNoise, bars: int, temperature: float, given: Tensor | None
    ) -> list[Music]:
        """Pieces of so many bars, behind the frames (T, P) of a piece where one is given.

        Raises:
            InputError: no bars are asked for, and frames have no end.
        """
        if not bars:
            raise InputError("bars=0: a model of frames knows no end", hint="set bars=8 or so")
        spec, R = self.spec, noise.count
        device = self.net.body.head_weight.device
        begin = F.one_hot(torch.full((R, 1), KEYS, device=device), KEYS + 1).float()
        if given is None:
            seen, written = begin, torch.zeros(R, 0, KEYS, device=device)
        else:
            written = given.to(device).float().expand(R, -1, -1)
            seen = torch.cat([begin, F.pad(written, (0, 1))], 1)
        # A prime that fills the context is read from its end.
        reader = reader_of(self.net.body, R)
        seen = seen[:, -spec.context :]
        for _ in range(bars * spec.resolution * spec.beats_per_bar):
            features = reader.features(seen)
            frame = self.net.head.draw(features, noise.rand(KEYS).to(device), temperature)
            written = torch.cat([written, frame[:, None]], 1)
            seen = F.pad(frame, (0, 1))[:, None]
        frames = written.bool().cpu().numpy()
        return [music_of(row, spec.resolution, spec.beats_per_bar, spec.tempo) for row in frames]
