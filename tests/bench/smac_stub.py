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
            seed, parameters = request["seed"], request["parameters"]
            rng = random.Random(seed)
        elif request["op"] == "ask":
            asked += 1
            answer["params"] = draw(parameters, rng)
        print(json.dumps({"error": "broken"} if asked > 1 and seed == 13 else answer), flush=True)


def draw(parameters: list[dict], rng: random.Random) -> dict[str, object]:
    """One active configuration in the server's terms."""
    params: dict[str, object] = {}
    for parameter in parameters:
        condition = parameter.get("condition")
        if condition is not None:
            parent = params.get(condition["parent"])
            if parent is None:
                continue
            if "values" in condition and parent not in condition["values"]:
                continue
            if "at_least" in condition and parent < condition["at_least"]:
                continue
        if parameter["kind"] == "categorical":
            params[parameter["name"]] = rng.randrange(parameter["n_choices"])
        elif parameter["kind"] == "int":
            params[parameter["name"]] = rng.randint(parameter["low"], parameter["high"])
        else:
            params[parameter["name"]] = rng.uniform(parameter["low"], parameter["high"])
    return params


if __name__ == "__main__":
    main()
