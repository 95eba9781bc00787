"""The VAE beside pythae's: likelihood after equal training, and seconds of an epoch.

    PYTHONPATH=PEERS IDX=fashion_mnist/train-images-idx3-ubyte.gz python -m benchmarks.vae

The reference setting of recipe vae_mnist_mlp (784-400-ReLU, 40 latent dimensions, Adam 1e-4,
batches of 100, summed cross-entropy and KL) on the same fixed-binarized images, in fp32 on the
CPU. pythae (Chadebec, Vincent and Allassonniere, 2022) runs as another process; its networks,
trainer and estimator of the likelihood (`VAE.get_nll`) are its own. Epochs of the two are
interleaved; the ratio is that of the median seconds, above 1 when aigc is faster.
"""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aigc_cli.data.images import Images
from aigc_cli.models.image.vae import Model
from aigc_cli.recipe.load import load_recipe
from aigc_cli.run.build import build
from aigc_cli.run.train import train
from aigc_cli.run.trained import load_trained
from aigc_cli.sampling.noise import SampleNoise
from benchmarks._sides import Skip

EPOCHS = int(os.environ.get("EPOCHS", "20"))
TIMED, ROUNDS = 3, 3  # epochs, of which the first is not counted
COUNT, SAMPLES = 1000, 200  # validation images, importance samples of each
BATCH = 100


def settings(source: str, epochs: int) -> list[str]:
    never = ("validate_every", "checkpoint_every", "preview_every")
    return [
        f"data.train={source}",
        f"trainer.max_epochs={epochs}",
        "trainer.device=cpu",
        "trainer.schedule.name=constant",
        *(f"trainer.{name}=1000000" for name in never),
    ]


def with_aigc(source: str, epochs: int, out: Path) -> list[float]:
    """Train; seconds of each epoch but the first."""
    ticks: list[float] = []

    def watch(event: dict[str, Any]) -> None:
        if event["event"] == "tick":
            ticks.append(time.perf_counter())

    train(load_recipe("vae_mnist_mlp", settings(source, epochs)), out=out, emit=watch)
    epoch = len(ticks) // epochs
    return [b - a for a, b in pairwise(ticks[epoch - 1 :: epoch])]


def nll_of_aigc(run: Path, x: torch.Tensor) -> float:
    model = load_trained(str(run), device="cpu").model
    assert isinstance(model, Model)
    with torch.no_grad():
        parts = [
            model.nll(part, SAMPLES, SampleNoise(0, BATCH * number, len(part)))
            for number, part in enumerate(x.split(BATCH))
        ]
    return float(torch.cat(parts).mean())


def with_pythae(pictures: Path, epochs: int, measure: bool) -> dict[str, Any]:
    """Run `peer` below in a process of its own."""
    code = f"from benchmarks.vae import peer; peer({str(pictures)!r}, {epochs}, {measure})"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


def peer(pictures: str, epochs: int, measure: bool) -> None:
    """pythae's training and likelihood, printed as one JSON line."""
    from pythae.data.datasets import BaseDataset  # type: ignore[import-not-found]
    from pythae.models import VAE, VAEConfig  # type: ignore[import-not-found]
    from pythae.models.base.base_utils import ModelOutput  # type: ignore[import-not-found]
    from pythae.models.nn import BaseDecoder, BaseEncoder  # type: ignore[import-not-found]
    from pythae.trainers import BaseTrainer, BaseTrainerConfig  # type: ignore[import-not-found]
    from pythae.trainers.training_callbacks import TrainingCallback  # type: ignore[import-not-found]
    from torch import nn

    class Encoder(BaseEncoder):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.hidden = nn.Linear(784, 400)
            self.mu, self.logvar = nn.Linear(400, 40), nn.Linear(400, 40)

        def forward(self, x: torch.Tensor) -> Any:
            h = self.hidden(2 * x.flatten(1) - 1).relu()  # -1 and 1, as in aigc
            return ModelOutput(embedding=self.mu(h), log_covariance=self.logvar(h))

    class Decoder(BaseDecoder):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.hidden, self.out = nn.Linear(40, 400), nn.Linear(400, 784)

        def forward(self, z: torch.Tensor) -> Any:
            x = self.out(self.hidden(z).relu()).sigmoid()
            return ModelOutput(reconstruction=x.view(-1, 1, 28, 28))

    ends: list[float] = []

    class Clock(TrainingCallback):  # type: ignore[misc]
        def on_epoch_end(self, *args: Any, **kwargs: Any) -> None:
            ends.append(time.perf_counter())

    files = np.load(pictures)
    train_x, val_x = (torch.from_numpy(files[part]).float() for part in ("train", "val"))
    torch.manual_seed(0)
    config = VAEConfig(input_dim=(1, 28, 28), latent_dim=40, reconstruction_loss="bce")
    model = VAE(config, encoder=Encoder(), decoder=Decoder())
    with tempfile.TemporaryDirectory() as folder:
        setting = BaseTrainerConfig(
            output_dir=folder,
            num_epochs=epochs,
            per_device_train_batch_size=BATCH,
            learning_rate=1e-4,
            optimizer_cls="Adam",
            no_cuda=True,
            seed=0,
        )
        dataset = BaseDataset(train_x, torch.zeros(len(train_x)))
        BaseTrainer(model, dataset, training_config=setting, callbacks=[Clock()]).train()
    report: dict[str, Any] = {"seconds": [b - a for a, b in pairwise(ends)]}
    if measure:
        with torch.no_grad():
            report["nll"] = -float(model.eval().get_nll(val_x, SAMPLES, batch_size=SAMPLES))
    print(json.dumps(report))


def write_pictures(source: str, path: Path) -> torch.Tensor:
    """The binarized split as uint8 arrays; returns the images to measure on, in [-1, 1]."""
    data, model = build(load_recipe("vae_mnist_mlp", settings(source, 1)))
    assert isinstance(model, Model)

    def binary(images: Images, count: int) -> torch.Tensor:
        return model.prepared(images.batch(range(count))["image"])

    train_x = binary(data.train.images, len(data.train))
    val_x = binary(data.val, min(COUNT, len(data.val)))
    np.savez(path, train=(train_x > 0).byte().numpy(), val=(val_x > 0).byte().numpy())
    return val_x


def main() -> dict[str, Any]:
    source = os.environ.get("IDX", "")
    if not source:
        raise Skip("needs IDX=FILE, images of 28 x 28 pixels")
    if importlib.util.find_spec("pythae") is None:
        raise Skip("needs pip install --no-deps pythae==0.1.2 and what it imports")
    source = str(Path(source).resolve())
    with tempfile.TemporaryDirectory() as folder:
        pictures = Path(folder) / "pictures.npz"
        val_x = write_pictures(source, pictures)
        ours: list[float] = []
        theirs: list[float] = []
        for number in range(ROUNDS):
            ours += with_aigc(source, TIMED, Path(folder) / f"timed-{number}")
            theirs += with_pythae(pictures, TIMED, False)["seconds"]
        with_aigc(source, EPOCHS, Path(folder) / "run")
        peer_nll = with_pythae(pictures, EPOCHS, True)["nll"]
        nll = nll_of_aigc(Path(folder) / "run", val_x)
    mine, other = statistics.median(ours), statistics.median(theirs)
    return {
        "benchmark": "vae_mnist_mlp beside pythae 0.1.2",
        "epochs": EPOCHS,
        "pictures": len(val_x),
        "importance_samples": SAMPLES,
        "nll_aigc": round(nll, 3),
        "nll_pythae": round(peer_nll, 3),
        "seconds_per_epoch_aigc": round(mine, 3),
        "seconds_per_epoch_pythae": round(other, 3),
        "ratio": round(other / mine, 3),
    }


if __name__ == "__main__":
    print(json.dumps(main()))
