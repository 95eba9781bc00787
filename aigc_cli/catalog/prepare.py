"""What recipes read, made of originals that they do not read as they are: one function for each.

Each takes the folder of the originals, laid out as the catalog says, and an empty folder to fill.
Nothing is left out or changed but the form; a split is the usual one.
"""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from aigc_cli.catalog.tidal import drum_patterns

SKIN_TONES = re.compile(r"(.+)_(1f3f[b-f])\.png")


def tinyshakespeare(source: Path, out: Path) -> None:
    """The first 90 % of the characters train, the rest validates."""
    text = (source / "input.txt").read_bytes()  # ASCII: bytes are characters
    cut = len(text) * 9 // 10
    (out / "train.txt").write_bytes(text[:cut])
    (out / "val.txt").write_bytes(text[cut:])


def emoji_skin_tones(source: Path, out: Path) -> None:
    """A folder for each tone, in which the same name is the same drawing."""
    names = {path.name for path in source.iterdir()}
    for name in sorted(names):
        if match := SKIN_TONES.fullmatch(name):
            _copy(source / name, out / match[2] / f"{match[1]}.png")
            _copy(source / f"{match[1]}.png", out / "default" / f"{match[1]}.png")


def aeslc(source: Path, out: Path) -> None:
    """Objects with text, subject and, where others wrote subjects too, refs."""
    for part in ("train", "dev", "test"):
        _jsonl(out / f"{part}.jsonl", map(_mail, sorted((source / part).glob("*.subject"))))


def _mail(path: Path) -> dict[str, Any]:
    text, *fields = re.split(r"\n@(subject|ann\d)\n", path.read_text("utf-8", errors="replace"))
    found = dict(zip(fields[::2], map(str.strip, fields[1::2]), strict=True))
    refs = [found[key] for key in sorted(found) if key.startswith("ann")]
    return {"text": text.strip(), "subject": found["subject"], **({"refs": refs} if refs else {})}


def csl_titles(source: Path, out: Path) -> None:
    """Objects with abstract and title of lines of task word, abstract and title."""
    for path in sorted(source.glob("*.tsv")):
        rows = (line.split("\t") for line in path.read_text("utf-8").splitlines())
        _jsonl(
            out / f"{path.stem}.jsonl",
            ({"abstract": abstract, "title": title} for _, abstract, title in rows),
        )


def dailydialog(source: Path, out: Path) -> None:
    """Objects with turns, and the act and emotion of each."""
    for folder in sorted(path for path in source.iterdir() if path.is_dir()):
        files = ("dialogues.txt", "dialogues_act.txt", "dialogues_emotion.txt")
        lines = [(folder / name).read_text("utf-8").splitlines() for name in files]
        _jsonl(out / f"{folder.name}.jsonl", (_dialogue(*row) for row in zip(*lines, strict=True)))


def _dialogue(text: str, act: str, emotion: str) -> dict[str, Any]:
    turns = [turn.strip() for turn in text.split("__eou__")]
    return {
        "turns": [turn for turn in turns if turn],
        "act": [int(number) for number in act.split()],
        "emotion": [int(number) for number in emotion.split()],
    }


def sgd(source: Path, out: Path) -> None:
    """Objects with id, services and turns of speaker and utterance; without states."""
    for part in ("train", "dev", "test"):
        files = sorted((source / part).glob("dialogues_*.json"))
        dialogues = (row for path in files for row in json.loads(path.read_bytes()))
        _jsonl(
            out / f"{part}.jsonl",
            (
                {
                    "id": row["dialogue_id"],
                    "services": row["services"],
                    "turns": [[turn["speaker"], turn["utterance"]] for turn in row["turns"]],
                }
                for row in dialogues
            ),
        )


def zh_dialogue(source: Path, out: Path) -> None:
    """val: CrossWOZ's validation and KdConv's development part; test: their test parts."""
    for part, kdconv in (("val", "dev"), ("test", "test")):
        with zipfile.ZipFile(source / f"crosswoz/{part}.json.zip") as archive:
            crosswoz = json.loads(archive.read(f"{part}.json"))
        rows = [
            {"id": number, "source": "crosswoz", "turns": _turns(row, "role", "content")}
            for number, row in sorted(crosswoz.items())
        ]
        for topic in ("film", "music", "travel"):
            talks = json.loads((source / topic / f"{kdconv}.json").read_bytes())
            rows += [
                {
                    "id": f"{topic}-{number}",
                    "source": f"kdconv-{topic}",
                    "turns": [
                        [("user", "sys")[turn % 2], said["message"]]
                        for turn, said in enumerate(talk["messages"])
                    ],
                }
                for number, talk in enumerate(talks)
            ]
        _jsonl(out / f"{part}.jsonl", rows)


def _turns(row: dict[str, Any], speaker: str, text: str) -> list[list[str]]:
    return [[turn[speaker], turn[text]] for turn in row["messages"]]


def asap(source: Path, out: Path) -> None:
    """Scores and performances apart, named by composer, piece and player."""
    _copy(source / "metadata.csv", out / "metadata.csv")
    for path in sorted(source.rglob("*.mid")):
        composer, *piece = path.relative_to(source).parent.parts
        name = f"{composer}__{'_'.join(piece)}"
        if path.stem == "midi_score":
            _copy(path, out / "score" / f"{name}.mid")
        else:
            _copy(path, out / "performance" / f"{name}__{path.name}")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)


PREPARE: dict[str, Callable[[Path, Path], None]] = {
    function.__name__: function
    for function in (
        tinyshakespeare,
        emoji_skin_tones,
        aeslc,
        csl_titles,
        dailydialog,
        drum_patterns,
        sgd,
        zh_dialogue,
        asap,
    )
}
