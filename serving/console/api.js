// The public API, as any other program would use it: fetch, a key if there is one, errors in the server's words.

const KEPT = "breadcrumbs-key"; // for this tab only

export class Refused extends Error {
  constructor(status, kind, message) {
    super(message);
    this.status = status;
    this.kind = kind;
  }
}

export function useKey(secret) {
  sessionStorage.setItem(KEPT, secret);
}

export function headers(more = {}) {
  const secret = sessionStorage.getItem(KEPT);
  return secret ? { ...more, Authorization: `Bearer ${secret}` } : more;
}

async function refusal(answer) {
  try {
    const { error } = await answer.json();
    return new Refused(answer.status, error.type, error.message);
  } catch {
    return new Refused(answer.status, "http", `the server answered ${answer.status}`);
  }
}

export async function send(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { ...options, headers: headers(options.headers) });
  } catch {
    throw new Refused(0, "unreachable", "The server does not answer.");
  }
  if (!answer.ok) throw await refusal(answer);
  return answer;
}

export async function get(path) {
  return (await send(path)).json();
}

export async function post(path, body) {
  const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  return (await send(path, options)).json();
}

export async function predict(image, head, topK = 5) {
  const options = { method: "POST", headers: { "Content-Type": image.type }, body: image };
  return (await send(`/v1/predict?top_k=${topK}&head=${head}`, options)).json();
}

// Upload with progress, which fetch cannot tell.
export function upload(file, progress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("PUT", "/v1/snapshots");
    for (const [name, value] of Object.entries(headers({ "Content-Type": "application/octet-stream" }))) {
      request.setRequestHeader(name, value);
    }
    request.upload.onprogress = (event) => progress(event.loaded, event.total);
    request.onerror = () => reject(new Refused(0, "unreachable", "The server does not answer."));
    request.onload = () => {
      try {
        const body = JSON.parse(request.responseText);
        if (request.status < 300) resolve(body);
        else reject(new Refused(request.status, body.error.type, body.error.message));
      } catch {
        reject(new Refused(request.status, "http", `the server answered ${request.status}`));
      }
    };
    request.send(file);
  });
}

// The events of a refit; EventSource could send no key. A stream that breaks is taken up again.
export async function* events(job) {
  let last = 0;
  for (let left = 5; left > 0; left -= 1) {
    try {
      const answer = await send(`/v1/refit/${job}/events`, { headers: { "Last-Event-ID": String(last) } });
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        text += value;
        const parts = text.split("\n\n");
        text = parts.pop();
        for (const part of parts) {
          const line = part.split("\n").find((one) => one.startsWith("data: "));
          if (!line) continue;
          const event = JSON.parse(line.slice(6));
          last = event.id;
          left = 5;
          yield event;
        }
      }
    } catch (error) {
      if (error instanceof Refused && error.status) throw error;
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
  }
  throw new Refused(0, "unreachable", "The events broke off.");
}
