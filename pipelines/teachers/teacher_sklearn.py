#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A scikit-learn classifier, saved by joblib or pickle, as a teacher.

    kd-dump --teacher 'exec:python3 teacher_sklearn.py forest.joblib' ...

Samples come to it as rows of features, with the values that they have in the dataset
(unless --dtype float32 makes 0 to 1 of bytes). It answers with predict_proba or, where
there is none, with decision_function. Loading such a file runs code that is in it.
"""
import argparse
import os
import sys

import joblib
import kdteacher
import numpy as np

parser = argparse.ArgumentParser(description=__doc__,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("model", metavar="FILE")
kdteacher.add_input_options(parser)
args = parser.parse_args()
model = joblib.load(args.model)  # reads pickles too
probs = hasattr(model, "predict_proba")


def answer(batch):
    features = batch.reshape(len(batch), -1)
    if probs:
        return model.predict_proba(features)
    rows = model.decision_function(features)
    # Of two classes it gives one number, the log-odds of the second.
    return rows if rows.ndim == 2 else np.stack([np.zeros_like(rows), rows], axis=1)


def class_names(greeting):
    """The classes in the order of the columns; none where they are numbers already."""
    classes = model.classes_.tolist()
    if classes == list(range(len(classes))):
        return None
    if all(isinstance(name, str) for name in classes):
        return classes
    sys.exit(f"{args.model}: its classes are {classes[:5]}..., neither 0, 1, 2, ... nor names")


greeting = kdteacher.greeting()
kdteacher.serve(answer,
                num_classes=len(model.classes_),
                class_names=class_names(greeting),
                values="probs" if probs else "logits",
                name=os.path.basename(args.model),
                digest=kdteacher.digest(args.model),
                batch=args.batch,
                input=kdteacher.input_of(args, dtype=greeting["samples"]["dtype"]))
