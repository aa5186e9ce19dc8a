#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A small convolutional network in PyTorch, trained on the dataset of kd-synth: a teacher
for pipelines/pytorch.sh, and an example of one's own module for teachers/teacher_torch.py.

    pytorch_net.py --data train.h5 --epochs 5 --seed 1 -o teacher1.pt
    kd-dump --teacher 'exec:python3 teachers/teacher_torch.py pytorch_net:make
        --weights teacher1.pt' ...
"""
import argparse

import torch
from torch import nn

CLASSES = 36


def make():
    def block(a, b):
        return nn.Conv2d(a, b, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU()
    return nn.Sequential(*block(1, 32), *block(32, 64), *block(64, 128),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, CLASSES))


def main():
    import h5py
    parser = argparse.ArgumentParser(description="Trains a teacher.")
    parser.add_argument("--data", required=True, help="HDF5 file of kd-synth")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", required=True)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    with h5py.File(args.data, "r") as file:
        x = torch.from_numpy(file["x"][:]).float() / 255
        y = torch.from_numpy(file["y"][:]).long()
    model = make()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for epoch in range(1, args.epochs + 1):
        right = 0
        for part in torch.randperm(len(x)).split(args.batch):
            z = model(x[part])
            optimizer.zero_grad()
            nn.functional.cross_entropy(z, y[part]).backward()
            optimizer.step()
            right += int((z.argmax(1) == y[part]).sum())
        print(f"epoch {epoch} accuracy {right / len(x):.4f}", flush=True)
    torch.save(model.state_dict(), args.output)


if __name__ == "__main__":
    main()
