#!/usr/bin/env bash
# Everything that needs a GPU, in about ten minutes: bash benchmarks/gpu.sh [FOLDER]
#
# Leaves in FOLDER (gpu-results): machine.txt, tests.txt, one .json line for each benchmark, and the
# runs of two recipes that were trained on the GPU with their log and report. Each part has a time
# limit, and a part that fails does not end the others; the exit code says whether one did.
set -u
cd "$(dirname "$0")/.."
out=${1:-gpu-results}
py=${PYTHON:-.venv/bin/python}
command -v "$py" >/dev/null || { echo "no $py: run make install, or name a Python with PYTHON=" >&2; exit 5; }
mkdir -p "$out"
"$py" -c 'import sys, torch; sys.exit(0 if torch.cuda.is_available() else "no GPU here: torch.cuda.is_available() is False")' || exit 5
failed=0
part() { # part NAME SECONDS COMMAND...
    local name=$1 limit=$2 begun=$SECONDS code=0
    shift 2
    timeout "$limit" "$@" >"$out/$name.txt" 2>&1 || code=$?
    [ "$code" = 0 ] || failed=1
    echo "$name: exit $code after $((SECONDS - begun)) s"
    tail -n 3 "$out/$name.txt"
}
part machine 20 sh -c 'nvidia-smi; "$0" -m torch.utils.collect_env' "$py"
part tests 240 "$py" -m pytest -q -m gpu -p no:cacheprovider tests/gpu
part lm_eager 60 "$py" -m aigc_cli train lm_shakespeare_gpu --out "$out/lm_eager" --overwrite \
    data.train=builtin:shakespeare:train data.val=builtin:shakespeare:validation \
    trainer.device=cuda trainer.compile=false trainer.max_steps=300 trainer.log_every=50
part lm_compiled 120 "$py" -m aigc_cli train lm_shakespeare_gpu --out "$out/lm_compiled" --overwrite \
    data.train=builtin:shakespeare:train data.val=builtin:shakespeare:validation \
    trainer.device=cuda trainer.compile=true trainer.max_steps=300 trainer.log_every=50
for precision in fp32 bf16 fp16; do
    part "edsr_$precision" 60 "$py" -m aigc_cli train edsr_baseline_x2 --out "$out/edsr_$precision" --overwrite \
        data.train=builtin:photos:train data.val=builtin:photos:validation trainer.device=cuda \
        trainer.precision=$precision trainer.channels_last=true trainer.max_steps=200 trainer.log_every=50
done
part sample 60 "$py" -m aigc_cli sample "$out/lm_eager" -n 64 max_tokens=256 --batch-size 64 --out "$out/texts" --overwrite
exit "$failed"
