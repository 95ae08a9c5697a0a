// The public API, as any other program would use it: fetch, a key if there is one, errors in the server's words.

const KEPT = "breadcrumbs-key"; // for this tab only

export class Refused extends Error {
  constructor(status, kind, message) {
    super(message);
    this.status = status; // 0: the server did not answer
    this.kind = kind;
  }
}

export function useKey(secret) {
  sessionStorage.setItem(KEPT, secret);
}

export function forgetKey() {
  sessionStorage.removeItem(KEPT);
}

export function hasKey() {
  return sessionStorage.getItem(KEPT) !== null;
}

function headers(more = {}) {
  const secret = sessionStorage.getItem(KEPT);
  return secret === null ? more : { ...more, Authorization: `Bearer ${secret}` };
}

function refusal(status, text) {
  try {
    const { error } = JSON.parse(text);
    return new Refused(status, error.type, error.message);
  } catch {
    return new Refused(status, "http", `the server answered ${status}`);
  }
}

function unreachable(error) {
  return error?.name === "AbortError" ? error : new Refused(0, "unreachable", "The server does not answer.");
}

// A path of the API, also where a proxy serves it below a prefix.
function address(path) {
  return new URL(`..${path}`, import.meta.url);
}

export async function send(path, options = {}) {
  let answer;
  try {
    answer = await fetch(address(path), { ...options, headers: headers(options.headers) });
  } catch (error) {
    throw unreachable(error);
  }
  if (!answer.ok) throw refusal(answer.status, await answer.text());
  return answer;
}

export async function get(path, signal) {
  return (await send(path, { signal })).json();
}

// The first pages of a list as one answer; what is after them, if anything, is its `next`.
export async function getPages(path, list, pages, signal) {
  const all = await get(path, signal);
  for (let page = 1; page < pages && all.next; page += 1) {
    const more = await get(`${path}${path.includes("?") ? "&" : "?"}after=${encodeURIComponent(all.next)}`, signal);
    all[list].push(...more[list]);
    all.next = more.next;
  }
  return all;
}

export async function post(path, body) {
  const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  return (await send(path, options)).json();
}

export async function predict(image, head, topK = 5) {
  const options = { method: "POST", headers: { "Content-Type": image.type }, body: image };
  return (await send(`/v1/predict?top_k=${topK}&head=${head}`, options)).json();
}

// Several images in one request; conditions are what the address of a prediction may say: `head`, `top_k`, `prior`, `known`, `explain`.
export async function predictAll(images, conditions) {
  const form = new FormData();
  for (const image of images) form.append("images", image);
  return (await send(`/v1/predict?${new URLSearchParams(conditions)}`, { method: "POST", body: form })).json();
}

// Upload with progress, which fetch cannot tell.
export function upload(file, progress, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("PUT", address("/v1/snapshots"));
    for (const [name, value] of Object.entries(headers({ "Content-Type": "application/octet-stream" }))) {
      request.setRequestHeader(name, value);
    }
    request.upload.onprogress = (event) => progress(event.loaded, event.total);
    request.onerror = () => reject(unreachable());
    request.onabort = () => reject(new DOMException("the tab was left", "AbortError"));
    request.onload = () => {
      if (request.status < 300) resolve(JSON.parse(request.responseText));
      else reject(refusal(request.status, request.responseText));
    };
    signal.addEventListener("abort", () => request.abort());
    request.send(file);
  });
}

// The events of a refit after a number, until it or the connection ends; EventSource could send no key.
export async function* events(job, after, signal) {
  const answer = await send(`/v1/refit/${job}/events`, { headers: { "Last-Event-ID": String(after) }, signal });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read().catch((error) => { throw unreachable(error); });
    if (done) return;
    const parts = (text + value).split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      const line = part.split("\n").find((one) => one.startsWith("data: "));
      if (line) yield JSON.parse(line.slice("data: ".length));
    }
  }
}
