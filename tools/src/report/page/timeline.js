// Live memory at each dump of the series, and the range between two dumps.

import { curve } from "./chart.js";
import { element } from "./dom.js";
import { bytes, duration, estimate, percent } from "./units.js";

/** When the limit is reached if the confirmed candidates keep leaking. */
function untilLimit({ memory_limit: limit, totals, leaks }) {
    if (limit === null) return "";
    const live = totals.live_bytes;
    const text = `The limit is ${bytes(limit)}; ${estimate(live.value, live.std_error, "bytes")} are live, ${percent(live.value, limit)} of it.`;
    const rates = (leaks?.candidates ?? [])
        .filter(({ verdict }) => verdict === "confirmed")
        .map((candidate) => candidate.leaked_bytes_per_hour);
    const rate = rates.reduce((sum, { value }) => sum + value, 0);
    const error = Math.sqrt(rates.reduce((sum, { std_error: each }) => sum + each ** 2, 0));
    const [room, slowest] = [limit - live.value, rate - 1.96 * error];
    if (room <= 0 || rate <= 0) return element("p", {}, text);
    const within = (perHour) => duration((room / perHour) * 3.6e6);
    const latest =
        slowest > 0
            ? `${within(rate + 1.96 * error)} to ${within(slowest)}`
            : `${within(rate + 1.96 * error)} at the earliest`;
    return element(
        "p",
        {},
        `${text} What is confirmed leaks the rest in ${latest} (95%), and sooner if the allocator or C libraries use more memory.`,
    );
}

export class Timeline {
    constructor(container, state) {
        this.state = state;
        this.heap = state.heap;
        const { moments } = this.heap;
        if (!this.heap.hasSeries) {
            container.append(
                untilLimit(this.heap.page),
                element(
                    "p",
                    { class: "quiet" },
                    "This is one dump. To see a timeline, pass all dumps of a session to heapdrift report.",
                ),
            );
            return;
        }
        const points = moments.map((moment) => ({
            x: moment.uptime_ms,
            value: moment.live_bytes.value,
            error: moment.live_bytes.std_error,
        }));
        this.figure = element("div", { class: "plot" });
        this.summary = element("p", { id: "range-told", role: "status", "aria-live": "polite" });
        this.ends = [0, 1].map((end) => this.slider(end));
        const jump = element(
            "button",
            { type: "button", onclick: () => this.showDifference() },
            "Show the difference",
        );
        container.append(
            element(
                "p",
                { class: "quiet" },
                "Live bytes at each dump, with a band of one standard error. To choose a range, drag across the curve or move the sliders.",
            ),
            this.figure,
            untilLimit(this.heap.page),
            element(
                "div",
                { class: "range" },
                this.ends.map(({ label }) => label),
                jump,
            ),
            this.summary,
            this.table(),
        );
        this.plot = curve(this.figure, points, {
            height: 220,
            label: "live bytes",
            limit: this.heap.page.memory_limit,
            cursor: { drag: { x: true, y: false, setScale: false } },
            hooks: {
                setSelect: [() => this.dragged()],
                ready: [(plot) => this.mark(plot)],
                setSize: [(plot) => this.mark(plot)],
            },
        });
        state.listen((changes) => changes.range && this.update());
        this.update();
    }

    slider(end) {
        const input = element("input", {
            type: "range",
            min: 0,
            max: this.heap.last,
            value: this.state.range[end],
            oninput: () => this.moved(end),
        });
        return { input, label: element("label", {}, element("span", {}, end === 0 ? "From" : "To"), input) };
    }

    /** Keeps the ends of the range in order and distinct. */
    moved(end) {
        const range = [...this.state.range];
        range[end] = Number(this.ends[end].input.value);
        if (range[0] >= range[1]) range[1 - end] = end === 0 ? range[0] + 1 : range[1] - 1;
        const { last } = this.heap;
        if (range[0] < 0) [range[0], range[1]] = [0, 1];
        if (range[1] > last) [range[0], range[1]] = [last - 1, last];
        this.choose(range);
    }

    dragged() {
        if (this.isMarking) return;
        const { left, width } = this.plot.select;
        if (width < 3) return this.mark(this.plot);
        const nearest = (x) => {
            const at = this.plot.posToVal(x, "x");
            const distances = this.heap.profiles.map((moment) => Math.abs(moment.uptime_ms - at));
            return distances.indexOf(Math.min(...distances));
        };
        const range = [nearest(left), nearest(left + width)];
        if (range[0] < range[1]) this.choose(range);
        else this.mark(this.plot);
    }

    /** Shows the difference over a range. */
    choose(range) {
        this.state.set({ range, view: "difference" });
    }

    showDifference() {
        this.state.set({ view: "difference" });
        document.getElementById("heap").scrollIntoView();
    }

    update() {
        const { range, heap } = this.state;
        this.ends.forEach(({ input }, end) => {
            input.value = range[end];
            input.setAttribute("aria-valuetext", this.heap.named(range[end]));
        });
        const [base, now] = range.map((dump) => heap.profiles[dump]);
        const between = duration(now.uptime_ms - base.uptime_ms);
        const live = (moment) => estimate(moment.live_bytes.value, moment.live_bytes.std_error, "bytes");
        this.summary.textContent = `From ${this.heap.named(range[0])} to ${this.heap.named(range[1])}, ${between}: ${live(base)} became ${live(now)}.`;
        this.mark(this.plot);
    }

    /** Shades the range. */
    mark(plot) {
        if (plot === undefined) return;
        const isAll = this.state.range[0] === 0 && this.state.range[1] === this.heap.last;
        const [left, right] = this.state.range.map((dump) =>
            plot.valToPos(this.heap.profiles[dump].uptime_ms, "x"),
        );
        const height = isAll ? 0 : plot.over.clientHeight;
        this.isMarking = true;
        plot.setSelect({ left, width: right - left, top: 0, height }, false);
        this.isMarking = false;
    }

    table() {
        const rows = this.heap.moments.map((moment) =>
            element(
                "tr",
                {},
                element("td", {}, duration(moment.uptime_ms)),
                element("td", {}, moment.tick),
                element("td", {}, estimate(moment.live_bytes.value, moment.live_bytes.std_error, "bytes")),
                element("td", {}, estimate(moment.live_count.value, moment.live_count.std_error, "objects")),
                element("td", { class: "name" }, moment.reason),
            ),
        );
        const heads = ["uptime", "tick", "live", "objects", "taken by"].map((title) =>
            element("th", { scope: "col", class: title === "taken by" ? "name" : "" }, title),
        );
        return element(
            "details",
            {},
            element("summary", {}, `The ${rows.length} dumps as a table`),
            element(
                "div",
                { class: "scroller" },
                element(
                    "table",
                    { class: "numbers" },
                    element("thead", {}, element("tr", {}, heads)),
                    element("tbody", {}, rows),
                ),
            ),
        );
    }
}
