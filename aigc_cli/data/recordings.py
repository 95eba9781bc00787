"""Recordings of sound in stretches of samples, for models that listen or make sound."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor
from torch.utils.data import default_collate

from aigc_cli.data import _music_files
from aigc_cli.data._claim import LIKELY, STRUCTURED, Claim, parts
from aigc_cli.data._data import Prepared
from aigc_cli.data._images import Sources
from aigc_cli.data._named_files import classes_of, files_in, holds_one, names_in, one_group
from aigc_cli.data._rows import HeldOut
from aigc_cli.data._stream import Key
from aigc_cli.data._suggest import Suggestions
from aigc_cli.errors import DataError
from aigc_cli.media.audio import ENDINGS, MAX_BYTES, Sound, read_audio, sound_bytes
from aigc_cli.nn.mulaw import to_levels
from aigc_cli.recipe.sections import Section
from aigc_cli.sampling.markov import Markov
from aigc_cli.specs.audio import AudioSpec

LISTED = 5  # skipped files that a message names
COUNTED = 20_000_000  # training samples from which the baselines learn
FIRST_WORD = r"(?:^|/)([^_/]+)_[^/]*$"  # of a file's name: the class in 7_anna_3.wav


class Config(Section):
    """Recordings, and how they are cut."""

    modality: ClassVar[str] = "audio"

    kind: Literal["recordings"] = "recordings"
    """WAV, FLAC, MP3, Ogg or AIFF files of any rate and number of channels."""
    train: Sources
    """A folder, zip, audio file, .txt list of audio files or hf:NAME to train on, or several."""
    val: Sources = "10%"
    """The same to validate with, or the share of the files of `train` that is held out: `10%` is
    every tenth file, `last 10%` those whose names come last.
    """
    sample_rate: int = Field(16_000, ge=1_000, le=96_000)
    """Samples a second; files of another rate are resampled."""
    length: int = Field(4096, ge=16, le=1 << 20)
    """Samples of a stretch that are learned; shorter files are filled with silence that is not."""
    context: int = Field(0, ge=0, le=1 << 20)
    """Samples before them, by which a model knows where it is; silence before the file begins."""
    levels: int = Field(256, ge=4, le=1 << 16)
    """Steps of the mu-law scale, by which likelihood is measured; 256 are 8 bits."""
    labels: Literal["auto", "none"] = "auto"
    """auto: the classes are what `label_pattern` finds, otherwise the folders of the files."""
    label_pattern: str | None = None
    """Regular expression with one group, the class, that is searched in the name of each file."""
    normalize: Literal["none", "peak"] = "none"
    """peak: each file is made as loud as fits."""

    @field_validator("label_pattern")
    @classmethod
    def _has_a_group(cls, value: str | None) -> str | None:
        return one_group(value)


@dataclass(frozen=True)
class Report:
    """What was found in a source, and what was left out and why."""

    source: str
    names: list[str]
    seconds: float
    samples: int
    classes: dict[str, int]
    skipped: dict[str, str] = field(default_factory=dict)
    digests: list[str] = field(default_factory=list)
    """Of the samples of each recording."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        left = f", {len(self.skipped):,} skipped" if self.skipped else ""
        return f"{len(self.names):,} recordings, {self.seconds:,.1f} seconds{left}"


@dataclass(frozen=True)
class Recordings:
    """The usable files of a source by name, and why the others are not."""

    source: str
    names: list[str] = field(default_factory=list)
    sounds: list[Sound] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    def some(self, numbers: Sequence[int], *, skipped: bool) -> Recordings:
        names, sounds = [self.names[n] for n in numbers], [self.sounds[n] for n in numbers]
        return Recordings(self.source, names, sounds, self.skipped if skipped else {})

    def report(self, labels: Sequence[str] | None = None) -> Report:
        samples = sum(len(sound.samples) for sound in self.sounds)
        return Report(
            self.source, self.names,
            round(sum(len(s.samples) / s.sample_rate for s in self.sounds), 3), samples,
            dict(sorted(Counter(labels or ()).items())), self.skipped,
            [hashlib.sha256(sound.samples.tobytes()).hexdigest() for sound in self.sounds],
        )  # fmt: skip

    def labels(self, config: Config) -> list[str] | None:
        """The class of each.

        Raises:
            DataError: the pattern finds none in some name.
        """
        return None if config.labels == "none" else classes_of(self.names, config.label_pattern)


def read_recordings(
    sources: str | Sequence[str],
    sample_rate: int | None = None,
    *,
    normalize: bool = False,
    bases: Sequence[Path] = (),
    key: str = "data",
) -> Recordings:
    """Every usable recording of one source or several, at this rate, otherwise at its own.

    Raises:
        DataError: there is none; says why not.
    """
    found = Recordings(sources if isinstance(sources, str) else ", ".join(sources))
    for source in [sources] if isinstance(sources, str) else sources:
        try:
            for name, data in files_in(source, ENDINGS, MAX_BYTES, "audio file", bases):
                try:
                    sound = read_audio(data, name)
                except DataError as error:
                    found.skipped[name] = error.message.removeprefix(f"{name}: ")
                    continue
                sound = sound.at(sample_rate or sound.sample_rate)
                found.names.append(name)
                found.sounds.append(at_peak(sound) if normalize else sound)
        except DataError as error:
            raise DataError(f"{key}: {error.message}", hint=error.hint) from error
    if not found.sounds:
        reasons = "; ".join(f"{n} {why}" for n, why in list(found.skipped.items())[:LISTED])
        none = f"none of {len(found.skipped):,} audio files can be used: {reasons}"
        none = none if found.skipped else f"there are no audio files ({', '.join(ENDINGS)})"
        raise DataError(f"{key}: {found.source}: {none}")
    return found


def at_peak(sound: Sound) -> Sound:
    """As loud as fits; silence stays."""
    peak = np.abs(sound.samples).max(initial=0)
    return Sound(sound.samples / peak, sound.sample_rate) if peak else sound


class Stretches:
    """Each recording in stretches of `length` samples that follow each other."""

    def __init__(
        self,
        recordings: Recordings,
        spec: AudioSpec,
        labels: Sequence[int] | None,
        baselines: dict[str, Markov] | None = None,
    ) -> None:
        self.samples = [sound.samples for sound in recordings.sounds]
        self.spec, self.labels = spec, labels
        self.places = [
            (number, start)
            for number, samples in enumerate(self.samples)
            for start in range(0, len(samples), spec.length)
        ]
        self.nats = {name: self._nats(chain) for name, chain in (baselines or {}).items()}

    def _nats(self, chain: Markov) -> list[np.ndarray]:
        """Of each sample of each recording, from its own levels before it."""
        rows = (to_levels(torch.from_numpy(s), self.spec.levels).numpy() for s in self.samples)
        return [-np.log(chain.probabilities(row)) for row in rows]

    def __len__(self) -> int:
        return len(self.places)

    @property
    def lengths(self) -> list[int]:
        """Counted samples of each."""
        return [min(self.spec.length, len(self.samples[n]) - start) for n, start in self.places]

    @staticmethod
    def collate(items: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        """A batch without what no item counts at its end."""
        batch: dict[str, Tensor] = default_collate(list(items))
        end = int(batch["counted"].any(0).nonzero().max()) + 1
        for name in ("audio", "counted", "place"):
            batch[name] = batch[name][:, :end]
        return batch

    def item(self, number: int, start: int) -> dict[str, Tensor]:
        context, length = self.spec.context, self.spec.length
        samples = self.samples[number]
        part = samples[max(start - context, 0) : start + length]
        before = context - min(start, context)
        audio, counted = np.zeros(context + length, np.float32), torch.zeros(context + length)
        audio[before : before + len(part)] = part
        counted[context : context + min(length, len(samples) - start)] = 1
        place = (torch.arange(context + length) + (start - context)) / len(samples)
        item = {
            "audio": torch.from_numpy(audio), "counted": counted, "place": place.clamp(0, 1),
        }  # fmt: skip
        if self.labels is not None:
            item["label"] = torch.tensor(self.labels[number])
        return item

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        number, start = self.places[index]
        costs = {
            name: torch.tensor(nats[number][start : start + self.spec.length].sum())
            for name, nats in self.nats.items()
        }
        return {**self.item(number, start), **costs}


class Drawn:
    """Training stretches: one for each of `Stretches`, from anywhere in its recording."""

    def __init__(self, stretches: Stretches) -> None:
        self.stretches = stretches
        self.lengths, self.collate = stretches.lengths, stretches.collate

    def __len__(self) -> int:
        return len(self.stretches)

    def __getitem__(self, key: Key) -> dict[str, Tensor]:
        index, seed = key
        number, _ = self.stretches.places[index]
        last = max(len(self.stretches.samples[number]) - self.stretches.spec.length, 0)
        return self.stretches.item(number, int(np.random.default_rng(seed).integers(last + 1)))


class Data(Prepared):
    """Training and validation stretches, split by file; every file is read when this is built.

    With the `spec` of a checkpoint only what validates is kept, at the rate of the model.

    Raises:
        DataError: a source is absent, no file in it can be used, or a class is new to validation.
    """

    def __init__(
        self,
        config: Config,
        *,
        seed: int = 0,
        bases: Sequence[Path] = (),
        spec: AudioSpec | None = None,
    ) -> None:
        held = HeldOut.parse(config.val)
        rate = spec.sample_rate if spec else config.sample_rate
        parts: dict[str, Recordings] = {}

        def read(sources: Sources, key: str) -> Recordings:
            peak = config.normalize == "peak"
            return read_recordings(sources, rate, normalize=peak, bases=bases, key=key)

        if held is None:
            parts["data.val"] = read(config.val, "data.val")
        if held is not None or spec is None:
            train = read(config.train, "data.train")
            if held is not None:
                count = len(train.sounds)
                if count < 2:
                    raise DataError(
                        f"data.train: one recording in {train.source!r} cannot train and validate",
                        hint="give more, or set data.val",
                    )
                out = set(held.numbers(count))
                parts["data.val"] = train.some(sorted(out), skipped=False)
                rest = [number for number in range(count) if number not in out]
                train = train.some(rest, skipped=True)
            parts["data.train"] = train
        labels = {key: part.labels(config) for key, part in parts.items()}
        self.spec = spec or AudioSpec(
            config.sample_rate, config.length, config.context, config.levels,
            _classes(labels["data.train"]),
        )  # fmt: skip
        self.sounds = {key: part.sounds for key, part in parts.items()}
        self.report = {key: parts[key].report(labels[key]) for key in sorted(parts)}

        chains = _chains(parts["data.train"], self.spec.levels) if "data.train" in parts else {}
        numbers = {key: _numbers(found, self.spec.labels, key) for key, found in labels.items()}
        self.val = Stretches(parts["data.val"], self.spec, numbers["data.val"], chains)
        if spec is None:
            self.train = Drawn(Stretches(parts["data.train"], self.spec, numbers["data.train"]))


def _classes(labels: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if labels is None else tuple(sorted(set(labels)))


def _numbers(
    labels: Sequence[str] | None, classes: Sequence[str] | None, key: str
) -> list[int] | None:
    if classes is None:
        return None
    if labels is None:
        raise DataError(f"{key}: has no classes, and the model has {', '.join(classes[:LISTED])}")
    if unknown := sorted(set(labels) - set(classes)):
        raise DataError(f"{key}: has class {unknown[0]!r}, which is not trained with")
    return [classes.index(label) for label in labels]


def _chains(train: Recordings, levels: int) -> dict[str, Markov]:
    """What a model must be better than: the frequencies of levels, alone and after two others."""
    rows, left = [], COUNTED
    for sound in train.sounds:
        rows.append(to_levels(torch.from_numpy(sound.samples[:left]), levels).numpy())
        left -= len(rows[-1])
        if left <= 0:
            break
    return {"unigram": Markov(rows, levels, 0), "markov": Markov(rows, levels, 2)}


def recognize(source: str, bases: Sequence[Path] = ()) -> Claim | None:
    """Audio files without MIDI, whose sound they may be; of classes, where folders or the first
    words of names are some.
    """
    values = parts(source, bases)
    train = values["train"]
    if not holds_one(train, ENDINGS, bases) or holds_one(train, _music_files.ENDINGS, bases):
        return None
    names = names_in(train, ENDINGS, bases)
    for pattern in (None, FIRST_WORD):
        found = None if pattern and not all(re.search(pattern, n) for n in names) else pattern
        count = len(set(classes_of(names, found) or ()))
        if 2 <= count <= len(names) // 4:
            more = {"label_pattern": found} if found else {}
            why = f"{len(names):,} recordings of {count} classes"
            return Claim({**values, **more}, why, STRUCTURED, frozenset({"classes"}))
    return Claim(values, f"{len(names):,} recordings", LIKELY)


def suggest(config: Config, *, bases: Sequence[Path] = ()) -> Suggestions:
    """The rate that most files have, and stretches as long as most of them, at most 2 seconds."""
    sounds = read_recordings(config.train, bases=bases, key="data.train").sounds
    rate, count = Counter(sound.sample_rate for sound in sounds).most_common(1)[0]
    longest = sorted(len(s.samples) * rate // s.sample_rate for s in sounds)[len(sounds) * 9 // 10]
    length = max(16, min(2 * rate, longest))
    return {
        "sample_rate": (rate, f"{count:,} of {len(sounds):,} files have {rate:,} Hz."),
        "length": (length, f"{length / rate:.2g} s; nine of ten files have {longest / rate:.2g}."),
    }


def tone(hertz: float, seconds: float, sample_rate: int = 8_000) -> Sound:
    """A tone with a harmonic that dies away."""
    t = np.arange(round(seconds * sample_rate)) / sample_rate
    wave = np.sin(2 * np.pi * hertz * t) + 0.3 * np.sin(4 * np.pi * hertz * t)
    return Sound(np.asarray(0.6 * wave * np.exp(-4 * t), np.float32), sample_rate)


def example(folder: Path) -> dict[str, Any]:
    """Tones of two heights, a folder for each."""
    for name, hertz in (("high", 660), ("low", 220)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(4):
            sound = tone(hertz * 1.06**number, 0.05 + 0.01 * number)
            (folder / name / f"{number}.wav").write_bytes(sound_bytes(sound))
    return {
        "kind": "recordings", "train": str(folder), "val": "25%", "sample_rate": 8000,
        "length": 192, "context": 32,
    }  # fmt: skip
