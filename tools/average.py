"""The weighted mean of the weights of several models of one run, as a model: `python tools/average.py OUT A 2 B 1`.

Points of one run at a high learning rate lie around a flatter place than each of them (Izmailov et al., Averaging Weights
Leads to Wider Optima, UAI 2018). Only for models whose batch norms kept the same statistics (train.norms = "folded").
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch

from featherpose.systems.files import load_network, save_model


def main() -> None:
    out, *rest = sys.argv[1:]
    models = [load_network(path) for path in rest[::2]]
    shares = torch.tensor([float(share) for share in rest[1::2]])
    shares /= shares.sum()
    network, spec = models[0]
    states = [other.state_dict() for other, _ in models]
    norms = [name for name in states[0] if "running_" in name]
    if any(not torch.equal(states[0][name], state[name]) for state in states for name in norms):
        raise SystemExit("the models' batch norms have different statistics, so a mean of their weights means nothing")
    mean = {
        name: sum(share * state[name] for share, state in zip(shares, states, strict=True)).to(value.dtype)
        for name, value in states[0].items()
    }
    network.load_state_dict(mean)
    facts = {"shares": shares.tolist(), "steps": [other.provenance.get("steps") for _, other in models]}
    provenance = {key: value for key, value in spec.provenance.items() if key != "validation"}
    save_model(Path(out), network, replace(spec, provenance={**provenance, "average": facts}))


if __name__ == "__main__":
    main()
