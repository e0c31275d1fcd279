// How the heap was recorded, what was lost, and suggested commands.

import { element } from "./dom.js";
import { bytes, count, duration, estimate, timestamp } from "./units.js";

/** Fills the header of the page. */
export function header(heap, { taken, totals }) {
    const { info } = heap.page;
    const series = heap.moments.length > 1 ? `, the last of ${heap.moments.length} dumps` : "";
    taken.textContent = `Process ${info.pid}, up ${duration(info.uptime_ms)}; taken ${timestamp(info.taken_unix_ms)}${series}.`;
    const sums = heap.page.totals;
    for (const [title, size, number] of [
        ["Live", sums.live_bytes, sums.live_count],
        ["At the peak", sums.peak_bytes, sums.peak_count],
        ["Allocated since the start", sums.alloc_bytes, sums.alloc_count],
    ]) {
        const objects = `${estimate(number.value, number.std_error, "objects")} objects`;
        const text = element(
            "dd",
            {},
            element("strong", {}, estimate(size.value, size.std_error, "bytes")),
            element("div", { class: "quiet" }, objects),
        );
        totals.append(element("div", {}, element("dt", {}, title), text));
    }
}

/** Fills the section on the recording. */
export function recording(container, heap) {
    const { info, losses, warnings } = heap.page;
    const interval =
        info.interval_bytes <= 1 ? "every allocation" : `one per ${bytes(info.interval_bytes)} on average`;
    const changed =
        info.interval_bytes !== info.initial_interval_bytes
            ? `, at first one per ${bytes(info.initial_interval_bytes)}`
            : "";
    const facts = [
        ["Binary", info.binary],
        ["Build-id", info.build_id === "" ? "none" : info.build_id],
        [
            "Recorded by",
            `heapdrift ${info.heapdrift_version}${info.state === "active" ? "" : `, ${info.state}`}`,
        ],
        ["Sampled", interval + changed],
        [
            "Samples",
            `${count(info.samples)} taken, ${count(info.samples_live)} live, on ${count(info.stacks)} stacks`,
        ],
        ["Dropped", `${count(info.dropped)} samples`],
        ["Unwinder", info.unwinder],
        ["Stacks without their outermost frames", count(info.truncated_stacks)],
        [
            "Held by the profiler",
            `${bytes(info.profiler_bytes)} of at most ${bytes(info.max_profiler_bytes)}`,
        ],
    ];
    container.append(
        losses.length + warnings.length === 0
            ? ""
            : element(
                  "ul",
                  { class: "warnings" },
                  losses.map((loss) =>
                      element("li", {}, `${loss.name} ${count(loss.count)}: ${loss.meaning}`),
                  ),
                  warnings.map((line) => element("li", {}, line)),
              ),
        element(
            "dl",
            { class: "facts" },
            facts.map(([term, text]) => element("div", {}, element("dt", {}, term), element("dd", {}, text))),
        ),
        element(
            "p",
            { class: "quiet" },
            "± is one standard error; the true value is within two of them in 95 of 100 cases. Memory that C libraries allocate themselves is not included.",
        ),
    );
}

/** Fills the section on commands. */
export function commands(container, state) {
    const { heap } = state;
    const list = element("dl", { class: "commands" });
    const line = (title, command) => {
        const code = element("code", {}, command);
        list.append(
            element("div", {}, element("dt", {}, title), element("dd", {}, code, copier(title, code))),
        );
        return code;
    };
    for (const { shows, line: command } of heap.page.commands) line(shows, command);
    if (heap.hasSeries) {
        const code = line("What changed in the chosen range", "");
        const update = () => {
            const ends = state.range.map((dump) => heap.profiles[dump].path);
            code.textContent = ["heapdrift diff", ...ends, heap.page.name_options].join(" ").trim();
        };
        state.listen(update);
        update();
    }
    container.append(
        element("p", { class: "quiet" }, "On a machine with the dumps and heapdrift:"),
        list,
    );
}

/** A button that copies a command, if the browser allows that. */
function copier(title, code) {
    if (navigator.clipboard === undefined) return "";
    const button = element("button", { type: "button", "aria-label": `copy: ${title}` }, "copy");
    button.addEventListener("click", async () => {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = "copied";
        setTimeout(() => (button.textContent = "copy"), 1500);
    });
    return button;
}
