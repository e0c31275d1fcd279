// Numbers as text: bytes in binary units, counts with separators, estimates with their ±.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/** The power of 1024 in which a number of bytes is shown. */
function scaleOf(value) {
    let scale = 0;
    // 1023.95 would be printed as 1024.0.
    for (let rest = Math.abs(value); rest >= 1023.95 && scale + 1 < UNITS.length; rest /= 1024) scale++;
    return scale;
}

function fixed(value, digits) {
    const text = value.toFixed(digits);
    return Number(text) === 0 ? (0).toFixed(digits) : text;
}

/** `12.3 MiB`. */
export function bytes(value) {
    const scale = scaleOf(value);
    return `${fixed(value / 1024 ** scale, scale === 0 ? 0 : 1)} ${UNITS[scale]}`;
}

/** `1,024`. */
export function count(value) {
    return Math.round(value + 0).toLocaleString("en-US");
}

/** A number of `unit`: `bytes` or `objects`. */
export function amount(value, unit) {
    return unit === "bytes" ? bytes(value) : count(value);
}

/** `41.2 ± 1.9 MiB`, both in the unit of the value. An error that would round to 0 is `<0.1`. */
export function estimate(value, error, unit) {
    const isBytes = unit === "bytes";
    const scale = isBytes ? scaleOf(value || error) : 0;
    const factor = 1024 ** scale;
    const digits = scale === 0 || Math.abs(value / factor) >= 100 ? 0 : 1;
    const print = (number) => (isBytes ? fixed(number / factor, digits) : count(number));
    const least = digits === 0 ? 1 : 0.1;
    const isTiny = error > 0 && error / factor < least / 2;
    const spread = isTiny ? `<${least}` : print(error);
    return `${print(value)} ± ${spread}${isBytes ? ` ${UNITS[scale]}` : ""}`;
}

/** An estimate with its sign, for differences. */
export function change(value, error, unit) {
    return (value > 0 ? "+" : "") + estimate(value, error, unit).replace(/^-/, "−");
}

/** `12.3%`, or an empty text if the whole is 0. */
export function percent(part, whole) {
    return whole > 0 ? `${((100 * part) / whole).toFixed(1)}%` : "";
}

/** `2 d 03 h`, `2 h 05 min`, `3 min 12 s`, `12.3 s`. */
export function duration(ms) {
    const seconds = Math.floor(ms / 1000);
    const two = (number) => String(number).padStart(2, "0");
    const [days, hours, minutes] = [
        Math.floor(seconds / 86400),
        Math.floor(seconds / 3600) % 24,
        Math.floor(seconds / 60) % 60,
    ];
    if (days > 0) return `${days} d ${two(hours)} h`;
    if (hours > 0) return `${hours} h ${two(minutes)} min`;
    if (minutes > 0) return `${minutes} min ${two(seconds % 60)} s`;
    return `${(ms / 1000).toFixed(1)} s`;
}

/** A time in UTC, because the reader may be in another time zone than the service. */
export function timestamp(unixMs) {
    const date = new Date(unixMs);
    if (Number.isNaN(date.getTime())) return `${unixMs} ms since 1970`;
    return `${date.toISOString().slice(0, 19).replace("T", " ")} UTC`;
}

/** `1 tick`, `2 ticks`: a count with its noun. */
export function counted(number, noun) {
    return `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
}
