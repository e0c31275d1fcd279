// The leak candidates, each with its verdict, whose code it is, and the evidence.

import { element } from "./dom.js";
import { pictures } from "./growth.js";
import { bytes, count, counted, duration, estimate } from "./units.js";

const FRAMES = 6;

const BASELINES = {
    new: "New since the baseline.",
    worse: "Also in the baseline, and worse now.",
    known: "Also in the baseline.",
};

const MEANINGS = {
    suspect: "Old objects are not freed and new ones keep coming. A cache that is still filling looks the same.",
    confirmed:
        "The evidence has exceeded a stricter bound, corrected for the number of call sites, at three ticks.",
    retracted: "It was suspected, but its objects were freed after all, or no more are being kept.",
};

/** Fills the section. */
export function candidates(container, state) {
    const { leaks } = state.heap.page;
    if (leaks === null) {
        container.append(
            element("p", {}, "There are no verdicts: no tick of the leak detector had ended when this was recorded."),
        );
        return;
    }
    const counts = ["confirmed", "suspect", "retracted"].map((verdict) => {
        const found = leaks.candidates.filter((candidate) => candidate.verdict === verdict);
        return `${found.length} ${verdict}`;
    });
    container.append(
        element(
            "p",
            { class: "quiet" },
            `At tick ${leaks.tick}, up ${duration(leaks.uptime_ms)}: ${counts.join(", ")}, among ${counted(leaks.tested_sites, "call site")}.`,
        ),
        leaks.baseline_problem
            ? element("p", { class: "warning" }, `No comparison with the baseline: ${leaks.baseline_problem}`)
            : "",
    );
    if (leaks.candidates.length === 0) {
        container.append(
            element(
                "p",
                {},
                leaks.tick < 20
                    ? "Nothing is suspected. Before tick 20 there is not enough evidence for any suspicion."
                    : "Nothing is suspected.",
            ),
        );
    }
    leaks.candidates.forEach((candidate, at) => container.append(card(candidate, at, state)));
    if (leaks.omitted > 0) container.append(element("p", { class: "quiet" }, `… and ${leaks.omitted} more.`));
}

function card(candidate, at, state) {
    const stacks = state.heap.page.candidate_stacks[at];
    const frame = element("div", { class: "pictures" });
    const body = element(
        "div",
        { class: "card-body" },
        facts(candidate),
        frame,
        element("p", { class: "evidence" }, evidence(candidate)),
        stack(candidate),
        stacks.length > 0
            ? element(
                  "p",
                  {},
                  element(
                      "button",
                      { type: "button", onclick: () => showInGraph(stacks, state) },
                      "Show in the graph",
                  ),
              )
            : "",
    );
    const card = element(
        "details",
        { class: `card ${candidate.verdict}`, open: at < 3 },
        element("summary", {}, element("h3", {}, headline(candidate))),
        body,
    );
    // A curve has no width until its card is open.
    const draw = () => {
        if (!card.open || frame.childElementCount > 0) return;
        frame.append(...pictures(candidate, stacks, state.heap));
    };
    card.addEventListener("toggle", draw);
    return card;
}

/**
 * `confirmed: 41 ± 6 MiB/h kept by authlib 0.3.1 under token::refresh (your code: login.rs:88)`.
 */
function headline(candidate) {
    const { blame } = candidate;
    const rate = candidate.leaked_bytes_per_hour;
    const krate = [blame.crate ?? "an unknown crate", blame.version].filter(Boolean).join(" ");
    const own = blame.own_frame;
    return [
        element("span", { class: "verdict", title: MEANINGS[candidate.verdict] }, candidate.verdict),
        " ",
        element("span", { class: "rate" }, `${estimate(rate.value, rate.std_error, "bytes")}/h`),
        " kept by ",
        element("code", {}, krate),
        " under ",
        element("code", {}, candidate.function),
        own ? [" (your code: ", element("code", { class: "own" }, placeOf(own)), ")"] : "",
    ].flat();
}

function placeOf(frame) {
    if (!frame.file) return frame.function;
    return frame.line ? `${frame.file}:${frame.line}` : frame.file;
}

function facts(candidate) {
    const { live_bytes: live, live_count: objects, blame, labels } = candidate;
    const kind = { own: "your code", dependency: "a dependency", std: "the standard library", c: "C code" }[
        blame.kind
    ];
    const facts = [
        [
            "Live",
            `${estimate(live.value, live.std_error, "bytes")} in ${estimate(objects.value, objects.std_error, "objects")} objects`,
        ],
        [
            "Blamed",
            [blame.crate ?? "an unknown crate", blame.version, kind ? `(${kind})` : ""]
                .filter(Boolean)
                .join(" "),
        ],
        ["Call sites", candidate.evidence.sites.toLocaleString("en-US")],
        ["Suspected", `since tick ${candidate.first_seen_tick}`],
    ];
    const labelled = Object.entries(labels).map(([key, value]) => `${key}=${value}`);
    if (labelled.length > 0) facts.push(["Labels", labelled.join(" ")]);
    if (candidate.baseline) facts.push(["Baseline", BASELINES[candidate.baseline]]);
    return element(
        "dl",
        { class: "facts" },
        facts.map(([term, text]) => element("div", {}, element("dt", {}, term), element("dd", {}, text))),
    );
}

/** The evidence in words. */
function evidence(candidate) {
    const found = candidate.evidence;
    if (found.kind === "container") {
        const steps = found.steps.map(([tick, size]) => `${bytes(size)} at tick ${tick}`);
        return `A container that only grows: a few large blocks that grew by two fifths or more ${steps.length === 1 ? "once" : `${steps.length} times`}: ${steps.join(", ")}.`;
    }
    const { mature_alive: alive, mature_deaths: freed, mature_age: age } = found;
    const objects = `${counted(alive + freed, "sampled object")} older than ${counted(age, "tick")}`;
    const outcome =
        freed === 0 && alive !== 1
            ? `None of the ${objects} has been freed.`
            : `Of the ${objects}, ${count(freed)} ${freed === 1 ? "has" : "have"} been freed.`;
    const power = (exponent) => (exponent < 10 ? exponent.toFixed(1) : Math.floor(exponent));
    const oneIn = (exponent) => ["1 in 10", element("sup", {}, power(exponent))];
    if (found.log10_e <= 0) return [`${outcome} They are freed like those of healthy call sites.`];
    return [
        `${outcome} Healthy call sites free theirs; the odds that this one does are below `,
        ...oneIn(found.log10_e),
        ". Among so many call sites, confirming it takes odds below ",
        ...oneIn(found.log10_threshold),
        ".",
    ];
}

/** The stack, with its first frame of own code marked. */
function stack(candidate) {
    const { frames, shared_frames: shared } = candidate;
    const firstOwn = frames.findIndex((frame) => frame.own);
    const line = (frame, at) =>
        element(
            "li",
            { class: at === firstOwn ? "own first" : frame.own ? "own" : "" },
            element("code", {}, frame.function),
            frame.file ? element("span", { class: "place" }, placeOf(frame)) : "",
            at === firstOwn ? element("span", { class: "mark" }, "your code") : "",
            at + 1 === shared && candidate.evidence.sites > 1
                ? element("span", { class: "mark quiet" }, "shared by all call sites up to here")
                : "",
        );
    const shown = Math.max(FRAMES, Math.min(firstOwn + 2, 12));
    const rest = frames.slice(shown);
    const hidden =
        firstOwn >= shown ? element("ol", { start: firstOwn + 1 }, line(frames[firstOwn], firstOwn)) : "";
    return element(
        "div",
        { class: "stack" },
        element("h4", {}, "Stack, innermost first"),
        element("ol", {}, frames.slice(0, shown).map(line)),
        hidden,
        rest.length > 0
            ? element(
                  "details",
                  {},
                  element("summary", {}, `${counted(rest.length, "more frame")}`),
                  element(
                      "ol",
                      { start: shown + 1 },
                      rest.map((frame, at) => line(frame, shown + at)),
                  ),
              )
            : "",
    );
}

function showInGraph(stacks, state) {
    state.set({ search: "", view: "live", label: null, shown: stacks });
    document.getElementById("graph").scrollIntoView();
}
