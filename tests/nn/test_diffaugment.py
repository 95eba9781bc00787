import pytest
import torch

from aigc_cli.nn.diffaugment import RANDOMS, Change, diff_augment

POLICY: tuple[Change, ...] = ("color", "translation", "cutout")


def some(B: int = 4, C: int = 3, S: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return torch.rand(B, C, S, S, generator=random) * 2 - 1, torch.rand(
        B, RANDOMS, generator=random
    )


def test_no_policy_changes_nothing() -> None:
    images, u = some()
    assert diff_augment(images, (), u) is images


@pytest.mark.parametrize("size", [7, 8, 28])
def test_a_picture_depends_on_its_own_numbers_only(size: int) -> None:
    images, u = some(6, 3, size)
    whole = diff_augment(images, POLICY, u)
    halves = [diff_augment(x, POLICY, v) for x, v in zip(images.split(3), u.split(3), strict=True)]
    assert whole.shape == images.shape
    assert torch.equal(whole, torch.cat(halves))


def test_neutral_numbers_of_color_keep_the_picture() -> None:
    images, u = some()
    u[:, :3] = 0.5  # brightness +0, saturation and contrast times 1
    assert torch.allclose(diff_augment(images, ("color",), u), images, atol=1e-6)


def test_brightness_is_added_and_contrast_keeps_the_mean() -> None:
    images, u = some()
    u[:, 1:3] = 0.5
    made = diff_augment(images, ("color",), u)
    assert torch.allclose(made - images, (u[:, 0] - 0.5).view(-1, 1, 1, 1), atol=1e-6)
    u[:, 0], u[:, 1:3] = 0.5, 0.9
    made = diff_augment(images, ("color",), u)
    assert torch.allclose(made.mean((1, 2, 3)), images.mean((1, 2, 3)), atol=1e-6)


def test_translation_moves_by_whole_pixels_up_to_an_eighth() -> None:
    images, u = some()
    u[0, 3:5], u[1, 3:5], u[2, 3:5] = torch.tensor([0.5, 0.0, 0.999]).view(3, 1)
    made = diff_augment(images, ("translation",), u)
    assert torch.equal(made[0], images[0])
    assert torch.equal(made[1, :, 2:, 2:], images[1, :, :-2, :-2])
    assert made[1, :, :2].abs().sum() == 0
    assert torch.equal(made[2, :, :-2, :-2], images[2, :, 2:, 2:])
    assert made[2, :, -2:].abs().sum() == 0


def test_cutout_empties_half_a_side_around_its_center() -> None:
    images = torch.ones(3, 1, 16, 16)
    u = torch.zeros(3, RANDOMS)
    u[1, 5:7], u[2, 5:7] = 0.5, 0.9999
    holes = diff_augment(images, ("cutout",), u) == 0
    assert holes.sum((1, 2, 3)).tolist() == [
        4 * 4,
        8 * 8,
        4 * 4,
    ]  # of a corner, the middle
    assert holes[0, 0, :4, :4].all()
    assert holes[1, 0, 4:12, 4:12].all()
    assert holes[2, 0, 12:, 12:].all()


def test_every_place_of_a_hole_is_as_likely() -> None:
    u = torch.zeros(17, RANDOMS)
    u[:, 5] = (torch.arange(17) + 0.5) / 17
    u[:, 6] = 0.5
    holes = diff_augment(torch.ones(17, 1, 16, 16), ("cutout",), u) == 0
    assert holes[:, 0, :, 8].sum(1).tolist() == [4, 5, 6, 7, 8, 8, 8, 8, 8, 8, 8, 8, 8, 7, 6, 5, 4]


def test_gradients_pass_also_the_second_time() -> None:
    images, u = some(2, 3, 6)
    images, u = images.double().requires_grad_(), u.double()
    changed = lambda x: diff_augment(x, POLICY, u).square()  # noqa: E731
    assert torch.autograd.gradcheck(changed, images)
    assert torch.autograd.gradgradcheck(changed, images)
