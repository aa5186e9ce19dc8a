# SPDX-License-Identifier: MIT
"""kd-dump with children that misbehave at random moments: RUNS of them, or as many as
there are kinds if that is more.

    exec_storm.py RUNS SEED

In this directory is train.h5. After each run: one error with the right exit code, in
time; no process is left; each shard that is there has the bytes that it must have. Then a
child that behaves finishes the cache, and it is the one of an undisturbed run.
"""
import glob
import os
import random
import shutil
import subprocess
import sys
import time

import exec_child

RUNS, SEED = int(sys.argv[1]), int(sys.argv[2])
MARK = "KD_TEST_STORM=%d" % os.getpid()
DATA_KINDS = {"fewer", "more", "classes", "noise", "noise-before", "noise-behind",
              "noise-later", "nan", "infinite", "twice", "twice-later", "integers",
              "fortran", "endless", "version", "early", "key"}
HANGS = {"hang", "company", "half-hang"}
LIMIT = 20  # seconds for a run, on however busy a machine


def contents(directory):
    return {os.path.basename(path): open(path, "rb").read()
            for path in glob.glob(directory + "/*")}


def left_behind():
    """Processes that still have the mark in their environment. Those that were killed may
    take a moment to go."""
    until = time.monotonic() + 3
    while (found := marked()) and time.monotonic() < until:
        time.sleep(0.01)
    return found


def marked():
    found = []
    for path in glob.glob("/proc/[0-9]*/environ"):
        try:
            if MARK.encode() in open(path, "rb").read().split(b"\0"):
                found.append(open(path.replace("environ", "cmdline"), "rb").read())
        except OSError:
            pass
    return found


def dump(kind, at, batch, jobs, timeout, out="out"):
    name, value = MARK.split("=")
    command = "exec /usr/bin/python3 -S -E %s %s %d %d" % (exec_child.__file__, kind, at, batch)
    return subprocess.run(
        ["kd-dump", "-q", "--teacher", "exec:" + command, "--data", "hdf5:train.h5:/x,/y",
         "--shard-samples", "64", "--jobs", str(jobs), "--teacher-timeout", str(timeout),
         "-o", out],
        env={**os.environ, name: value}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        universal_newlines=True, timeout=LIMIT, check=False)


def check(condition, what, run):
    if not condition:
        sys.exit("%s\nexit code %d\n%s%s" % (what, run.returncode, run.stdout, run.stderr))


def check_partial(due, run):
    for name, data in contents("out").items():
        check(name in due and data == due[name], "%s is not what it must be" % name, run)


def one(kind, at, batch, jobs, due):
    shutil.rmtree("out", ignore_errors=True)
    what = "%s at %d, batches of %d, %d children" % (kind, at, batch, jobs)
    began = time.monotonic()
    run = dump(kind, at, batch, jobs, 0.4 if kind in HANGS else 10)
    took = time.monotonic() - began
    check(run.returncode == (65 if kind in DATA_KINDS else 74), what, run)
    lines = [line for line in run.stderr.splitlines() if not line.startswith("kd-dump: child")]
    check(len(lines) == 1 and lines[0].startswith("kd-dump: "), what + ": the message", run)
    if kind in ("die", "orphan", "half-die"):
        check("died" in lines[0] and "these are my last words" in lines[0], what, run)
    check(not left_behind(), what + ": left behind: %s" % left_behind(), run)
    check_partial(due, run)
    run = dump("good", 0, batch, jobs, 10)
    check(run.returncode == 0 and not run.stderr and contents("out") == due,
          what + ": the run that goes on", run)
    check(not left_behind(), what + ": left behind", run)
    return took


def main():
    moments = random.Random(SEED)
    kinds = [(kind, True) for kind in exec_child.GREETINGS] + \
            [(kind, False) for kind in exec_child.BATCHES]
    due, longest = {}, 0
    for batch in 3, 16, 64:
        run = dump("good", 0, batch, 1, 10, "due")
        check(run.returncode == 0, "an undisturbed run", run)
        due[batch] = contents("due")
        shutil.rmtree("due")
    for i in range(max(RUNS, len(kinds))):
        kind, greeting = kinds[i % len(kinds)]
        batch, jobs = moments.choice(sorted(due)), moments.choice([1, 1, 2, 3])
        last = max(1, 300 // batch // jobs - 1)  # every child gets so many, or about
        at = 0 if greeting else moments.choice([1, moments.randint(1, last)])
        longest = max(longest, one(kind, at, batch, jobs, due[batch]))
    print("# kd-dump: %d children misbehaved in %d ways; the longest took %.1f s"
          % (i + 1, len(kinds), longest))


main()
