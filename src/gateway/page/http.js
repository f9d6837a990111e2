/**
 * Questions to the gateway: one `fetch` each, with what the answer lacks as a text. What it is not: the stream.
 */
import { parseDecimal } from "./frames.js";

/** A question that failed, with a text for people. */
export class Refused extends Error {}

/**
 * @param {string} path such as `/v1/bars/PETR4` @param {Record<string, string|number>} [parameters]
 * @param {AbortSignal} [signal]
 * @returns {Promise<{body: object, missing: string|null}>} `missing` says what a partial answer lacks
 */
export async function ask(path, parameters = {}, signal = undefined) {
  const query = new URLSearchParams(parameters).toString();
  return answer(await send(query ? `${path}?${query}` : path, { signal, headers: { accept: "application/json" } }));
}

/** @param {string} path @param {object} body */
export async function order(path, body) {
  const headers = { "content-type": "application/json", accept: "application/json" };
  return answer(await send(path, { method: "POST", headers, body: JSON.stringify(body) }));
}

async function send(path, options) {
  try {
    return await fetch(path, { ...options, cache: "no-store", credentials: "omit", redirect: "error" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("the gateway does not answer");
  }
}

async function answer(response) {
  let body = null;
  try {
    const text = await response.text();
    body = text === "" ? {} : JSON.parse(text);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    if (response.ok) throw new Refused("the gateway's answer is no JSON");
  }
  if (!response.ok) throw new Refused(body?.detail ?? body?.title ?? `the gateway answered ${response.status}`);
  return { body, missing: whatIsMissing(body) };
}

const WHOLE = new Set(["ok", "pruned", "spare"]);
const STATUSES = {
  timeout: "did not answer in time", refused: "refused, or is away", "breaker-open": "was not asked: its breaker is open",
  corrupt: "has lost frames that this may need", failed: "answered with an error",
};

/** What an answer lacks, or null. @param {object} body */
export function whatIsMissing(body) {
  if (body?.complete !== false) return null;
  const parts = [];
  for (const { node, status, behind_s: behind } of body.nodes ?? []) {
    if (!WHOLE.has(status)) parts.push(`${node} ${STATUSES[status] ?? status}`);
    else if (behind > 0) parts.push(`${node} is ${behind} s behind`);
  }
  // Figures say how many, other answers which one.
  for (const { symbol, reason, count } of body.left_out ?? []) parts.push(`${symbol ?? count} left out: ${reason}`);
  return parts.length > 0 ? parts.join("; ") : "a part of the answer is missing";
}

/** The quantity of a field as units. @param {object} line @param {string} name @param {number} decimals */
export function units(line, name, decimals) {
  return parseDecimal(line[`${name}_text`] ?? String(line[name] ?? ""), decimals);
}

/** The nanoseconds of a field as milliseconds, exact to a microsecond. @param {object} line @param {string} name */
export function milliseconds(line, name) {
  const found = /^(.*?)(?:\.(\d+))?Z$/.exec(line[`${name}_text`] ?? "");
  if (!found) return Number(line[name]) / 1e6;
  return Date.parse(`${found[1]}Z`) + Number((found[2] ?? "0").padEnd(6, "0").slice(0, 6)) / 1000;
}
