// Writes dumps that no service makes: node page-dumps.mjs DUMP FOLDER
//
// `hostile` has names by which an attacker would run a script in the page. `large` has 200,000 live
// samples over 20,000 stacks, and so has `unshared`, whose stacks have no frames in common. All of them
// are symbolized, and have everything else from DUMP.

import { readFileSync, writeFileSync } from "node:fs";
import { gunzipSync, gzipSync } from "node:zlib";

const [source, folder] = process.argv.slice(2);
const model = JSON.parse(gunzipSync(readFileSync(source)));

/** A random number that is the same in every run (the generator of Numerical Recipes). */
let seed = 7;
function random(below) {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return Math.floor((seed / 2 ** 32) * below);
}

function write(name, functions, stacks, live, changes) {
    const none = Array.from(functions, () => 0);
    const addresses = Array.from(functions, (_, at) => at + 1);
    const symbols = { count: Array.from(functions, () => 1), function: [...functions.keys()], functions };
    const totals = {};
    for (const { metrics } of stacks) {
        for (const [metric, { value, std_error }] of Object.entries(metrics)) {
            totals[metric] ??= { value: 0, std_error: 0 };
            totals[metric].value += value;
            totals[metric].std_error = Math.hypot(totals[metric].std_error, std_error);
        }
    }
    const frames = { module: none, address: addresses, function: addresses, symbols };
    const dump = { ...model, totals, frames, stacks, live, ...changes };
    writeFileSync(`${folder}/${name}.heap.json.gz`, gzipSync(JSON.stringify(dump), { level: 1 }));
}

function metrics(bytes, count) {
    const estimate = (value) => ({ value, std_error: Math.round(value / 10) });
    return {
        live_bytes: estimate(bytes),
        live_count: estimate(count),
        alloc_bytes: estimate(3 * bytes),
        alloc_count: estimate(3 * count),
        peak_bytes: estimate(2 * bytes),
        peak_count: estimate(2 * count),
    };
}

function noSamples() {
    return { id: [], stack: [], size: [], interval: [], birth_ms: [], birth_tick: [], reallocs: [] };
}

function hostile() {
    const script = "</script><script>window.broken = 1</script>";
    const names = [script, "<img src=x onerror='window.broken = 2'>", "\u2028\u202e{{data}}", "main"];
    const functions = names.map((name) => ({ name, crate_name: script, file: `${script}.rs`, line: 1 }));
    const stacks = [0, 1, 2].map((leaf) => ({
        frames: [leaf, 3],
        site: leaf,
        labels: leaf === 0 ? 1 : 0,
        metrics: metrics(1e6, 10),
    }));
    const leaks = structuredClone(model.leaks);
    for (const candidate of leaks.candidates) {
        candidate.function = script;
        candidate.blame.crate = script;
        candidate.labels = { [script]: script };
        for (const frame of candidate.frames) frame.function = script;
        candidate.leaked_bytes_per_hour = { value: 1e308, std_error: 1e308 };
        candidate.evidence.curve = [
            [0, -1e308],
            [1e18, 1e308],
        ];
        candidate.evidence.cohorts = [1e18, 0, 1];
    }
    const process = { ...model.process, executable: `/srv/${script.replaceAll("/", "")}` };
    write("hostile", functions, stacks, noSamples(), {
        label_sets: [{}, { [script]: script }],
        leaks,
        process,
    });
}

const FUNCTIONS = 12000;

/** Writes a dump with 20,000 different stacks, whose frames `draw` returns. */
function many(name, draw) {
    const [stackCount, sampleCount] = [20000, 200000];
    const crates = ["tokio", "hyper", "axum", "core", "alloc", "std", "service", "serde_json"];
    const functions = Array.from({ length: FUNCTIONS }, (_, at) => {
        const crate_name = crates[random(crates.length)];
        const name = `${crate_name}::module_${at % 97}::<impl Handler_${at % 31} for Type_${at}>::method_${at}`;
        return {
            name,
            crate_name,
            file: `${crate_name}-1.2.3/src/module_${at % 97}/file_${at % 211}.rs`,
            line: (at % 900) + 1,
        };
    });
    const seen = new Set();
    const stacks = [];
    while (stacks.length < stackCount) {
        const frames = draw();
        if (seen.has(frames.join())) continue;
        seen.add(frames.join());
        const site = stacks.length;
        stacks.push({
            frames: frames.reverse(),
            site,
            labels: 0,
            metrics: metrics(1000 + random(1e6), 1 + random(1000)),
        });
    }
    const live = noSamples();
    for (let id = 1; id <= sampleCount; id++) {
        const sample = {
            id,
            stack: random(stackCount),
            size: 16 + random(65536),
            interval: 65536,
            birth_ms: id,
            birth_tick: 1,
            reallocs: 0,
        };
        for (const [column, value] of Object.entries(sample)) live[column].push(value);
    }
    write(name, functions, stacks, live, { label_sets: [{}] });
}

/** Stacks that share their outer frames and then branch. */
function related() {
    let node = 0;
    return Array.from({ length: 36 }, (_, depth) => {
        const branch = depth < 10 ? 1 : depth < 30 ? Math.max(random(5) - 2, 0) : random(6);
        node = (node * 7 + branch * 131 + depth * 17 + 3) % FUNCTIONS;
        return node;
    });
}

function unrelated() {
    return Array.from({ length: 40 }, () => random(FUNCTIONS));
}

hostile();
many("large", related);
many("unshared", unrelated);
