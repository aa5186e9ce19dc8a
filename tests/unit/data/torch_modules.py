# SPDX-License-Identifier: MIT
"""The families of networks as PyTorch modules, with the published names of their
parts: what tests compare with. Names: include/kd/weights.h."""
import numpy as np
import torch
from torch import nn
from torch.nn import functional


def conv(inputs, outputs, kernel, stride=1, groups=1, bias=False):
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups,
                     bias=bias)


def norm_relu(norm, x):
    return functional.relu(norm(x))


class Mlp(nn.Module):
    def __init__(self, inputs, hidden, classes):
        super().__init__()
        self.count = len(hidden)
        for i, outputs in enumerate(hidden, 1):
            setattr(self, f"fc{i}", nn.Linear(inputs, outputs))
            setattr(self, f"bn{i}", nn.BatchNorm1d(outputs))
            inputs = outputs
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x):
        x = x.flatten(1)
        for i in range(1, self.count + 1):
            x = norm_relu(getattr(self, f"bn{i}"), getattr(self, f"fc{i}")(x))
        return self.fc(x)


class Plain(nn.Module):
    """Mirzadeh et al. 2020, without biases before the batch norms; 0 is a pooling."""

    def __init__(self, channels, hidden, classes):
        super().__init__()
        self.channels, inputs, size, i = channels, 3, 32, 0
        for outputs in channels:
            if outputs == 0:
                size //= 2
                continue
            i += 1
            setattr(self, f"conv{i}", conv(inputs, outputs, 3))
            setattr(self, f"bn{i}", nn.BatchNorm2d(outputs))
            inputs = outputs
        inputs *= size * size
        self.fc1 = nn.Linear(inputs, hidden) if hidden else None
        self.fc = nn.Linear(hidden or inputs, classes)

    def forward(self, x):
        i = 0
        for outputs in self.channels:
            if outputs == 0:
                x = functional.max_pool2d(x, 2)
                continue
            i += 1
            x = norm_relu(getattr(self, f"bn{i}"), getattr(self, f"conv{i}")(x))
        x = x.flatten(1)
        if self.fc1 is not None:
            x = functional.relu(self.fc1(x))
        return self.fc(x)


class BasicBlock(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1, self.bn1 = conv(inputs, outputs, 3, stride), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = conv(outputs, outputs, 3), nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(conv(inputs, outputs, 1, stride),
                                            nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = self.bn2(self.conv2(norm_relu(self.bn1, self.conv1(x))))
        return functional.relu(y + (x if self.downsample is None
                                    else self.downsample(x)))


class ResNet(nn.Module):
    """He et al. 2016 for CIFAR, as Tian et al. 2020 have it."""

    def __init__(self, depth, stem, width, classes):
        super().__init__()
        n = (depth - 2) // 6
        self.conv1, self.bn1 = conv(3, stem, 3), nn.BatchNorm2d(stem)
        self.layer1 = self.stage(n, stem, width, 1)
        self.layer2 = self.stage(n, width, 2 * width, 2)
        self.layer3 = self.stage(n, 2 * width, 4 * width, 2)
        self.fc = nn.Linear(4 * width, classes)

    @staticmethod
    def stage(n, inputs, outputs, stride):
        return nn.Sequential(BasicBlock(inputs, outputs, stride),
                             *(BasicBlock(outputs, outputs, 1) for _ in range(n - 1)))

    def forward(self, x):
        x = self.layer1(norm_relu(self.bn1, self.conv1(x)))
        return self.fc(self.layer3(self.layer2(x)).mean((2, 3)))


class WideBlock(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), conv(inputs, outputs, 3, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(outputs), conv(outputs, outputs, 3)
        self.convShortcut = None
        if inputs != outputs:
            self.convShortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x):
        y = norm_relu(self.bn1, x)
        z = self.conv2(norm_relu(self.bn2, self.conv1(y)))
        return z + (x if self.convShortcut is None else self.convShortcut(y))


class Layers(nn.Module):
    """Modules in a row, under the name layer."""

    def __init__(self, modules):
        super().__init__()
        self.layer = nn.Sequential(*modules)

    def forward(self, x):
        return self.layer(x)


class WideResNet(nn.Module):
    def __init__(self, depth, width, classes):
        super().__init__()
        n, sizes = (depth - 4) // 6, [16, 16 * width, 32 * width, 64 * width]
        self.conv1 = conv(3, 16, 3)
        for i in range(3):
            blocks = [WideBlock(sizes[i], sizes[i + 1], 1 if i == 0 else 2)]
            blocks += [WideBlock(sizes[i + 1], sizes[i + 1], 1) for _ in range(n - 1)]
            setattr(self, f"block{i + 1}", Layers(blocks))
        self.bn1, self.fc = nn.BatchNorm2d(sizes[3]), nn.Linear(sizes[3], classes)

    def forward(self, x):
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        return self.fc(norm_relu(self.bn1, x).mean((2, 3)))


class Vgg(nn.Module):
    COUNTS = {8: (1, 1, 1, 1, 1), 11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2),
              16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}

    def __init__(self, depth, classes):
        super().__init__()
        inputs = 3
        for stage, outputs in enumerate((64, 128, 256, 512, 512)):
            parts = []
            for _ in range(self.COUNTS[depth][stage]):
                parts += [conv(inputs, outputs, 3, bias=True), nn.BatchNorm2d(outputs),
                          nn.ReLU()]
                inputs = outputs
            setattr(self, f"block{stage}", nn.Sequential(*parts))
        self.classifier = nn.Linear(512, classes)

    def forward(self, x):
        large = x.shape[2] == 64
        for stage in range(5):
            x = getattr(self, f"block{stage}")(x)
            if stage < 3 or stage == 3 and large:
                x = functional.max_pool2d(x, 2)
        return self.classifier(functional.adaptive_avg_pool2d(x, 1).flatten(1))


class InvertedResidual(nn.Module):
    def __init__(self, inputs, outputs, stride, expansion):
        super().__init__()
        wide = inputs * expansion
        self.adds = stride == 1 and inputs == outputs
        self.conv = nn.Sequential(
            conv(inputs, wide, 1), nn.BatchNorm2d(wide), nn.ReLU(),
            conv(wide, wide, 3, stride, groups=wide), nn.BatchNorm2d(wide), nn.ReLU(),
            conv(wide, outputs, 1), nn.BatchNorm2d(outputs))

    def forward(self, x):
        return x + self.conv(x) if self.adds else self.conv(x)


class MobileNetV2(nn.Module):
    """Sandler et al. 2018 for small images, as Tian et al. 2020 have it."""

    def __init__(self, width, expansion, classes):
        super().__init__()
        inputs, last = int(32 * width), int(1280 * max(width, 1))
        self.conv1 = nn.Sequential(conv(3, inputs, 3, 2), nn.BatchNorm2d(inputs),
                                   nn.ReLU())
        stages = []
        for t, c, n, s in ((1, 16, 1, 1), (expansion, 24, 2, 1), (expansion, 32, 3, 2),
                           (expansion, 64, 4, 2), (expansion, 96, 3, 1),
                           (expansion, 160, 3, 2), (expansion, 320, 1, 1)):
            blocks = []
            for i in range(n):
                blocks.append(InvertedResidual(inputs, int(c * width),
                                               s if i == 0 else 1, t))
                inputs = int(c * width)
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.ModuleList(stages)
        self.conv2 = nn.Sequential(conv(inputs, last, 1), nn.BatchNorm2d(last),
                                   nn.ReLU())
        self.classifier = nn.Sequential(nn.Linear(last, classes))

    def forward(self, x):
        x = self.conv1(x)
        for stage in self.blocks:
            x = stage(x)
        return self.classifier(self.conv2(x).mean((2, 3)))


def shuffle(x):
    n, c, h, w = x.shape
    return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


class ShuffleBlock(nn.Module):
    def __init__(self, channels):
        super().__init__()
        half = channels // 2
        self.conv1, self.bn1 = conv(half, half, 1), nn.BatchNorm2d(half)
        self.conv2, self.bn2 = conv(half, half, 3, groups=half), nn.BatchNorm2d(half)
        self.conv3, self.bn3 = conv(half, half, 1), nn.BatchNorm2d(half)

    def forward(self, x):
        past, y = x.chunk(2, 1)
        y = self.bn2(self.conv2(norm_relu(self.bn1, self.conv1(y))))
        return shuffle(torch.cat((past, norm_relu(self.bn3, self.conv3(y))), 1))


class ShuffleDown(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        half = outputs // 2
        self.conv1 = conv(inputs, inputs, 3, 2, inputs)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv2, self.bn2 = conv(inputs, half, 1), nn.BatchNorm2d(half)
        self.conv3, self.bn3 = conv(inputs, half, 1), nn.BatchNorm2d(half)
        self.conv4, self.bn4 = conv(half, half, 3, 2, half), nn.BatchNorm2d(half)
        self.conv5, self.bn5 = conv(half, half, 1), nn.BatchNorm2d(half)

    def forward(self, x):
        left = norm_relu(self.bn2, self.conv2(self.bn1(self.conv1(x))))
        right = self.bn4(self.conv4(norm_relu(self.bn3, self.conv3(x))))
        return shuffle(torch.cat((left, norm_relu(self.bn5, self.conv5(right))), 1))


class ShuffleNetV2(nn.Module):
    """Ma et al. 2018 for small images, as Tian et al. 2020 have it."""

    def __init__(self, channels, classes, repeats=(3, 7, 3)):
        super().__init__()
        inputs = 24
        self.conv1, self.bn1 = conv(3, inputs, 1), nn.BatchNorm2d(inputs)
        for i, (outputs, count) in enumerate(zip(channels, repeats), 1):
            blocks = [ShuffleDown(inputs, outputs)]
            blocks += [ShuffleBlock(outputs) for _ in range(count)]
            setattr(self, f"layer{i}", nn.Sequential(*blocks))
            inputs = outputs
        self.conv2, self.bn2 = conv(inputs, channels[3], 1), nn.BatchNorm2d(channels[3])
        self.linear = nn.Linear(channels[3], classes)

    def forward(self, x):
        x = norm_relu(self.bn1, self.conv1(x))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(norm_relu(self.bn2, self.conv2(x)).mean((2, 3)))


class DenseLayer(nn.Module):
    def __init__(self, inputs, growth):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), conv(inputs, growth, 3)

    def forward(self, x):
        return torch.cat((x, self.conv1(norm_relu(self.bn1, x))), 1)


class Transition(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(channels), conv(channels, channels, 1)

    def forward(self, x):
        return functional.avg_pool2d(self.conv1(norm_relu(self.bn1, x)), 2)


class DenseNet(nn.Module):
    """Huang et al. 2017, without bottlenecks and compression."""

    def __init__(self, depth, growth, classes):
        super().__init__()
        n, channels = (depth - 4) // 3, 16
        self.conv1 = conv(3, channels, 3)
        for i in range(1, 4):
            layers = [DenseLayer(channels + k * growth, growth) for k in range(n)]
            setattr(self, f"block{i}", Layers(layers))
            channels += n * growth
            if i < 3:
                setattr(self, f"trans{i}", Transition(channels))
        self.bn1, self.fc = nn.BatchNorm2d(channels), nn.Linear(channels, classes)

    def forward(self, x):
        x = self.trans2(self.block2(self.trans1(self.block1(self.conv1(x)))))
        return self.fc(norm_relu(self.bn1, self.block3(x)).mean((2, 3)))


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        n, tokens, width = x.shape
        size = width // self.heads
        qkv = self.qkv(x).view(n, tokens, 3, self.heads, size)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(2, 3) / size ** 0.5).softmax(3)
        return self.proj((weights @ v).transpose(1, 2).reshape(n, tokens, width))


class Perceptron(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        return self.fc2(functional.gelu(self.fc1(x)))


class VitBlock(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(width, 1e-6) for _ in range(2))
        self.attn, self.mlp = Attention(width, heads), Perceptron(width)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Patches(nn.Module):
    def __init__(self, patch, width):
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, patch)

    def forward(self, x):
        return self.proj(x).flatten(2).transpose(1, 2)


class Vit(nn.Module):
    """Dosovitskiy et al. 2021, ending in the mean of the tokens."""

    def __init__(self, patch, width, depth, heads, classes):
        super().__init__()
        self.patch_embed = Patches(patch, width)
        self.pos_embed = nn.Parameter(torch.zeros(1, (32 // patch) ** 2, width))
        self.blocks = nn.Sequential(*(VitBlock(width, heads) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width, 1e-6), nn.Linear(width, classes)

    def forward(self, x):
        x = self.blocks(self.patch_embed(x) + self.pos_embed)
        return self.head(self.norm(x).mean(1))


# -- values that every language can draw ------------------------------------------

def uniform(name, count):
    """Numbers from 0 to below 1, 24 bits each: number i is SplitMix64's output i + 1
    from the seed that FNV-1a makes of the name."""
    seed = 0xcbf29ce484222325
    for byte in name.encode():
        seed = (seed ^ byte) * 0x100000001b3 % 2 ** 64
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, count + 1, dtype="u8") * np.uint64(
            0x9e3779b97f4a7c15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xbf58476d1ce4e5b9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94d049bb133111eb)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(40)).astype("f8") / 2 ** 24


def fill(network, renamed=lambda name: name):
    """No value that a mistake could hide behind, such as a scale of 1; those of a
    renamed array are those of the array that it is renamed to."""
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if not value.is_floating_point():
                continue
            name, shape = renamed(name), value.shape
            u = uniform(name, value.numel()).reshape(shape)
            if value.dim() == 3:
                u = u - 0.5
            elif value.dim() > 1:
                u = (2 * u - 1) * np.sqrt(4 * shape[0] / value.numel())
            elif name.endswith((".weight", "running_var")):
                u = 0.5 + u
            else:
                u = 0.5 * u - 0.25
            value.copy_(torch.from_numpy(u.astype("f4")))
    return network.eval()
