# SPDX-License-Identifier: MIT
"""What every teacher in Python needs of PROTOCOL.md:

    greeting = kdteacher.greeting()         # {"samples": {"dtype": ..., "shape": [3, 32, 32]}, ...}
    kdteacher.serve(lambda batch: ..., num_classes=10, values="logits")
"""
import hashlib
import json
import os
import sys

import numpy as np

# Whatever else is printed, by libraries too, must not get among the answers.
_in, _out = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)


def greeting():
    line = _in.readline()
    if not line.endswith(b"\n"):
        sys.exit("no greeting: this is to be run by kd-dump --teacher 'exec:...'")
    return json.loads(line)


def _receive():
    """The next batch, or None when there are no more."""
    if not _in.peek(1):
        return None
    np.lib.format.read_magic(_in)
    shape, _, dtype = np.lib.format.read_array_header_1_0(_in)
    batch = np.empty(shape, dtype)
    rest = memoryview(batch).cast("B")
    while rest:
        rest = rest[_in.readinto(rest) or sys.exit("the input ends within a batch"):]
    return batch


def serve(answer, **facts):
    """Says `facts`, then answers batches, [n][C][H][W], with answer(batch), [n][classes]."""
    _out.write(json.dumps({"kd_teacher": 1, **facts}).encode() + b"\n")
    _out.flush()
    while (batch := _receive()) is not None:
        rows = np.ascontiguousarray(answer(batch))
        header = {"descr": rows.dtype.str, "fortran_order": False, "shape": rows.shape}
        np.lib.format.write_array_header_1_0(_out, header)
        _out.write(memoryview(rows).cast("B"))
        _out.flush()


def digest(*paths):
    """Of files that a teacher is made of."""
    return hashlib.sha256(b"".join(hashlib.sha256(open(path, "rb").read()).digest()
                                   for path in paths)).hexdigest()


def add_input_options(parser):
    parser.add_argument("--dtype", choices=["float32", "uint8"], help="of samples")
    parser.add_argument("--layout", choices=["nchw", "nhwc"])
    parser.add_argument("--size", type=int, nargs=2, metavar=("H", "W"))
    parser.add_argument("--resize", type=int, help="the shorter side, before the centre is cut out")
    parser.add_argument("--mean", type=float, nargs="+", help="of pixels from 0 to 1")
    parser.add_argument("--deviation", type=float, nargs="+")
    parser.add_argument("--batch", type=int)


def input_of(args, **defaults):
    """What "input" says, of the options, and of defaults for those that are not given."""
    names = ["dtype", "layout", "size", "resize", "mean", "deviation"]
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    return {**defaults, **given}


def blank(greeting, wanted):
    """One sample of zeros as the teacher wants it: to ask it for the number of its classes."""
    channels, height, width = greeting["samples"]["shape"]
    height, width = wanted.get("size", (height, width))
    if height is None:
        sys.exit("the images have different sizes: say which one is wanted, by --size H W")
    shape = (1, height, width, channels) if wanted.get("layout") == "nhwc" \
        else (1, channels, height, width)
    return np.zeros(shape, wanted.get("dtype", "float32"))
