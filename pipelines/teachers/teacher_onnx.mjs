#!/usr/bin/env node
// SPDX-License-Identifier: MIT
// An ONNX model on ONNX Runtime, on processors, as a teacher:
//
//     npm ci --ignore-scripts        (once, in this directory)
//     kd-dump --teacher 'exec:node teacher_onnx.mjs net.onnx --size 224 224 --resize 256
//         --mean 0.485 0.456 0.406 --deviation 0.229 0.224 0.225' ...
//
// Options: --size H W, --resize S, --mean ..., --deviation ..., --layout nhwc,
// --values logits|logprobs|probs, --batch N, --fixed-batch N (for a model that was exported
// for N samples at a time), --output NAME (else the model's first), --threads N.
// The model takes one input, float32 [n][C][H][W], and answers [n][classes].
import { createHash } from "node:crypto";
import { readFileSync, readSync, writeSync } from "node:fs";
import { basename } from "node:path";
import { InferenceSession, Tensor } from "onnxruntime-node";

const options = {};
const [model, ...words] = process.argv.slice(2);
for (const word of words)
    if (word.startsWith("--")) options[word.slice(2)] = [];
    else Object.values(options).at(-1).push(isNaN(word) ? word : Number(word));
const known = ["size", "resize", "mean", "deviation", "layout", "values", "batch", "fixed-batch",
    "output", "threads"];
const unknown = Object.keys(options).find((name) => !known.includes(name));
if (!model || unknown) {
    console.error(unknown ? `--${unknown} is not known` : "usage: teacher_onnx.mjs MODEL.onnx ...");
    process.exit(64);
}
const one = (name) => options[name]?.[0];

// Blocks until `buffer` is full; false where the input ends before it.
function fill(buffer) {
    for (let done = 0; done < buffer.length;) {
        const got = readSync(0, buffer, done, buffer.length - done);
        if (got === 0 && done > 0) throw new Error("the input ends within a batch");
        if (got === 0) return false;
        done += got;
    }
    return true;
}

function writeAll(bytes) {
    for (let done = 0; done < bytes.length;) done += writeSync(1, bytes, done, bytes.length - done);
}

function readLine() {
    const line = [], byte = Buffer.alloc(1);
    while (fill(byte) && byte[0] !== 10) line.push(byte[0]);
    return Buffer.from(line).toString();
}

// An .npy frame of float32, or null at the end.
function readFrame() {
    const prefix = Buffer.alloc(10);
    if (!fill(prefix)) return null;
    const header = Buffer.alloc(prefix.readUInt16LE(8));
    fill(header);
    const shape = /'shape': \(([^)]*)\)/.exec(header)[1].match(/\d+/g).map(Number);
    const values = new Float32Array(shape.reduce((a, b) => a * b));
    fill(new Uint8Array(values.buffer));
    return { shape, values };
}

function writeFrame(rows, classes, values) {
    const dict = `{'descr': '<f4', 'fortran_order': False, 'shape': (${rows}, ${classes}), }`;
    const header = dict.padEnd(64 * Math.ceil((dict.length + 11) / 64) - 11) + "\n";
    const prefix = Buffer.from("\x93NUMPY\x01\x00\x00\x00", "latin1");
    prefix.writeUInt16LE(header.length, 8);
    writeAll(Buffer.concat([prefix, Buffer.from(header)]));
    writeAll(new Uint8Array(values.buffer, values.byteOffset, 4 * rows * classes));
}

const session = await InferenceSession.create(model, { intraOpNumThreads: one("threads") ?? 0 });
const fixed = one("fixed-batch");

// Rows for a batch; one smaller than the model's fixed batch is filled up with zeros.
async function run({ shape: [rows, ...sample], values }) {
    const size = sample.reduce((a, b) => a * b);
    if (fixed > rows) {
        const padded = new Float32Array(fixed * size);
        padded.set(values);
        values = padded;
    }
    const input = new Tensor("float32", values, [values.length / size, ...sample]);
    const results = await session.run({ [session.inputNames[0]]: input });
    const output = results[one("output") ?? session.outputNames[0]];
    return { classes: output.dims.at(-1), values: output.data };
}

const greeting = JSON.parse(readLine());
const [channels, ...natural] = greeting.samples.shape;
const size = options.size ?? natural;
if (size.includes(null)) {
    console.error("the images have different sizes: say which one is wanted, by --size H W");
    process.exit(64);
}
const shape = one("layout") === "nhwc" ? [1, ...size, channels] : [1, channels, ...size];
const blank = { shape, values: new Float32Array(shape.reduce((a, b) => a * b)) };
writeAll(Buffer.from(JSON.stringify({
    kd_teacher: 1,
    num_classes: (await run(blank)).classes,
    values: one("values") ?? "logits",
    name: basename(model),
    digest: createHash("sha256").update(readFileSync(model)).digest("hex"),
    batch: fixed ?? one("batch"),
    input: { layout: one("layout"), size: options.size, resize: one("resize"),
        mean: options.mean, deviation: options.deviation },
}) + "\n"));
for (let frame; (frame = readFrame()) !== null;) {
    const { classes, values } = await run(frame);
    writeFrame(frame.shape[0], classes, values);
}
