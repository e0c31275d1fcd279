// Which changes are significant, by the same tests as in `heapdrift diff`.

/** The bound on the share of changes called significant that are due to chance. */
export const FALSE_DISCOVERY_RATE = 0.05;

/** Smaller changes are rounding errors. */
const ROUNDING = 0.5;

/** The probability of a change at least this large if nothing changed. */
export function pValue(change, error) {
    if (Math.abs(change) < ROUNDING) return 1;
    return error > 0 ? erfc(Math.abs(change / error) / Math.SQRT2) : 0;
}

/** Which of the changes are significant, by the procedure of Benjamini and Hochberg (1995). */
export function significant(pValues) {
    const order = [...pValues.keys()].sort((a, b) => pValues[a] - pValues[b]);
    let last = -1;
    order.forEach((at, rank) => {
        if (pValues[at] <= (FALSE_DISCOVERY_RATE * (rank + 1)) / order.length) last = rank;
    });
    const found = new Array(pValues.length).fill(false);
    for (const at of order.slice(0, last + 1)) found[at] = true;
    return found;
}

/**
 * The complementary error function of x ≥ 0: the series of erf below 2 and a continued fraction
 * from 2 on (Abramowitz and Stegun, 7.1.5 and 7.1.14).
 */
export function erfc(x) {
    if (x < 2) {
        let [term, sum] = [x, x];
        for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); n++) {
            term *= (-x * x) / n;
            sum += term / (2 * n + 1);
        }
        return 1 - (2 / Math.sqrt(Math.PI)) * sum;
    }
    let fraction = x;
    for (let n = 60; n > 0; n--) fraction = x + n / 2 / fraction;
    return Math.exp(-x * x) / (Math.sqrt(Math.PI) * fraction);
}
