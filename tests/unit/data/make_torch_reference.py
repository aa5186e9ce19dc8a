#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Makes torch_resnet8.h5, what test_torch.c compares with: what PyTorch computes
with two small networks, in double precision, from values that float32 holds.

    make_torch_reference.py [FILE]          (Debian: python3-torch, python3-h5py)

/input [8][3][16][16], /target [8][10] (soft labels at T = 4), /label [8] int32,
/loss [4] (before each step, and behind the last),
/resnet8/initial/NAME, /resnet8/logits [8][10], /resnet8/gradient/NAME,
/resnet8/step1/NAME to step3/NAME: parameters and running statistics,
/plain4/initial/NAME, /plain4/logits [8][10].
"""
import os
import sys

import h5py
import numpy as np
import torch
from torch import nn
from torch.nn import functional

BATCH, CLASSES, T = 8, 10, 4.0
HARD, SOFT = 0.1, 0.9


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False),
                nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(y)) + self.downsample(x))


class ResNet(nn.Module):
    """He et al. 2016, section 4.2, depth 6n+2."""

    def __init__(self, n, width, classes):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = self.stage(n, width, width, 1)
        self.layer2 = self.stage(n, width, 2 * width, 2)
        self.layer3 = self.stage(n, 2 * width, 4 * width, 2)
        self.fc = nn.Linear(4 * width, classes)

    @staticmethod
    def stage(n, inputs, outputs, stride):
        blocks = [Block(inputs, outputs, stride)]
        blocks += [Block(outputs, outputs, 1) for _ in range(n - 1)]
        return nn.Sequential(*blocks)

    def forward(self, x):
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))


class Plain4(nn.Module):
    """Mirzadeh et al. 2020: four convolutions, for 16 x 16 inputs here."""

    def __init__(self, classes):
        super().__init__()
        sizes = [(3, 16), (16, 16), (16, 32), (32, 32)]
        for i, (inputs, outputs) in enumerate(sizes, 1):
            setattr(self, f"conv{i}", nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False))
            setattr(self, f"bn{i}", nn.BatchNorm2d(outputs))
        self.fc = nn.Linear(32 * 4 * 4, classes)

    def forward(self, x):
        for i in range(1, 5):
            x = getattr(self, f"conv{i}")(x)
            x = functional.relu(getattr(self, f"bn{i}")(x))
            if i % 2 == 0:
                x = functional.max_pool2d(x, 2)
        return self.fc(x.flatten(1))


def round_to_float(tensor):
    return tensor.float().double()


def randomise(network):
    """No value that a mistake could hide behind, such as a scale of 1; all of them
    in float32, as the file has them."""
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if name.endswith("running_var") or value.dim() == 1 and "weight" in name:
                value.uniform_(0.5, 1.5)
            elif name.endswith("bias") or name.endswith("running_mean"):
                value.normal_(0, 0.2)
            if value.is_floating_point():
                value.copy_(round_to_float(value))


def save_state(file, group, network):
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            file[f"{group}/{name}"] = value.numpy().astype("<f4")


def loss_of(logits, labels, target):
    hard = functional.cross_entropy(logits, labels)
    soft = functional.kl_div(functional.log_softmax(logits / T, 1), target,
                             reduction="batchmean")
    return HARD * hard + SOFT * T * T * soft


def train(file, network, x, labels, target):
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9,
                                nesterov=True, weight_decay=5e-4)
    losses = []
    for step in range(1, 4):
        optimizer.zero_grad()
        logits = network(x)
        loss = loss_of(logits, labels, target)
        loss.backward()
        losses.append(loss.item())
        if step == 1:
            file["resnet8/logits"] = logits.detach().numpy().astype("<f4")
            for name, value in network.named_parameters():
                file[f"resnet8/gradient/{name}"] = value.grad.numpy().astype("<f4")
        optimizer.step()
        save_state(file, f"resnet8/step{step}", network)
    losses.append(loss_of(network(x), labels, target).item())
    file["loss"] = np.array(losses, "<f4")


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    path = sys.argv[1] if len(sys.argv) > 1 else os.path.join(here, "torch_resnet8.h5")
    torch.manual_seed(20240607)
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    x = round_to_float(torch.randn(BATCH, 3, 16, 16))
    labels = torch.randint(0, CLASSES, (BATCH,))
    target = round_to_float(functional.softmax(3 * torch.randn(BATCH, CLASSES) / T, 1))
    resnet, plain = ResNet(1, 8, CLASSES), Plain4(CLASSES)
    randomise(resnet)
    randomise(plain)
    with h5py.File(path, "w", libver="earliest") as file:
        file["input"] = x.numpy().astype("<f4")
        file["label"] = labels.numpy().astype("<i4")
        file["target"] = target.numpy().astype("<f4")
        save_state(file, "resnet8/initial", resnet)
        train(file, resnet, x, labels, target)
        save_state(file, "plain4/initial", plain)
        plain.train()
        file["plain4/logits"] = plain(x).detach().numpy().astype("<f4")


main()
