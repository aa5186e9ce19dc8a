#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Makes torch_optimizers.h5, what test_adam.c compares with: six steps of PyTorch's
optimisers over a dense layer, in double precision, from values that float32 holds.

    make_torch_optimizers.py [FILE]          (Debian: python3-torch, python3-h5py)

/weight [5][7], /bias [5]: first values; /gradient/weight [6][5][7], /gradient/bias
[6][5]; /rate [6]; for each case /CASE/weight [6][5][7], /CASE/bias [6][5] behind each
step. "weights" in a case's name: no decay on the bias.
"""
import os
import sys

import h5py
import numpy as np
import torch

STEPS = 6
ADAM = {"betas": (0.9, 0.999), "eps": 1e-8}
CASES = {
    "sgd-nesterov": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True,
                                       "weight_decay": 0.01}),
    "adam": (torch.optim.Adam, ADAM),
    "adam-decay": (torch.optim.Adam, {**ADAM, "weight_decay": 0.1}),
    "adamw": (torch.optim.AdamW, {**ADAM, "weight_decay": 0.1}),
    "adamw-weights": (torch.optim.AdamW, {**ADAM, "weight_decay": 0.1}),
    "adam-betas": (torch.optim.Adam, {"betas": (0.5, 0.9), "eps": 1e-3}),
}


def run(name, weight, bias, gradients, rates):
    kind, options = CASES[name]
    w = torch.nn.Parameter(torch.tensor(weight, dtype=torch.float64))
    b = torch.nn.Parameter(torch.tensor(bias, dtype=torch.float64))
    groups = [{"params": [w]}, {"params": [b]}]
    if name.endswith("-weights"):
        groups[1]["weight_decay"] = 0.0
    optimiser = kind(groups, lr=1.0, **options)
    behind = [], []
    for step in range(STEPS):
        for group in optimiser.param_groups:
            group["lr"] = float(rates[step])
        w.grad = torch.tensor(gradients[0][step], dtype=torch.float64)
        b.grad = torch.tensor(gradients[1][step], dtype=torch.float64)
        optimiser.step()
        behind[0].append(w.detach().numpy().copy())
        behind[1].append(b.detach().numpy().copy())
    return np.stack(behind[0]), np.stack(behind[1])


def main():
    there = os.path.join(os.path.dirname(os.path.abspath(__file__)),
                         "torch_optimizers.h5")
    random = np.random.default_rng(1)
    weight = random.normal(size=(5, 7)).astype(np.float32)
    bias = random.normal(size=5).astype(np.float32)
    gradients = [random.normal(size=(STEPS, 5, 7)).astype(np.float32),
                 random.normal(size=(STEPS, 5)).astype(np.float32)]
    rates = 0.1 / (1 + np.arange(STEPS, dtype=np.float64))
    with h5py.File(sys.argv[1] if len(sys.argv) > 1 else there, "w") as file:
        file["weight"], file["bias"], file["rate"] = weight, bias, rates
        file["gradient/weight"], file["gradient/bias"] = gradients
        for name in CASES:
            file[name + "/weight"], file[name + "/bias"] = run(
                name, weight, bias, gradients, rates)


if __name__ == "__main__":
    main()
