// Curves over time, drawn by uPlot: an estimate with a band of one standard error.

/* global uPlot */
import { css, onScheme } from "./colors.js";
import { bytes, duration } from "./units.js";

/**
 * Draws points `{ x, value, error }`, with x in milliseconds and the error if it is known. A limit
 * becomes a horizontal line. Returns the plot.
 */
export function curve(container, points, { height, label, limit = null, cursor = {}, hooks = {} }) {
    const columns = [
        points.map((point) => point.x),
        points.map((point) => point.value),
        points.map((point) => Math.max(point.value - (point.error ?? 0), 0)),
        points.map((point) => point.value + (point.error ?? 0)),
        points.map(() => limit),
    ];
    const grid = { stroke: () => css("line"), width: 1 };
    const axis = {
        stroke: () => css("quiet"),
        font: "12px system-ui, sans-serif",
        grid,
        ticks: { ...grid, size: 4 },
    };
    const quiet = { stroke: "transparent", points: { show: false } };
    const options = {
        width: Math.max(container.clientWidth, 200),
        height,
        legend: { show: false },
        cursor: { y: false, points: { show: true }, ...cursor },
        scales: {
            x: { time: false },
            y: { range: (_, low, high) => [0, Math.max(high, limit ?? 1, 1) * 1.08] },
        },
        axes: [
            { ...axis, size: 28, values: (_, ticks) => ticks.map((tick) => duration(tick)), space: 90 },
            {
                ...axis,
                size: 72,
                values: (_, ticks) => ticks.map((tick) => bytes(tick)),
                incrs: binarySteps(),
            },
        ],
        series: [
            {},
            { label, stroke: () => css("curve"), width: 2, points: { show: points.length < 60, size: 5 } },
            { ...quiet },
            { ...quiet },
            { label: "limit", stroke: () => css("alarm"), width: 1.5, dash: [6, 4], points: { show: false } },
        ],
        bands: [{ series: [3, 2], fill: () => css("band") }],
        hooks,
    };
    const plot = new uPlot(options, columns, container);
    plot.root.setAttribute("aria-hidden", "true");
    new ResizeObserver(() => {
        const width = Math.max(container.clientWidth, 200);
        if (width !== plot.width) plot.setSize({ width, height });
    }).observe(container);
    onScheme(() => plot.redraw(false));
    return plot;
}

/** Distances between ticks of the axis that are round in binary units. */
function binarySteps() {
    const steps = [];
    for (let power = 0; power < 60; power += 10) {
        for (const factor of [1, 2, 5, 10, 20, 50, 100, 200, 500]) steps.push(factor * 2 ** power);
    }
    return steps;
}
