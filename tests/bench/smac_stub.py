"""Speaks the protocol of `smac_server.py` with random draws, where SMAC3 is not installed."""

from __future__ import annotations

import json
import random
import sys


def main() -> None:
    """Answer requests; a seed of 13 fails at the second ask, as a broken optimiser would."""
    rng, parameters, asked, seed = random.Random(0), [], 0, 0
    for line in sys.stdin:
        request = json.loads(line)
        answer: dict[str, object] = {"cpu": float(asked)}
        if request["op"] == "start":
            seed, parameters = request["scenario"]["seed"], request["parameters"]
            rng = random.Random(seed)
        elif request["op"] == "ask":
            asked += 1
            answer["params"] = draw(parameters, rng)
        print(json.dumps({"error": "broken"} if asked > 1 and seed == 13 else answer), flush=True)


def draw(parameters: list[dict], rng: random.Random) -> dict[str, object]:
    """One active configuration in the server's terms."""
    params: dict[str, object] = {}
    for parameter in parameters:
        if "parent" in parameter:
            parent, values = params.get(parameter["parent"]), parameter["values"]
            if parent is None or (
                parent not in values if values is not None else parent < parameter["at_least"]
            ):
                continue
        if "choices" in parameter:
            params[parameter["name"]] = rng.choice(parameter["choices"])
        elif parameter["is_whole"]:
            params[parameter["name"]] = rng.randint(*parameter["bounds"])
        else:
            params[parameter["name"]] = rng.uniform(*parameter["bounds"])
    return params


if __name__ == "__main__":
    main()
