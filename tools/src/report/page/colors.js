// Colours that nobody needs to tell apart by hue alone: own code is orange and everything else bluish or
// grey; what grew is orange and what shrank is blue (Okabe and Ito's palette), and the sign says it too.

const query = window.matchMedia("(prefers-color-scheme: dark)");

/** Calls back when the reader's scheme changes. */
export function onScheme(listener) {
    query.addEventListener("change", listener);
}

/** A colour of the style sheet. */
export function css(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

/** A number from 0 to 1 that is the same for the same text. */
function hash(text) {
    let sum = 7;
    for (let at = 0; at < text.length; at++) sum = (Math.imul(sum, 31) + text.charCodeAt(at)) >>> 0;
    return (sum % 1000) / 1000;
}

/** The colour of a frame by whose code it is; the same crate has the same one everywhere. */
export function ofCrate(kind, krate) {
    const [shade, dark] = [hash(krate), query.matches];
    const hsl = (hue, saturation, light, range) =>
        `hsl(${hue} ${saturation}% ${dark ? light[1] + range * shade : light[0] - range * shade}%)`;
    if (kind === "own") return hsl(34, dark ? 75 : 92, [72, 30], 6);
    if (kind === "dependency") return hsl(200 + 50 * shade, dark ? 28 : 42, [86, 26], 8);
    return hsl(210, 8, [91, 20], 5);
}

/** The colour of a change: paler the more it can be chance. */
export function ofChange(change, error, width) {
    const dark = query.matches;
    const surprise = error > 0 ? Math.min(Math.abs(change) / error / 4, 1) : 1;
    // What came and what went below one frame may cancel.
    const strength = width > 0 ? surprise * Math.min(Math.abs(change) / width + 0.2, 1) : 0;
    if (strength < 0.25) return dark ? "hsl(210 6% 24%)" : "hsl(210 8% 90%)";
    const hue = change > 0 ? 28 : 205;
    return dark
        ? `hsl(${hue} ${40 + 45 * strength}% ${24 + 12 * strength}%)`
        : `hsl(${hue} 88% ${92 - 30 * strength}%)`;
}
