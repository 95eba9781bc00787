"""Files in the rows of a data set of Hugging Face, read as those of a folder are."""

from __future__ import annotations

import io
import json
import wave
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aigc_cli.data._named_files import classes_of, files_in, names_in
from aigc_cli.errors import DataError

pytest.importorskip("datasets")
AUDIO = (".wav", ".flac")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def sound(level: int) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(8000)
        out.writeframes(bytes([level, 0]) * 64)
    return file.getvalue()


def test_a_column_of_recordings_is_files_in_folders_of_their_class(tmp_path: Path) -> None:
    sounds = [sound(level) for level in range(3)]
    cells = [{"bytes": data, "path": f"{n}.wav"} for n, data in enumerate(sounds)]
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    table = pa.table({"audio": pa.array(cells, kind), "word": pa.array([1, 0, 1])})
    features = {
        "audio": {"sampling_rate": 8000, "_type": "Audio"},
        "word": {"names": ["no", "yes"], "_type": "ClassLabel"},
    }
    told = json.dumps({"info": {"features": features}})
    pq.write_table(table.replace_schema_metadata({"huggingface": told}), tmp_path / "words.parquet")

    found = list(files_in(f"hf:{tmp_path}/words.parquet", AUDIO, 1 << 20, "audio file"))
    assert [name for name, _ in found] == ["yes/row-0.wav", "no/row-1.wav", "yes/row-2.wav"]
    assert [data for _, data in found] == sounds
    assert classes_of([name for name, _ in found], None) == ["yes", "no", "yes"]


def test_a_column_of_bytes_is_known_by_how_they_begin(tmp_path: Path) -> None:
    tunes = [b"MThd one", b"RIFF no tune", b"MThd two", None]
    pq.write_table(pa.table({"score": pa.array(tunes, pa.binary())}), tmp_path / "tunes.parquet")
    source = f"hf:{tmp_path}/tunes.parquet"
    assert dict(files_in(source, (".mid",), 1 << 20, "MIDI file")) == {
        "row-0.mid": b"MThd one",
        "row-2.mid": b"MThd two",
        "row-3.mid": b"",  # which the parser then counts as skipped
    }
    assert names_in(source, (".mid",)) == ["row-0.mid", "row-2.mid", "row-3.mid"]
    assert max(len(data) for _, data in files_in(source, (".mid",), 4, "MIDI file")) == 5


def test_a_set_without_files_is_named_with_its_columns(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"], "number": [1]}), tmp_path / "texts.parquet")
    with pytest.raises(DataError, match="has no column that holds a MIDI file") as caught:
        list(files_in(f"hf:{tmp_path}/texts.parquet", (".mid",), 1, "MIDI file"))
    assert caught.value.hint == "columns: text, number"
