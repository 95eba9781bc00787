"""What programs that call `aigc` must know and the commands' own help does not say."""

from __future__ import annotations

ORDER = (
    ("aigc doctor", "what is installed here, and how to get what is not"),
    ("aigc data ls", "data sets by name; `aigc data get NAME` fetches one"),
    ("aigc data check DATA", "exit 2 names files that cannot be used"),
    ("aigc recipe ls", "a recipe that makes what is wanted, with its minutes and score"),
    ("aigc recipe new --family FAMILY --data DATA -o my.yaml", "or one that fits the data"),
    ("aigc recipe check my.yaml", "every mistake at once, with line and key"),
    ("aigc plan my.yaml", "parameters, memory and time before they are spent"),
    ("aigc train my.yaml --out RUN --resume auto", "starts, and goes on after any ending"),
    ("aigc train DATA --budget 20m --out RUN", "instead of the four above: data and a time"),
    ("aigc tune my.yaml --search space.yaml", "better values by short runs, as a recipe"),
    ("aigc launch slurm my.yaml --out RUN --file job.sbatch", "the same on a cluster; also k8s"),
    ("aigc run show RUN", "state, step, best value, curve, files"),
    ("aigc evaluate RUN", "metrics with protocol; `--require psnr_y>=30` ends with 4 if not met"),
    ("aigc sample RUN -n 4 --out DIR", "files; families that need one take --input or --prompt"),
    ("aigc augment DATA --out DIR", "a larger or balanced set that does not leak test items"),
    ("aigc model export RUN --format onnx --out DIR", "for other programs, checked there"),
    ("aigc serve RUN", "an HTTP API and a page; GET /openapi.json describes it"),
)
"""What to call, in which order."""

CONVENTIONS = (
    "With --json stdout is one JSON object on one line, and stderr has remarks only: "
    '{"ok": true, ...}, or {"ok": false, "exit": CODE, "errors": [{"message", "code", and where '
    'known "file", "line", "key", "hint"}]}. `aigc train` prints a line for each event instead.',
    "Without --json, what makes something prints its path on stdout, ready for the next command.",
    "Nothing asks a question, and nothing is overwritten without --overwrite. Seeds default to 0; "
    "the same call on the same machine gives the same result.",
    "KEY=VALUE overrides one key of the recipe (`trainer.max_steps=200`), or of the family's "
    "options (`temperature=0.7`) after `sample`, `evaluate` and `serve`. Lists are "
    '"[a,b]", quoted.',
    "RUN is a run folder or runs/RECIPE/latest; CKPT a .ckpt file; DATA a folder, a zip, hf:NAME, "
    "builtin:NAME:PART or a name of `aigc data ls`.",
    "Training saves itself: after exit 130 or 143, or after a kill, the same command with "
    "--resume auto goes on. --max-time 2h saves and stops with exit 0.",
    "Exit 2 is mended by changing the call, 5 by the install line in the hint, 3 by what the "
    "sentence says. `aigc doctor` lists the environment variables that are set.",
)

EVENTS = (
    "start {run, params, step, steps, device, precision, train_items, val_items}",
    "step {step, lr, train/TERM, samples_per_s, data_wait, eta_s}",
    "val {step, val/METRIC, best: {metric, value, step}}",
    "checkpoint {step, path}",
    "sample {step, path}",
    "phase {phase}",
    "tick {step}",
    "note {message}",
    "warning {message}",
    "end {status, exit, step, best, run, seconds, warnings}",
)

RUN = "{checkpoint, sha256, step, family, recipe}"
PROBLEM = "{message, code, file, line, key, hint}"
PRINTS: dict[str, dict[str, str]] = {
    "train": {
        "event": "if it trains, a line for each: " + "; ".join(EVENTS),
        "recipe": "with --budget and --dry-run: the text of the recipe",
        "parameters": "with --dry-run: as of plan",
    },
    "tune": {
        "out": "folder",
        "recipe": "path of the best recipe",
        "metric": "name",
        "direction": "max|min",
        "best": "{trial, value, set, run}",
        "trials": "[{trial, value, set, step, state}]",
    },
    "sample": {
        "out": "folder or file",
        "seed": "int",
        "model": RUN,
        "options": "{key: value}",
        "items": "[{path, sha256}]",
        "skipped": "{input: reason}",
        "notes": "[text]",
    },
    "evaluate": {
        "metrics": "{name: {value, n, unit, higher_is_better, protocol}}, with --metric list rows",
        "require": "if it scores: [condition]; exit 4 where one is not met",
        "model": f"with RUN: {RUN}",
        "data": "with RUN: text",
        "seconds": "if it scores: float",
    },
    "augment": {
        "out": "folder",
        "before": "{class: items}",
        "after": "{class: items}",
        "left_out": "{reason: items}",
        "data_keys": "{key: value}, the data.* of a recipe that trains on it",
        "measured": "with --measure: {arm: accuracy by seed, verdict}",
    },
    "augment features": {
        "out": "file",
        "items": "{train, test}",
        "sources": "{name: dims}",
        "selected": "{by, columns}",
        "probe": "[{features, dims, accuracy, macro_f1}]",
    },
    "plan": {
        "family": "name",
        "parameters": "int",
        "train_items": "int",
        "val_items": "int",
        "steps": "int",
        "seconds": "if it measures: float, of training",
        "peak_memory_bytes": "if it measures: int",
    },
    "doctor": {
        "versions": "{distribution: version}",
        "extras": "[{extra, missing, install}]",
        "cuda": "{built, driver, gpus}",
        "problems": f"[{PROBLEM}]; exit 5 if there are any",
    },
    "serve": {"address": "URL, printed once it listens", "models": "[name]"},
    "launch": {"job": "its text", "file": "path|null"},
    "recipe ls": {
        "recipes": "[{recipe, family, data, makes, from, parameters, minutes, score, get, path}]"
    },
    "recipe show": {
        "recipe": "if not --doc: {key: value}, all of them",
        "keys": "with --doc: [{key, expected, default, limits, doc}]",
    },
    "recipe cp": {"path": "file"},
    "recipe new": {"path": "with -o: file", "next": "with -o: command", "text": "if not -o: YAML"},
    "recipe check": {"recipes": "[{recipe, ok, digest}]"},
    "recipe diff": {"differences": "[{key, a, b}]"},
    "recipe schema": {"schema": "if not -o: JSON schema", "path": "with -o: file"},
    "data show": {"modality": "name", "parts": "{part: {source, counts}}"},
    "data check": {"parts": "{part: {source, counts}}", "warnings": f"[{PROBLEM}]"},
    "data ls": {"sets": "[{name, title, modality, size, license, here, parts, recipes}]"},
    "data shard": {
        "out": "folder",
        "modality": "name",
        "items": "int",
        "shards": "int",
        "bytes": "int",
        "skipped": "int",
    },
    "data get": {"sets": "[{name, path}]"},
    "run ls": {"runs": "[{run, state, step, steps, best, started, seconds}]"},
    "run show": {
        "run": "folder",
        "state": "running|finished|stopped|interrupted|failed|killed|unknown",
        "step": "int",
        "best": "{metric, value, step}",
        "recipe": "{key: value}",
    },
    "run report": {"run": "folder", "report": "file"},
    "run compare": {
        "runs": "[name]",
        "recipe": "[{key, values: {run: value}}]",
        "results": "[{key, values: {run: value}}]",
    },
    "model ls": {"models": "[{model, here, MB, license, use}]"},
    "model get": {"model": "name", "folder": "path", "fetched": "bool"},
    "model export": {"checkpoint": "path", "folder": "path", "files": "[name]"},
    "model card": {"card": "Markdown"},
    "model push": {
        "repo": "OWNER/NAME",
        "url": "address",
        "files": "{name: bytes}",
        "left_out": "[name]",
        "commit": "id, null with --dry-run",
    },
    "model import": {"checkpoint": "path", "family": "name"},
    "model check": {"family": "name", "checks": "[{name, status, ...}]"},
}
"""What a command prints with --json beside "ok", at least. What begins with `with` or
`if` is there only then. `tests/conftest.py` holds every test to it."""
