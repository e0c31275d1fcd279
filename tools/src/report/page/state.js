// The state of the view. Everything that shows a part of it listens to its changes.

export const VIEWS = [
    ["live", "Live"],
    ["peak", "At the peak"],
    ["difference", "Difference"],
    ["allocated", "Allocated since the start"],
];

export class State {
    constructor(heap) {
        this.heap = heap;
        this.view = "live";
        this.unit = "bytes";
        /** The first and the last dump of the range. */
        this.range = [0, heap.last];
        /** The label to which stacks are restricted, as `[key, value]`, or null. */
        this.label = null;
        this.search = "";
        this.by = "function";
        /** Whether chains of frames that are not own code are folded. */
        this.folded = true;
        this.listeners = [];
    }

    listen(listener) {
        this.listeners.push(listener);
    }

    set(changes) {
        Object.assign(this, changes);
        this.sums = null;
        for (const listener of this.listeners) listener(changes);
    }

    /** The numbers of each stack in the current view. */
    stackSums() {
        this.sums ??= this.computed();
        return this.sums;
    }

    computed() {
        const { heap, unit, range } = this;
        const suffix = unit === "bytes" ? "bytes" : "count";
        if (this.view === "peak") return heap.metric(`peak_${suffix}`);
        if (this.view === "allocated") return heap.metric(`alloc_${suffix}`);
        return this.view === "difference" ? heap.difference(...range, unit) : heap.liveAt(range[1], unit);
    }

    /** For each stack, whether it has the chosen label. */
    chosen() {
        const { heap, label } = this;
        const sets = heap.page.label_sets.map((set) => label === null || set[label[0]] === label[1]);
        return Uint8Array.from(heap.labels, (set) => (sets[set] ? 1 : 0));
    }

    /** Whether a name matches the search. */
    matches(name) {
        return this.search !== "" && name.toLowerCase().includes(this.search.toLowerCase());
    }

    /** For each frame, whether its function matches the search. */
    matchedFrames() {
        const { heap } = this;
        return Uint8Array.from({ length: heap.missing + 1 }, (_, frame) =>
            this.matches(heap.functionOf(frame)) ? 1 : 0,
        );
    }
}
