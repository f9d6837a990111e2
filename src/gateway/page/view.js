/**
 * What belongs to the page as such: theme, tabs, keys that work everywhere, and rows of buttons of which one is chosen.
 */

const THEMES = ["system", "light", "dark"];

/** The theme: the system's, or the one that was chosen here. @param {HTMLButtonElement} button @param {() => void} changed */
export function theme(button, changed) {
  const show = (name) => {
    if (name === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = name;
    button.textContent = `Theme: ${name}`;
    button.setAttribute("aria-label", `Theme: ${name}. Press to change.`);
    changed();
  };
  let chosen = read("theme");
  if (!THEMES.includes(chosen)) chosen = "system";
  button.addEventListener("click", () => {
    chosen = THEMES[(THEMES.indexOf(chosen) + 1) % THEMES.length];
    write("theme", chosen);
    show(chosen);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
  show(chosen);
}

/** What this browser remembers for this page, or null: it may be forbidden. @param {string} name */
export function read(name) {
  try { return localStorage.getItem(`pregao.${name}`); } catch { return null; }
}

/** @param {string} name @param {string} value */
export function write(name, value) {
  try { localStorage.setItem(`pregao.${name}`, value); } catch { /* It is not remembered, and nothing else is lost. */ }
}

/** On a telephone one part of the page is seen at a time. @param {HTMLElement} nav @param {() => void} changed */
export function parts(nav, changed) {
  const show = (tab) => {
    document.body.dataset.tab = tab;
    for (const button of nav.children) {
      if (button.dataset.tab === tab) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    }
    changed();
  };
  nav.addEventListener("click", (event) => {
    const tab = event.target.closest("button")?.dataset.tab;
    if (tab) show(tab);
  });
  show("list");
  return show;
}

/** Tabs by the pattern of ARIA: arrows move among them. @param {HTMLElement} list */
export function tabs(list) {
  const all = [...list.querySelectorAll("[role=tab]")];
  const show = (tab) => {
    for (const one of all) {
      const isIt = one === tab;
      one.setAttribute("aria-selected", String(isIt));
      one.tabIndex = isIt ? 0 : -1;
      document.getElementById(one.getAttribute("aria-controls")).hidden = !isIt;
    }
  };
  list.addEventListener("click", (event) => {
    const tab = event.target.closest("[role=tab]");
    if (tab) show(tab);
  });
  arrows(list, all, show);
}

/**
 * A row of choices of which one holds.
 * @param {HTMLElement} host @param {string[]} names @param {string} chosen @param {(name: string) => void} choose
 */
export function choices(host, names, chosen, choose) {
  const all = names.map((name) => {
    const button = document.createElement("button");
    Object.assign(button, { type: "button", textContent: name });
    button.setAttribute("role", "radio");
    host.append(button);
    return button;
  });
  const show = (button) => {
    for (const one of all) {
      one.setAttribute("aria-checked", String(one === button));
      one.tabIndex = one === button ? 0 : -1;
    }
  };
  const pick = (button) => {
    show(button);
    choose(button.textContent);
  };
  host.addEventListener("click", (event) => {
    if (all.includes(event.target)) pick(event.target);
  });
  arrows(host, all, pick);
  show(all[names.indexOf(chosen)] ?? all[0]);
}

function arrows(host, all, pick) {
  host.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const at = all.indexOf(document.activeElement);
    if (!step || at < 0) return;
    event.preventDefault();
    const next = all[(at + step + all.length) % all.length];
    next.focus();
    pick(next);
  });
}

/** `/` goes to the filter, unless somebody writes. @param {HTMLInputElement} filter @param {() => void} before */
export function slash(filter, before) {
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("input, textarea, select")) return;
    event.preventDefault();
    before();
    filter.focus();
    filter.select();
  });
}
