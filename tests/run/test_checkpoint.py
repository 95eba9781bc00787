"""Checkpoints: written whole or not at all, and read without trust."""

from __future__ import annotations

import os
import pickle
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from aigc_cli.errors import CheckpointError, OutputError
from aigc_cli.run.checkpoint import (
    link_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from tests.run.conftest import Ending, assert_same, load

Aigc = Callable[..., Ending]
Spoil = Callable[[Path], None]
ROOT = Path(__file__).resolve().parents[2]


def state_of(step: int = 1, size: int = 100) -> dict[str, Any]:
    """The smallest checkpoint of ours, its weights full of the step's number."""
    return {
        "format": 1,
        "aigc": "0",
        "step": step,
        "recipe": {"family": "edsr"},
        "recipe_path": None,
        "spec": {"kind": "super_resolution", "channels": 3, "scale": 2},
        "weights": {"w": torch.full((size,), float(step))},
        "ema": None,
        "optimizers": [],
        "scaler": None,
        "best": None,
    }


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    path = tmp_path / "whole.ckpt"
    save_checkpoint(state_of(), path)
    return path


@pytest.fixture
def run(aigc: Aigc, here: Path) -> Path:
    """A run of two steps with both checkpoints."""
    quick = ["trainer.max_steps=4", "trainer.checkpoint_every=3", "trainer.validate_every=2"]
    assert aigc("train", "edsr.yaml", "--out", "run", *quick).code == 0
    return here / "run"


# -- writing ---------------------------------------------------------------------------------------

SAVE_FOREVER = """
import sys
from pathlib import Path
from aigc_cli.run.checkpoint import save_checkpoint
from tests.run.test_checkpoint import state_of
path = Path(sys.argv[1])
step = int(sys.argv[2])
while True:
    step += 1
    save_checkpoint(state_of(step, size=2_000_000), path)
    print(step, flush=True)
"""


@pytest.mark.slow
def test_killed_inside_a_write_the_newest_whole_checkpoint_loads(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    chance = random.Random(0)
    done, caught = 0, 0
    for _ in range(20):
        words = [sys.executable, "-c", SAVE_FOREVER, str(path), str(done)]
        child = subprocess.Popen(words, stdout=subprocess.PIPE, cwd=ROOT, text=True)
        assert child.stdout is not None
        for _ in range(chance.randrange(1, 4)):
            child.stdout.readline()
        time.sleep(chance.uniform(0, 0.03))
        while not (found := list(tmp_path.glob(".tmp-*"))):  # a write has begun
            pass
        with_bytes = chance.uniform(0, 8e6)
        while sum(_size(p) for p in found) < with_bytes and any(p.exists() for p in found):
            pass
        child.kill()
        reported = [int(line) for line in child.communicate()[0].split()]
        caught += any(tmp_path.glob(".tmp-*"))
        step = load_checkpoint(path)["step"]
        assert (reported or [step])[-1] <= step
        assert step > done
        assert torch.equal(load(path)["weights"]["w"], torch.full((2_000_000,), float(step)))
        done = step
    assert caught >= 10, "most kills were inside a write"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def test_leftovers_of_a_kill_are_removed_at_the_next_start(aigc: Aigc, run: Path) -> None:
    left = [run / f"checkpoints/.tmp-{'0f' * 16}-last.ckpt", run / f".{'0f' * 16}.tmp"]
    for path in left:
        path.write_bytes(b"half")
    assert aigc("train", "--resume", "run", "trainer.max_steps=5").code == 0
    assert not [path for path in left if path.exists()]


def test_linking_the_same_checkpoint_twice_leaves_nothing_behind(whole: Path) -> None:
    for _ in range(2):
        link_checkpoint(whole, whole.with_name("best.ckpt"))
    assert sorted(p.name for p in whole.parent.iterdir()) == ["best.ckpt", "whole.ckpt"]


def test_best_stays_as_it_was_when_last_is_replaced(whole: Path) -> None:
    best = whole.with_name("best.ckpt")
    link_checkpoint(whole, best)
    save_checkpoint(state_of(2), whole)
    assert (load(best)["step"], load(whole)["step"]) == (1, 2)


def test_what_a_safe_load_would_refuse_is_not_saved(whole: Path) -> None:
    class Text(str):
        __slots__ = ()

    for value in (Path("x"), Text("x"), {1, 2}, torch.nn.Parameter(torch.zeros(1))):
        with pytest.raises(TypeError, match=r"checkpoint\['best'\]\['value'\] is a "):
            save_checkpoint({**state_of(2), "best": {"value": value}}, whole)
    assert load(whole)["step"] == 1


def test_a_folder_that_is_gone_or_read_only_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in ("gone/last.ckpt", "file/last.ckpt", "/proc/last.ckpt"):
        with pytest.raises(OutputError, match=r"last\.ckpt: cannot be written: "):
            save_checkpoint(state_of(), tmp_path / place)


def limit_files_to(number_of_bytes: int) -> None:
    """Any longer file fails with EFBIG, as on a full disk. Only for child processes: the tests' own
    output may go to a file.
    """
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (number_of_bytes, resource.RLIM_INFINITY))


SAVE_ON_FULL_DISKS = """
import sys
from pathlib import Path
from aigc_cli.errors import DiskFullError
from aigc_cli.run.checkpoint import load_checkpoint, save_checkpoint
from tests.run.test_checkpoint import limit_files_to, state_of
path = Path(sys.argv[1])
for room in (0, 1, 1000, 100_000, 390_000):
    limit_files_to(room)
    try:
        save_checkpoint(state_of(2, size=100_000), path)
    except DiskFullError as error:
        assert load_checkpoint(path)["step"] == 1
        assert [p.name for p in path.parent.iterdir()] == [path.name]
        print(error)
"""


def test_a_full_disk_leaves_the_previous_checkpoint(whole: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SAVE_ON_FULL_DISKS, str(whole)],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 5
    assert all("whole.ckpt: cannot write the checkpoint: File too" in line for line in lines)
    assert load_checkpoint(whole)["step"] == 1


def test_training_on_a_full_disk_ends_with_3_and_keeps_the_run(run: Path) -> None:
    before = (run / "checkpoints/last.ckpt").read_bytes()
    done = subprocess.run(
        [sys.executable, "-m", "aigc_cli", "train", "--resume", "run", "trainer.max_steps=8"],
        preexec_fn=lambda: limit_files_to(len(before) // 2),
        capture_output=True,
        text=True,
        env=os.environ.copy(),
    )
    assert done.returncode == 3, done.stderr
    assert re.search(
        r"error: run/checkpoints/last.ckpt: cannot write the checkpoint: File too large "
        r"\([\d,.]+ MB free\)\n"
        r"hint: free some space and continue with --resume; the previous checkpoint is intact\n$",
        done.stderr,
    )
    assert (run / "checkpoints/last.ckpt").read_bytes() == before
    assert not list(run.rglob(".tmp-*"))
    assert '"state": "failed"' in (run / "status.json").read_text()


@pytest.fixture
def small_disk(here: Path) -> Any:
    """A file system of 600 kB, where mounting one is permitted."""
    mounts = Path(
        tempfile.mkdtemp()
    )  # not in tmp_path, which pytest could not remove while mounted
    place = mounts / "disk"
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("mounting is not permitted here")
    (here / "disk").symlink_to(place)
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)
    shutil.rmtree(mounts)


@pytest.mark.parametrize("free", [0, 3000, 20_000, 60_000])
def test_a_disk_that_fills_up_while_training_ends_with_3(
    aigc: Aigc, here: Path, small_disk: Path, free: int
) -> None:
    quick = ["trainer.max_steps=4", "trainer.checkpoint_every=2", "trainer.validate_every=2"]
    assert aigc("train", "edsr.yaml", "--out", "disk/run", *quick).code == 0
    fill(small_disk, free)
    more = ["trainer.max_steps=400", "trainer.checkpoint_every=2", "trainer.preview_every=2"]
    ending = aigc("train", "--resume", "disk/run", *more)
    assert ending.code == 3, ending.err
    assert ending.err.count("error: ") == 1
    assert "this is a bug" not in ending.err
    assert "o space left" in ending.err
    assert load_checkpoint(small_disk / "run/checkpoints/last.ckpt")["step"] >= 4
    assert not list(small_disk.rglob(".tmp-*"))
    (small_disk / "ballast").unlink()
    shutil.rmtree(small_disk / "run/previews")
    assert aigc("train", "--resume", "disk/run", "trainer.max_steps=500").code in (0, 3)


def fill(disk: Path, free: int) -> None:
    """Write a file that leaves about `free` bytes."""
    stat = os.statvfs(disk)
    with (disk / "ballast").open("wb") as file:
        file.write(bytes(max(0, stat.f_bavail * stat.f_frsize - free)))


# -- reading ---------------------------------------------------------------------------------------


def cut(fraction: float) -> Spoil:
    def spoil(path: Path) -> None:
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * fraction)])

    return spoil


def replaced_by(data: bytes) -> Spoil:
    def spoil(path: Path) -> None:
        path.write_bytes(data)

    return spoil


def flipped_in(record: str) -> Spoil:
    """One bit of one record's content."""

    def spoil(path: Path) -> None:
        with zipfile.ZipFile(path) as archive:
            info = next(i for i in archive.infolist() if i.filename.endswith(record))
            content = archive.read(info)
        data = bytearray(path.read_bytes())
        at = data.index(content, info.header_offset) + len(content) // 2
        data[at] ^= 4
        path.unlink()  # it may be one file with best.ckpt
        path.write_bytes(data)

    return spoil


def as_torch_file(value: Any, **options: Any) -> Spoil:
    return lambda path: torch.save(value, path, **options)


def compressed(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        records = {i.filename: archive.read(i) for i in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in records.items():
            archive.writestr(name, content)


def text_in_a_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello.txt", "hello")


def changed(change: Callable[[dict[str, Any]], object]) -> Spoil:
    def spoil(path: Path) -> None:
        state = load(path)
        change(state)
        torch.save(state, path)

    return spoil


def without(key: str) -> Callable[[dict[str, Any]], object]:
    return lambda state: state.pop(key)


TRUNCATED = r"truncated or not a checkpoint \([\d,]+ bytes\)"
FOREIGN = "a torch file, but not a checkpoint written by aigc"
DAMAGED = r"damaged: record '\S+' does not match its checksum"

UNUSABLE: dict[str, tuple[Spoil, str]] = {
    "empty": (replaced_by(b""), "empty file"),
    "one byte": (replaced_by(b"P"), TRUNCATED),
    "zip magic only": (replaced_by(b"PK\3\4"), TRUNCATED),
    "1 percent": (cut(0.01), TRUNCATED),
    "half": (cut(0.5), TRUNCATED),
    "99 percent": (cut(0.99), TRUNCATED),
    "garbage": (replaced_by(random.Random(1).randbytes(5000)), TRUNCATED),
    "text": (replaced_by(b"family: edsr\n" * 99), TRUNCATED),
    "bit of the pickle": (flipped_in("data.pkl"), DAMAGED),
    "bit of a tensor": (flipped_in("data/0"), DAMAGED),
    "bit of the version": (flipped_in("/version"), DAMAGED),
    "compressed": (compressed, "refused: compressed records, which torch does not write"),
    "zip of text": (text_in_a_zip, "not a checkpoint of aigc, or damaged"),
    "a tensor": (as_torch_file(torch.zeros(3)), FOREIGN),
    "state dict": (as_torch_file({"a": torch.zeros(3)}), FOREIGN),
    "lightning's": (as_torch_file({"state_dict": {}, "epoch": 1, "global_step": 9}), FOREIGN),
    "legacy format": (
        as_torch_file({"a": torch.zeros(3)}, _use_new_zipfile_serialization=False),
        TRUNCATED,
    ),
    "newer format": (
        changed(lambda state: state.update(format=99)),
        "checkpoint format 99, this aigc reads format 1\nhint: update aigc",
    ),
    "no optimizers": (changed(without("optimizers")), "'optimizers' is absent"),
    "step is text": (
        changed(lambda state: state.update(step="4")),
        "'step' is '4': input should be a valid integer",
    ),
    "weights are a list": (changed(lambda s: s.update(weights=[1])), "'weights' is a list: "),
    "weight is a number": (
        changed(lambda s: s["weights"].update(x=1.0)),
        r"'weights.x' is 1.0: input should be an instance of tensor",
    ),
    "a negative step": (changed(lambda s: s.update(step=-5)), "'step' is -5: input should be"),
    "another best": (changed(lambda s: s.update(best={"x": 1})), "'best.metric' is absent"),
    "optimizers are numbers": (
        changed(lambda s: s.update(optimizers=[1, 2])),
        "'optimizers.0' is 1: input should be",
    ),
    "missing tensor": (
        changed(lambda s: s["weights"].pop("net.head.bias")),
        r"does not fit the model: 'net.head.bias' is absent there and \(4,\) here",
    ),
    "extra tensor": (
        changed(lambda s: s["weights"].update({"net.tale": torch.zeros(2)})),
        r"does not fit the model: 'net.tale' is \(2,\) there and absent here",
    ),
    "other shape": (
        changed(lambda s: s["weights"].update({"net.head.bias": torch.zeros(5)})),
        r"does not fit the model: 'net.head.bias' is \(5,\) there and \(4,\) here",
    ),
    "other shape in the average": (
        changed(lambda s: s["ema"].update({"net.head.bias": torch.zeros(5)})),
        r"does not fit the model: 'net.head.bias' is \(5,\) there and \(4,\) here",
    ),
    "other family": (
        changed(lambda s: s.update(weights={"generator.0.bias": torch.zeros(5)}, ema=None)),
        r"does not fit the model: 'generator.0.bias' is \(5,\) there and absent here",
    ),
}


@pytest.mark.parametrize(("spoil", "sentence"), UNUSABLE.values(), ids=UNUSABLE.keys())
def test_an_unusable_checkpoint_is_one_sentence_and_2(
    aigc: Aigc, run: Path, spoil: Spoil, sentence: str
) -> None:
    path = run / "checkpoints/bad.ckpt"
    shutil.copy(run / "checkpoints/last.ckpt", path)
    spoil(path)
    before = tree(run)
    for words in (
        ("sample", "run/checkpoints/bad.ckpt", "--input", "photos", "--out", "made"),
        ("train", "edsr.yaml", "--resume", "run/checkpoints/bad.ckpt", "--out", "other"),
        ("train", "--resume", "run/checkpoints/bad.ckpt"),
        ("evaluate", "run/checkpoints/bad.ckpt"),
    ):
        ending = aigc(*words)
        assert ending.code == 2, ending.err
        assert re.match(rf"error: run/checkpoints/bad.ckpt: .*{sentence}", ending.err), ending.err
        assert len(ending.err.splitlines()) <= 2
        assert ending.out == ""
    assert tree(run) == before
    assert not Path("made").exists()
    assert not Path("other").exists()


def tree(folder: Path) -> dict[str, bytes]:
    """Every file with its content."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


class Touch:
    """Unpickling it makes the file `marker`."""

    def __init__(self, call: Callable[..., Any], *args: object) -> None:
        self.what = call, args

    def __reduce__(self) -> Any:
        return self.what


class Exec:
    def __reduce__(self) -> Any:
        return exec, ("open('marker', 'w').close()",)


def in_zip(value: Any) -> Spoil:
    """A torch file whose pickle is ours, its tensors and checksums untouched."""

    def spoil(path: Path) -> None:
        with zipfile.ZipFile(path) as archive:
            records = {i.filename: archive.read(i) for i in archive.infolist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in records.items():
                evil = pickle.dumps(value, protocol=2)
                archive.writestr(name, evil if name.endswith(".pkl") else content)

    return spoil


def by_torch(value: Any, **options: Any) -> Spoil:
    return lambda path: torch.save({**state_of(), "best": {"value": value}}, path, **options)


SYSTEM = Touch(os.system, "touch marker")
PAYLOADS: dict[str, Spoil] = {
    "os.system in a torch zip": in_zip(SYSTEM),
    "exec in a torch zip": in_zip(Exec()),
    "hidden in a real state": by_torch(SYSTEM),
    "hidden, old protocol": by_torch(SYSTEM, pickle_protocol=0),
    "subprocess": by_torch(Touch(subprocess.call, ["touch", "marker"])),
    "torch.load of another": by_torch(Touch(torch.load, "evil.pt")),
    "plain pickle": replaced_by(pickle.dumps(SYSTEM)),
    "plain pickle of a state": replaced_by(pickle.dumps({"format": 1, "aigc": Exec()})),
    "legacy torch file": by_torch(SYSTEM, _use_new_zipfile_serialization=False),
    "legacy torch file, exec": as_torch_file(Exec(), _use_new_zipfile_serialization=False),
}


@pytest.mark.parametrize("spoil", PAYLOADS.values(), ids=PAYLOADS.keys())
def test_a_malicious_pickle_does_not_run(aigc: Aigc, run: Path, here: Path, spoil: Spoil) -> None:
    for path in (run / "checkpoints/last.ckpt", run / "checkpoints/best.ckpt"):
        path.unlink()
        shutil.copy(here / "run/recipe.yaml", path)  # something to replace
        save_checkpoint(state_of(), path)
        spoil(path)
    for words in (
        ("sample", "run", "--input", "photos", "--out", "made"),
        ("evaluate", "run"),
        ("train", "edsr.yaml", "--resume", "run"),
        ("train", "edsr.yaml", "--out", "run", "--resume", "auto"),
        ("train", "edsr.yaml", "--out", "new", "init_from=run"),
        ("train", "--resume", "run/checkpoints/last.ckpt"),
    ):
        ending = aigc(*words)
        assert ending.code == 2
        assert re.match(
            r"error: run/checkpoints/(last|best)\.ckpt: (refused|truncated)", ending.err
        )
        assert not (here / "marker").exists()


def test_resume_auto_takes_best_when_last_is_damaged(aigc: Aigc, run: Path) -> None:
    best = load(run / "checkpoints/best.ckpt")["step"]
    flipped_in("data/0")(run / "checkpoints/last.ckpt")
    words = ("train", "edsr.yaml", "--out", "run", "--resume", "auto", "trainer.max_steps=6")
    ending = aigc(*words)
    assert ending.code == 0, ending.err
    assert (
        "warning: run/checkpoints/last.ckpt is damaged or absent; "
        "continuing from run/checkpoints/best.ckpt" in ending.err
    )
    assert f"step {best} of 6 steps" in ending.err
    assert load_checkpoint(run / "checkpoints/last.ckpt")["step"] == 6


def test_resume_auto_with_both_damaged_is_an_error(aigc: Aigc, run: Path) -> None:
    for name in ("last", "best"):
        cut(0.4)(run / f"checkpoints/{name}.ckpt")
    ending = aigc("train", "edsr.yaml", "--out", "run", "--resume", "auto")
    assert ending.code == 2
    assert re.match(rf"error: run/checkpoints/last.ckpt: {TRUNCATED}\n", ending.err)


def test_resume_auto_without_a_name_finds_a_run_of_which_only_best_is_left(
    aigc: Aigc, here: Path
) -> None:
    assert aigc("train", "edsr.yaml", "trainer.max_steps=4").code == 0
    (run,) = here.glob("runs/edsr/2*")
    (run / "checkpoints/last.ckpt").unlink()
    ending = aigc("train", "edsr.yaml", "--resume", "auto", "trainer.max_steps=6")
    assert ending.code == 0
    assert ending.out == f"{run.relative_to(here)}\n"


def test_any_mutation_loads_equal_or_is_refused(whole: Path, tmp_path: Path) -> None:
    """200 random edits: flipped bits, cuts, inserted, repeated and exchanged pieces."""
    expected, data = load(whole), whole.read_bytes()
    path = tmp_path / "mutant.ckpt"
    refused = equal = 0
    for seed in range(200):
        path.write_bytes(mutate(data, random.Random(seed)))
        try:
            state = load_checkpoint(path)
        except CheckpointError as error:
            refused += str(path) in error.message and "\n" not in error.message
        else:
            assert_same(state, expected, f"mutation {seed}")
            equal += 1
    assert refused + equal == 200
    assert refused > 100


def mutate(data: bytes, chance: random.Random) -> bytes:
    a, b = sorted(chance.randrange(len(data)) for _ in range(2))
    match chance.randrange(5):
        case 0:
            at, bit = chance.randrange(len(data)), 1 << chance.randrange(8)
            return data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :]
        case 1:
            return data[:a]
        case 2:
            return data[:a] + chance.randbytes(chance.randrange(1, 50)) + data[a:]
        case 3:
            return data[:b] + data[a:]
        case _:
            return data[:a] + data[b:] + data[a:b]


def test_every_single_bit_of_the_directory_loads_equal_or_is_refused(whole: Path) -> None:
    """Checksums cover the records; the directory behind them has none."""
    expected, data = load(whole), whole.read_bytes()
    first = data.index(b"PK\1\2")
    for at in range(first, len(data), 3):
        whole.write_bytes(data[:at] + bytes([data[at] ^ (1 << at % 8)]) + data[at + 1 :])
        try:
            state = load_checkpoint(whole)
        except CheckpointError:
            continue
        assert_same(state, expected, f"byte {at}")


def test_verify_reads_a_large_file_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "large.ckpt"
    save_checkpoint(state_of(size=40_000_000), path)
    script = f"""
        import resource
        from pathlib import Path
        from aigc_cli.run.checkpoint import verify_checkpoint
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        verify_checkpoint(Path({str(path)!r}))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
    words = [sys.executable, "-c", textwrap.dedent(script)]
    grown = int(subprocess.run(words, capture_output=True, check=True, cwd=ROOT).stdout)
    assert grown < 50_000, "kilobytes"


def test_a_pipe_or_a_folder_is_no_checkpoint(tmp_path: Path) -> None:
    """A pipe would block for ever."""
    os.mkfifo(tmp_path / "pipe.ckpt")
    for path in (tmp_path / "pipe.ckpt", tmp_path):
        with pytest.raises(CheckpointError, match="there is no such checkpoint"):
            load_checkpoint(path)
