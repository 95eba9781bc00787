"""`aigc serve` under load: 50 clients at once, with and without batches.

    python -m benchmarks.serve RUN [--clients 50] [--rounds 3]

The last line has the medians over rounds as JSON.

RUN is of a family that continues texts. Both servers run in turn, each of a fresh process; every
answer is compared with the one that a server gave alone.
"""

from __future__ import annotations

import argparse
import http.client
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from statistics import median, quantiles


def ask(port: int, number: int) -> tuple[float, str]:
    """Seconds, and the answer to request `number`."""
    asked = {"model": "m", "prompt": "ROMEO:\n", "max_tokens": 64, "seed": number}
    begun = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    headers = {"content-type": "application/json"}
    connection.request("POST", "/v1/completions", json.dumps(asked), headers)
    answer = connection.getresponse()
    found = json.loads(answer.read())
    connection.close()
    if answer.status != 200:
        raise SystemExit(f"lost: {answer.status} {found}")
    return time.perf_counter() - begun, found["choices"][0]["text"]


def measure(run: str, batch_size: int, clients: int, requests: int) -> dict[str, float]:
    words = ["serve", f"m={run}", "--port", "0", "--batch-size", str(batch_size), "--json"]
    words += ["--queue", str(clients), "--timeout", "300", "--device", "cpu"]
    server = subprocess.Popen([sys.executable, "-m", "aigc_cli", *words], stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None
        port = int(json.loads(server.stdout.readline())["address"].rpartition(":")[2])
        alone = [ask(port, number) for number in range(5)]
        begun = time.perf_counter()
        with ThreadPoolExecutor(clients) as pool:
            found = list(pool.map(lambda number: ask(port, number), range(requests)))
        took = time.perf_counter() - begun
        assert [text for _, text in found[:5]] == [text for _, text in alone], "answers differ"
    finally:
        server.terminate()
        server.wait()
    return {
        "per_second": requests / took,
        "p50": median(s for s, _ in found),
        "p95": quantiles((s for s, _ in found), n=20)[-1],
        "alone": median(s for s, _ in alone),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    seen: dict[int, list[dict[str, float]]] = {1: [], 16: []}
    for _ in range(given.rounds):
        for batch_size, rounds in seen.items():
            rounds.append(measure(given.run, batch_size, given.clients, given.requests))
            told = ", ".join(f"{name} {value:.2f}" for name, value in rounds[-1].items())
            print(f"batch size {batch_size}: {told}", flush=True)
    medians = {
        size: {name: round(median(each[name] for each in rounds), 3) for name in rounds[0]}
        for size, rounds in seen.items()
    }
    print(json.dumps(medians))


if __name__ == "__main__":
    main()
