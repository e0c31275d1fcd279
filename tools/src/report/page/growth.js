// The pictures of a candidate: its growth, the births of its survivors, and the ages of its
// objects.

import { bars } from "./bars.js";
import { curve } from "./chart.js";
import { element } from "./dom.js";
import { counted, duration, estimate } from "./units.js";

/** The pictures for which there is data. */
export function pictures(candidate, stacks, heap) {
    const all = [grown(candidate, stacks, heap), born(candidate, heap.page.leaks), died(candidate)];
    return all.filter((picture) => picture !== null);
}

/** Shows whether the memory keeps growing or grew once. */
function grown(candidate, stacks, heap) {
    const [points, title] = growth(candidate, stacks, heap);
    if (points.length === 0) return null;
    const plot = element("div", { class: "plot" });
    const known = points.filter((point) => point.error !== undefined);
    const at = ({ x, value, error }) => `${estimate(value, error, "bytes")} at ${duration(x)}`;
    const told = [...new Set([known[0], known[known.length - 1]])].map(at).join(", ");
    // The plot needs a width, which it has once it is in the page.
    requestAnimationFrame(() => curve(plot, points, { height: 140, label: "live bytes" }));
    const ends = element("p", { class: "ends" }, told);
    return element("figure", {}, element("figcaption", {}, title), plot, ends);
}

/** The survivors of a leak are born all the time, those of a warm-up only at its beginning. */
function born({ evidence }, leaks) {
    if (evidence.cohorts.length === 0) return null;
    const part = leaks.uptime_ms / evidence.cohorts.length;
    const cohorts = evidence.cohorts.map((alive, at) => ({
        label: `allocated ${duration(at * part)} to ${duration((at + 1) * part)}`,
        values: [alive],
    }));
    return bars("Live sampled objects by time of allocation", cohorts, ["alive"], ["start", "now"]);
}

/** Leaked objects are not freed at any age. */
function died({ evidence }) {
    const { ages } = evidence;
    if (ages.length === 0) return null;
    const groups = ages.map(({ from, alive, died }) => ({
        label: `${from} to ${counted(2 * from, "tick")} old`,
        values: [alive, died],
    }));
    const ends = [`${counted(ages[0].from, "tick")} or more`, `up to ${counted(2 * ages[ages.length - 1].from, "tick")}`];
    return bars("Sampled objects by age", groups, ["alive", "freed"], ends);
}

/**
 * Live bytes over time. They are from the dumps of the series if those agree with the candidate's
 * live bytes; otherwise they are what the detector recorded since it first observed the candidate.
 */
function growth(candidate, stacks, heap) {
    const fromSeries = heap.hasSeries ? ofStacks(candidate, stacks, heap) : null;
    if (fromSeries !== null) return [fromSeries, "Live bytes at each dump"];
    const { leaks } = heap.page;
    const tick = leaks.uptime_ms / Math.max(leaks.tick, 1);
    const { curve: noted, steps } = candidate.evidence;
    const points = (noted.length > 0 ? noted : steps).map(([at, value]) => ({ x: at * tick, value }));
    if (points.length > 0) points[points.length - 1].error = candidate.live_bytes.std_error;
    return [points, "Live bytes since first observed"];
}

function ofStacks(candidate, stacks, heap) {
    const chosen = new Uint8Array(heap.stacks);
    for (const stack of stacks) chosen[stack] = 1;
    const points = heap.curve(chosen).map(({ value, variance }, dump) => ({
        x: heap.profiles[dump].uptime_ms,
        value,
        error: Math.sqrt(variance),
    }));
    const [last, live] = [points[points.length - 1], candidate.live_bytes];
    const tolerance = 0.05 * live.value + 3 * Math.max(live.std_error, last.error);
    return Math.abs(last.value - live.value) <= tolerance ? points : null;
}
