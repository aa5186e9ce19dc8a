# SPDX-License-Identifier: MIT
"""A teacher that behaves until batch number AT (the greeting is 0), and then does not.

    exec_child.py KIND AT [BATCH]

Logit c of a sample is its byte c over 16. With the kind "good" it behaves to the end.
"""
import array
import json
import os
import subprocess
import sys
import time

CLASSES = 36
KIND, AT = sys.argv[1], int(sys.argv[2])
BATCH = int(sys.argv[3]) if len(sys.argv) > 3 else 16
stdin, stdout = sys.stdin.buffer, sys.stdout.buffer


def header(rows, classes, descr="<f4", order="False"):
    text = "{'descr': '%s', 'fortran_order': %s, 'shape': (%d, %d), }" % (descr, order, rows,
                                                                         classes)
    text += " " * (-(len(text) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def frame(values, rows, classes=CLASSES, **more):
    return header(rows, classes, **more) + array.array("f", values).tobytes()


def put(data):
    stdout.write(data)
    stdout.flush()


def die(code=3):
    sys.stderr.write("these are my last words\n")
    sys.stderr.flush()
    os._exit(code)


def sleep_with_company():
    """Leaves a process of its own behind that holds the pipes."""
    subprocess.Popen(["sleep", "1000"])
    time.sleep(1000)


def orphan():
    subprocess.Popen(["sleep", "1000"])
    die()


def close_and_sleep(*fds):
    for fd in fds:
        os.close(fd)
    time.sleep(1000)


def read_batch():
    prefix = stdin.read(10)
    if not prefix:
        return None
    head = eval(stdin.read(int.from_bytes(prefix[8:], "little")))
    rows = head["shape"][0]
    size = 1
    for side in head["shape"][1:]:
        size *= side
    data = stdin.read(rows * size)
    return [data[i * size + c] / 16 for i in range(rows) for c in range(CLASSES)], rows


GREETING = {"kd_teacher": 1, "num_classes": CLASSES, "values": "logits", "name": "child",
            "digest": "1", "batch": BATCH, "input": {"dtype": "uint8"}}

# What to do instead of answering the greeting, and a batch: values, rows.
GREETINGS = {
    "die": die,
    "hang": lambda: time.sleep(1000),
    "company": sleep_with_company,
    "orphan": orphan,
    "noise": lambda: put(b"Loading the model ...\n"),
    "half": lambda: (put(b'{"kd_teacher":1,"num_cl'), os._exit(0)),
    "version": lambda: put(json.dumps({**GREETING, "kd_teacher": 2}).encode() + b"\n"),
    "early": lambda: put(json.dumps(GREETING).encode() + b"\nready\n"),
    "close-out": lambda: close_and_sleep(1),
    "key": lambda: put(json.dumps({**GREETING, "clases": 3}).encode() + b"\n"),
}
BATCHES = {
    "die": lambda v, n: die(),
    "signal": lambda v, n: os.kill(os.getpid(), 11),
    "exit-0": lambda v, n: die(0),
    "hang": lambda v, n: time.sleep(1000),
    "company": lambda v, n: sleep_with_company(),
    "orphan": lambda v, n: orphan(),
    "half-die": lambda v, n: (put(frame(v, n)[:200]), die()),
    "half-hang": lambda v, n: (put(frame(v, n)[:200]), time.sleep(1000)),
    "fewer": lambda v, n: put(frame(v[CLASSES:], n - 1)),
    "more": lambda v, n: put(frame(v + v[:CLASSES], n + 1)),
    "classes": lambda v, n: put(frame([x for i, x in enumerate(v) if i % CLASSES], n,
                                      CLASSES - 1)),
    "noise": lambda v, n: put(b"batch done, 100 %\n"),
    "noise-before": lambda v, n: put(b"!" + frame(v, n)),
    "noise-behind": lambda v, n: put(frame(v, n) + b"!"),
    "noise-later": lambda v, n: (put(frame(v, n)), time.sleep(0.002), put(b"!")),
    "nan": lambda v, n: put(frame(v[:-1] + [float("nan")], n)),
    "infinite": lambda v, n: put(frame([float("inf")] + v[1:], n)),
    "twice": lambda v, n: put(2 * frame(v, n)),
    "twice-later": lambda v, n: (put(frame(v, n)), put(frame(v, n))),
    "integers": lambda v, n: put(frame(v, n, descr="<i4")),
    "fortran": lambda v, n: put(frame(v, n, order="True")),
    "endless": lambda v, n: put(header(1 << 40, CLASSES) + bytes(100000)),
    "close-out": lambda v, n: close_and_sleep(1),
    "close-in": lambda v, n: close_and_sleep(0),
}


def main():
    stdin.readline()
    if AT == 0 and KIND != "good":
        GREETINGS[KIND]()
    else:
        put(json.dumps(GREETING).encode() + b"\n")
    number = 0
    while (batch := read_batch()) is not None:
        number += 1
        if number == AT and KIND != "good":
            BATCHES[KIND](*batch)
        else:
            put(frame(*batch))


if __name__ == "__main__":
    main()
