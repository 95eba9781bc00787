"""What the hardware multiplies."""

from __future__ import annotations

from functools import cache
from pathlib import Path


@cache
def multiplies_bf16(device: str) -> bool:
    """Whether `cpu` or `cuda` multiplies bf16 in hardware; emulated, it is many times slower than
    fp32.
    """
    if device == "cuda":
        import torch

        return torch.cuda.is_bf16_supported(including_emulation=False)
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    flags = next((x for x in text.splitlines() if x.startswith(("flags", "Features"))), "")
    return device == "cpu" and bool({"avx512_bf16", "amx_bf16", "bf16"} & set(flags.split()))
