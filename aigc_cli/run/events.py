"""What happens during a run, as one line of text for each event."""

from __future__ import annotations

import re
from typing import Any

from aigc_cli.errors import InputError


def describe(event: dict[str, Any]) -> str | None:
    """The event for people; None for those that only move a progress bar."""
    match event["event"]:
        case "start":
            begin = f"step {event['step']} of " if event["step"] else ""
            processes = f"{event['world']} x " if event["world"] > 1 else ""
            return (
                f"{event['run']}: {begin}{event['steps']:,} steps, {event['params']:,} parameters, "
                f"{processes}{event['device']} {event['precision']}, "
                f"{event['train_items']:,} training and {event['val_items']:,} validation items"
            )
        case "step":
            terms = {
                k.removeprefix("train/"): v for k, v in event.items() if k.startswith("train/")
            }
            losses = "  ".join(f"{name} {value:.4g}" for name, value in terms.items())
            health = f"  !! {', '.join(event['health'])}" if event.get("health") else ""
            return (
                f"step {event['step']:,}  {losses}  lr {event['lr']:.2e}  "
                f"{event['samples_per_s']:.1f} samples/s  data wait {event['data_wait']:.0%}  "
                f"ETA {duration(event['eta_s'])}{health}"
            )
        case "val":
            values = {k.removeprefix("val/"): v for k, v in event.items() if k.startswith("val/")}
            best = event.get("best")
            is_best = best and best["step"] == event["step"] and "kept" not in event
            mark = "  (best so far)" if is_best else ""
            measured = "  ".join(
                f"{name} {value:.4f}" if value == value else f"{name} is not defined on so few"
                for name, value in values.items()
            )
            return f"step {event['step']:,}  validation  {measured}{mark}"
        case "checkpoint" | "sample":
            return f"step {event['step']:,}  wrote {event['path']}"
        case "note":
            return str(event["message"])
        case "warning":
            return f"warning: {event['message']}"
        case "end":
            best = event["best"]
            which = "" if "kept" in event else "best "
            result = (
                f", {which}{best['metric']} {best['value']:.4f} at step {best['step']:,}"
                if best
                else ""
            )
            took = duration(event["seconds"])
            rows = event.get("warnings") or {}
            seen = "".join(f", {name} in {count} rows of the log" for name, count in rows.items())
            return f"{event['status']} after step {event['step']:,} in {took}{result}{seen}"
    return None


def duration(seconds: float) -> str:
    """3725 -> 1h02m; 65 -> 1m05s."""
    s = round(seconds)
    if s >= 3600:
        return f"{s // 3600}h{s % 3600 // 60:02d}m"
    return f"{s // 60}m{s % 60:02d}s" if s >= 60 else f"{s}s"


def parse_duration(text: str, option: str = "--max-time", *, unit: bool = False) -> float:
    """Seconds of "2h30m", "45m", "90s" or, where no `unit` is wanted, "90".

    Raises:
        InputError: it is none of these, or zero.
    """
    match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?", text.strip())
    seconds = 0
    if match:
        hours, minutes, rest = (int(part or 0) for part in match.groups())
        seconds = 3600 * hours + 60 * minutes + rest
    if not seconds:
        raise InputError(f"{option}: '{text}' is no duration", hint="write 2h30m, 45m or 90s")
    if unit and text.strip().isdecimal():
        raise InputError(
            f"{option}: '{text}' has no unit", hint=f"write {text}m, {text}s or {text}h"
        )
    return float(seconds)
