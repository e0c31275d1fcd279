// The data of the page, and the numbers of each stack.

import { duration } from "./units.js";

/** A sum for each stack. It keeps variances, because those add up. */
export class Sums {
    constructor(stacks) {
        this.value = new Float64Array(stacks);
        this.variance = new Float64Array(stacks);
    }

    add(stack, value, error) {
        this.value[stack] += value;
        this.variance[stack] += error * error;
    }
}

/**
 * The recorded heap. Dumps are indices of the dumps with a profile; all dumps are called moments.
 */
export class Heap {
    constructor(page) {
        this.page = page;
        const { nodes, stacks, frames, runs } = page;
        this.texts = page.texts;
        this.frames = frames;
        /** The parent of each node, which always precedes it; -1 for outermost nodes. */
        this.parent = new Int32Array(nodes.frame.length);
        let node = 0;
        nodes.branch.forEach((start, branch) => {
            const end = node + nodes.length[branch];
            for (let parent = start; node < end; parent = node++) this.parent[node] = parent;
        });
        this.frame = Int32Array.from(nodes.frame);
        /** The index of the frame that stands for missing frames. */
        this.missing = frames.function.length;
        this.leaf = Int32Array.from(stacks.node);
        this.labels = Int32Array.from(stacks.labels);
        this.stacks = stacks.node.length;
        let at = 0;
        this.runs = { ...runs, stack: Int32Array.from(runs.stack, (distance) => (at += distance)) };
        this.moments = page.moments;
        this.profiles = this.moments.filter((moment) => moment.has_profile);
        this.hasSeries = this.profiles.length > 1;
        this.labelKeys = [...new Set(page.label_sets.flatMap((set) => Object.keys(set)))].sort();
    }

    /** The last dump. */
    get last() {
        return this.profiles.length - 1;
    }

    /** The name of a dump, which is its time: `3 min 12 s (tick 4)`. */
    named(dump) {
        const { uptime_ms: uptime, tick } = this.profiles[dump];
        return duration(uptime) + (tick > 0 ? ` (tick ${tick})` : "");
    }

    functionOf(frame) {
        return frame === this.missing ? "[truncated]" : this.texts[this.frames.function[frame]];
    }

    crateOf(frame) {
        return frame === this.missing ? "" : this.texts[this.frames.crate[frame]];
    }

    kindOf(frame) {
        return frame === this.missing ? "unknown" : this.frames.kinds[this.frames.kind[frame]];
    }

    /** `file:line`, or as much of it as is known. */
    placeOf(frame) {
        if (frame === this.missing || this.frames.file[frame] < 0) return "";
        const line = this.frames.line[frame];
        return this.texts[this.frames.file[frame]] + (line > 0 ? `:${line}` : "");
    }

    /** The sums of a metric of the last dump, like `peak_bytes`. */
    metric(name) {
        const sums = new Sums(this.stacks);
        const column = this.page.stacks[name];
        for (let stack = 0; stack < this.stacks; stack++)
            sums.add(stack, column.value[stack], column.error[stack]);
        return sums;
    }

    /** The live heap at a dump. */
    liveAt(dump, unit) {
        if (dump === this.last) return this.metric(unit === "bytes" ? "live_bytes" : "live_count");
        return this.sumRuns(unit, (from, to) => (from <= dump && dump <= to ? 1 : 0));
    }

    /** The difference between two dumps. Objects that are in both add no error. */
    difference(base, now, unit) {
        const covers = (from, to, dump) => from <= dump && dump <= to;
        return this.sumRuns(unit, (from, to) => covers(from, to, now) - covers(from, to, base));
    }

    sumRuns(unit, sign) {
        const { stack, from, to } = this.runs;
        const { value, error } = unit === "bytes" ? this.runs.bytes : this.runs.count;
        const sums = new Sums(this.stacks);
        for (let run = 0; run < stack.length; run++) {
            const factor = sign(from[run], to[run]);
            if (factor !== 0) sums.add(stack[run], factor * value[run], error[run]);
        }
        return sums;
    }

    /** The live bytes of the chosen stacks at each dump. */
    curve(chosen) {
        const { stack, from, to, bytes } = this.runs;
        const points = this.profiles.map(() => ({ value: 0, variance: 0 }));
        for (let run = 0; run < stack.length; run++) {
            if (!chosen[stack[run]]) continue;
            for (let dump = from[run]; dump <= to[run]; dump++) {
                points[dump].value += bytes.value[run];
                points[dump].variance += bytes.error[run] ** 2;
            }
        }
        return points;
    }

    /** For each node, whether its frame or that of an ancestor is among the chosen. */
    within(chosen) {
        const inside = new Uint8Array(this.parent.length);
        for (let node = 0; node < inside.length; node++) {
            const parent = this.parent[node];
            inside[node] = chosen[this.frame[node]] || (parent >= 0 && inside[parent]) ? 1 : 0;
        }
        return inside;
    }
}

/** Reads the data from the page: JSON, or gzip in base64 if it is long. */
export async function readHeap() {
    const element = document.getElementById("data");
    if (element.type === "application/json") return new Heap(JSON.parse(element.textContent));
    const text = atob(element.textContent);
    const packed = new Uint8Array(text.length);
    for (let at = 0; at < packed.length; at++) packed[at] = text.charCodeAt(at);
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Heap(await new Response(stream).json());
}
