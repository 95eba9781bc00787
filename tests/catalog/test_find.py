"""Names of data in recipes: built-in sets, sets of the catalog, and what is here or is not."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import zipfile
from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pytest

from aigc_cli.catalog.builtin import FOLDER, builtins, find_builtin
from aigc_cli.catalog.entry import expand, load, names
from aigc_cli.catalog.find import data_folder, resolve, size_text
from aigc_cli.catalog.get import copy_builtin
from aigc_cli.catalog.prepare import PREPARE
from aigc_cli.catalog.uses import how_to_get, how_to_get_all, sets_of
from aigc_cli.cli import invoke
from aigc_cli.data._paths import find_path, json_part
from aigc_cli.errors import DataError
from aigc_cli.recipe.load import load_recipe
from aigc_cli.registry import load_family, recipes
from aigc_cli.run.paths import find_checkpoint


@pytest.mark.parametrize("name", names())
def test_every_entry_is_whole(name):
    entry = load(name)
    for source in entry.sources:
        for files in source.files:
            assert files.count == 1 or files.list_sha256 or files.tree, files.path
            if source.base:
                assert len(expand(files.path)) == files.count
    assert not entry.prepare or entry.prepare in PREPARE
    for inner in entry.parts.values():
        top = inner.partition("/")[0].partition(".npz:")
        top = top[0] + ".npz" if top[1] else top[0]
        assert any(path == inner or path.partition("/")[0] == top for path in entry.layout), inner
    if not entry.prepare and all(source.files for source in entry.sources):
        placed = [
            source.place(files, path)
            for source in entry.sources
            for files in source.files
            for path in expand(files.path)
        ]
        for path in entry.layout:
            assert any(begins(path, one) for one in placed), path


def begins(path: str, pattern: str) -> bool:
    """Whether a file of `pattern` may be `path` or lie below it."""
    parts, wanted = path.split("/"), pattern.split("/")
    return wanted[0] == "**" or (len(parts) <= len(wanted) and all(map(fnmatchcase, parts, wanted)))


def texts(data: object) -> list[str]:
    if isinstance(data, dict):
        return [text for key in data if key.startswith(("train", "val", "labels"))
                for text in texts(data[key])]  # fmt: skip
    return [data] if isinstance(data, str) else [t for d in data or () for t in texts(d)]


@pytest.mark.parametrize("name", recipes())
def test_every_shipped_recipe_says_where_its_data_comes_from(name, monkeypatch):
    monkeypatch.delenv("AIGC_PATH")
    recipe = load_recipe(name)
    if not recipe.is_trained:
        return
    data = recipe.as_dict()["data"]
    assert how_to_get(data) is not None
    for text in texts(data):
        if text.startswith("builtin:photos"):
            continue
        if text.startswith("builtin:"):
            assert Path(find_builtin(text)).parts, text
        elif text.partition("/")[0] in names():
            entry = load(text.partition("/")[0])
            rest = text.partition("/")[2]
            tops = {path.partition("/")[0] for path in (*entry.layout, *entry.parts)}
            file, _ = json_part(rest) or (rest, None)
            assert not rest or rest in entry.parts or file.partition("/")[0] in tops, text
        else:
            # A share such as 10%, `auto`, or the name of a class; never a path nobody can get.
            assert "/" not in text or "%" in text, text


DEMOS = [name for name in recipes() if name.endswith("_demo") and "instruction" not in name]


def test_every_verb_and_modality_has_a_demo():
    families = {load_recipe(name).family for name in DEMOS}
    assert families >= {
        "dcgan", "vae", "flow", "pix2pix", "cyclegan", "munit", "colorize", "style_optim",
        "deepdream", "classifier", "yolo", "edsr", "lm", "chat", "seq2seq", "summarize", "text_vae",
        "text_classifier", "music_lm", "music_vae", "rhythm_vae", "wavenet", "audio_classifier",
    }  # fmt: skip
    made = {load_family(family).Model.makes for family in families}
    assert made == {"image", "boxes", "labels", "text", "music", "audio"}


@pytest.mark.parametrize("name", DEMOS)
def test_a_demo_needs_no_download(name):
    recipe = load_recipe(name)
    assert recipe.init_from is None
    assert not recipe.is_trained or how_to_get(recipe.as_dict()["data"]) == "built in"
    features = recipe.model.model_dump().get("features")
    assert features in (None, "none") or features.startswith("random:")


@pytest.mark.parametrize("name", DEMOS)
def test_the_shell_session_of_ci_runs_every_demo(name):
    session = (Path(__file__).parents[1] / "smoke.sh").read_text("utf-8")
    assert re.search(rf"\b(demo|sample) {name}\b", session)


def test_a_set_that_is_not_here_is_one_line_with_command_and_size(capsys):
    for words in (["data", "show", "fashion_mnist"], ["train", "dcgan_fashion_mnist", "--dry-run"]):
        assert invoke(words) == 2
        lines = capsys.readouterr().err.splitlines()
        assert lines[-1].endswith("is not here: get it with aigc data get fashion_mnist (31 MB)")
        assert lines[-1].startswith("error: ")


def test_a_name_means_its_first_part_and_name_slash_part_another(data):
    (data / "mnist").mkdir(parents=True)
    for file in ("train-images-idx3-ubyte.gz", "t10k-images-idx3-ubyte.gz"):
        (data / "mnist" / file).write_bytes(b"")
    assert resolve("mnist") == str(data / "mnist/train-images-idx3-ubyte.gz")
    assert resolve("mnist/test") == str(data / "mnist/t10k-images-idx3-ubyte.gz")


def test_a_part_may_be_arrays_of_a_file(data):
    (data / "pneumoniamnist").mkdir(parents=True)
    (data / "pneumoniamnist/pneumoniamnist.npz").write_bytes(b"")
    there = data / "pneumoniamnist/pneumoniamnist.npz"
    assert resolve("pneumoniamnist") == f"{there}:train"
    assert resolve("pneumoniamnist/test") == f"{there}:test"


def test_a_part_that_is_missing_is_no_wrong_name(data):
    (data / "mnist").mkdir(parents=True)
    with pytest.raises(DataError, match="has no 't10k") as caught:
        resolve("mnist/t10k-images-idx3-ubyte.gz")
    assert caught.value.hint.endswith("fetch it anew with aigc data get mnist")


def test_a_set_may_lie_packed(data):
    (data / "goemotions").mkdir(parents=True)
    (data / "goemotions/train.tsv.gz").write_bytes(gzip.compress(b"so glad\t17\n"))
    assert resolve("goemotions/train.tsv") == str(data / "goemotions/train.tsv.gz")
    (data / "clothing").mkdir()
    with zipfile.ZipFile(data / "clothing/train.zip", "w") as archive:
        archive.writestr("shorts/1.jpg", b"")
    assert resolve("clothing/train/shorts") == f"{data / 'clothing/train.zip'}/shorts"


def test_what_exists_in_the_working_folder_wins(tmp_path):
    (tmp_path / "facades/train").mkdir(parents=True)
    assert resolve("facades/train", [tmp_path]) == "facades/train"


@pytest.mark.parametrize("files", [["run.lock"], ["recipe.yaml", "status.json"], None])
def test_a_run_and_an_empty_folder_hide_no_set(data, tmp_path, files):
    """`aigc train music_lm_pop909 --out pop909` writes a folder of the name of its own data."""
    (data / "pop909").mkdir(parents=True)
    (data / "pop909/1.mid").write_bytes(b"")
    own = tmp_path / "here/pop909"
    (own / "checkpoints").mkdir(parents=True) if files else own.mkdir(parents=True)
    for name in files or ():
        (own / name).write_bytes(b"")
    assert find_path("pop909", [own.parent]) == data / "pop909"
    shutil.rmtree(data / "pop909")
    with pytest.raises(DataError, match="'pop909' is not here: get it with aigc data get pop909"):
        find_path("pop909", [own.parent])
    (own / "mine.mid").write_bytes(b"")
    if files is None:  # somebody's own files
        assert find_path("pop909", [own.parent]) == own


def test_a_run_is_no_data(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tune/checkpoints").mkdir(parents=True)
    (tmp_path / "tune/recipe.yaml").write_bytes(b"")
    for words in (
        ["train", "music_lm_demo", "data.train=tune"], ["train", "tune", "--budget", "1m"],
        ["train", "tune"], ["data", "check", "tune"], ["augment", "tune", "--out", "more"],
    ):  # fmt: skip
        assert invoke(words) == 2
        error = capsys.readouterr().err
        assert re.search(r"tune' is the folder of a run, not of data\n.*--resume \S*tune\n", error)


def test_a_folder_of_data_hides_no_run_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tune").mkdir()
    (tmp_path / "tune/1.mid").write_bytes(b"")
    best = tmp_path / "runs/tune/latest/checkpoints/best.ckpt"
    best.parent.mkdir(parents=True)
    best.write_bytes(b"")
    assert find_checkpoint("tune").resolve() == best


def test_a_set_beside_the_recipe_is_found(tmp_path):
    (tmp_path / "lab/mnist").mkdir(parents=True)
    (tmp_path / "lab/mnist/train-images-idx3-ubyte.gz").write_bytes(b"")
    found = resolve("mnist", [tmp_path, tmp_path / "lab"])
    assert found == str(tmp_path / "lab/mnist/train-images-idx3-ubyte.gz")


def test_a_file_that_the_set_lacks_names_the_nearest(data):
    (data / "goemotions").mkdir(parents=True)
    with pytest.raises(DataError, match=r"has no 'trian.tsv'") as caught:
        resolve("goemotions/trian.tsv")
    assert caught.value.hint == "did you mean 'train.tsv'?"


@pytest.mark.parametrize(
    "text, message, hint",
    [
        ("builtin:emojy:yellow", "unknown builtin data 'emojy'", "did you mean 'emoji'?"),
        ("builtin:emoji:yelow", "builtin:emoji has no part 'yelow'", "did you mean 'yellow'?"),
    ],
)
def test_an_unknown_builtin_names_the_nearest(text, message, hint):
    with pytest.raises(DataError, match=message) as caught:
        find_builtin(text)
    assert caught.value.hint == hint


def test_a_builtin_set_of_one_part_is_that_part():
    assert find_builtin("builtin:pop909") == find_builtin("builtin:pop909:songs")
    assert find_builtin("builtin:emoji").is_dir()


@pytest.mark.parametrize("name", [n for n in builtins() if n != "photos"])
def test_every_builtin_set_is_there_and_has_its_notice(name):
    for part, inner in builtins()[name].parts.items():
        path = find_builtin(f"builtin:{name}:{part}")
        archive, _, folder = str(path).partition(".zip/")
        if folder:
            with zipfile.ZipFile(f"{archive}.zip") as opened:
                assert any(member.startswith(f"{folder}/") for member in opened.namelist()), inner
        else:
            assert path.is_file() or any(path.iterdir()), inner
    assert f"## {name}\n" in (FOLDER / "NOTICES.md").read_text("utf-8")


def test_builtin_sets_are_small_enough_for_a_wheel():
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 5_000_000


def test_every_pair_of_tatoeba_keeps_its_attribution():
    for part in ("train", "validation"):
        with gzip.open(find_builtin(f"builtin:tatoeba:{part}"), "rt", encoding="utf-8") as file:
            assert all("tatoeba.org #" in line.split("\t")[2] for line in file)


def test_no_sentence_that_validates_trains():
    sides = []
    for part in ("train", "validation"):
        with gzip.open(find_builtin(f"builtin:tatoeba:{part}"), "rt", encoding="utf-8") as file:
            sides.append({line.split("\t")[0].lower() for line in file})
    assert not sides[0] & sides[1]


def test_a_builtin_set_can_be_copied(tmp_path):
    assert (copy_builtin("builtin:pop909", tmp_path) / "songs.zip").is_file()


def test_sets_of_a_recipe():
    data = {"train": ["bsds500/train", "mine/photos"], "val": "builtin:photos:validation"}
    assert sets_of(data) == ("bsds500", "builtin:photos")
    assert how_to_get(data) == "aigc data get bsds500"
    assert how_to_get({"train": "builtin:emoji:yellow"}) == "built in"
    assert how_to_get({"train": "mine"}) is None


def test_a_recipe_is_got_with_the_models_that_it_needs():
    chat = {"init_from": "smollm2", "data": {"train": "instruction_demo/alpaca_en_demo.json"}}
    assert how_to_get_all(chat) == "aigc data get instruction_demo; aigc model get smollm2"
    dream = {"model": {"features": "imagenet"}}
    assert how_to_get_all(dream) == "aigc model get efficientnet_lite0"
    assert how_to_get_all({"model": {"features": "random:vgg19"}}) == "built in"
    assert how_to_get_all({"data": {"train": "mine"}}) is None


def test_every_recipe_is_got_by_one_line(capsys):
    assert invoke(["recipe", "ls", "--json"]) == 0
    shipped = [r for r in json.loads(capsys.readouterr().out)["recipes"] if "toy" not in r["path"]]
    assert len(shipped) > 100
    for row in shipped:
        assert re.fullmatch(r"built in|(aigc (data|model) get [\w ]+(; )?)+", row["get"]), row
        assert row["from"], row
    some = {re.sub(r"(?<=get )[\w ]+", "", row["get"]): row for row in shipped}  # one of each form
    assert len(some) == 4
    for row in some.values():
        assert invoke(["recipe", "show", row["path"]]) == 0
        told = "its data is built in" if row["get"] == "built in" else f"get its data: {row['get']}"
        assert capsys.readouterr().err == f"{told}\n"


def test_ls_filters_by_modality_and_word(capsys):
    assert invoke(["data", "ls", "bach", "--modality", "music"]) == 0
    assert invoke(["data", "ls", "chorales"]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("jsb_chorales")
    assert invoke(["data", "ls", "--modality", "musik"]) == 2
    assert "did you mean 'music'?" in capsys.readouterr().err


def test_the_data_folder_is_that_of_the_system_without_aigc_data(monkeypatch, tmp_path):
    monkeypatch.delenv("AIGC_DATA")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert data_folder().parts[-2:] == ("aigc", "data")


def test_sizes_are_for_people():
    assert [size_text(n) for n in (5_200, 1_115_394, 448_993_893)] == ["5.2 kB", "1.1 MB", "449 MB"]


def test_every_shape_is_a_closed_surface_that_turns_outward():
    with zipfile.ZipFile(find_builtin("builtin:shapes:meshes")) as archive:
        assert len(archive.namelist()) == 6
        for name in archive.namelist():
            rows = [line.split() for line in archive.read(name).decode().splitlines()]
            vertices = np.array([row[1:] for row in rows if row[0] == "v"], float)
            faces = np.array([row[1:] for row in rows if row[0] == "f"], int) - 1
            edges = Counter((f[i], f[(i + 1) % 3]) for f in faces.tolist() for i in range(3))
            assert all(count == 1 and edges[b, a] == 1 for (a, b), count in edges.items()), name
            a, b, c = vertices[faces].transpose(1, 0, 2)
            assert (a * np.cross(b, c)).sum() / 6 > 0.1, name  # its volume, by the divergence
            assert np.abs(vertices).max() == pytest.approx(1, abs=1e-4)
