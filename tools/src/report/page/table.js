// The table of self and total, as `heapdrift top` has it, and of changes, as `heapdrift diff` has it.
//
// *self* is what the innermost function of a stack allocated, *total* what a function and all it called
// did; a name that is in a stack twice counts once.

import { element } from "./dom.js";
import { pValue, significant } from "./significance.js";
import { amount, change, estimate, percent } from "./units.js";

const SHOWN = 50;

/** What a row can be about, as `[value, text]`. */
export function kinds(heap) {
    const labels = heap.labelKeys.map((key) => [`label:${key}`, `label ${key}`]);
    return [["function", "function"], ["crate", "crate"], ["line", "line"], ...labels];
}

/** Sums by name over some stacks. */
class Groups {
    constructor() {
        this.index = new Map();
        this.rows = [];
    }

    row(name) {
        if (!this.index.has(name)) {
            this.index.set(name, this.rows.length);
            this.rows.push({ name, own: 0, ownVariance: 0, total: 0, totalVariance: 0, seenIn: -1 });
        }
        return this.rows[this.index.get(name)];
    }

    add(row, stack, sums, isOwn) {
        if (isOwn) {
            row.own += sums.value[stack];
            row.ownVariance += sums.variance[stack];
        }
        if (row.seenIn !== stack) {
            row.seenIn = stack;
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
    const labelled = heap.page.label_sets.map((set) => (key === null ? null : groups.row(set[key] ?? `(no ${key})`)));
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

/** The columns of a view: heading, what is sorted by, what is shown. */
function columns(view, unit, whole) {
    const spread = (variance) => `± ${amount(Math.sqrt(variance), unit)}`;
    if (view === "difference") {
        return [
            { title: "change", key: (row) => row.own, cells: (row) => [change(row.own, Math.sqrt(row.ownVariance), unit)] },
            { title: "was", key: (row) => row.was, cells: (row) => [estimate(row.was, row.wasError, unit)] },
            { title: "is", key: (row) => row.is, cells: (row) => [estimate(row.is, row.isError, unit)] },
            { title: "significant", key: (row) => -row.p, cells: (row) => [row.isSignificant ? "yes" : "no"] },
        ];
    }
    const column = (title, value, variance) => ({
        title,
        key: value,
        cells: (row) => [amount(value(row), unit), spread(variance(row)), percent(value(row), whole)],
    });
    return [
        column("self", (row) => row.own, (row) => row.ownVariance),
        column("total", (row) => row.total, (row) => row.totalVariance),
    ];
}

/** Of a difference: what was and is there, and whether that can be chance. */
function withEnds(found, state) {
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
    // Significant ones first, then by how much they changed: as `heapdrift diff` does.
    const rank = (row) => Number(row.isSignificant);
    return tested.sort((a, b) => rank(b) - rank(a) || Math.abs(b.own) - Math.abs(a.own));
}

export class Table {
    constructor(container, state) {
        this.state = state;
        this.shown = SHOWN;
        this.sorting = null;
        this.caption = element("caption");
        this.head = element("thead");
        this.body = element("tbody");
        this.more = element("button", { type: "button", onclick: () => this.showMore() });
        this.table = element("table", { class: "numbers many" }, this.caption, this.head, this.body);
        container.append(element("div", { class: "scroller", tabindex: 0, role: "region", "aria-label": "Table" }, this.table), this.more);
        state.listen((changes) => {
            if (changes.folded !== undefined) return;
            if (changes.view !== undefined) this.sorting = null;
            this.shown = SHOWN;
            if (Object.keys(changes).some((key) => key !== "search")) this.compute();
            this.filter();
        });
        this.compute();
        this.filter();
    }

    compute() {
        const { heap, by, view, unit } = this.state;
        const [sums, chosen] = [this.state.stackSums(), this.state.chosen()];
        const whole = sums.value.reduce((sum, value, stack) => sum + chosen[stack] * value, 0);
        const found = rows(heap, by, sums, chosen);
        this.columns = columns(view, unit, whole);
        this.table.classList.toggle("changes", view === "difference");
        this.all = view === "difference" ? withEnds(found, this.state) : found;
    }

    filter() {
        const { state, all } = this;
        this.rows = state.search === "" ? all : all.filter((row) => state.matches(row.name));
        this.render();
    }

    showMore() {
        this.shown = Infinity;
        this.render();
    }

    sort(column) {
        const isSame = this.sorting?.column === column;
        this.sorting = { column, ascending: isSame && !this.sorting.ascending };
        this.render();
    }

    sorted() {
        if (this.sorting === null) return this.rows;
        const { column, ascending } = this.sorting;
        const key = column < 0 ? (row) => row.name : this.columns[column].key;
        const sign = ascending ? 1 : -1;
        return [...this.rows].sort((a, b) => sign * (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0));
    }

    render() {
        const { by } = this.state;
        const heading = (title, column, span) => {
            const isSorted = this.sorting?.column === column;
            const order = isSorted ? (this.sorting.ascending ? "ascending" : "descending") : "none";
            const button = element("button", { type: "button", onclick: () => this.sort(column) }, title);
            return element("th", { scope: "col", colspan: span, "aria-sort": order, class: column < 0 ? "name" : "" }, button);
        };
        const focused = this.head.contains(document.activeElement) ? [...this.head.querySelectorAll("button")].indexOf(document.activeElement) : -1;
        const first = this.rows[0];
        const spans = this.columns.map((column) => (first ? column.cells(first).length : 1));
        this.head.replaceChildren(
            element("tr", {}, this.columns.map((column, at) => heading(column.title, at, spans[at])), heading(by.replace("label:", ""), -1, 1)),
        );
        if (focused >= 0) this.head.querySelectorAll("button")[focused]?.focus();
        const sorted = this.sorted();
        this.body.replaceChildren(...sorted.slice(0, this.shown).map((row) => this.row(row)));
        const rest = sorted.length - this.shown;
        this.more.hidden = rest <= 0;
        this.more.textContent = `Show all ${sorted.length.toLocaleString("en-US")} rows`;
        this.caption.textContent = `${sorted.length.toLocaleString("en-US")} rows. ± is one standard error.`;
    }

    row(row) {
        const cell = (title) => (text, at) => element("td", { "data-title": at === 0 ? title : null }, text);
        const cells = this.columns.flatMap((column) => column.cells(row).map(cell(column.title)));
        const isPlain = this.state.by === "function" || this.state.by === "crate";
        const name = isPlain
            ? element("button", { type: "button", class: "link", title: "Search for it", onclick: () => this.state.set({ search: row.name }) }, row.name)
            : row.name;
        return element("tr", { class: row.isSignificant === false ? "chance" : "" }, cells, element("th", { scope: "row", class: "name" }, name));
    }
}
