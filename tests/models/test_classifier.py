"""Classifier: published sizes, layers as features, augmentation, learning, refusals."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchvision.models

from aigc_cli.errors import AigcError, DataError, InputError
from aigc_cli.models._base import Run, _Noise
from aigc_cli.models.vision.classifier import Config, Model, Options
from aigc_cli.nn.features import FeatureNetwork
from aigc_cli.recipe.sections import Trainer
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs.image import ImageSpec

SMALL: dict[str, Any] = {"widths": (4, 8), "depths": (1, 1)}


def made(size: int = 8, channels: int = 3, classes: int = 3, **config: Any) -> Model:
    torch.manual_seed(0)
    labels = tuple("abcdefghij"[:classes])
    model = Model(Config(**{**SMALL, **config}), ImageSpec(channels, size, labels))
    model.run = Run(Trainer(max_steps=1, global_batch=4), seed=0, max_steps=1)
    model._noise = _Noise(0, model.run, torch.device("cpu"))
    return model


def striped(n: int = 30, size: int = 8) -> dict[str, torch.Tensor]:
    """Class c has a bright band at a third of its own."""
    random = torch.Generator().manual_seed(0)
    label = torch.arange(n) % 3
    image = torch.rand(n, 3, size, size, generator=random) - 1
    for i, c in enumerate(label.tolist()):
        image[i, :, c * 3 : c * 3 + 2] += 1
    return {"image": image.clamp(-1, 1), "label": label}


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_resnets_have_torchvisions_number_of_parameters(name: str) -> None:
    with torch.device("meta"):
        model = made(64, arch=name, classes=10)
        theirs = getattr(torchvision.models, name)(weights=None, num_classes=10)
        small = made(32, arch=name, classes=10)
    count = sum(p.numel() for p in theirs.parameters())
    assert sum(p.numel() for p in model.net.parameters()) == count
    assert sum(p.numel() for p in small.net.parameters()) == count - 64 * 3 * (49 - 9)


@pytest.mark.parametrize("arch", ["cnn", "resnet18", "mlp"])
def test_layers_of_every_network_serve_as_features(arch: str) -> None:
    model = made(arch=arch).eval()
    network = FeatureNetwork(model.net, model.arch, "test")
    images = striped(4)["image"]
    found = network(images, ["pooled", "logits"])
    assert found["pooled"].shape == (4, network.channels["pooled"])
    torch.testing.assert_close(found["logits"].softmax(1), model.classify({"image": images}))
    again = FeatureNetwork.from_state(network.upto(["pooled"]).state())
    assert torch.equal(again(images, ["pooled"])["pooled"], found["pooled"])
    assert network(images.repeat(1, 1, 2, 2), ["pooled"])["pooled"].shape == found["pooled"].shape


@pytest.mark.parametrize(
    "config",
    [
        {"norm": True},
        {"norm": False, "optimizer": "sgd", "lr": 0.1},
        {"arch": "mlp", "widths": (32, 16), "dropout": 0.1, "label_smoothing": 0.1},
    ],
    ids=str,
)
def test_it_learns_and_names_probabilities(config: dict[str, Any]) -> None:
    model, batch = made(**{"lr": 1e-2, **config}), striped()
    optimizer = model.configure_optimizers()
    for _ in range(60):
        optimizer.zero_grad()
        model.loss(batch)["loss"].backward()
        optimizer.step()
    values = model.eval().evaluate_batch(batch)
    assert values["accuracy"].mean() > 0.9
    p = model.classify(batch)
    torch.testing.assert_close(p.sum(1), torch.ones(30))
    log_p = p.gather(1, batch["label"][:, None])[:, 0].log()
    torch.testing.assert_close(values["cross_entropy"], -log_p, rtol=1e-4, atol=1e-5)


def test_a_shift_moves_by_whole_pixels() -> None:
    model = made(shift=2)
    image = torch.rand(4, 3, 8, 8)
    for before, after in zip(image, model._varied(image), strict=True):
        padded = torch.nn.functional.pad(before[None], [2] * 4, mode="replicate")[0]
        moved = [padded[:, y : y + 8, x : x + 8] for y in range(5) for x in range(5)]
        assert min(float((after - m).abs().max()) for m in moved) < 1e-5


def test_zoom_enlarges_and_nothing_is_varied_without_either() -> None:
    ramp = torch.linspace(-1, 1, 8).expand(4, 3, 8, 8)
    slopes = made(zoom=0.5)._varied(ramp)[:, 0, 4].diff(dim=-1)[:, 3]
    assert ((slopes > 0.4 * 2 / 7) & (slopes < 2 / 7 + 1e-6)).all()
    assert slopes.std() > 0  # each image its own
    assert made()._varied(ramp) is ramp


def test_biases_and_norms_are_not_decayed() -> None:
    decayed, free = made(weight_decay=0.1).configure_optimizers().param_groups
    assert decayed["weight_decay"] == 0.1
    assert free["weight_decay"] == 0
    assert all(p.ndim > 1 for p in decayed["params"])
    assert all(p.ndim == 1 for p in free["params"])


def test_color_is_seen_by_a_gray_classifier() -> None:
    model = made(channels=1).eval()
    gray = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(
        model.classify({"image": gray.repeat(1, 3, 1, 1)}), model.classify({"image": gray})
    )


def test_a_classifier_makes_no_samples() -> None:
    with pytest.raises(TypeError, match="makes no samples"):
        made().sample(SampleNoise(0, 0, 1), Options())


@pytest.mark.parametrize(
    ("labels", "size", "error", "message"),
    [
        (None, 8, DataError, "a classifier needs classes, and the data has none"),
        (("cat",), 8, DataError, "the data has one class, 'cat': there is nothing to tell"),
        (
            ("cat", "dog"),
            4,
            InputError,
            "model.widths: 4 stages need images of 8 pixels, data.image_size is 4",
        ),
    ],
)
def test_unfit_data_in_words(
    labels: tuple[str, ...] | None, size: int, error: type[AigcError], message: str
) -> None:
    with pytest.raises(error) as caught:
        Model(Config(), ImageSpec(3, size, labels))
    assert caught.value.message == message
    assert caught.value.exit_code == 2


def test_stages_must_agree() -> None:
    with pytest.raises(ValueError, match="depths needs 2 numbers of 1 or more"):
        Config(widths=(4, 8), depths=(1,))
