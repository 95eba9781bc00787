"""Writes the built-in data sets, aigc_cli/builtin, from originals that `aigc data get` fetched.

    python docs/make_builtin.py AIGC_DATA

AIGC_DATA holds tinyshakespeare, emoji_skin_tones, fashion_mnist, tatoeba_en_zh, goemotions,
csl_titles, instruction_demo, pop909 and style_images. Equal originals give equal bytes: no time
is written and all that is drawn is drawn with seed 0. Licenses: aigc_cli/builtin/NOTICES.md.
"""

from __future__ import annotations

import gzip
import io
import itertools
import json
import random
import re
import sys
import wave
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from aigc_cli.media.boxes import Boxes, coco_image, coco_json, coco_objects
from aigc_cli.media.drums import DRUMS, from_grid
from aigc_cli.media.midi import midi_bytes
from aigc_cli.media.synth import render

OUT = Path(__file__).resolve().parents[1] / "aigc_cli/builtin"
EMOTIONS = ("admiration", "amusement", "curiosity", "gratitude", "love", "sadness")
# Comments with one of these are left out, so that a demonstration can be shown to anyone.
VULGAR = re.compile(
    r"fuck|shit|bitch|cunt|dick|cock|puss|porn|sex|whor|slut|nigg|fag|retard|rape|kill|suicid|die"
    r"|dead|damn|hell\b|drug|trips?\b|cam model|oppress|consent|murder|abus|hitler|nazi|gay"
    r"|ass\b|asshole|bastard|crap|piss|tits|boob|jerk|\[NAME\]|\[RELIGION\]",
    re.IGNORECASE,
)


def main(data: Path) -> None:
    shakespeare(data / "tinyshakespeare")
    emoji(data / "emoji_skin_tones")
    fashion(data / "fashion_mnist")
    tatoeba(data / "tatoeba_en_zh")
    emotions(data / "goemotions")
    titles(data / "csl_titles")
    tasks(data / "instruction_demo")
    pop909(data / "pop909")
    paintings(data / "style_images")
    grooves()
    tones()
    shapes()
    scenes()
    sizes = {path.name: sum(f.stat().st_size for f in path.iterdir()) for path in folders()}
    print(*(f"{size:>9,} {name}" for name, size in sizes.items()), sep="\n")
    print(f"{sum(sizes.values()):>9,} together")


def folders() -> list[Path]:
    return sorted(path for path in OUT.iterdir() if path.is_dir())


def shakespeare(source: Path) -> None:
    """The whole text; its usual split, first 90 % and rest, is that of the catalog."""
    write_gz("shakespeare/train.txt.gz", content(source / "train.txt"))
    write_gz("shakespeare/validation.txt.gz", content(source / "val.txt"))


def emoji(source: Path) -> None:
    """112 drawings in yellow and in a medium-dark tone, 128 pixels, as they are."""
    files = pictures(source, ("default", "1f3fe"))
    tones = {"default": "yellow", "1f3fe": "medium-dark"}
    named = {
        f"{tones[name.split('/')[0]]}/{name.split('/')[1]}": raw for name, raw in files.items()
    }
    write_zip("emoji/emoji.zip", named)


def fashion(source: Path) -> None:
    """The first 3,600 of the training pictures, and the last 800 of them to validate."""
    pixels = np.frombuffer(content(source / "train-images-idx3-ubyte.gz"), np.uint8, offset=16)
    labels = np.frombuffer(content(source / "train-labels-idx1-ubyte.gz"), np.uint8, offset=8)
    pixels = pixels.reshape(-1, 28, 28)
    for part, rows in (("train", slice(3600)), ("validation", slice(-800, None))):
        write_gz(f"fashion/{part}-images-idx3-ubyte.gz", idx(pixels[rows]))
        write_gz(f"fashion/{part}-labels-idx1-ubyte.gz", idx(labels[rows]))


def idx(array: np.ndarray) -> bytes:
    head = np.array([0x800 + array.ndim, *array.shape], ">u4")
    return head.tobytes() + array.tobytes()


def tatoeba(source: Path) -> None:
    """Pairs of at most 6 English words; 300 English sentences with all their pairs validate."""
    lines = content(source / "train.tsv").decode().splitlines()
    short = [line for line in lines if len(line.split("\t")[0].split()) <= 6]
    english = sorted({line.split("\t")[0].lower() for line in short})
    held_out = set(random.Random(0).sample(english, 300))
    parts: dict[str, list[str]] = {"train": [], "validation": []}
    for line in short:
        side = "validation" if line.split("\t")[0].lower() in held_out else "train"
        parts[side].append(line)
    for part, rows in parts.items():
        write_gz(f"tatoeba/{part}.tsv.gz", text(rows))


def emotions(source: Path) -> None:
    """Comments of exactly one of six emotions, at most 900 of each, none vulgar."""
    names = content(source / "labels.txt").decode().split()
    numbers = {str(names.index(emotion)): emotion for emotion in EMOTIONS}
    for part, file, most in (("train", "train.tsv", 900), ("validation", "dev.tsv", 100)):
        found: dict[str, list[str]] = {emotion: [] for emotion in EMOTIONS}
        for line in content(source / file).decode().splitlines():
            comment, label, *_ = line.split("\t")
            if label in numbers and not VULGAR.search(comment):
                found[numbers[label]].append(f"{comment}\t{numbers[label]}")
        rows = [row for rows in found.values() for row in rows[:most]]
        random.Random(0).shuffle(rows)
        write_gz(f"emotions/{part}.tsv.gz", text(rows))


def tasks(source: Path) -> None:
    """The 175 tasks that people wrote for Self-Instruct, the first example of each."""
    seeds = source / "seed_tasks.jsonl"
    if not seeds.exists():
        seeds = source / "self_instruct_seed_tasks.jsonl"
    rows = []
    for line in content(seeds).decode().splitlines():
        task = json.loads(line)
        rows.append({"instruction": task["instruction"], **task["instances"][0]})
    random.Random(0).shuffle(rows)
    for part, some in (("train", rows[15:]), ("validation", rows[:15])):
        body = json.dumps(some, ensure_ascii=False, indent=0)
        write_gz(f"tasks/{part}.json.gz", body.encode())


def titles(source: Path) -> None:
    """Chinese abstracts of at most 200 characters with their titles: 50 validate."""
    rows = [json.loads(line) for line in content(source / "dev.jsonl").decode().splitlines()]
    rows = [row for row in rows if len(row["abstract"]) <= 200]
    random.Random(0).shuffle(rows)
    for part, some in (("train", rows[50:]), ("validation", rows[:50])):
        lines = [f"{row['abstract']}\t{row['title']}" for row in some]
        write_gz(f"titles/{part}.tsv.gz", text(lines))


def pop909(source: Path) -> None:
    """The first 40 songs, as MIDI."""
    songs = members(source, r"(?:.*/)?(\d{3})\.mid$")
    names = sorted(songs)[:40]
    write_zip("pop909/songs.zip", {f"{name}.mid": songs[name] for name in names}, packed=True)


def paintings(source: Path) -> None:
    """Hokusai's wave and van Gogh's night, the longer side 384 pixels."""
    files = {"hokusai_great_wave_1831": "wave", "van_gogh_starry_night_1889": ""}
    for name, other in files.items():
        path = source / f"{name}.jpg"
        picture = Image.open(path if path.exists() else source / f"{other}.jpg").convert("RGB")
        picture.thumbnail((384, 384), Image.Resampling.LANCZOS)
        target = OUT / "paintings" / f"{name}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        picture.save(target, quality=88, optimize=True)


# Sixteenths of a bar: x always, o mostly, . seldom; kick, snare, closed hat, open hat.
GROOVES = {
    "rock": ("x-----.-x-o---.-", "----x-------x---", "x-x-x-x-x-x-x-x-", "--------------.-"),
    "disco": ("x---x---x---x---", "----x-------x---", "x---x---x---x---", "--x---x---x---x-"),
    "funk": ("x-.---o---x--.--", "----x--.-.--x--o", "xoxoxoxoxoxoxoxo", "------.-------.-"),
    "bossa": ("x--ox---x--ox---", "x--x--x---x--x--", "x-x-x-x-x-x-x-x-", "----------------"),
    "reggae": ("------.-x-----.-", "--------x----.--", "x-x-x-xox-x-x-xo", "--------------o-"),
    "half-time": ("x--.---.--o-----", "--------x------.", "x-x-x-x-x-x-x-x-", "--------------o-"),
}
TIMES = {"rock": 116, "disco": 120, "funk": 100, "bossa": 132, "reggae": 76, "half-time": 140}


def grooves() -> None:
    """Drums of six styles by rules: 12 files of 8 bars each, MIDI; some bars end in a fill."""
    chance = {"x": 0.97, "o": 0.6, ".": 0.2, "-": 0.0}
    files = {}
    for style, lines in GROOVES.items():
        draw = np.random.default_rng([0, len(files)])
        usual = np.array([[chance[mark] for mark in line] for line in lines]).T
        for number in range(12):
            grid = np.zeros((8 * 16, len(DRUMS)), np.bool_)
            for bar in range(8):
                part = grid[16 * bar : 16 * bar + 16]
                part[:, :4] = draw.random((16, 4)) < usual
                part[part[:, 3], 2] = False  # the hat is open or closed
                if bar % 4 == 3 and draw.random() < 0.5:  # a fill of toms, from high to low
                    part[12:] = False
                    part[np.arange(12, 16), 6 - np.sort(draw.integers(3, size=4))] = True
                part[0, 7] = bar == 0 and draw.random() < 0.3
            music = from_grid(grid, TIMES[style] * 2 ** draw.uniform(-0.15, 0.15), 4, 4)
            raw = midi_bytes(music.as_midi(), music.tempo, (4, 4))
            files[f"{style}/{number:02}.mid"] = raw
    write_zip("grooves/grooves.zip", files, packed=True)


VOICES = {"piano": 0, "bells": 9, "organ": 19, "strings": 48, "brass": 56, "flute": 73}


def tones() -> None:
    """Notes of six voices of aigc's own synthesizer: 10 pitches of each, 8 kHz, 8 bits."""
    files = {}
    for voice, program in VOICES.items():
        draw = np.random.default_rng([0, program])
        for pitch in range(50, 80, 3):
            ticks, loud = int(draw.integers(200, 300)), int(draw.integers(90, 128))
            note = np.array([[0, ticks, pitch, program, loud]])
            samples = render(note, 0.001, sample_rate=8000) * np.float32(loud / 127)
            files[f"{voice}/{pitch}.wav"] = eight_bits(samples)
    write_zip("tones/tones.zip", files, packed=True)


def eight_bits(samples: np.ndarray) -> bytes:
    """A mono WAV file of 8 kHz."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(1)
        file.setframerate(8000)
        file.writeframes(np.round(samples * 127 + 128).astype(np.uint8).tobytes())
    return buffer.getvalue()


def shapes() -> None:
    """Six surfaces of formulas, as closed triangle meshes that fit into [-1, 1]."""
    along = 2 * np.pi * np.arange(80) / 80
    made = {
        "torus": tube(np.stack([np.cos(along), np.sin(along), 0 * along], 1), 0.35),
        "trefoil_knot": tube(knot(2, 3, along), 0.22),
        "cinquefoil_knot": tube(knot(2, 5, along), 0.16),
        "sphere": ball(lambda direction: np.ones(len(direction))),
        "rounded_cube": ball(lambda d: (np.abs(d) ** 6).sum(1) ** (-1 / 6)),
        "octahedron": ball(lambda d: 1 / np.abs(d).sum(1)),
    }
    files = {f"{name}.obj": obj(*mesh) for name, mesh in made.items()}
    write_zip("shapes/shapes.zip", files, packed=True)


def scenes() -> None:
    """48 + 16 drawings of balls, bricks and tents on two-colored ground, with their boxes."""
    draw = random.Random(0)
    classes = {name: number for number, name in enumerate(("ball", "brick", "tent"), 1)}
    for part, count in (("train", 48), ("validation", 16)):
        pictures, objects = [], []
        for number in range(count):
            image, found = scene(draw)
            name = f"{number:02}.webp"
            path = OUT / "scenes" / part / "images" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path, lossless=True, quality=100, method=6, exact=True)
            pictures.append(coco_image(number + 1, name, *image.size))
            objects += coco_objects(found, number + 1, len(objects) + 1, classes)
        path = OUT / "scenes" / part / "coco.json"
        path.write_bytes(coco_json(pictures, objects, classes))


def scene(draw: random.Random, side: int = 96) -> tuple[Image.Image, Boxes]:
    """One to five objects that hide each other by a fifth at most; each color of any object."""

    def color(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw.randrange(low, high, 15) for _ in range(3))

    image = Image.new("RGB", (side, side), color(120, 256))
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, draw.randrange(side // 4, side), side, side), fill=color(120, 256))
    boxes: list[list[int]] = []
    names: list[str] = []
    for _ in range(draw.randint(1, 5)):
        w = h = draw.randrange(12, 44)
        name = draw.choice(("ball", "brick", "tent"))
        if name != "ball":
            h = max(8, round(w * draw.choice((0.5, 0.7, 1.0))))
        left, top = draw.randrange(side - w), draw.randrange(side - h)
        box = [left, top, left + w, top + h]
        if any(shared(box, other) > 0.2 for other in boxes):
            continue
        corners = (left, top, left + w - 1, top + h - 1)
        match name:
            case "ball":
                pen.ellipse(corners, fill=color(0, 120))
            case "brick":
                pen.rectangle(corners, fill=color(0, 120))
            case "tent":
                points = ((left + w // 2, top), (left + w - 1, top + h - 1), (left, top + h - 1))
                pen.polygon(points, fill=color(0, 120))
        boxes.append(box)
        names.append(name)
    return image, Boxes(np.array(boxes, dtype=np.float64), tuple(names))


def shared(a: list[int], b: list[int]) -> float:
    """The part of the smaller box that both have."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return max(0, width) * max(0, height) / min(areas)


def knot(p: int, q: int, t: np.ndarray) -> np.ndarray:
    """(N, 3) points of the torus knot (p, q)."""
    radius = 1 + 0.4 * np.cos(q * t)
    return np.stack([radius * np.cos(p * t), radius * np.sin(p * t), 0.4 * np.sin(q * t)], 1)


def tube(center: np.ndarray, radius: float, around: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """A closed tube around a closed curve (N, 3): vertices and faces."""
    tangent = np.roll(center, -1, 0) - np.roll(center, 1, 0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    side = np.cross(tangent, [0.0, 0.0, 1.0])
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    up = np.cross(side, tangent)
    angle = 2 * np.pi * np.arange(around) / around
    rings = np.cos(angle)[:, None] * side[:, None] + np.sin(angle)[:, None] * up[:, None]
    vertices = (center[:, None] + radius * rings).reshape(-1, 3)
    i, j = np.meshgrid(np.arange(len(center)), np.arange(around), indexing="ij")
    right, above = (i + 1) % len(center), (j + 1) % around
    a, b, c, d = (m * around + n for m, n in ((i, j), (right, j), (right, above), (i, above)))
    faces = np.concatenate([np.stack([a, b, c], -1), np.stack([a, c, d], -1)]).reshape(-1, 3)
    return vertices, faces


def ball(radius: Callable[[np.ndarray], np.ndarray], n: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """A star-shaped solid: a cube of n x n squares a side, pushed to `radius(direction)`."""
    points: dict[tuple[float, ...], int] = {}
    faces = []
    grid = np.linspace(-1, 1, n + 1)
    for axis, end in itertools.product(range(3), (-1.0, 1.0)):
        for i, j in itertools.product(range(n), range(n)):
            square = []
            for x, y in ((i, j), (i + 1, j), (i + 1, j + 1), (i, j + 1))[:: int(end)]:
                corner = tuple(np.insert([grid[x], grid[y]], axis, end).round(9).tolist())
                square.append(points.setdefault(corner, len(points)))
            # The second axis has the cyclic order of the others turned round.
            square = square if axis != 1 else square[::-1]
            faces += [square[:3], [square[0], *square[2:]]]
    direction = np.array(list(points))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return direction * radius(direction)[:, None], np.array(faces)


def obj(vertices: np.ndarray, faces: np.ndarray) -> bytes:
    """Wavefront OBJ, scaled to fit."""
    vertices = vertices / np.abs(vertices).max()
    lines = [f"v {x:.5f} {y:.5f} {z:.5f}" for x, y, z in vertices]
    return text([*lines, *(f"f {a} {b} {c}" for a, b, c in faces + 1)])


def content(path: Path) -> bytes:
    """The bytes of a file, unpacked; also where only its packed form is there."""
    packed = path if path.suffix == ".gz" else path.with_name(f"{path.name}.gz")
    return (
        path.read_bytes()
        if path.suffix != ".gz" and path.exists()
        else gzip.decompress(packed.read_bytes())
    )


def pictures(source: Path, wanted: tuple[str, ...]) -> dict[str, bytes]:
    pattern = rf"(?:.*/)?((?:{'|'.join(wanted)})/[^/]+\.png)$"
    return members(source, pattern)


def members(source: Path, pattern: str) -> dict[str, bytes]:
    """Files below a folder or in its train.zip, by what the group of `pattern` finds."""
    if (source / "train.zip").exists():
        with zipfile.ZipFile(source / "train.zip") as archive:
            found = {n: archive.read(n) for n in archive.namelist() if re.match(pattern, n)}
    else:
        paths = {p.relative_to(source).as_posix(): p for p in source.rglob("*") if p.is_file()}
        found = {n: p.read_bytes() for n, p in paths.items() if re.match(pattern, n)}
    return {re.match(pattern, n)[1]: raw for n, raw in sorted(found.items())}  # type: ignore[index]


def text(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def write_gz(name: str, raw: bytes) -> None:
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=9, mtime=0) as file:
        file.write(raw)
    write(name, buffer.getvalue())


def write_zip(name: str, files: dict[str, bytes], packed: bool = False) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for member, raw in sorted(files.items()):
            info = zipfile.ZipInfo(member, (1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
            archive.writestr(info, raw)
    write(name, buffer.getvalue())


def write(name: str, raw: bytes) -> None:
    path = OUT / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
