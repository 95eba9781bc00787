"""The contact sheets of `previews/`."""

from __future__ import annotations

import torch

from aigc_cli.run.sheets import contact_sheet


def test_a_sheet_has_a_row_for_each_item_and_a_captioned_column_for_each_entry() -> None:
    gray, colour = torch.zeros(3, 1, 40, 60), torch.zeros(3, 3, 40, 60)
    sheet = contact_sheet({"gray": gray, "colour": colour})
    assert (sheet.height, sheet.width) == (3 * (40 + 4 + 18) + 4, 2 * (60 + 4) + 4)


def test_a_single_entry_fills_a_grid_that_is_nearly_square() -> None:
    sheet = contact_sheet({"samples": torch.zeros(9, 1, 8, 8)})
    assert (sheet.height, sheet.width) == (3 * 12 + 4, 3 * 12 + 4)
