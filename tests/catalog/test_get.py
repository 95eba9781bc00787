"""`aigc data get` against a server that cuts, corrupts and stalls."""

from __future__ import annotations

import errno
import io
import json
import shutil
import tarfile
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest

from aigc_cli.catalog import fetch, stage
from aigc_cli.catalog.consent import unverified
from aigc_cli.catalog.entry import load, names
from aigc_cli.catalog.find import resolve
from aigc_cli.catalog.get import get
from aigc_cli.catalog.prepare import PREPARE
from aigc_cli.cli import invoke
from aigc_cli.errors import DataError, DiskFullError, InputError, OutputError, RecipeError, RunError
from aigc_cli.media.midi import read_midi


def test_get_puts_the_verified_file_where_recipes_find_it(tiny, data):
    got = get("tiny")
    assert (data / "tiny/tiny.txt").read_bytes() == tiny
    assert not got.was_there
    assert resolve("tiny") == str(data / "tiny/tiny.txt")
    record = json.loads((data / "tiny/.aigc.json").read_text())
    assert record["license"] == "MIT"
    assert list(record["files"].values()) == [sha256(tiny).hexdigest()]


def test_no_network_when_the_data_is_there(tiny, server):
    get("tiny")
    server.requests.clear()
    assert get("tiny").was_there
    assert server.requests == []


def test_a_cut_download_goes_on_where_it_stopped(tiny, server, data):
    server.cuts = [40_000, 30_000]
    get("tiny")
    assert (data / "tiny/tiny.txt").read_bytes() == tiny
    assert [wanted for _, wanted in server.requests] == ["", "bytes=40000-", "bytes=70000-"]


def test_a_server_that_knows_no_ranges_is_read_from_the_start(tiny, server, data):
    server.cuts, server.ignores_ranges = [40_000], True
    get("tiny")
    assert (data / "tiny/tiny.txt").read_bytes() == tiny


def test_the_next_call_goes_on_with_what_a_killed_one_fetched(tiny, server, data, monkeypatch):
    monkeypatch.setattr(fetch, "ATTEMPTS", 1)
    server.cuts = [50_000, 0]
    with pytest.raises(RunError, match="cannot be fetched: the connection was cut"):
        get("tiny")
    assert not (data / "tiny").exists()
    server.requests.clear()
    get("tiny")
    assert server.requests == [("/a/tiny.txt", "bytes=50000-")]
    assert not list(data.glob(".tiny*"))


def test_a_stall_is_noticed_and_tried_again(tiny, server):
    server.stalls = 1
    get("tiny")
    assert len(server.requests) == 2


def test_a_server_that_only_stalls_ends_with_one_sentence(tiny, server, left, monkeypatch):
    monkeypatch.setattr(fetch, "ATTEMPTS", 2)
    server.stalls = 9
    with pytest.raises(RunError, match=r"nothing came for 1 seconds$"):
        get("tiny")
    assert left() == []


def test_no_network_names_the_address_and_the_mirror(tiny, entry, capsys, monkeypatch):
    monkeypatch.setattr(fetch, "ATTEMPTS", 1)
    files = [{"path": "x.txt", "sha256": "0" * 64}]
    entry("far", sources=[{"base": "http://127.0.0.1:9/", "files": files}], layout=["x.txt"])
    assert invoke(["data", "get", "far"]) == 3
    error = capsys.readouterr().err
    assert "error: http://127.0.0.1:9/x.txt cannot be fetched: Connection refused\n" in error
    assert "--mirror" in error


@pytest.mark.parametrize("status", [403, 404])
def test_a_refusal_is_not_tried_again(tiny, server, status, left):
    server.status = [status]
    with pytest.raises(RunError, match=f"the server answers {status}"):
        get("tiny")
    assert len(server.requests) == 1
    assert left() == []


def test_an_overloaded_server_is_tried_again(tiny, server):
    server.status = [503, 429]
    get("tiny")
    assert len(server.requests) == 3


def test_a_checksum_that_differs_leaves_nothing(tiny, server, left):
    server.files["/a/tiny.txt"] = tiny[:-1] + b"!"
    with pytest.raises(DataError, match=r"a/tiny.txt is not what the catalog knows: SHA-256"):
        get("tiny")
    assert left() == []


def test_another_size_is_refused_before_it_is_read(tiny, server, left):
    server.files["/a/tiny.txt"] = tiny + b"more"
    with pytest.raises(DataError, match=r"has 102,404 bytes, not the 102,400 of the catalog"):
        get("tiny")
    assert left() == []


def test_a_full_disk_is_said_before_anything_is_fetched(tiny, server, left, monkeypatch):
    usage = shutil.disk_usage(".")._replace(free=10_000)
    monkeypatch.setattr(stage.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DiskFullError, match=r"102\.4? ?|0.1 MB do not fit"):
        get("tiny")
    assert server.requests == []
    assert left() == []


def test_a_disk_that_fills_up_leaves_nothing(tiny, left, monkeypatch):
    def full(file, block):
        raise fetch.disk_error(OSError(errno.ENOSPC, "No space left on device"), Path("x"))

    monkeypatch.setattr(fetch, "write", full)
    with pytest.raises(DiskFullError, match="no space left"):
        get("tiny")
    assert left() == []


def test_a_license_that_limits_use_is_asked_for(tiny, server, entry, data, capsys):
    body = server.files["/a/tiny.txt"]
    files = [{"path": "a/tiny.txt", "sha256": sha256(body).hexdigest()}]
    entry("nc", sources=[{"base": server.address, "strip": "a/", "files": files}],
          layout=["tiny.txt"], license="CC-BY-NC-4.0", restricted=True)  # fmt: skip
    assert invoke(["data", "get", "nc"]) == 2
    assert capsys.readouterr().err.endswith(
        "error: data set 'nc' is not for every use: CC-BY-NC-4.0\n"
        "hint: aigc data get nc --accept, if you keep to that\n"
    )
    assert server.requests == []
    assert invoke(["data", "get", "nc", "--accept"]) == 0
    assert (data / "nc/tiny.txt").read_bytes() == body


def test_no_shipped_set_without_a_digest_is_fetched_unasked(server, left, tmp_path, capsys):
    """Whatever the catalog holds: one sentence, with the command, and nothing is asked of a server;
    all others are verified.
    """
    asked = []
    for name in names():
        entry = load(name)
        blind = [address for source in entry.sources for address in unverified(source)]
        if not blind and not entry.restricted:
            continue
        asked.append(name)
        assert invoke(["data", "get", name, "--mirror", server.address]) == 2
        error, hint = capsys.readouterr().err.splitlines()[-2:]
        assert error.startswith("error: ")
        assert not blind or f"nobody publishes a digest of {blind[0]}, so" in error
        assert not entry.restricted or f"{name!r} is not for every use: {entry.license}" in error
        assert f"aigc data get {name} --accept" in hint
    assert "modelnet10" in asked
    assert server.requests == []
    assert left() == []


def test_a_file_without_a_digest_is_accepted_once_and_then_pinned(server, entry, data):
    server.files["/x.txt"] = b"as it was"
    entry("bare", sources=[{"base": server.address, "files": [{"path": "x.txt"}]}],
          layout=["x.txt"])  # fmt: skip
    with pytest.raises(InputError, match="nobody publishes a digest of http"):
        get("bare")
    assert list(get("bare", accept=True).pinned.values()) == [sha256(b"as it was").hexdigest()]
    shutil.rmtree(data / "bare")
    get("bare")  # the digest is known now
    shutil.rmtree(data / "bare")
    server.files["/x.txt"] = b"changed!!"
    with pytest.raises(DataError, match="is not what it was when its digest was pinned"):
        get("bare", accept=True)
    assert not (data / "bare").exists()


def test_without_a_digest_nothing_is_resumed(server, entry, data, monkeypatch):
    monkeypatch.setattr(fetch, "ATTEMPTS", 1)
    server.files["/x.txt"] = b"0123456789" * 100
    entry("bare", sources=[{"base": server.address, "files": [{"path": "x.txt"}]}],
          layout=["x.txt"])  # fmt: skip
    server.cuts = [500, 0]
    with pytest.raises(RunError):
        get("bare", accept=True)
    server.requests.clear()
    get("bare", accept=True)
    assert server.requests == [("/x.txt", "")]


def test_git_blob_and_list_digests_are_those_of_git_and_sha256sum(server, entry, data):
    # `printf hello | git hash-object --stdin`, and the list by sha256sum, sort and sha256sum
    server.files |= {"/t/a.txt": b"hello", "/t/b.txt": b"world", "/t/c.txt": b"hello"}
    lines = sorted(
        f"{sha256(body).hexdigest()}  t/{name}\n" for name, body in
        (("a.txt", b"hello"), ("b.txt", b"world"))
    )  # fmt: skip
    listed = sha256("".join(lines).encode()).hexdigest()
    files = [
        {"path": "t/c.txt", "blob": "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0"},
        {"path": "t/{a,b}.txt", "count": 2, "list_sha256": listed},
    ]
    entry("git", sources=[{"base": server.address, "files": files}], layout=["t/a.txt"])
    get("git")
    assert (data / "git/t/b.txt").read_bytes() == b"world"


def zipped(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in files.items():
            archive.writestr(name, body)
    return buffer.getvalue()


def archived(entry, server, body: bytes, **keys: object) -> None:
    server.files["/set.zip"] = body
    source = {"archive": f"{server.address}set.zip", "sha256": sha256(body).hexdigest(), **keys}
    entry("packed", sources=[source], layout=["cat/1.txt"])


def test_an_archive_is_unpacked_from_its_only_folder(server, entry, data, left):
    files = {"top/cat/1.txt": b"miau", "top/dog/1.txt": b"wuff", "__MACOSX/top/._1": b"x"}
    archived(entry, server, zipped(**files), rooted=True)
    get("packed")
    assert left() == ["packed/.aigc.json", "packed/cat/1.txt", "packed/dog/1.txt"]


def test_an_archive_is_verified_by_its_files_when_it_has_no_digest(server, entry, data, left):
    server.files["/set.zip"] = zipped(**{"r-1/cat/1.txt": b"miau", "r-1/README": b"hm"})
    listed = sha256(f"{sha256(b'miau').hexdigest()}  cat/1.txt\n".encode()).hexdigest()
    files = [{"path": "cat/*.txt", "size": 4, "list_sha256": listed}]
    source = {"archive": f"{server.address}set.zip", "rooted": True, "files": files}
    entry("packed", sources=[source], layout=["cat/1.txt"])
    get("packed")
    assert left() == ["packed/.aigc.json", "packed/cat/1.txt"]
    shutil.rmtree(data / "packed")
    server.files["/set.zip"] = zipped(**{"r-1/cat/1.txt": b"muh!"})
    with pytest.raises(DataError, match="SHA-256 of the list"):
        get("packed")
    assert left() == []


@pytest.mark.parametrize(
    "name", ["../evil.txt", "/etc/evil", "a/../../evil", "C:/evil", "a\\..\\b"]
)
def test_a_name_that_leads_out_of_the_folder_unpacks_nothing(server, entry, left, name, tmp_path):
    archived(entry, server, zipped(**{"cat/1.txt": b"miau", name: b"evil"}))
    with pytest.raises(DataError, match=r"set\.zip holds .* leads out of its folder: nothing was"):
        get("packed")
    assert left() == []
    assert not list(tmp_path.rglob("evil*"))


def test_a_bomb_unpacks_nothing(server, entry, left):
    bomb = zipped(**{"cat/1.txt": bytes(10_000_000)})
    archived(entry, server, bomb, files=[{"path": "cat/*.txt", "size": 1000}])
    with pytest.raises(DataError, match=r"unpacks to 10,000,000 bytes, more than the 1,000"):
        get("packed")


def test_a_link_in_a_tar_is_refused(server, entry, tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        link = tarfile.TarInfo("cat/1.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    archived(entry, server, buffer.getvalue())
    with pytest.raises(DataError, match="is a link or device: nothing was unpacked"):
        get("packed")


def test_a_damaged_archive_is_named(server, entry, left):
    body = bytearray(zipped(**{"cat/1.txt": b"miau" * 1000}))
    body[40] ^= 0xFF
    archived(entry, server, bytes(body))
    with pytest.raises(DataError, match=r"set\.zip: 'cat/1\.txt' is damaged"):
        get("packed")
    assert left() == [], "or the next call would go on with it"


def test_what_came_must_have_the_layout_of_the_catalog(server, entry, data):
    archived(entry, server, zipped(**{"dog/1.txt": b"wuff"}))
    with pytest.raises(DataError, match=r"has no 'cat/1\.txt', which it should have"):
        get("packed")
    assert not (data / "packed").exists()


def test_a_folder_of_the_users_is_not_touched(tiny, data):
    (data / "tiny").mkdir(parents=True)
    (data / "tiny/mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="is there and is not this data set"):
        get("tiny")
    assert (data / "tiny/mine.txt").read_text() == "mine"


def test_originals_make_a_mirror_that_serves_by_folder_and_by_address(
    tiny, server, data, tmp_path, left
):
    mirror = tmp_path / "mirror"
    get("tiny", to=mirror, originals=True)
    host = server.address.removeprefix("http://").partition(":")[0]
    copy = mirror / host / "a/tiny.txt"
    assert copy.read_bytes() == tiny
    server.requests.clear()
    get("tiny", mirror=str(mirror))
    assert server.requests == []
    shutil.rmtree(data / "tiny")
    server.files[f"/lab/{host}/a/tiny.txt"] = tiny
    get("tiny", mirror=f"{server.address}lab")
    assert server.paths() == [f"/lab/{host}/a/tiny.txt"]
    assert (data / "tiny/tiny.txt").read_bytes() == tiny


def test_a_mirror_without_the_file_says_where_it_looked(tiny, tmp_path):
    with pytest.raises(DataError, match=r"the mirror has no '.*nowhere/127.0.0.1/a/tiny.txt'"):
        get("tiny", mirror=str(tmp_path / "nowhere"))


def test_two_processes_do_not_get_the_same_set_at_once(tiny, data):
    from filelock import FileLock

    (data / ".tiny.part").mkdir(parents=True)
    with FileLock(data / ".tiny.part/lock"), pytest.raises(OutputError, match="another process"):
        get("tiny")


def test_progress_counts_what_arrives_and_not_what_is_thrown_away(tiny, server):
    server.cuts, server.ignores_ranges = [40_000], True
    counted = []
    get("tiny", tick=counted.append)
    assert sum(counted) == len(tiny)


def test_a_wrong_entry_names_file_line_and_key(entry, tmp_path, capsys):
    entry("odd", sources=[{"base": "ftp://x/", "files": [{"path": "../x"}]}], layout=["x"])
    assert invoke(["data", "get", "odd"]) == 2
    error = capsys.readouterr().err
    assert "2 problems" in error
    assert "odd.yaml:8: sources.0.base: String should match pattern" in error
    assert "odd.yaml:10: sources.0.files.0.path: '../x' is no relative path" in error
    with pytest.raises(RecipeError):
        get("odd")


def test_json_is_one_object(tiny, capsys):
    assert invoke(["data", "get", "tiny", "--json"]) == 0
    out = capsys.readouterr().out
    assert json.loads(out)["sets"][0]["was_there"] is False


def test_a_folder_is_verified_by_the_tree_that_git_writes(server, entry, data):
    # Two files hello and world, git add and git write-tree.
    archived(entry, server, zipped(**{"d/a.txt": b"hello", "d/b.json": b"world", "cat/1.txt": b""}))
    tree = {"path": "d/", "count": 2, "tree": "8acde945edd7faf4687cb9dd9fe07d45235314a1"}
    source = {"archive": f"{server.address}set.zip", "files": [tree]}
    entry("packed", sources=[source], layout=["d/a.txt"])
    get("packed")
    assert (data / "packed/d/b.json").read_bytes() == b"world"
    source["files"] = [tree | {"tree": "0" * 40}]
    entry("other", sources=[source], layout=["d/a.txt"])
    with pytest.raises(
        DataError, match="git tree 8acde945edd7faf4687cb9dd9fe07d45235314a1, not 0000"
    ):
        get("other")


def test_patterns_of_tidal_become_midi(tmp_path):
    """By hand: a group is a beat, what is in it shares it, accents are loud."""
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    out.mkdir()
    (source / "All.hs").write_text('all = ["Rock1a"]\n')
    (source / "Rock1a.hs").write_text(
        'module Sound.Tidal.Drum.Rock1a where\n\nbps = 1.5\n\n'
        'bd = "[t ~] [~ t ~]" :: Pattern Bool\nac = "[~] [~ t ~]" :: Pattern Bool\n'
        'sn = "[~ ~] [[t t] ~]" :: Pattern Bool\n'
    )  # fmt: skip
    PREPARE["drum_patterns"](source, out)
    assert [path.name for path in (out / "train").iterdir()] == ["Rock1a.mid"]
    midi = read_midi((out / "train/Rock1a.mid").read_bytes(), "Rock1a.mid")
    assert midi.notes[:, [0, 2, 4]].tolist() == [
        [0, 36, 84], [480, 38, 84], [600, 38, 84], [640, 36, 112],
    ]  # fmt: skip
    assert midi.tempo == pytest.approx(90, abs=1e-3)
    assert set(midi.notes[:, 3].tolist()) == {128}


def test_what_recipes_read_is_made_of_the_originals(tmp_path):
    """Each in the form that its recipe reads; the values are by hand."""
    source, out = tmp_path / "source", tmp_path / "out"
    (source / "validation").mkdir(parents=True)
    out.mkdir()
    for name, line in (("", "Hi . __eou__ Hello ! __eou__"), ("_act", "1 2"), ("_emotion", "0 4")):
        (source / f"validation/dialogues{name}.txt").write_text(f"{line}\n")
    PREPARE["dailydialog"](source, out)
    assert json.loads((out / "validation.jsonl").read_text()) == {
        "turns": ["Hi .", "Hello !"], "act": [1, 2], "emotion": [0, 4],
    }  # fmt: skip
    for part in ("train", "dev", "test"):
        (source / part).mkdir()
    (source / "dev/a.subject").write_text(
        "Dear all,\nlunch?\n\n@subject\nLunch\n\n@ann0\nlunch at 1\n"
    )
    PREPARE["aeslc"](source, out)
    assert json.loads((out / "dev.jsonl").read_text()) == {
        "text": "Dear all,\nlunch?", "subject": "Lunch", "refs": ["lunch at 1"],
    }  # fmt: skip
    (source / "dev.tsv").write_text("ts\tan abstract\ta title\n")
    PREPARE["csl_titles"](source, out)
    assert json.loads((out / "dev.jsonl").read_text()) == {
        "abstract": "an abstract", "title": "a title",
    }  # fmt: skip
    for name in ("midi_score", "Ada01"):
        piece = source / f"Bach/Fugue/bwv_846/{name}.mid"
        piece.parent.mkdir(parents=True, exist_ok=True)
        piece.write_bytes(name.encode())
    (source / "metadata.csv").write_text("composer\n")
    PREPARE["asap"](source, out)
    assert (out / "score/Bach__Fugue_bwv_846.mid").read_bytes() == b"midi_score"
    assert (out / "performance/Bach__Fugue_bwv_846__Ada01.mid").read_bytes() == b"Ada01"
    (source / "input.txt").write_bytes(b"0123456789" * 2)
    PREPARE["tinyshakespeare"](source, out)
    assert (out / "val.txt").read_bytes() == b"89"
