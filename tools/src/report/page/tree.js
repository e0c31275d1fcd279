// The call tree by function: what the icicle shows. Lines of one function are one frame here, and so are,
// if they are folded, frames of others that follow each other and lead nowhere else: between the start of
// a thread and the first of one's own functions there may be sixty.

export const ROOT = 0;

/** Nodes come after their parents; the root is above all threads. */
export class Tree {
    constructor(heap, isFolded) {
        this.parent = [-1];
        /** Of each node its frames, the outermost first; none of the root. */
        this.frames = [[]];
        this.depth = [0];
        const functions = new FunctionTree(heap);
        const place = isFolded ? this.foldedFrom(functions, heap) : this.copiedFrom(functions);
        this.leaf = Int32Array.from(functions.leaf, (node) => place[node]);
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

    /** Gives of each node the one here. */
    copiedFrom({ parent, frame }) {
        for (let node = 1; node < parent.length; node++) this.add(parent[node], frame[node]);
        return [...parent.keys()];
    }

    /** Gives of each node the one here. */
    foldedFrom({ parent, frame, leaf }, heap) {
        const ways = new Uint32Array(parent.length);
        for (let node = 1; node < parent.length; node++) ways[parent[node]]++;
        const isEnd = new Uint8Array(parent.length);
        for (const node of leaf) isEnd[node] = 1;
        const isOwn = frame.map((of) => of >= 0 && heap.kindOf(of) === "own");
        const place = [ROOT];
        for (let node = 1; node < parent.length; node++) {
            const above = parent[node];
            const isInner = above !== ROOT && ways[above] === 1 && !isEnd[above];
            if (isInner && !isEnd[node] && !isOwn[node] && !isOwn[above]) {
                place.push(place[above]);
                this.frames[place[above]].push(frame[node]);
            } else {
                place.push(this.add(place[above], frame[node]));
            }
        }
        return place;
    }

    /** The innermost node that all of some stacks share. */
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

    /** The sums of stacks, with everything that was called, at each node. `width` is what is drawn. */
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
        /** Of each node of the heap, the one here. */
        const place = new Int32Array(heap.parent.length);
        const functions = heap.texts.length;
        for (let node = 0; node < place.length; node++) {
            const [above, frame] = [heap.parent[node], heap.frame[node]];
            const parent = above < 0 ? ROOT : place[above];
            const name = frame === heap.missing ? functions : heap.frames.function[frame];
            const key = parent * (functions + 1) + name;
            let at = known.get(key);
            if (at === undefined) {
                at = this.parent.length;
                known.set(key, at);
                this.parent.push(parent);
                this.frame.push(frame);
            }
            place[node] = at;
        }
        this.leaf = Int32Array.from(heap.leaf, (node) => place[node]);
    }
}
