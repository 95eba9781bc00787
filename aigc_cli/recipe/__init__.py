"""Typed recipes: strict YAML, every mistake at once with its line, overrides, JSON schema."""

from aigc_cli.recipe.load import Recipe, load_recipe, recipe_from_dict

__all__ = ["Recipe", "load_recipe", "recipe_from_dict"]
