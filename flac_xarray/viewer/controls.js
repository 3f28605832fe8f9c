// Small pieces of the panel.

export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/** A labelled control in a row of the panel. */
export const row = (text, control) => element("label", { className: "row" }, text, control);

/** A list to choose from: options are [value, text]. */
export function select(options, value, onchange) {
  const made = element("select", {}, ...options.map(([key, text]) => element("option", { value: key, textContent: text })));
  made.value = String(value);
  made.onchange = () => onchange(made.value);
  return made;
}

export function numberInput(value, onchange) {
  const made = element("input", { type: "text", inputMode: "decimal", value: String(value) });
  made.onchange = () => Number.isFinite(Number(made.value)) && made.value.trim() && onchange(Number(made.value));
  return made;
}

export function button(text, onclick, properties = {}) {
  return element("button", { type: "button", textContent: text, onclick, ...properties });
}

/** Names and values as a list. */
export function facts(pairs) {
  return Object.entries(pairs)
    .filter(([, value]) => value !== null && value !== undefined && value !== "")
    .flatMap(([name, value]) => [element("dt", { textContent: name }), element("dd", { textContent: value })]);
}
