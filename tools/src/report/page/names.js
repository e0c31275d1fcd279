// Shorter forms of function names, for frames with little room.

/** The parts of a path: `a::b<c::d>::e` has three. */
function segments(name) {
    const parts = [""];
    let depth = 0;
    for (let at = 0; at < name.length; at++) {
        if (name[at] === "<") depth++;
        if (name[at] === ">" && name[at - 1] !== "-") depth--;
        if (depth === 0 && name.startsWith("::", at)) {
            parts.push("");
            at++;
        } else {
            parts[parts.length - 1] += name[at];
        }
    }
    return parts;
}

/** Forms of a name, each shorter than the one before. The last has no path. */
export function shorter(name) {
    const parts = segments(name);
    // A closure keeps the name of the function that it is in.
    let least = 1;
    while (least < parts.length && parts[parts.length - least].startsWith("{")) least++;
    const forms = [];
    for (let length = parts.length; length >= least; length--) forms.push(parts.slice(-length).join("::"));
    return forms;
}
