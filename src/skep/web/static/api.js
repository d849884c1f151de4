// What the dashboard's process answers: the swarm's own API below /api, and what this page may do.

export class ApiError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** Returns the swarm's own words for what went wrong, whole. */
async function refusal(response) {
  const text = await response.text();
  try {
    const { message } = JSON.parse(text);
    if (typeof message === "string" && message) return message;
  } catch { /* not Docker's form: said as it came */ }
  return text || `${response.status} ${response.statusText}`;
}

async function answered(path, options) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("the dashboard's own process does not answer: is `skep dashboard` still running?", 0);
  }
  if (!response.ok) throw new ApiError(await refusal(response), response.status);
  return response;
}

let session = { csrf: "", readOnly: true, host: "", may: [] };

export const mySession = () => session;

/** True where the context may do it, and the page may order anything. */
export const may = (action) => !session.readOnly && session.may.includes(action);

let opened;
/** Resolved when it has been asked once what this page may do. */
export const sessionAsked = new Promise((resolve) => { opened = resolve; });

export async function openSession() {
  try {
    session = { ...session, ...(await (await answered("/session")).json()) };
  } finally {
    opened();
  }
  return session;
}

/** Returns the board; the first time what was asked before the modules were loaded. */
export async function readBoard() {
  const early = await globalThis.skepBoard;
  globalThis.skepBoard = null;
  return (early?.ok ? early : await answered("/board")).json();
}

const query = (filters) => (filters ? `?filters=${encodeURIComponent(JSON.stringify(filters))}` : "");

/** Returns what GET says. Errors: ApiError, in the swarm's words. */
export async function get(path, filters, signal) {
  return (await answered(`/api${path}${query(filters)}`, { signal })).json();
}

/** Returns the response to a GET that goes on; `signal` ends it. */
export const follow = (path, signal) => answered(`/api${path}`, { signal });

/** Orders something. Returns the answer, {} where there is none. */
export async function order(path, body) {
  const response = await answered(`/api${path}`, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Skep-CSRF": session.csrf },
    body: JSON.stringify(body),
  });
  const text = await response.text();
  return text ? JSON.parse(text) : {};
}

export const part = encodeURIComponent;
