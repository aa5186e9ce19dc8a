#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A function of NumPy arrays as a teacher.

    kd-dump --teacher 'exec:python3 teacher_numpy.py mymodule:predict --values probs' ...

The function takes a batch, [n][C][H][W] (or as --layout says), and returns [n][classes].
Its module is looked for where Python looks, and in the current directory.
"""
import argparse
import importlib
import sys

import kdteacher
import numpy as np

parser = argparse.ArgumentParser(description=__doc__,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("function", metavar="MODULE:FUNCTION")
parser.add_argument("--values", choices=["logits", "logprobs", "probs"], default="logits")
parser.add_argument("--not-deterministic", action="store_true")
kdteacher.add_input_options(parser)
args = parser.parse_args()

module_name, _, function_name = args.function.partition(":")
sys.path.insert(0, ".")
module = importlib.import_module(module_name)
function = getattr(module, function_name)


def answer(batch):
    rows = np.asarray(function(batch))
    return rows if rows.dtype.kind == "f" else rows.astype(np.float64)


greeting = kdteacher.greeting()
wanted = kdteacher.input_of(args)
kdteacher.serve(answer,
                num_classes=answer(kdteacher.blank(greeting, wanted)).shape[1],
                values=args.values,
                name=args.function,
                digest=args.function + " " + kdteacher.digest(module.__file__),
                deterministic=not args.not_deterministic,
                batch=args.batch,
                input=wanted)
