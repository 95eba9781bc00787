"""`packing: separate`: one document a row, in batches of about one length."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from aigc_cli.data.text import Config, Data
from aigc_cli.specs.text import IGNORE


def test_each_row_is_one_document(tmp_path: Path) -> None:
    lines = ["a dog runs", "two red cats sleep", "a man", "red dog runs and runs and runs"]
    (tmp_path / "train.txt").write_text("\n".join(lines) + "\n")
    (tmp_path / "val.txt").write_text("a cat\n")
    data = Data(
        Config(
            train=str(tmp_path / "train.txt"),
            val=str(tmp_path / "val.txt"),
            documents="line",
            packing="separate",
            overlong="truncate",
            context=5,
            tokenizer={"kind": "words"},  # type: ignore[arg-type]
            cache="off",
        ),
        seed=0,
    )
    items = [data.train[(number, 0)] for number in range(len(data.train))]
    whole = [data.tokenizer.decode(item["target"].tolist()) for item in items]
    assert whole == [*lines[:3], "red dog runs and runs"]
    assert [len(item["target"]) for item in items] == data.train.lengths.tolist() == [4, 5, 3, 5]
    batch = data.train.collate(items)
    assert set(batch) == {"tokens", "target"}
    assert batch["tokens"][:, 0].eq(data.tokenizer.bos_id).all()
    assert (batch["target"] == IGNORE).sum() == 3
    assert np.all(batch["target"][2, :3].numpy() == items[2]["target"].numpy())
