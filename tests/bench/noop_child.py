# SPDX-License-Identifier: MIT
"""A teacher that does nothing: reads batches, and answers zeros of CLASSES classes. For
measuring what kd-dump and the pipes cost."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "../../pipelines/teachers"))
import kdteacher  # noqa: E402  (it lies beside the adapters)
import numpy as np  # noqa: E402

CLASSES = int(sys.argv[1]) if len(sys.argv) > 1 else 100
kdteacher.greeting()
kdteacher.serve(lambda batch: np.zeros((len(batch), CLASSES), np.float32), num_classes=CLASSES,
                values="logits", name="no-op", digest="no-op", batch=256)
