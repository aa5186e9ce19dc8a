#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The accuracy of a CIFAR residual network in PyTorch under kd-train's default recipe:
whether speed was bought with accuracy. One line a seed: its accuracy after the last
epoch, and the seconds it took.

    torch_accuracy.py --train train.bin --test test.bin --depth 20 --epochs 15 --seed 1 2 3
    kd-train --network resnet20 --data cifar100:train.bin --test cifar100:test.bin \\
        --augment crop4,flip --epochs 15 --seed 1 -o run

SGD with Nesterov's momentum 0.9, decay 5e-4 on all parameters, batches of 128, the rate
climbing to 0.1 in the first epoch and falling along a cosine; crops out of 4 pixels of
zeros around the image, and flips; what does not fill the last batch is left out.
"""
import argparse
import math
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    def __init__(self, inside, outside, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.shortcut = nn.Identity()
        if stride != 1 or inside != outside:
            self.shortcut = nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False),
                                          nn.BatchNorm2d(outside))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


def resnet(depth, classes):
    layers, inside = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()], 16
    for stage, outside in enumerate((16, 32, 64)):
        for index in range((depth - 2) // 6):
            layers.append(Block(inside, outside, 2 if stage > 0 and index == 0 else 1))
            inside = outside
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes))
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, 0, math.sqrt(
                2 / (module.out_channels * module.kernel_size[0] ** 2)))
    return net


def read(path):
    """Pixels [n][3][32][32] as float and fine labels [n] of CIFAR-100's binary file."""
    rows = np.fromfile(path, np.uint8).reshape(-1, 2 + 3072)
    pixels = torch.from_numpy(rows[:, 2:].reshape(-1, 3, 32, 32).copy()).float()
    return pixels, torch.from_numpy(rows[:, 1].astype(np.int64))


def augmented(x):
    """Each image cropped out of its padded self and, every other time, flipped."""
    n, padded = len(x), F.pad(x, (4, 4, 4, 4))
    row = torch.randint(9, (n, 1)) + torch.arange(32)
    column = torch.randint(9, (n, 1)) + torch.arange(32)
    column = torch.where(torch.rand(n, 1) < 0.5, column.flip(1), column)
    at = torch.arange(n).view(n, 1, 1)
    return padded.permute(0, 2, 3, 1)[at, row.view(n, 32, 1), column.view(n, 1, 32)].permute(
        0, 3, 1, 2)


def train(args, seed, train_set, test_set):
    torch.manual_seed(seed)
    (x, y), (test_x, test_y) = train_set, test_set
    mean = x.mean((0, 2, 3), keepdim=True)
    deviation = x.std((0, 2, 3), keepdim=True)

    def normalized(pixels):
        return (pixels - mean) / deviation

    net = resnet(args.depth, 100).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(net.parameters(), lr=args.lr, momentum=0.9, nesterov=True,
                                weight_decay=5e-4)
    steps = len(x) // args.batch
    warmup, total = steps, steps * args.epochs
    for epoch in range(args.epochs):
        net.train()
        for step, part in enumerate(torch.randperm(len(x))[:steps * args.batch]
                                    .split(args.batch)):
            now = epoch * steps + step
            rate = (now + 1) / warmup if now < warmup else 0.5 * (1 + math.cos(
                math.pi * (now - warmup) / max(1, total - warmup)))
            optimizer.param_groups[0]["lr"] = args.lr * rate
            loss = F.cross_entropy(net(normalized(augmented(x[part]))), y[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    net.eval()
    with torch.no_grad():
        right = sum(int((net(normalized(a)).argmax(1) == b).sum())
                    for a, b in zip(test_x.split(500), test_y.split(500)))
    return right / len(test_x)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--train", required=True)
    parser.add_argument("--test", required=True)
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--seed", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    train_set, test_set = read(args.train), read(args.test)
    for seed in args.seed:
        started = time.monotonic()
        accuracy = train(args, seed, train_set, test_set)
        print("seed %d accuracy %.4f seconds %.0f" % (
            seed, accuracy, time.monotonic() - started), flush=True)


if __name__ == "__main__":
    main()
