"""What a request gives a family to work on: whether that fits, and validation items otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aigc_cli.errors import AigcError, InputError
from aigc_cli.modalities._modality import Input, Inputs, Modality
from aigc_cli.registry import load_data_kind
from aigc_cli.run.request import Request
from aigc_cli.run.trained import Trained


class WithReferences(Inputs):
    """Inputs, all with the references that the user named."""

    def __init__(self, inputs: Inputs, references: Sequence[Any]) -> None:
        self.inputs, self.references = inputs, references

    def __len__(self) -> int:
        return len(self.inputs)

    def name(self, number: int) -> str:
        return self.inputs.name(number)

    def skipped(self) -> Mapping[str, str]:
        return self.inputs.skipped()

    def __getitem__(self, number: int) -> Input:
        one = self.inputs[number]
        return Input(one.name, one.thing, one.given, one.stem, self.references, one.beside)


def check_request(
    trained: Trained, request: Request, takes: Modality | None, makes: Modality | None
) -> None:
    """See that the family can do what is asked.

    Raises:
        InputError: an input, references, a count or an interpolation that it cannot use.
    """
    model, family = trained.model, trained.recipe.family
    made = "labels" if makes is None else makes.title
    if request.prompts and request.input is not None:
        raise InputError("--prompt and --input are two ways to say the same: give one of them")
    if request.prompts and (takes is None or not takes.takes_prompts):
        raise InputError(f"--prompt is for texts; family '{family}' makes {made}")
    if request.output is not None and (makes is None or not makes.single_file):
        raise InputError(
            f"--output is one file for all; family '{family}' makes {made}",
            hint="choose a folder with --out",
        )
    if request.input is not None and takes is None:
        raise InputError(f"family '{family}' takes no --input", hint="give -n instead")
    if makes is None and (request.count is not None or request.interpolate):
        raise InputError("-n and --interpolate do not apply: each input has one answer")
    if request.interpolate and takes is not None and not model.input_optional:
        raise InputError(
            f"--interpolate does not apply: family '{family}' works on {takes.title} and knows no "
            "way from one to another"
        )
    chosen = getattr(trained.recipe.sample, "label", None)
    label = model.labels_of(trained.recipe.sample, 0, 1)  # raises for a class it does not know
    if request.interpolate and label is not None and chosen is None:
        raise InputError(
            "between samples of different classes there is no way to go",
            hint="choose one class, as label=NAME",
        )
    least, most = model.reference_count
    given = len(request.references)
    if given > most or (given < least and (request.input or trained.recipe.is_trained is False)):
        wanted = f"{least}" if least == most else f"{least} to {most}"
        raise InputError(
            f"family '{family}' takes {wanted} --reference, not {given}"
            if most
            else f"--reference is not for family '{family}'",
            hint=f"such as the style to work in: one of {takes.title}" if most and takes else None,
        )


def validation_items(trained: Trained, takes: Modality, items: Any) -> Any:
    """Validation items: those given, or those of the recipe.

    Raises:
        InputError: the recipe's data is not here.
    """
    if items is not None:
        return items
    recipe = trained.recipe
    needs = f"family '{recipe.family}' works on {takes.title} and needs some"
    hint = "add --input FILE, or a folder"
    if takes.takes_prompts:
        hint = 'add --prompt "...", or --input FILE'
    if not recipe.is_trained:
        raise InputError(needs, hint=hint)
    kind = load_data_kind(recipe.kind)
    try:  # by the model's spec, so that what it was trained on need not be here
        data = kind.Data(recipe.data, seed=recipe.seed, bases=recipe.bases, spec=trained.spec)
        return data.val
    except AigcError as error:
        raise InputError(f"{needs}; those it was validated with are not here", hint=hint) from error
