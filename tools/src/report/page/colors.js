// Colours that can be told apart without seeing hues: own code is orange and all other code bluish
// or grey. Growth is orange and shrinkage blue (from the palette of Okabe and Ito), and signs say
// the same.

const query = window.matchMedia("(prefers-color-scheme: dark)");

/** Calls `listener` when the colour scheme changes. */
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

/** The colour of a frame by whose code it is. A crate has the same colour everywhere. */
export function ofCrate(kind, krate) {
    const [shade, dark] = [hash(krate), query.matches];
    const hsl = (hue, saturation, light, range) =>
        `hsl(${hue} ${saturation}% ${dark ? light[1] + range * shade : light[0] - range * shade}%)`;
    if (kind === "own") return hsl(34, dark ? 75 : 92, [72, 30], 6);
    if (kind === "dependency") return hsl(200 + 50 * shade, dark ? 28 : 42, [86, 26], 8);
    return hsl(210, 8, [91, 20], 5);
}

/** The colour of a change. The more likely it is chance, the paler the colour. */
export function ofChange(change, error, width) {
    const dark = query.matches;
    const surprise = error > 0 ? Math.min(Math.abs(change) / error / 4, 1) : 1;
    // Growth and shrinkage below one frame can cancel out.
    const strength = width > 0 ? surprise * Math.min(Math.abs(change) / width + 0.2, 1) : 0;
    if (strength < 0.25) return dark ? "hsl(210 6% 24%)" : "hsl(210 8% 90%)";
    const hue = change > 0 ? 28 : 205;
    return dark
        ? `hsl(${hue} ${40 + 45 * strength}% ${24 + 12 * strength}%)`
        : `hsl(${hue} 88% ${92 - 30 * strength}%)`;
}
