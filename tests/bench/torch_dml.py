#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Deep mutual learning as one would write it in PyTorch: K networks on the same batch,
each learning from the labels and from the others' mean KL divergence (Zhang et al. 2018,
in its simultaneous form: one forward pass of each, then one step of each). Prints the
images a second that all of them together went through, each image counted once.

    torch_dml.py THREADS BATCH DEPTH PEERS {nchw,nhwc}
"""
import sys
import time

import torch
from torch.nn import functional as F

from torch_accuracy import resnet

STEPS, WARM = 10, 3


def main():
    threads, batch, depth, peers = (int(word) for word in sys.argv[1:5])
    layout = torch.channels_last if sys.argv[5] == "nhwc" else torch.contiguous_format
    torch.set_num_threads(threads)
    nets = [resnet(depth, 100).to(memory_format=layout) for _ in range(peers)]
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, nesterov=True,
                                  weight_decay=5e-4, foreach=True) for net in nets]
    x = torch.randn(batch, 3, 32, 32).to(memory_format=layout)
    y = torch.randint(0, 100, (batch,))

    def step():
        logits = [net(x) for net in nets]
        targets = [F.softmax(z.detach(), 1) for z in logits]
        for k, (z, optimizer) in enumerate(zip(logits, optimizers)):
            loss = F.cross_entropy(z, y)
            for other, target in enumerate(targets):
                if other != k:
                    loss = loss + F.kl_div(F.log_softmax(z, 1), target,
                                           reduction="batchmean") / (peers - 1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    for _ in range(WARM):
        step()
    started = time.monotonic()
    for _ in range(STEPS):
        step()
    print("images/s %.0f" % (STEPS * batch / (time.monotonic() - started)))


if __name__ == "__main__":
    main()
