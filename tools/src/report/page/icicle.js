// The icicle graph: the call tree on a canvas, with its root on top. Frames that are too narrow to
// be seen are not drawn, so drawing time depends on the size of the picture and not on the number
// of stacks.

import { css, ofChange, ofCrate, onScheme } from "./colors.js";
import { element, printable } from "./dom.js";
import { shorter } from "./names.js";
import { ROOT, Tree } from "./tree.js";
import { change, estimate, percent } from "./units.js";

const ROW = 19;
const NARROWEST = 0.7;
/** How many crates of folded frames are named. */
const CRATES = 6;
const FONT = "12px system-ui, sans-serif";

export class Icicle {
    constructor(container, state) {
        this.state = state;
        this.heap = state.heap;
        this.buildTree();
        this.forms = new Map();
        this.widths = new Map();
        this.canvas = element("canvas", {
            tabindex: 0,
            role: "application",
            "aria-roledescription": "icicle graph",
            "aria-label":
                "Call tree with the root on top. Arrow keys move between frames, Enter zooms in, Escape shows all. The table below has the same numbers.",
            "aria-describedby": "graph-details",
        });
        this.spacer = element("div", { class: "icicle-spacer" });
        this.scroll = element("div", { class: "icicle" }, this.canvas, this.spacer);
        this.reset = element("button", { type: "button", onclick: () => this.zoom(ROOT) }, "Show all");
        this.details = element("p", {
            id: "graph-details",
            class: "details",
            role: "status",
            "aria-live": "polite",
        });
        container.append(element("div", { class: "graph-head" }, this.reset, this.details), this.scroll);
        this.context = this.canvas.getContext("2d");
        this.listen();
        this.update();
    }

    listen() {
        const at = (event) => this.nodeAt(event.offsetX, event.offsetY + this.scroll.scrollTop);
        this.canvas.addEventListener("pointermove", (event) => this.show(at(event)));
        this.canvas.addEventListener("pointerleave", () => this.show(this.focused));
        this.canvas.addEventListener("click", (event) => {
            const node = at(event);
            if (node !== null) this.zoom(node);
        });
        this.canvas.addEventListener("keydown", (event) => this.press(event));
        document.addEventListener("keydown", (event) => {
            // In the search field, Escape clears the search.
            if (event.key === "Escape" && !event.target.matches("input")) this.zoom(ROOT);
        });
        this.canvas.addEventListener("focus", () => this.draw());
        this.canvas.addEventListener("blur", () => this.draw());
        this.scroll.addEventListener("scroll", () => this.draw());
        new ResizeObserver(() => this.layout()).observe(this.scroll);
        onScheme(() => this.draw());
        this.state.listen((changes) => {
            const isSearch = Object.keys(changes).every((key) => key === "search" || key === "by");
            if (changes.folded !== undefined) this.buildTree();
            if (isSearch) this.mark();
            else this.update();
            if (changes.shown !== undefined) this.zoom(this.tree.shared(changes.shown));
        });
    }

    /** Builds the tree, folded or not. */
    buildTree() {
        this.tree = new Tree(this.heap, this.state.folded);
        this.zoomed = ROOT;
        this.focused = ROOT;
        this.names = this.tree.frames.map(([first, ...others]) => {
            if (first === undefined) return "all";
            const name = this.heap.functionOf(first);
            return others.length > 0 ? `${name} … ${others.length} more` : name;
        });
    }

    /** Shows the current view. */
    update() {
        this.weights = this.tree.weigh(this.state.stackSums(), this.state.chosen());
        const { width } = this.weights;
        this.ordered = new Map();
        this.whole = width[ROOT];
        while (this.zoomed !== ROOT && width[this.zoomed] === 0) this.zoomed = this.tree.parent[this.zoomed];
        this.mark();
        this.layout();
    }

    /** Finds the frames that match the search. */
    mark() {
        const matched = this.state.matchedFrames();
        this.found =
            this.state.search === ""
                ? null
                : this.tree.frames.map((frames) => frames.some((frame) => matched[frame]));
        this.draw();
        this.show(this.focused);
    }

    /** The children with a width, the widest first. */
    children(node) {
        let children = this.ordered.get(node);
        if (children === undefined) {
            const { width } = this.weights;
            children = this.tree.children[node].filter((child) => width[child] > 0);
            children.sort((a, b) => width[b] - width[a]);
            this.ordered.set(node, children);
        }
        return children;
    }

    /** Computes the position of each frame. */
    layout() {
        const { tree, zoomed } = this;
        const { width } = this.weights;
        this.size = Math.max(this.scroll.clientWidth, 1);
        this.rows = [];
        const put = (node, x, w) => {
            (this.rows[tree.depth[node]] ??= []).push({ node, x, w });
        };
        for (let node = zoomed; node !== ROOT;) put((node = tree.parent[node]), 0, this.size);
        const open = [[zoomed, 0, this.size]];
        while (open.length > 0) {
            const [node, x, w] = open.pop();
            put(node, x, w);
            let left = x;
            for (const child of this.children(node)) {
                const share = (width[child] / width[node]) * w;
                if (share < NARROWEST) break;
                open.push([child, left, share]);
                left += share;
            }
        }
        this.spacer.style.height = `${this.rows.length * ROW}px`;
        this.reset.disabled = zoomed === ROOT;
        this.draw();
    }

    draw() {
        if (this.rows === undefined) return;
        const { context, canvas, scroll } = this;
        const ratio = window.devicePixelRatio || 1;
        const [wide, high] = [this.size, Math.max(scroll.clientHeight, 1)];
        if (canvas.width !== Math.round(wide * ratio) || canvas.height !== Math.round(high * ratio)) {
            [canvas.width, canvas.height] = [Math.round(wide * ratio), Math.round(high * ratio)];
            [canvas.style.width, canvas.style.height] = [`${wide}px`, `${high}px`];
        }
        context.setTransform(ratio, 0, 0, ratio, 0, 0);
        context.clearRect(0, 0, wide, high);
        context.font = FONT;
        context.textBaseline = "middle";
        const [ink, paper, accent] = [css("ink"), css("paper"), css("found")];
        const first = Math.floor(scroll.scrollTop / ROW);
        const last = Math.min(Math.ceil((scroll.scrollTop + high) / ROW), this.rows.length);
        for (let row = first; row < last; row++) {
            const top = row * ROW - scroll.scrollTop;
            for (const { node, x, w } of this.rows[row]) {
                const isFound = this.found !== null && this.found[node];
                context.globalAlpha =
                    row < this.tree.depth[this.zoomed] ? 0.5 : this.found === null || isFound ? 1 : 0.45;
                context.fillStyle = isFound ? accent : this.color(node);
                context.fillRect(x, top, Math.max(w - 0.5, NARROWEST), ROW - 1);
                if (w > 24) {
                    context.fillStyle = isFound ? css("found-ink") : ink;
                    context.fillText(this.fitting(this.names[node], w - 8), x + 4, top + ROW / 2);
                }
                context.globalAlpha = 1;
                if (node === this.focused && document.activeElement === canvas) {
                    context.lineWidth = 2;
                    context.strokeStyle = ink;
                    context.strokeRect(x + 1, top + 1, Math.max(w - 2.5, 1), ROW - 3);
                    context.strokeStyle = paper;
                    context.lineWidth = 1;
                    context.strokeRect(x + 2.5, top + 2.5, Math.max(w - 5.5, 1), ROW - 6);
                }
            }
        }
    }

    color(node) {
        const { total, variance, width } = this.weights;
        if (this.state.view === "difference")
            return ofChange(total[node], Math.sqrt(variance[node]), width[node]);
        const [frame] = this.tree.frames[node];
        return frame === undefined
            ? ofCrate("unknown", "")
            : ofCrate(this.heap.kindOf(frame), this.heap.crateOf(frame));
    }

    /**
     * As much of a name as fits. The end of a path is kept, because it says more than its
     * beginning.
     */
    fitting(name, space) {
        if (!this.forms.has(name)) this.forms.set(name, shorter(printable(name)));
        const forms = this.forms.get(name);
        const form = forms.find((form) => this.widthOf(form) <= space) ?? forms[forms.length - 1];
        const length = Math.floor((form.length * space) / this.widthOf(form));
        return length >= form.length ? form : length < 3 ? "" : `${form.slice(0, length - 1)}…`;
    }

    widthOf(text) {
        if (!this.widths.has(text)) this.widths.set(text, this.context.measureText(text).width);
        return this.widths.get(text);
    }

    nodeAt(x, y) {
        const row = this.rows[Math.floor(y / ROW)];
        return row?.find((frame) => frame.x <= x && x < frame.x + frame.w)?.node ?? null;
    }

    /** Shows the details of a frame. */
    show(node) {
        if (node === null || node === undefined) return;
        this.details.replaceChildren(...this.describe(node));
    }

    describe(node) {
        const { total, variance, own } = this.weights;
        const { unit, view } = this.state;
        const error = Math.sqrt(variance[node]);
        const isChange = view === "difference";
        const numbers = isChange
            ? change(total[node], error, unit)
            : `${estimate(total[node], error, unit)}, ${percent(total[node], total[ROOT])}`;
        const suffix = unit === "objects" ? " objects" : "";
        const crates = new Set(this.tree.frames[node].map((frame) => this.heap.crateOf(frame)));
        const self = own[node] !== 0 && !isChange ? `, self ${percent(own[node], total[ROOT])}` : "";
        return [
            element("strong", {}, this.names[node]),
            element("span", { class: "number" }, `${numbers}${suffix}${self}`),
            element(
                "span",
                { class: "quiet" },
                [...crates].slice(0, CRATES).join(", ") + (crates.size > CRATES ? ", …" : ""),
            ),
        ];
    }

    zoom(node) {
        this.zoomed = node;
        this.focus(node);
        this.layout();
        const top = this.tree.depth[node] * ROW;
        if (top < this.scroll.scrollTop || top > this.scroll.scrollTop + this.scroll.clientHeight - 4 * ROW) {
            this.scroll.scrollTop = Math.max(top - 3 * ROW, 0);
        }
    }

    focus(node) {
        this.focused = node;
        this.show(node);
        const top = this.tree.depth[node] * ROW;
        const { scrollTop, clientHeight } = this.scroll;
        if (top < scrollTop) this.scroll.scrollTop = top;
        else if (top + ROW > scrollTop + clientHeight) this.scroll.scrollTop = top + ROW - clientHeight;
        this.draw();
    }

    press(event) {
        const node = this.focused;
        const parent = this.tree.parent[node];
        const siblings = parent < 0 ? [node] : this.children(parent);
        const at = siblings.indexOf(node);
        const moves = {
            ArrowDown: () => this.children(node)[0],
            ArrowUp: () => (parent < 0 ? undefined : parent),
            ArrowRight: () => siblings[at + 1],
            ArrowLeft: () => siblings[at - 1],
            Home: () => ROOT,
        };
        if (event.key in moves) {
            const next = moves[event.key]();
            if (next !== undefined) this.focus(next);
        } else if (event.key === "Enter" || event.key === " ") {
            this.zoom(node);
        } else {
            return;
        }
        event.preventDefault();
    }
}
