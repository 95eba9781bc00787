"""Memory that a step has freed is there for the next one, and who waits does not spin for long."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from aigc_cli.cli._libraries import SPINS, spin_little

STEPS = """
import resource, sys
import numpy as np
from aigc_cli.cli._libraries import keep_memory
if sys.argv[1] == "kept":
    keep_memory()
def step():
    held = [np.ones(3 << 19) for _ in range(4)]  # 12 MB each
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="is about glibc")
def test_what_a_step_frees_is_not_cleared_anew() -> None:
    """Evaluating 1,000 pieces spent 7 of 23 minutes in the kernel, clearing pages."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}

    def faults(how: str, **environment: str) -> int:
        return int(
            subprocess.run(
                [sys.executable, "-c", STEPS, how],
                env=clean | environment, capture_output=True, text=True, check=True,
            ).stdout
        )  # fmt: skip

    assert faults("kept") < 0.1 * faults("given back")
    own = faults("kept", MALLOC_TRIM_THRESHOLD_="65536")
    assert own > 10 * faults("kept"), "what the user says of memory holds"


def test_what_the_user_says_of_waiting_threads_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    spin_little()
    assert "GOMP_SPINCOUNT" not in os.environ
    monkeypatch.delenv("OMP_WAIT_POLICY")
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    spin_little()
    assert os.environ["GOMP_SPINCOUNT"] == "7"
    monkeypatch.delenv("GOMP_SPINCOUNT")
    spin_little()
    assert os.environ.pop("GOMP_SPINCOUNT") == SPINS
