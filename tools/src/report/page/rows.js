// The rows of the table: sums by name.
//
// *self* is what a function allocated as the innermost function of a stack, *total* what it and all
// functions that it called allocated. A name that is in a stack twice counts once.

import { pValue, significant } from "./significance.js";

/** What the rows can be, as `[value, text]`. */
export function kinds(heap) {
    const labels = heap.labelKeys.map((key) => [`label:${key}`, `label ${key}`]);
    return [["function", "function"], ["crate", "crate"], ["line", "line"], ...labels];
}

/** Sums by name. */
class Groups {
    constructor() {
        this.index = new Map();
        this.rows = [];
    }

    row(name) {
        if (!this.index.has(name)) {
            this.index.set(name, this.rows.length);
            this.rows.push({ name, own: 0, ownVariance: 0, total: 0, totalVariance: 0, lastStack: -1 });
        }
        return this.rows[this.index.get(name)];
    }

    add(row, stack, sums, isOwn) {
        if (isOwn) {
            row.own += sums.value[stack];
            row.ownVariance += sums.variance[stack];
        }
        if (row.lastStack !== stack) {
            row.lastStack = stack;
            row.total += sums.value[stack];
            row.totalVariance += sums.variance[stack];
        }
    }
}

/** The rows, the largest self first. */
export function rows(heap, by, sums, chosen) {
    const groups = new Groups();
    const key = by.startsWith("label:") ? by.slice("label:".length) : null;
    const named = key === null ? framesNamed(heap, by).map((name) => groups.row(name)) : [];
    const labelled = heap.page.label_sets.map((set) =>
        key === null ? null : groups.row(set[key] ?? `(no ${key})`),
    );
    for (let stack = 0; stack < heap.stacks; stack++) {
        if (!chosen[stack]) continue;
        if (key !== null) {
            groups.add(labelled[heap.labels[stack]], stack, sums, true);
            continue;
        }
        let isLeaf = true;
        for (let node = heap.leaf[stack]; node >= 0; node = heap.parent[node]) {
            const frame = heap.frame[node];
            if (frame === heap.missing) continue;
            groups.add(named[frame], stack, sums, isLeaf);
            isLeaf = false;
        }
    }
    const found = groups.rows.filter((row) => row.total !== 0 || row.totalVariance !== 0);
    return found.sort((a, b) => b.own - a.own || b.total - a.total || (a.name < b.name ? -1 : 1));
}

function framesNamed(heap, by) {
    return Array.from({ length: heap.missing }, (_, frame) => {
        if (by === "crate") return heap.crateOf(frame);
        const [name, place] = [heap.functionOf(frame), heap.placeOf(frame)];
        return by === "line" && place !== "" ? `${place} (${name})` : name;
    });
}

/**
 * Adds to the rows of a difference their values at both ends, and whether the change is
 * significant.
 */
export function withEnds(found, state) {
    const { heap, by, unit, range } = state;
    const chosen = state.chosen();
    const ends = range.map((dump) => {
        const byName = rows(heap, by, heap.liveAt(dump, unit), chosen).map((row) => [row.name, row]);
        return new Map(byName);
    });
    const none = { own: 0, ownVariance: 0 };
    for (const row of found) {
        const [was, is] = ends.map((end) => end.get(row.name) ?? none);
        [row.was, row.wasError] = [was.own, Math.sqrt(was.ownVariance)];
        [row.is, row.isError] = [is.own, Math.sqrt(is.ownVariance)];
        row.p = pValue(row.own, Math.sqrt(row.ownVariance));
    }
    const tested = found.filter((row) => row.was >= 0.5 || row.is >= 0.5);
    significant(tested.map((row) => row.p)).forEach((yes, at) => (tested[at].isSignificant = yes));
    // Significant changes come first, then the largest, as in `heapdrift diff`.
    const rank = (row) => Number(row.isSignificant);
    return tested.sort((a, b) => rank(b) - rank(a) || Math.abs(b.own) - Math.abs(a.own));
}
