#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A PyTorch network as a teacher. It is named in one of three ways:

    teacher_torch.py scripted.pt                             TorchScript
    teacher_torch.py mymodule:make_net --weights net.pt      a function, or a class, of no
                                                             arguments, and its state dict
    teacher_torch.py resnet18 --weights IMAGENET1K_V1        torchvision's, with its weights
    teacher_torch.py resnet18 --weights net.pt               or with a state dict

torchvision's networks get images as their weights' transforms say, or as ImageNet's usual
ones do: 256, then the centre of 224 x 224, mean and deviation. A state dict may stand in a
dictionary under "state_dict" or "model". Checkpoints are pickles, which can run code.
A network that ends in LogSoftmax or Softmax wants --values logprobs or probs.
"""
import argparse
import importlib
import os
import sys

import kdteacher
import torch

IMAGENET = dict(size=[224, 224], resize=256, mean=[0.485, 0.456, 0.406],
                deviation=[0.229, 0.224, 0.225])

parser = argparse.ArgumentParser(description=__doc__,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("model", metavar="NAME")
parser.add_argument("--weights", metavar="FILE|NAME")
parser.add_argument("--values", choices=["logits", "logprobs", "probs"], default="logits")
parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
parser.add_argument("--threads", type=int, help="of the processor")
kdteacher.add_input_options(parser)
args = parser.parse_args()
if args.threads:
    torch.set_num_threads(args.threads)


def state_of(path):
    state = torch.load(path, map_location="cpu")
    return state.get("state_dict", state.get("model", state))


def from_torchvision():
    import torchvision
    if args.weights is None:
        sys.exit(f"{args.model}: which weights? give --weights FILE, or a name as IMAGENET1K_V1")
    if os.path.exists(args.weights):
        state = state_of(args.weights)
        *_, bias = state.values()  # of the last layer
        model = torchvision.models.get_model(args.model, num_classes=len(bias))
        model.load_state_dict(state)
        return model, IMAGENET
    weights = torchvision.models.get_model_weights(args.model)[args.weights]
    preset = weights.transforms()
    if preset.interpolation.value != "bilinear":
        print(f"{args.weights} wants {preset.interpolation.value} resizing, and gets bilinear",
              file=sys.stderr)
    return torchvision.models.get_model(args.model, weights=weights), dict(
        size=preset.crop_size * 2, resize=preset.resize_size[0],
        mean=preset.mean, deviation=preset.std)


def load():
    """The network, and what it wants of its input unless options say otherwise."""
    if os.path.exists(args.model):
        return torch.jit.load(args.model, map_location="cpu"), {}
    if ":" not in args.model:
        return from_torchvision()
    sys.path.insert(0, ".")
    module_name, _, name = args.model.partition(":")
    module = importlib.import_module(module_name)
    files.append(module.__file__)
    model = getattr(module, name)()
    if args.weights:
        model.load_state_dict(state_of(args.weights))
    return model, {}


names = [name for name in (args.model, args.weights) if name]
files = [name for name in names if os.path.exists(name)]
model, defaults = load()
model.eval().to(args.device)


@torch.inference_mode()
def answer(batch):
    return model(torch.from_numpy(batch).to(args.device)).float().cpu().numpy()


wanted = kdteacher.input_of(args, **defaults)
kdteacher.serve(answer,
                num_classes=answer(kdteacher.blank(kdteacher.greeting(), wanted)).shape[1],
                values=args.values,
                name=os.path.basename(args.model),
                digest=" ".join([*map(os.path.basename, names), kdteacher.digest(*files)]),
                deterministic=args.device == "cpu",
                batch=args.batch,
                input=wanted)
