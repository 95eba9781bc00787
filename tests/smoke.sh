#!/usr/bin/env bash
# A user's session through the shell: train, resume, sample, evaluate with a gate, bad inputs.
set -euo pipefail
cd "$(dirname "$0")/.."
make install >/dev/null
ROOT=$PWD AIGC="$PWD/.venv/bin/aigc"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export AIGC_CACHE="$work/cache" OMP_NUM_THREADS=2

step() { printf '\n== %s\n' "$*"; }
expect() { # expect CODE command...: fails unless the command ends with CODE
    local want=$1 got=0
    shift
    "$@" >stdout 2>stderr || got=$?
    if [ "$got" != "$want" ]; then
        echo "expected exit $want, got $got: $*"
        cat stdout stderr
        exit 1
    fi
    if grep -q Traceback stdout stderr; then
        echo "traceback: $*"
        cat stderr
        exit 1
    fi
    tail -n 2 stderr
}
json() { python3 -c "import json, sys; d = json.load(sys.stdin); print($1)"; }

step "a stranger looks around"
"$AIGC" --version
"$AIGC" --help >/dev/null
{ "$AIGC" recipe ls || [ $? = 141 ]; } | head -1 >/dev/null # 141: the reader has gone
"$AIGC" recipe ls --json | json 'len(d["recipes"])'
"$AIGC" doctor >/dev/null
"$AIGC" agent-docs --json | json 'len(d["sections"]["start"]["order"]) > 9 or exit(1)'

step "train by name, resume, sample, evaluate"
quick=(trainer.max_steps=30 trainer.log_every=10 trainer.validate_every=30 trainer.checkpoint_every=10
       trainer.preview_every=30 data.patch_size=16)
run=$("$AIGC" train edsr_small_x2 "${quick[@]}" --quiet)
test -f "$run/checkpoints/best.ckpt"
expect 0 "$AIGC" train edsr_small_x2 "${quick[@]}" trainer.max_steps=40 --resume "$run"
grep -q '"step": 40' "$run/metrics.jsonl"
cp "$run"/previews/step-0000030/grid.png "a photo é.png"
expect 0 "$AIGC" sample "$run" --input "a photo é.png" --out "my samples" tile=128
test -f "my samples/a photo é_x2.png"
"$AIGC" evaluate "$run" --limit 1 --json | json 'd["metrics"]["psnr_y"]["bicubic"] > 25 or exit(1)'
expect 0 "$AIGC" eval "$run" --limit 1 --require "psnr_y>=10"
expect 4 "$AIGC" eval "$run" --limit 1 --require "psnr_y>=60"
expect 0 "$AIGC" evaluate --generated "my samples/a photo é_x2.png" \
    --reference "my samples/a photo é_x2.png" --metric psnr,ssim --require "ssim_y>=1"
"$AIGC" run ls | grep finished >/dev/null

step "a page of the run, a graph of the model, and a server"
grep -q "<svg" "$run/report.html"
expect 0 "$AIGC" model export "$run" --format onnx --out graph
test -f graph/README.md
"$AIGC" model push graph me/model --dry-run --json | json '"model.onnx" in d["files"] or exit(1)'
"$AIGC" launch slurm edsr_small_x2 --gpus 0 | bash -n
"$AIGC" serve "edsr=$run" --port 0 --json >address 2>/dev/null &
server=$!
until [ -s address ]; do sleep 0.2; done
address=$(json 'd["address"]' <address)
until curl -sf "$address/health" >/dev/null; do sleep 0.2; done
curl -sf -F model=edsr -F "input=@a photo é.png" "$address/v1/sample" -o served.png
cmp -n 8 served.png "my samples/a photo é_x2.png"
kill "$server" && wait "$server" || [ $? = 143 ]

step "two batches of other families, resume, sample, evaluate"
tiny=(data.train=builtin:photos:train data.val=builtin:photos:validation data.image_size=32
      trainer.global_batch=2 trainer.log_every=1 trainer.validate_every=2 trainer.checkpoint_every=1
      trainer.preview_every=2)
family() { # family RECIPE "words for sample" KEY=VALUE...
    local recipe=$1 words
    read -ra words <<<"$2"
    set -- "${tiny[@]}" "${@:3}"
    expect 0 "$AIGC" train "$recipe" --out "$recipe" "$@" trainer.max_steps=2
    expect 0 "$AIGC" train "$recipe" --resume "$recipe" "$@" trainer.max_steps=3
    grep -q '"step": 3' "$recipe/metrics.jsonl"
    expect 0 "$AIGC" sample "$recipe" --out "$recipe/made" "${words[@]}"
    test -f "$recipe/made/grid.png"
    expect 0 "$AIGC" evaluate "$recipe"
}
family dcgan_64 "-n 3" model.num_features=8
family cyclegan_emoji "--input $run/previews/step-0000030 direction=b2a" \
    data.train_b=builtin:photos:train data.val_b=builtin:photos:validation \
    model.num_features=8 model.num_blocks=1 model.discriminator_features=8

step "augment: balanced classes, the same again, boxes, texts, pairs, sound, features, test data refused"
expect 0 "$AIGC" augment builtin:fashion:validation --keep 10% --balance classes --out larger
"$AIGC" augment builtin:fashion:validation --keep 10% --balance classes --out larger --overwrite --json --workers 0 |
    json 'len(set(d["after"].values())) == 1 or exit(1)'
test -f larger/augment.jsonl
expect 0 "$AIGC" augment builtin:scenes:train --val builtin:scenes:validation paste=2 --out pasted
grep -q '"paste"' pasted/augment.jsonl
expect 0 "$AIGC" augment text_classifier_demo --on-leak drop --keep 5% --out edited
expect 0 "$AIGC" augment seq2seq_demo --on-leak drop --keep 100 --out pairs
expect 0 "$AIGC" augment builtin:pop909 --keep 4 --out transposed
expect 0 "$AIGC" augment builtin:tones --keep 20 --out louder
expect 0 "$AIGC" augment features builtin:fashion:train --items 200 --test builtin:fashion:validation \
    --with raw --with dcgan_64:discriminator --probe --out features.parquet
grep -Eq '^raw \+ dcgan_64:discriminator  *[0-9,]+  *0\.[5-9]' stdout
expect 2 "$AIGC" augment builtin:fashion:validation --val builtin:fashion:validation --out leaking

step "tune: two trials, the best recipe trains"
printf 'model.lr: {low: 1e-4, high: 1e-2, log: true}\n' >space.yaml
expect 0 "$AIGC" tune vae_demo trainer.max_steps=2 trainer.validate_every=1 trainer.preview_every=2 \
    --search space.yaml --trials 2 --out found
expect 0 "$AIGC" train found/best.yaml --out found/again
expect 2 "$AIGC" tune vae_demo --search space.yaml --out found

step "every demo from the package and its requirements alone, in an empty folder, without any download; up to four at once"
"$ROOT/.venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --target installed "$ROOT"
"$ROOT/.venv/bin/python" "$ROOT/tests/core_packages.py" installed
alone() { PYTHONPATH="$work/installed" "$ROOT/.venv/bin/python" -S "$@"; } # only what pip install brings
mkdir empty && cd empty
alone -c 'import aigc_cli, os; print(os.path.dirname(aigc_cli.__file__))' | grep -q /installed/
if alone -c 'import pytest' 2>/dev/null; then exit 1; fi
running=() cores=$(getconf _NPROCESSORS_ONLN)
demo() { # demo RECIPE "words for sample": two steps, then what its header shows
    if [ "${#running[@]}" -ge "$((cores < 4 ? cores : 4))" ]; then
        done_with "${running[0]}"
        running=("${running[@]:1}")
    fi
    mkdir "$1"
    (cd "$1" && try_demo "$@") >"$1.log" 2>&1 &
    running+=($!)
}
done_with() {
    wait "$1" || { cat ./*.log && exit 1; }
}
try_demo() {
    export OMP_NUM_THREADS=1
    expect 0 alone -m aigc_cli train "$1" --out "$1" trainer.max_steps=2 trainer.log_every=1 \
        trainer.validate_every=2 trainer.checkpoint_every=2 trainer.preview_every=2
    expect 0 alone -m aigc_cli evaluate "$1"
    local words
    IFS='|' read -ra words <<<"$2"
    expect 0 alone -m aigc_cli sample "$1" "${words[@]}"
}
demo edsr_demo "--input|builtin:photos:validation|tile=128"
demo dcgan_demo "-n|4|label=7"
demo pix2pix_demo "--input|builtin:emoji:yellow"
demo cyclegan_demo "--input|builtin:emoji:yellow|direction=a2b"
demo colorize_demo "--input|builtin:emoji:yellow|temperature=0.38"
demo yolo_demo "--input|builtin:scenes:validation"
demo classifier_demo "--input|builtin:fashion:validation"
demo lm_demo "--prompt|ROMEO:|max_tokens=8"
demo music_lm_demo "-n|1|bars=1|max_tokens=60"
demo seq2seq_demo "--prompt|Where is the station?"
demo text_classifier_demo "--prompt|thank you so much"
demo vae_demo "-n|4"
demo flow_demo "-n|4|steps=2"
demo munit_demo "--input|builtin:emoji:yellow|-n|2"
demo text_vae_demo "-n|2"
demo chat_demo "--prompt|What is a star?|max_tokens=8"
demo summarize_demo "--prompt|本文提出一种新的方法.|beams=1|max_tokens=8"
demo music_vae_demo "-n|2|--interpolate|2"
demo rhythm_vae_demo "-n|2|label=funk"
demo audio_classifier_demo "--input|builtin:tones:notes"
demo wavenet_demo "-n|2|seconds=0.02"
for job in "${running[@]}"; do done_with "$job"; done
expect 0 alone -m aigc_cli sample style_demo --input builtin:photos:validation --reference builtin:paintings:wave \
    size=64 steps=2
expect 0 alone -m aigc_cli sample deepdream_demo --input builtin:paintings:wave octaves=1 steps=1

cd ..

step "data that is not here, and a license that limits use"
export AIGC_DATA="$work/data"
expect 2 "$AIGC" train classifier_goemotions
grep -q "aigc data get goemotions (4.4 MB)" stderr
expect 2 "$AIGC" data get aeslc
grep -q -- "--accept" stderr
"$AIGC" data ls --json | json 'len(d["sets"])'

step "mistakes end with one sentence"
expect 2 "$AIGC" train edsr_small_x2 model.lr=fast trainer.max_stps=3
grep -q "did you mean" stderr
expect 2 "$AIGC" train no_such_recipe
expect 2 "$AIGC" train edsr_small_x2 data.train=nowhere
expect 2 "$AIGC" train edsr_small_x2 --out "$run"
expect 2 "$AIGC" sample nowhere --input "a photo é.png"
head -c 1000 "$run/checkpoints/best.ckpt" >cut.ckpt
expect 2 "$AIGC" sample cut.ckpt --input "a photo é.png"
expect 2 "$AIGC" train edsr_small_x2 --max-time soon
"$AIGC" recipe check nothing.yaml --json 2>/dev/null | json 'd["ok"] is False or exit(1)' || true

printf '\nsmoke: all as expected\n'
