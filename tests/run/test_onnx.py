"""Graphs for ONNX Runtime compute what `aigc sample` computes, or are not written."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from aigc_cli.errors import InputError, MissingError, RunError
from aigc_cli.recipe.example import example_recipe
from aigc_cli.registry import families, load_family
from aigc_cli.run import onnx_export
from aigc_cli.run.build import attach_networks, build
from aigc_cli.run.graph import graph_of
from aigc_cli.run.onnx_export import check, probes, quality, write_onnx
from aigc_cli.run.trained import Trained
from aigc_cli.sampling.noise import SampleNoise

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

ROOT = Path(__file__).resolve().parents[2]
IMAGES = sorted(
    name
    for name in families()
    if not load_family(name).Model.training_free
    and (
        load_family(name).Model.makes == "image"
        or (load_family(name).Model.makes, load_family(name).Model.takes) == ("labels", "image")
    )
)
"""Families of images, and classifiers of them."""


def untrained(family: str, folder: Path, **sample: Any) -> Trained:
    """The smallest network of a family with its initial weights."""
    recipe = example_recipe(family, folder)
    if sample:
        recipe = recipe.model_copy(update={"sample": recipe.sample.model_copy(update=sample)})
    data, model = build(recipe)
    attach_networks(model, recipe)
    return Trained(model.eval(), recipe, data.spec)


GAN_OF_COLORS = "untrained it differs by 0.0016 of 1 where 0.001 is allowed, so it is refused"


@pytest.fixture(scope="module")
def edsr(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """An EDSR of random weights, and its graph in fp32 and int8."""
    folder = tmp_path_factory.mktemp("edsr")
    trained = untrained("edsr", folder / "data")
    report = write_onnx(trained, folder, int8=True)
    return SimpleNamespace(trained=trained, folder=folder, report=report)


def test_a_graph_of_any_size_is_what_sample_makes(edsr: SimpleNamespace) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(edsr.folder / "model.onnx")
    model, options = edsr.trained.model, edsr.trained.recipe.sample
    for H, W in ((1, 1), (7, 40), (33, 18)):
        image = torch.rand(1, 3, H, W)
        (made,) = session.run(None, {"image": image.numpy()})
        wanted = model.sample(SampleNoise(0, 0, 1), options, image[0] * 2 - 1)
        assert np.abs(made - ((wanted + 1) / 2).clamp(0, 1).numpy()).max() < 1e-5
    assert edsr.report["checked"]["largest"] < 1e-5
    assert len(edsr.report["checked"]["shapes"]) > 4
    assert edsr.report["quality"]["psnr_rgb"] > 5


def test_int8_is_smaller_and_its_loss_is_measured(edsr: SimpleNamespace) -> None:
    small = edsr.report["int8"]
    assert 0 < small["difference"]["largest"] < 1
    assert small["quality"].keys() == edsr.report["quality"].keys()
    assert small["milliseconds"]["onnxruntime"] > 0


def test_a_graph_that_computes_something_else_is_not_exported(
    edsr: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def export(graph: Any, path: Path, trained: Trained) -> None:
        shutil.copy(edsr.folder / "model.onnx", path)
        with torch.no_grad():
            trained.model.net.tail.bias += 10  # levels of 255

    monkeypatch.setattr(onnx_export, "_export", export)
    changed = untrained("edsr", tmp_path / "data")
    changed.model.load_state_dict(edsr.trained.model.state_dict())
    with pytest.raises(RunError, match=r"differs by 0\.039.* nothing was exported"):
        write_onnx(changed, tmp_path)


def test_a_damaged_graph_is_one_sentence(edsr: SimpleNamespace, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes((edsr.folder / "model.onnx").read_bytes()[:1000])
    with pytest.raises(RunError, match="cannot open the graph"):
        check(graph_of(edsr.trained), path, probes(edsr.trained, graph_of(edsr.trained), None))


def test_the_script_of_the_docs_runs_an_export(
    edsr: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs/export.md").read_text(encoding="utf-8")
    script = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)[0]
    assert len(script.splitlines()) <= 20
    (tmp_path / "upscale.py").write_text(script)
    Image.new("RGB", (20, 12), "olive").save(tmp_path / "small.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        sys, "argv", ["upscale.py", str(edsr.folder / "model.onnx"), "small.png", "large.png"]
    )
    runpy.run_path("upscale.py", run_name="__main__")
    with Image.open("large.png") as large:
        assert large.size == (40, 24)


@pytest.mark.slow
@pytest.mark.parametrize(
    "family",
    [
        pytest.param(name, marks=[pytest.mark.xfail(strict=True, reason=GAN_OF_COLORS)])
        if name == "colorize_gan"
        else name
        for name in IMAGES
        if name != "edsr"
    ],
)
def test_every_family_of_images_has_a_graph(family: str, tmp_path: Path) -> None:
    steps = {"steps": 2} if family == "flow" else {}
    report = write_onnx(untrained(family, tmp_path / "data", **steps), tmp_path)
    # the annealed mean of colors enlarges what its logits differ by
    assert report["checked"]["largest"] < (1e-3 if family == "colorize" else 1e-4)
    assert report["checked"]["inputs"] >= 2


@pytest.mark.parametrize("family", ["yolo", pytest.param("ssd", marks=pytest.mark.slow)])
def test_the_boxes_of_a_graph_are_those_that_sample_finds(family: str, tmp_path: Path) -> None:
    """After the same suppression of boxes that overlap, written out here."""
    import onnxruntime
    from torchvision.ops import batched_nms

    trained = untrained(family, tmp_path / "data")
    write_onnx(trained, tmp_path)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    image = torch.rand(1, 3, 20, 60)
    model, options = trained.model, trained.recipe.sample.model_copy(update={"score": 0.01})
    canvas, scale = model.fit(image[0] * 2 - 1)
    (made,) = session.run(None, {"image": ((canvas[None] + 1) / 2).numpy()})
    boxes, scores = torch.from_numpy(made[0, :, :4]), torch.from_numpy(made[0, :, 4:])
    H, W = model.canvas
    boxes = boxes.clamp(0, 1) * torch.tensor([W, H, W, H])
    place, number = (scores >= 0.01).nonzero(as_tuple=True)
    there = (boxes[place, 2:] > boxes[place, :2]).all(1)
    place, number = place[there], number[there]
    kept = batched_nms(boxes[place], scores[place, number], number, options.overlap)[:100]
    boxes = (boxes[place][kept] / scale).clamp(max=torch.tensor([60.0, 20.0, 60.0, 20.0]))
    kept, boxes = (x[(boxes[:, 2:] > boxes[:, :2]).all(1)] for x in (kept, boxes))
    (found,) = model.sample(SampleNoise(0, 0, 1), options, image[0] * 2 - 1)
    assert len(found) == len(kept) > 0
    assert np.abs(found.boxes - boxes.numpy()).max() < 1e-3
    assert list(found.names) == [model.labels[i] for i in number[kept].tolist()]


def test_draws_and_classes_are_inputs(tmp_path: Path) -> None:
    graph = graph_of(untrained("dcgan", tmp_path, label=None))
    names = [port.name for port in graph.inputs]
    assert names == (["label", "noise1"] if graph.classes else ["noise1"])
    made = graph.module(*graph.example(3))
    assert made.shape[0] == 3
    assert graph.output.shape[1:] == made.shape[1:]


def test_labels_of_a_model_are_its_own_after_a_graph_was_made(tmp_path: Path) -> None:
    trained = untrained("dcgan", tmp_path)
    graph_of(trained)
    assert "labels_of" not in vars(trained.model)


@pytest.mark.parametrize(
    "family, told",
    [("lm", "--format hf"), ("deepdream", "style_fast"), ("faster_rcnn", "yolo and ssd")],
)
def test_families_without_a_graph_say_what_there_is_instead(
    family: str, told: str, tmp_path: Path
) -> None:
    model = load_family(family).Model
    stand_in = SimpleNamespace(
        model=object.__new__(model), recipe=SimpleNamespace(family=family), spec=None
    )
    with pytest.raises(InputError) as error:
        graph_of(stand_in)  # type: ignore[arg-type]
    assert told in str(error.value.hint)


def test_accuracy_is_that_of_the_runtime(edsr: SimpleNamespace, tmp_path: Path) -> None:
    known = probes(edsr.trained, graph_of(edsr.trained), None)
    found = quality(graph_of(edsr.trained), edsr.folder / "model.onnx", known)
    assert found == pytest.approx(edsr.report["quality"])


def test_without_the_extra_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_export.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingError, match="onnxruntime") as error:
        onnx_export.require_onnx()
    assert error.value.hint == 'pip install "aigc-cli[onnx]"'
    assert error.value.exit_code == 5


def test_metadata_says_what_the_graph_is(edsr: SimpleNamespace) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(edsr.folder / "model.onnx")
    facts = session.get_modelmeta().custom_metadata_map
    assert facts["family"] == "edsr"
    assert json.loads(facts["options"])["tile"] >= 0
