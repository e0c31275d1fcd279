// Creating elements. Only this module puts data of the recorded program into the page, always as
// text.

/** Control characters, and those that change the direction of the text around them. */
const CONTROLS = /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

/** Replaces control characters in text from the recorded program. */
export function printable(text) {
    return String(text).replace(CONTROLS, "\ufffd");
}

/**
 * An element with attributes and children. An attribute whose name begins with `on` is a listener.
 */
export function element(name, attributes = {}, ...children) {
    return filled(document.createElement(name), attributes, children);
}

/** An SVG element, made like `element`. */
export function shape(name, attributes = {}, ...children) {
    return filled(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function filled(node, attributes, children) {
    for (const [key, value] of Object.entries(attributes)) {
        if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
        else if (value === true) node.setAttribute(key, "");
        else if (value !== false && value !== null && value !== undefined)
            node.setAttribute(key, printable(value));
    }
    for (const child of children.flat()) {
        if (child === null || child === undefined || child === false) continue;
        node.append(child instanceof Node ? child : printable(child));
    }
    return node;
}

/** The element of the page with this id. */
export function byId(id) {
    return document.getElementById(id);
}

/** A labelled list of choices, each a value and its text. */
export function choice(label, choices, chosen, onChange) {
    const select = element("select", { onchange: () => onChange(select.value) });
    for (const [value, text] of choices)
        select.append(element("option", { value, selected: value === chosen }, text));
    return element("label", {}, element("span", {}, label), select);
}
