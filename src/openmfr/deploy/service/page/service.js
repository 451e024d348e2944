// Talks to the service: one function for every call, one error for everything that goes wrong.

const KEY = "openmfr-key";

export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (text) => sessionStorage.setItem(KEY, text),
  clear: () => sessionStorage.removeItem(KEY),
};

/** Why a call failed; `kind` is the service's own word, `detail` is for people. */
export class Problem extends Error {
  constructor({ kind, detail, field = "" }) {
    super(detail);
    this.kind = kind;
    this.field = field;
  }
}

/** Call an address; fields make a form. */
export async function ask(path, { method = "GET", fields = null } = {}) {
  const headers = key.get() ? { Authorization: `Bearer ${key.get()}` } : {};
  let body = null;
  if (fields) {
    body = new FormData();
    for (const [name, value] of Object.entries(fields)) if (value !== null) body.append(name, value);
  }
  let response;
  try {
    response = await fetch(`/v1/${path}`, { method, headers, body });
  } catch {
    throw new Problem({ kind: "offline", detail: "The service does not answer. Is it still running?" });
  }
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return answer;
  const wait = response.headers.get("Retry-After");
  const detail = answer.detail ?? `The service answered ${response.status}.`;
  throw new Problem({ ...answer, detail: wait ? `${detail} Try again in ${wait} s.` : detail });
}
