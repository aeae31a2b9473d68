// Small helpers: making elements, and asking the server.

/** An element with attributes (functions become listeners) and children (texts or elements). */
export function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(key, value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** A choice with a label; `choices` are [value, text] pairs. */
export function select(label, choices, chosen, changed) {
  const options = choices.map(([value, text]) => el("option", { value, selected: value === chosen }, text));
  return el("label", {}, label, el("select", { change: (event) => changed(event.target.value) }, ...options));
}

export function notice(text) {
  document.getElementById("notice").textContent = text;
}

export class Refused extends Error {}

const MOST_TRIES = 20;

/** JSON from the server. A busy server is asked again when it says; what it refuses is thrown as `Refused`. */
export async function ask(address, options = {}) {
  for (let tries = 1; ; tries += 1) {
    let response;
    try {
      response = await fetch(address, options);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Refused("The server does not answer. Is fsgr page still running?");
    }
    if (response.status === 503 && tries < MOST_TRIES) {
      const seconds = Number(response.headers.get("Retry-After") ?? 1);
      await new Promise((done) => setTimeout(done, 1000 * seconds));
      continue;
    }
    const found = await response.json().catch(() => ({ error: `The server answered ${response.status}.` }));
    if (!response.ok) throw new Refused(found.error);
    return found;
  }
}

export const picture = (id, version, side) => `/api/picture/${id}/${side}?v=${version}`;
