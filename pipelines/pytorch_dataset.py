#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Soft labels in PyTorch: a Dataset that streams a kdcache cache.

    from pytorch_dataset import SoftLabels, SoftLabelDataset

    soft = SoftLabels("soft-labels")          # a cache: h5py and NumPy
    soft = SoftLabels("soft.safetensors")     # kd-export --for torch: NumPy alone
    p = soft.row(id=17, view=0)               # float32 [classes], sums to 1

    data = SoftLabelDataset(soft, draw=lambda id, view: my_pixels[id])
    for id, view, label, p, x in DataLoader(data, batch_size=256, shuffle=True,
                                            num_workers=4):
        ...

A shard is an HDF5 file whose datasets lie in one piece, so h5py is asked once where
they are, and rows come from memory maps: no library lock, no handle that a worker
would inherit, nothing copied but the rows that are asked for. Shards are opened when
they are first read, in whichever process that is.

Where there is no h5py, or one file is handier than a directory of shards:

    kd-export soft-labels --for torch -o soft.safetensors

has the same columns, bit by bit, of all shards behind each other: the tensors id, view,
label, row_max, log_z [N] and scaled [N][C], z/T minus the row's maximum, so that
exp(scaled - log_z) are the probabilities; scaled and index [N][K] and log_tail [N] of
top-k rows; scaled and index [M], with offset [N+1], of top-p rows. What it is of stands
in the metadata. Whole tensors come into PyTorch by torch.from_numpy(columns["scaled"])
or by the package safetensors.

Run as a program, it trains a student with one linear layer on the dataset of kd-synth:

    kd-synth -n 4000 -o train.h5
    kd-train --network plain4 --data hdf5:train.h5:/x,/y --epochs 5 -o teacher
    kd-dump --teacher model:teacher/model.h5 --data hdf5:train.h5:/x,/y -o soft-labels
    pytorch_dataset.py --cache soft-labels --data train.h5

Debian: python3-torch; python3-h5py for caches and for that dataset.
"""

import argparse
import bisect
import json
import os
import struct
import sys

import numpy as np

try:
    import h5py
except ImportError:  # exports can be read without it
    h5py = None
try:
    import torch
    from torch.utils.data import DataLoader, Dataset
except ImportError:  # rows can be read without it
    torch = None
    Dataset = object


class CacheError(Exception):
    """What is wrong with which file."""


def text_of(attribute):
    """Texts that programs depend on are of fixed length, which h5py shows as bytes."""
    return attribute.decode() if isinstance(attribute, bytes) else attribute


class Rows:
    """Rows of one file: self.columns are memory maps, self.attributes say what they are."""

    def find(self, id, view):
        """The row of (id, view): ids ascend, and views within an id."""
        ids, views = self.columns["id"], self.columns["view"]
        first = int(np.searchsorted(ids, id, "left"))
        last = int(np.searchsorted(ids, id, "right"))
        row = first + int(np.searchsorted(views[first:last], view))
        if row == last or views[row] != view:
            raise KeyError((id, view))
        return row

    def decode(self, row):
        """Stored values of a row, z/T minus its maximum, and their classes."""
        part = row
        if "offset" in self.columns:  # rows of varying length
            part = slice(*(int(at) for at in self.columns["offset"][row : row + 2]))
        values = self.columns["scaled"][part]
        if self.attributes["dtype"] == "bfloat16":  # which NumPy has not: the bits
            values = (values.astype(np.uint32) << 16).view(np.float32)
        index = self.columns["index"][part] if "index" in self.columns else None
        return values.astype(np.float32), index


class Shard(Rows):
    """One file of a cache."""

    def __init__(self, path):
        if h5py is None:
            raise CacheError(f"{path}: h5py is missing: apt install python3-h5py, or "
                             "read what kd-export --for torch makes of the cache")
        self.path = path
        with h5py.File(path, "r") as file:
            self.attributes = {k: text_of(v) for k, v in file.attrs.items()}
            self._check()
            self.columns = {name: self._map(file[name]) for name in file}
        self.columns["scaled"] = self.columns.pop("logits")

    def _check(self):
        known = self.attributes
        if known.get("format") != "kdcache" or known.get("format_version") != 1:
            raise CacheError(f"{self.path}: not a shard of format 1")
        if "layout" in known:
            raise CacheError(
                f"{self.path}: archived: unpack it with kd-export --layout contiguous"
            )
        if known.get("complete") != 1:
            raise CacheError(f"{self.path}: unfinished")
        if known["encoding"] not in ("dense", "top-k", "top-p"):
            raise CacheError(
                f"{self.path}: {known['encoding']} rows are not read here: "
                "kd-export writes them out"
            )

    def _map(self, dataset):
        offset = dataset.id.get_offset()
        if offset is None:
            raise CacheError(f"{self.path}: {dataset.name} does not lie in one piece")
        dtype = dataset.dtype
        if dataset.name == "/logits" and self.attributes["dtype"] == "bfloat16":
            dtype = np.dtype("<u2")  # see decode
        return np.memmap(self.path, dtype, "r", offset, dataset.shape)


class Export(Rows):
    """What kd-export --for torch wrote: a .safetensors file, read by hand."""

    TYPES = {"F16": "<f2", "BF16": "<u2", "F32": "<f4", "U8": "|u1", "U16": "<u2",
             "I16": "<i2", "I32": "<i4", "I64": "<i8"}

    def __init__(self, path):
        self.path = path
        with open(path, "rb") as file:
            try:
                (size,) = struct.unpack("<Q", file.read(8))
                header = json.loads(file.read(min(size, 100_000_000)))
                facts = header.pop("__metadata__")
            except (ValueError, KeyError, struct.error):
                facts = {}
        if facts.get("format") != "kdcache-torch" or facts["format_version"] != "1":
            raise CacheError(f"{path}: not written by kd-export --for torch")
        self.identity = json.loads(facts["identity"])
        self.attributes = {**self.identity, "identity_digest": facts["identity_digest"]}
        self.columns = {
            name: np.memmap(path, self.TYPES[tensor["dtype"]], "r",
                            8 + size + tensor["data_offsets"][0], tuple(tensor["shape"]))
            for name, tensor in header.items()
        }


def read_list(where):
    """What cache.json says of a cache, and the same of an export."""
    if os.path.isfile(where):
        export = Export(where)
        return {
            "identity": export.identity,
            "identity_digest": export.attributes["identity_digest"],
            "rows": len(export.columns["id"]),
            "shards": [{"name": ""}],
        }
    path = os.path.join(where, "cache.json")
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except FileNotFoundError:
        raise CacheError(f"{where}: unfinished, or no cache") from None
    if found.get("format") != "kdcache-list":
        raise CacheError(f"{path}: not the list of a cache")
    return found


class SoftLabels:
    """A finished cache, or an export of one: soft labels by id and view. Needs no torch."""

    def __init__(self, where, tail="spread"):
        if tail not in ("spread", "renorm"):
            raise ValueError("tail: spread or renorm")
        self.where, self.tail = where, tail
        self.list = read_list(where)
        self.identity = self.list["identity"]
        self.classes = self.identity["num_classes"]
        self.temperature = self.identity["temperature"]
        self._shards = [None] * len(self.list["shards"])
        self._first = None

    def __len__(self):
        return self.list["rows"]

    def __getstate__(self):
        """What goes to another process: no maps."""
        return {**self.__dict__, "_shards": [None] * len(self._shards)}

    def shard(self, number):
        if self._shards[number] is None:
            name = self.list["shards"][number]["name"]
            shard = Shard(os.path.join(self.where, name)) if name else Export(self.where)
            if shard.attributes["identity_digest"] != self.list["identity_digest"]:
                raise CacheError(f"{shard.path}: is a shard of another cache")
            self._shards[number] = shard
        return self._shards[number]

    def keys(self):
        """Every (id, view) that is there, in order."""
        for number in range(len(self._shards)):
            columns = self.shard(number).columns
            yield from zip(columns["id"].tolist(), columns["view"].tolist())

    def locate(self, id, view):
        """The shard and row of (id, view); KeyError where it is missing."""
        if self._first is None:
            count = len(self._shards)
            self._first = [int(self.shard(n).columns["id"][0]) for n in range(count)]
        number = bisect.bisect_right(self._first, id) - 1
        if number < 0:
            raise KeyError((id, view))
        shard = self.shard(number)
        return shard, shard.find(id, view)

    def row(self, id, view=0):
        """softmax(z/T), float32 [classes]."""
        shard, row = self.locate(id, view)
        values, index = shard.decode(row)
        p = np.exp(values - shard.columns["log_z"][row])
        if index is None:
            return p / p.sum(dtype=np.float64).astype(np.float32)  # log_z is unrounded
        if self.tail == "renorm":
            out = np.zeros(self.classes, np.float32)
            p /= p.sum()
        else:  # the mass that was not kept, evenly over the classes that were not
            rest = np.exp(shard.columns["log_tail"][row])
            others = max(self.classes - len(p), 1)
            out = np.full(self.classes, rest / others, np.float32)
        out[index] = p
        return out

    def label(self, id, view=0):
        shard, row = self.locate(id, view)
        return int(shard.columns["label"][row])


class SoftLabelDataset(Dataset):
    """Items (id, view, label, soft labels), and pixels where `draw` makes them.

    draw(id, view) must give what the teacher saw. View 0 is the sample as it is; the
    others are drawn by kdcache's own generator (include/kd/view.h), or by whoever made
    the logits that were imported.
    """

    def __init__(self, soft, draw=None, views=None):
        self.soft, self.draw = soft, draw
        wanted = None if views is None else set(views)
        self.items = [k for k in soft.keys() if wanted is None or k[1] in wanted]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, at):
        id, view = self.items[at]
        item = (id, view, self.soft.label(id, view), self.soft.row(id, view))
        return item if self.draw is None else (*item, self.draw(id, view))


def distillation_loss(z, label, p, temperature, soft=0.9):
    """(1 - soft) * CE(label) + soft * T^2 * KL(p || softmax(z/T)), means of a batch.

    Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015.
    """
    log_q = torch.log_softmax(z / temperature, dim=1)
    divergence = torch.nn.functional.kl_div(log_q, p, reduction="batchmean")
    hard = torch.nn.functional.cross_entropy(z, label)
    return (1 - soft) * hard + soft * temperature**2 * divergence


def train(soft, pixels, args):
    """Trains a linear student on the clean views; prints a line an epoch."""
    torch.manual_seed(args.seed)
    x = pixels.reshape(len(pixels), -1).astype(np.float32) / 255 - 0.5
    data = SoftLabelDataset(soft, draw=lambda id, view: x[id], views=[0])
    loader = DataLoader(
        data, batch_size=args.batch, shuffle=True, num_workers=args.workers
    )
    student = torch.nn.Linear(x.shape[1], soft.classes)
    optimizer = torch.optim.Adam(student.parameters(), lr=args.lr)
    for epoch in range(1, args.epochs + 1):
        loss_sum, right = 0.0, 0
        for _, _, label, p, batch in loader:
            z = student(batch)
            loss = distillation_loss(z, label, p, soft.temperature, args.soft)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss_sum += float(loss) * len(batch)
            right += int((z.argmax(1) == label).sum())
        print(f"epoch {epoch} loss {loss_sum / len(data):.4f} "
              f"accuracy {right / len(data):.4f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description="Trains a linear student on a cache.")
    parser.add_argument("--cache", required=True, help="a cache, or an export of it")
    parser.add_argument("--data", required=True, help="HDF5 file of kd-synth")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--soft", type=float, default=0.9, help="share of soft labels")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if torch is None:
        sys.exit("pytorch_dataset.py: training needs torch: apt install python3-torch")
    try:
        soft = SoftLabels(args.cache)
        if soft.identity["first_view"] != 0:
            raise CacheError(f"{args.cache}: has no clean view: dump it with --clean")
        with h5py.File(args.data, "r") as file:
            pixels = file["x"][:]
        if soft.identity["first_id"] + soft.identity["num_samples"] > len(pixels):
            raise CacheError(f"{args.cache}: is not of the samples in {args.data}")
        train(soft, pixels, args)
    except CacheError as error:
        sys.exit(f"pytorch_dataset.py: {error}")


if __name__ == "__main__":
    main()
