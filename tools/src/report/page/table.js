// The table of self and total, like that of `heapdrift top`, or of changes, like that of `heapdrift
// diff`.

import { element } from "./dom.js";
import { rows, withEnds } from "./rows.js";
import { amount, change, counted, estimate, percent } from "./units.js";

const SHOWN = 50;

/** The columns of a view: the heading, the key to sort by, and the cells to show. */
function columns(view, unit, whole) {
    const spread = (variance) => `± ${amount(Math.sqrt(variance), unit)}`;
    if (view === "difference") {
        return [
            {
                title: "change",
                key: (row) => row.own,
                cells: (row) => [change(row.own, Math.sqrt(row.ownVariance), unit)],
            },
            { title: "before", key: (row) => row.was, cells: (row) => [estimate(row.was, row.wasError, unit)] },
            { title: "now", key: (row) => row.is, cells: (row) => [estimate(row.is, row.isError, unit)] },
            {
                title: "significant",
                key: (row) => -row.p,
                cells: (row) => [row.isSignificant ? "yes" : "no"],
            },
        ];
    }
    const column = (title, value, variance) => ({
        title,
        key: value,
        cells: (row) => [amount(value(row), unit), spread(variance(row)), percent(value(row), whole)],
    });
    return [
        column(
            "self",
            (row) => row.own,
            (row) => row.ownVariance,
        ),
        column(
            "total",
            (row) => row.total,
            (row) => row.totalVariance,
        ),
    ];
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
        container.append(
            element(
                "div",
                { class: "scroller", tabindex: 0, role: "region", "aria-label": "Table" },
                this.table,
            ),
            this.more,
        );
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
            return element(
                "th",
                { scope: "col", colspan: span, "aria-sort": order, class: column < 0 ? "name" : "" },
                button,
            );
        };
        const focused = this.head.contains(document.activeElement)
            ? [...this.head.querySelectorAll("button")].indexOf(document.activeElement)
            : -1;
        const first = this.rows[0];
        const spans = this.columns.map((column) => (first ? column.cells(first).length : 1));
        this.head.replaceChildren(
            element(
                "tr",
                {},
                this.columns.map((column, at) => heading(column.title, at, spans[at])),
                heading(by.replace("label:", ""), -1, 1),
            ),
        );
        if (focused >= 0) this.head.querySelectorAll("button")[focused]?.focus();
        const sorted = this.sorted();
        this.body.replaceChildren(...sorted.slice(0, this.shown).map((row) => this.row(row)));
        const rest = sorted.length - this.shown;
        this.more.hidden = rest <= 0;
        this.more.textContent = `Show all ${sorted.length.toLocaleString("en-US")} rows`;
        this.caption.textContent = `${counted(sorted.length, "row")}. ± is one standard error.`;
    }

    row(row) {
        const cell = (title) => (text, at) => element("td", { "data-title": at === 0 ? title : null }, text);
        const cells = this.columns.flatMap((column) => column.cells(row).map(cell(column.title)));
        const isPlain = this.state.by === "function" || this.state.by === "crate";
        const name = isPlain
            ? element(
                  "button",
                  {
                      type: "button",
                      class: "link",
                      title: "Search for this name",
                      onclick: () => this.state.set({ search: row.name }),
                  },
                  row.name,
              )
            : row.name;
        return element(
            "tr",
            { class: row.isSignificant === false ? "chance" : "" },
            cells,
            element("th", { scope: "row", class: "name" }, name),
        );
    }
}
