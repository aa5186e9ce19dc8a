# SPDX-License-Identifier: MIT
"""For weights.bats: networks of every family as PyTorch makes them, with random
weights, in all containers; and whether what became of them is the same.

    weights.py make           x.npy, y.npy, and for each case a directory CASE with
                              network, rename, weights.safetensors, weights.h5, npy/,
                              logits.npy
    weights.py same CASE...   CASE/KIND.out.h5 has the state_dict of CASE to the bit,
                              and the rows in CASE/cache, at T = 1, are its logits

A case whose name ends in -tv is made of torchvision's own classes, with a stem and end
for small images.
"""
import json
import os
import struct
import sys

import h5py
import numpy as np

SAMPLES, CLASSES = 8, 10


def cases():
    """name: (network, module, [(their name, ours)])"""
    import torch
    from torch import nn
    from torchvision import models as tv
    import torch_modules as m
    found = {
        "mlp": ("mlp", m.Mlp(3 * 32 * 32, [256, 128], CLASSES), []),
        "plain4": ("plain4", m.Plain([16, 16, 0, 32, 32, 0], 0, CLASSES), []),
        "resnet8x4": ("resnet8x4", m.ResNet(8, 32, 64, CLASSES), []),
        "wrn-10-2": ("wrn-10-2", m.WideResNet(10, 2, CLASSES), []),
        "densenet": ("densenet-22-12", m.DenseNet(22, 12, CLASSES), []),
    }

    class PublishedPlain(nn.Module):
        """As the code of the paper has it: biases before batch norms, other names."""

        def __init__(self):
            super().__init__()
            self.conv_layers = nn.Sequential(
                m.conv(3, 16, 3, bias=True), nn.BatchNorm2d(16), nn.ReLU(),
                nn.MaxPool2d(2),
                m.conv(16, 16, 3, bias=True), nn.BatchNorm2d(16), nn.ReLU(),
                nn.MaxPool2d(2))
            self.fc_layers = nn.Sequential(nn.Linear(16 * 8 * 8, CLASSES))

        def forward(self, x):
            return self.fc_layers(self.conv_layers(x).flatten(1))
    found["plain2-bias"] = ("plain2", PublishedPlain(), [
        ("conv_layers.0", "conv1"), ("conv_layers.1", "bn1"), ("conv_layers.4", "conv2"),
        ("conv_layers.5", "bn2"), ("fc_layers.0", "fc")])

    class TorchvisionResNet(m.ResNet):
        @staticmethod
        def stage(n, inputs, outputs, stride):
            first = tv.resnet.BasicBlock(inputs, outputs, stride)
            if stride != 1 or inputs != outputs:
                first.downsample = nn.Sequential(
                    tv.resnet.conv1x1(inputs, outputs, stride), nn.BatchNorm2d(outputs))
            return nn.Sequential(first, *(tv.resnet.BasicBlock(outputs, outputs)
                                          for _ in range(n - 1)))
    found["resnet14-tv"] = ("resnet14", TorchvisionResNet(14, 16, 16, CLASSES), [])

    # Its layers in their order; poolings at the ends of the first three stages.
    plan = [64, "M", 128, "M", 256, "M", 512, 512]
    vgg = tv.vgg.VGG(tv.vgg.make_layers(plan, batch_norm=True), CLASSES, False)
    vgg.avgpool, vgg.classifier = nn.AdaptiveAvgPool2d(1), nn.Linear(512, CLASSES)
    names, at = [], 0
    for stage in range(5):
        names += [(f"features.{at}", f"block{stage}.0"),
                  (f"features.{at + 1}", f"block{stage}.1")]
        at += 4 if stage < 3 else 3
    found["vgg8-tv"] = ("vgg8", vgg, names)

    net = tv.ShuffleNetV2([4, 8, 4], [24, 48, 96, 192, 1024], CLASSES)
    net.conv1[0], net.maxpool = nn.Conv2d(3, 24, 1, bias=False), nn.Identity()
    names = [("conv1.0", "conv1"), ("conv1.1", "bn1"), ("conv5.0", "conv2"),
             ("conv5.1", "bn2"), ("fc", "linear")]
    for stage, count in ((1, 4), (2, 8), (3, 4)):
        for i in range(count):
            parts = [("2.0", "conv1"), ("2.1", "bn1"), ("2.3", "conv2"), ("2.4", "bn2"),
                     ("2.5", "conv3"), ("2.6", "bn3")]
            if i == 0:
                parts = [("1.0", "conv1"), ("1.1", "bn1"), ("1.2", "conv2"),
                         ("1.3", "bn2"), ("2.0", "conv3"), ("2.1", "bn3"),
                         ("2.3", "conv4"), ("2.4", "bn4"), ("2.5", "conv5"),
                         ("2.6", "bn5")]
            names += [(f"stage{stage + 1}.{i}.branch{theirs}", f"layer{stage}.{i}.{ours}")
                      for theirs, ours in parts]
    found["shufflenetv2-tv"] = ("{family: shufflenetv2, width: 0.5}", net, names)

    class TorchvisionMobileNet(m.MobileNetV2):
        """Behind the first stage, which has no expansion there, their blocks."""

        def __init__(self):
            super().__init__(0.5, 6, CLASSES)
            for s, stage in enumerate(self.blocks):
                for i, block in enumerate(stage):
                    if s == 0:
                        continue
                    conv = block.conv
                    theirs = tv.mobilenetv2.InvertedResidual(
                        conv[0].in_channels, conv[6].out_channels, conv[3].stride[0], 6)
                    theirs.conv[0][2], theirs.conv[1][2] = nn.ReLU(), nn.ReLU()
                    stage[i] = theirs
    net, names = TorchvisionMobileNet(), []
    for s, stage in enumerate(net.blocks):
        for i in range(len(stage) if s > 0 else 0):
            names += [(f"blocks.{s}.{i}.conv.{theirs}", f"blocks.{s}.{i}.conv.{ours}")
                      for theirs, ours in (("0.0", 0), ("0.1", 1), ("1.0", 3),
                                           ("1.1", 4), ("2", 6), ("3", 7))]
    found["mobilenetv2-tv"] = ("mobilenetv2", net, names)

    class TorchvisionVit(nn.Module):
        def __init__(self):
            super().__init__()
            whole = tv.VisionTransformer(32, 8, 2, 3, 48, 192, num_classes=CLASSES)
            self.conv_proj, self.encoder = whole.conv_proj, whole.encoder
            self.encoder.pos_embedding = nn.Parameter(torch.zeros(1, 16, 48))
            self.head = nn.Linear(48, CLASSES)

        def forward(self, x):
            x = self.conv_proj(x).flatten(2).transpose(1, 2)
            return self.head(self.encoder(x).mean(1))
    names = [("conv_proj", "patch_embed.proj"), ("encoder.pos_embedding", "pos_embed"),
             ("encoder.ln", "norm")]
    for i in range(2):
        names += [(f"encoder.layers.encoder_layer_{i}.{theirs}", f"blocks.{i}.{ours}")
                  for theirs, ours in (
                      ("ln_1", "norm1"), ("ln_2", "norm2"), ("mlp.0", "mlp.fc1"),
                      ("mlp.3", "mlp.fc2"), ("self_attention.out_proj", "attn.proj"),
                      ("self_attention.in_proj_weight", "attn.qkv.weight"),
                      ("self_attention.in_proj_bias", "attn.qkv.bias"))]
    found["vit-tv"] = ("{family: vit, patch: 8, width: 48, depth: 2, heads: 3}",
                       TorchvisionVit(), names)
    return found


def renamed(name, names):
    for theirs, ours in names:
        if name == theirs or name.startswith(theirs + "."):
            return ours + name[len(theirs):]
    return name


def write_safetensors(path, arrays):
    header, at = {}, 0
    for name, a in arrays.items():
        header[name] = {"dtype": {"f": "F32", "i": "I64"}[a.dtype.kind],
                        "shape": a.shape, "data_offsets": [at, at + a.nbytes]}
        at += a.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for a in arrays.values():
            file.write(a.tobytes())


def make_case(name, network, module, names, x):
    import torch
    import torch_modules
    torch_modules.fill(module, lambda theirs: renamed(theirs, names))
    arrays = {k: np.ascontiguousarray(v.numpy()) for k, v in module.state_dict().items()}
    os.makedirs(f"{name}/npy")
    write_safetensors(f"{name}/weights.safetensors", arrays)
    with h5py.File(f"{name}/weights.h5", "w") as file:
        for k, v in arrays.items():
            file[k] = v
    for k, v in arrays.items():
        np.save(f"{name}/npy/{k}.npy", v)
    with torch.no_grad():
        np.save(f"{name}/logits.npy", module(torch.from_numpy(x)).numpy())
    for key, text in (("network", network),
                      ("rename", ",".join(f"{a}={b}" for a, b in names))):
        with open(f"{name}/{key}", "w", encoding="ascii") as file:
            file.write(text)


def make():
    import torch
    import torch_modules
    torch.set_num_threads(1)
    x = 4 * torch_modules.uniform("input", SAMPLES * 3 * 32 * 32).astype("f4") - 2
    x = x.reshape(SAMPLES, 3, 32, 32)
    np.save("x.npy", x)
    np.save("y.npy", np.arange(SAMPLES, dtype="u1") + CLASSES - SAMPLES)
    for name, (network, module, names) in cases().items():
        make_case(name, network, module, names, x)


def names_of(case):
    with open(f"{case}/rename", encoding="ascii") as file:
        text = file.read()
    return [pair.split("=") for pair in text.split(",") if pair]


def same(case):
    due = {}
    with h5py.File(f"{case}/weights.h5") as file:
        for name in file:
            due[renamed(name, names_of(case))] = file[name][()]
    for kind in ("safetensors", "h5", "npy"):
        with h5py.File(f"{case}/{kind}.out.h5") as file:
            got = {name: a[()] for name, a in file["state_dict"].items()}
        for name, a in got.items():
            wanted = due[name]
            if "bias" in case and name.endswith("running_mean"):
                wanted = wanted - due[name[:3].replace("bn", "conv") + ".bias"]
            assert np.array_equal(a, wanted), (case, kind, name)
    with h5py.File(f"{case}/cache/shard-000000.h5") as file:
        z = file["logits"][()] + file["row_max"][()][:, None]
    off = np.abs(z - np.load(f"{case}/logits.npy")).max()
    print(f"# {case}: logits off by {off:.1e}, of {np.abs(z).max():.1f}")
    return off <= 1e-4


here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, "..", "unit", "data"))
if sys.argv[1] == "make":
    make()
else:
    sys.exit(not all([same(case.strip("./")) for case in sys.argv[2:]]))
