// Pictures of a candidate: how it grew, when what survives was born, and at which age it died.

import { bars } from "./bars.js";
import { curve } from "./chart.js";
import { element } from "./dom.js";
import { duration, estimate } from "./units.js";

/** Those that there is anything to see in. */
export function pictures(candidate, stacks, heap) {
    const all = [grown(candidate, stacks, heap), born(candidate, heap.page.leaks), died(candidate)];
    return all.filter((picture) => picture !== null);
}

/** "Is it increasing, or one spike?" */
function grown(candidate, stacks, heap) {
    const [points, title] = growth(candidate, stacks, heap);
    if (points.length === 0) return null;
    const plot = element("div", { class: "plot" });
    const known = points.filter((point) => point.error !== undefined);
    const at = ({ x, value, error }) => `${estimate(value, error, "bytes")} at ${duration(x)}`;
    const told = [...new Set([known[0], known[known.length - 1]])].map(at).join(", ");
    // Once it is in the page and has a width.
    requestAnimationFrame(() => curve(plot, points, { height: 140, label: "live bytes" }));
    const ends = element("p", { class: "ends" }, told);
    return element("figure", {}, element("figcaption", {}, title), plot, ends);
}

/** A leak goes on being born, what warms up does not. */
function born({ evidence }, leaks) {
    if (evidence.cohorts.length === 0) return null;
    const part = leaks.uptime_ms / evidence.cohorts.length;
    const cohorts = evidence.cohorts.map((alive, at) => ({
        label: `born ${duration(at * part)} to ${duration((at + 1) * part)}`,
        values: [alive],
    }));
    return bars("Survivors by time of birth, sampled objects", cohorts, ["alive"], ["start", "now"]);
}

/** What leaks does not die, whatever its age. */
function died({ evidence }) {
    const { ages } = evidence;
    if (ages.length === 0) return null;
    const groups = ages.map(({ from, alive, died }) => ({
        label: `${from} to ${2 * from} ticks old`,
        values: [alive, died],
    }));
    const ends = [`${ages[0].from} ticks or more`, `up to ${2 * ages[ages.length - 1].from} ticks`];
    return bars("Sampled objects by age", groups, ["alive", "died"], ends);
}

/**
 * Live bytes over time: from the dumps of the series, where what they have of its stacks is what the
 * detector means; otherwise what the detector has noted since it first looked.
 */
function growth(candidate, stacks, heap) {
    const fromSeries = heap.hasSeries ? ofStacks(candidate, stacks, heap) : null;
    if (fromSeries !== null) return [fromSeries, "Live bytes here, at each dump"];
    const { leaks } = heap.page;
    const tick = leaks.uptime_ms / Math.max(leaks.tick, 1);
    const { curve: noted, steps } = candidate.evidence;
    const points = (noted.length > 0 ? noted : steps).map(([at, value]) => ({ x: at * tick, value }));
    if (points.length > 0) points[points.length - 1].error = candidate.live_bytes.std_error;
    return [points, "Live bytes here, since it was first looked at"];
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
