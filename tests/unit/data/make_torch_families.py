#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Makes torch_families.h5: the logits [2][10], in inference and double precision, that
PyTorch computes for a network of every family, whose weights and input are those of
torch_modules.py: functions of their names.

    make_torch_families.py [FILE]           (Debian: python3-torch, python3-h5py)
"""
import os
import sys

import h5py
import torch

import torch_modules as m

NETWORKS = {
    "mlp": m.Mlp(3 * 32 * 32, [256, 128], 10),
    "plain8": m.Plain([16, 16, 0, 32, 32, 0, 64, 64, 0, 128, 128, 0], 64, 10),
    "resnet20": m.ResNet(20, 16, 16, 10),
    "resnet8x4": m.ResNet(8, 32, 64, 10),
    "wrn-16-1": m.WideResNet(16, 1, 10),
    "wrn-10-2": m.WideResNet(10, 2, 10),
    "vgg8": m.Vgg(8, 10),
    "vgg13": m.Vgg(13, 10),
    "mobilenetv2": m.MobileNetV2(0.5, 6, 10),
    "shufflenetv2": m.ShuffleNetV2([116, 232, 464, 1024], 10),
    "{family: shufflenetv2, width: 0.2}":
        m.ShuffleNetV2([40, 80, 160, 512], 10, (3, 3, 3)),
    "densenet-40-12": m.DenseNet(40, 12, 10),
    "vit": m.Vit(4, 192, 6, 3, 10),
}


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    path = sys.argv[1] if len(sys.argv) > 1 else os.path.join(here, "torch_families.h5")
    torch.set_num_threads(1)
    x = torch.from_numpy(4 * m.uniform("input", 2 * 3 * 32 * 32).astype("f4") - 2)
    x = x.reshape(2, 3, 32, 32).double()
    with h5py.File(path, "w", libver="earliest") as file, torch.no_grad():
        for name, network in NETWORKS.items():
            file[name] = m.fill(network).double()(x).numpy().astype("<f4")


main()
