// Small bar charts, each with its counts in a table for readers who cannot see the chart.

import { element, shape } from "./dom.js";

const [WIDTH, HEIGHT] = [320, 96];

/**
 * A chart of stacked bars. Groups are `{ label, values }`, and `names` are the names of the values.
 */
export function bars(title, groups, names, [start, end]) {
    const highest = Math.max(1, ...groups.map(({ values }) => values.reduce((sum, value) => sum + value, 0)));
    const step = WIDTH / Math.max(groups.length, 1);
    const shapes = groups.flatMap(({ label, values }, at) => {
        let bottom = HEIGHT;
        return values.map((value, part) => {
            const height = value > 0 ? Math.max((value / highest) * HEIGHT, 1.5) : 0;
            bottom -= height;
            const box = {
                x: at * step + step * 0.08,
                y: bottom,
                width: step * 0.84,
                height,
                class: `bar part-${part}`,
            };
            return shape("rect", box, shape("title", {}, `${label}: ${value} ${names[part]}`));
        });
    });
    const picture = shape(
        "svg",
        { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" },
        shapes,
    );
    const head = element(
        "tr",
        {},
        element("th", { scope: "col", class: "name" }, ""),
        names.map((name) => element("th", { scope: "col" }, name)),
    );
    const rows = groups.map(({ label, values }) =>
        element(
            "tr",
            {},
            element("th", { scope: "row", class: "name" }, label),
            values.map((value) => element("td", {}, value.toLocaleString("en-US"))),
        ),
    );
    const table = element(
        "table",
        { class: "numbers" },
        element("thead", {}, head),
        element("tbody", {}, rows),
    );
    return element(
        "figure",
        { class: "bars" },
        element("figcaption", {}, title, names.length > 1 ? legend(names) : ""),
        picture,
        element("div", { class: "ends" }, element("span", {}, start), element("span", {}, end)),
        element(
            "details",
            {},
            element("summary", {}, "as a table"),
            element("div", { class: "scroller" }, table),
        ),
    );
}

function legend(names) {
    return names.map((name, part) => element("span", { class: `legend part-${part}` }, name));
}
