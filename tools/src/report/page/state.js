// What is being looked at. Everything that shows something of it listens.

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
        /** First and last dump of the range. */
        this.range = [0, heap.last];
        /** A label as `[key, value]`; none: all stacks. */
        this.label = null;
        this.search = "";
        this.by = "function";
        /** Whether frames of others are one where they lead nowhere else. */
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

    /** Of each stack, the numbers that are looked at. */
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

    /** Of each stack, whether it has the label. */
    chosen() {
        const { heap, label } = this;
        const sets = heap.page.label_sets.map((set) => label === null || set[label[0]] === label[1]);
        return Uint8Array.from(heap.labels, (set) => (sets[set] ? 1 : 0));
    }

    /** Whether a name is searched for. */
    matches(name) {
        return this.search !== "" && name.toLowerCase().includes(this.search.toLowerCase());
    }

    /** Of each frame, whether its function is searched for. */
    matchedFrames() {
        const { heap } = this;
        return Uint8Array.from({ length: heap.missing + 1 }, (_, frame) =>
            this.matches(heap.functionOf(frame)) ? 1 : 0,
        );
    }
}
