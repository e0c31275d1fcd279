// The page: reads the data, draws everything, and connects the controls.

import { candidates } from "./candidates.js";
import { byId, choice, element } from "./dom.js";
import { readHeap } from "./heap.js";
import { Icicle } from "./icicle.js";
import { commands, header, recording } from "./recording.js";
import { kinds } from "./rows.js";
import { State, VIEWS } from "./state.js";
import { Table } from "./table.js";
import { Timeline } from "./timeline.js";
import { estimate, percent } from "./units.js";

/** The explanation below the controls. */
const EXPLAINED = {
    live: "Allocated and not freed.",
    peak: "Live when the heap was largest.",
    difference:
        "The change of live memory: width is the size of the change, orange has grown, blue has shrunk. Pale changes can be chance.",
    allocated: "Everything allocated since the start, freed or not.",
};

function controls(form, state) {
    const { heap } = state;
    const views = VIEWS.filter(([view]) => view !== "difference" || heap.hasSeries);
    const labels = [["", "all"]];
    for (const key of heap.labelKeys) {
        const values = new Set(
            heap.page.label_sets.map((set) => set[key]).filter((value) => value !== undefined),
        );
        for (const value of [...values].sort())
            labels.push([JSON.stringify([key, value]), `${key}=${value}`]);
    }
    const view = choice("Show", views, state.view, (value) => state.set({ view: value }));
    const unit = choice(
        "in",
        [
            ["bytes", "bytes"],
            ["objects", "objects"],
        ],
        state.unit,
        (value) => state.set({ unit: value }),
    );
    const label = choice("with", labels, "", (value) =>
        state.set({ label: value === "" ? null : JSON.parse(value) }),
    );
    const folded = element("input", {
        type: "checkbox",
        checked: state.folded,
        onchange: () => state.set({ folded: folded.checked }),
    });
    const fold = element("label", {}, folded, element("span", {}, "fold frames of other crates"));
    const search = element("input", {
        type: "search",
        id: "search",
        placeholder: "press / to search",
        "aria-label": "Search for a name",
        oninput: () => state.set({ search: search.value }),
    });
    const found = element("output", { for: "search" });
    const explained = element("p", { class: "quiet", id: "explained" });
    form.append(view, unit, labels.length > 1 ? label : "", fold, search, found, explained);
    form.addEventListener("submit", (event) => event.preventDefault());
    const update = () => {
        view.querySelector("select").value = state.view;
        label.querySelector("select").value = state.label === null ? "" : JSON.stringify(state.label);
        if (search.value !== state.search) search.value = state.search;
        found.textContent = state.search === "" ? "" : foundOf(state);
        explained.textContent = EXPLAINED[state.view] + whenOf(state);
    };
    state.listen(update);
    update();
    document.addEventListener("keydown", (event) => {
        const isTyping = event.target.matches("input, select, textarea");
        if (event.key === "/" && !isTyping && !event.ctrlKey && !event.metaKey) {
            event.preventDefault();
            search.focus();
        }
    });
}

/** The dump or dumps that are shown, unless that is the last one. */
function whenOf({ heap, view, range }) {
    if (view === "live" && range[1] !== heap.last) return ` The heap is shown at ${heap.named(range[1])}.`;
    return view === "difference" ? ` From ${heap.named(range[0])} to ${heap.named(range[1])}.` : "";
}

/** The sum over the stacks that match the search. */
function foundOf(state) {
    const { heap } = state;
    const inside = heap.within(state.matchedFrames());
    const [sums, chosen] = [state.stackSums(), state.chosen()];
    let [value, variance, whole] = [0, 0, 0];
    for (let stack = 0; stack < heap.stacks; stack++) {
        if (!chosen[stack]) continue;
        whole += sums.value[stack];
        if (!inside[heap.leaf[stack]]) continue;
        value += sums.value[stack];
        variance += sums.variance[stack];
    }
    const share = state.view === "difference" ? "" : `, ${percent(value, whole)}`;
    return `found in ${estimate(value, Math.sqrt(variance), state.unit)}${share}`;
}

async function main() {
    const heap = await readHeap();
    const state = new State(heap);
    header(heap, { taken: byId("taken"), totals: byId("totals") });
    candidates(byId("candidates"), state);
    new Timeline(byId("timeline"), state);
    controls(byId("controls"), state);
    new Icicle(byId("graph"), state);
    byId("table").append(choice("By", kinds(heap), state.by, (by) => state.set({ by })));
    new Table(byId("table"), state);
    recording(byId("recording"), heap);
    commands(byId("commands"), state);
    byId("footer").textContent =
        `Made by heapdrift ${heap.page.version}. This file loads nothing else.`;
    performance.mark("drawn");
}

main().catch((error) => {
    byId("footer").textContent = `This page cannot be drawn: ${error.message}.`;
    throw error;
});
