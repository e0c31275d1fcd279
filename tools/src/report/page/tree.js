// The call tree by function, which the icicle shows. All lines of a function are one frame. If
// folding is on, a chain of frames that are not the user's own becomes one frame too, as long as it
// does not branch: between the start of a thread and the first own function there can be sixty
// frames.

export const ROOT = 0;

/** Nodes come after their parents. The root is the parent of all threads. */
export class Tree {
    constructor(heap, isFolded) {
        this.parent = [-1];
        /** The frames of each node, the outermost first; the root has none. */
        this.frames = [[]];
        this.depth = [0];
        const functions = new FunctionTree(heap);
        const indices = isFolded ? this.foldedFrom(functions, heap) : this.copiedFrom(functions);
        this.leaf = Int32Array.from(functions.leaf, (node) => indices[node]);
        this.size = this.parent.length;
        this.children = Array.from({ length: this.size }, () => []);
        for (let node = 1; node < this.size; node++) this.children[this.parent[node]].push(node);
    }

    add(parent, frame) {
        this.parent.push(parent);
        this.frames.push([frame]);
        this.depth.push(this.depth[parent] + 1);
        return this.parent.length - 1;
    }

    /** Adds all nodes and returns the new index of each. */
    copiedFrom({ parent, frame }) {
        for (let node = 1; node < parent.length; node++) this.add(parent[node], frame[node]);
        return [...parent.keys()];
    }

    /** Adds the nodes with chains folded and returns the new index of each. */
    foldedFrom({ parent, frame, leaf }, heap) {
        const childCounts = new Uint32Array(parent.length);
        for (let node = 1; node < parent.length; node++) childCounts[parent[node]]++;
        const isEnd = new Uint8Array(parent.length);
        for (const node of leaf) isEnd[node] = 1;
        const isOwn = frame.map((of) => of >= 0 && heap.kindOf(of) === "own");
        const indices = [ROOT];
        for (let node = 1; node < parent.length; node++) {
            const above = parent[node];
            const isInner = above !== ROOT && childCounts[above] === 1 && !isEnd[above];
            if (isInner && !isEnd[node] && !isOwn[node] && !isOwn[above]) {
                indices.push(indices[above]);
                this.frames[indices[above]].push(frame[node]);
            } else {
                indices.push(this.add(indices[above], frame[node]));
            }
        }
        return indices;
    }

    /** The innermost node that all of the given stacks share. */
    shared(stacks) {
        const [first, ...others] = stacks.map((stack) => this.leaf[stack]);
        return others.reduce((a, b) => {
            while (a !== b) {
                // Nodes come after their parents.
                if (a > b) a = this.parent[a];
                else b = this.parent[b];
            }
            return a;
        }, first);
    }

    /** The sums at each node, including everything called. `width` is the width that is drawn. */
    weigh(sums, chosen) {
        const total = new Float64Array(this.size);
        const variance = new Float64Array(this.size);
        const width = new Float64Array(this.size);
        const own = new Float64Array(this.size);
        this.leaf.forEach((node, stack) => {
            if (!chosen[stack]) return;
            own[node] += sums.value[stack];
            total[node] += sums.value[stack];
            variance[node] += sums.variance[stack];
            width[node] += Math.abs(sums.value[stack]);
        });
        for (let node = this.size - 1; node > ROOT; node--) {
            const parent = this.parent[node];
            total[parent] += total[node];
            variance[parent] += variance[node];
            width[parent] += width[node];
        }
        return { own, total, variance, width };
    }
}

/** The call tree by function, with all frames. */
class FunctionTree {
    constructor(heap) {
        const known = new Map();
        this.parent = [-1];
        this.frame = [-1];
        /** The index in this tree of each node of the heap. */
        const indices = new Int32Array(heap.parent.length);
        const functions = heap.texts.length;
        for (let node = 0; node < indices.length; node++) {
            const [above, frame] = [heap.parent[node], heap.frame[node]];
            const parent = above < 0 ? ROOT : indices[above];
            const name = frame === heap.missing ? functions : heap.frames.function[frame];
            const key = parent * (functions + 1) + name;
            let at = known.get(key);
            if (at === undefined) {
                at = this.parent.length;
                known.set(key, at);
                this.parent.push(parent);
                this.frame.push(frame);
            }
            indices[node] = at;
        }
        this.leaf = Int32Array.from(heap.leaf, (node) => indices[node]);
    }
}
