// Photos of a person: out of what was dropped, also whole folders; as a small picture; as text for a request.

import { Refused } from "./api.js";

export const KINDS = ["image/jpeg", "image/png", "image/webp"];
const SMALL = 160; // pixels of a picture's longer side
const ODD = /^(\.|Thumbs\.db$|desktop\.ini$)/; // what systems leave in folders

export function isPhoto(file) {
  return KINDS.includes(file.type);
}

// Files of a folder, in the order of their names, without what the system itself keeps there.
export function visible(files) {
  return files.filter((file) => !ODD.test(file.name));
}

async function entries(folder) {
  const reader = folder.createReader();
  const all = [];
  for (;;) { // a reader gives a hundred at a time
    const some = await new Promise((resolve, reject) => { reader.readEntries(resolve, reject); });
    if (!some.length) return all.sort((a, b) => a.name.localeCompare(b.name));
    all.push(...some);
  }
}

async function filesBelow(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => { entry.file(resolve, reject); })];
  const found = [];
  for (const one of await entries(entry)) found.push(...await filesBelow(one));
  return visible(found);
}

// All files of a drop; a folder is opened. What is dropped can be asked for only at once, before anything is waited for.
export async function dropped(transfer) {
  const there = [...transfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
  if (!there.some((entry) => entry.isDirectory)) return [...transfer.files];
  const found = [];
  for (const entry of there) found.push(...await filesBelow(entry));
  return found;
}

// Refuse a file that was moved or changed after it was chosen: to send it would look like a server that does not answer.
export async function checkReadable(file) {
  try {
    await file.slice(0, 1).arrayBuffer();
  } catch {
    throw new Refused(422, "file", "This file was moved or changed after it was chosen: choose it again.");
  }
}

// A small picture of a photo, however large it is; null where the browser cannot read it.
export async function smallPicture(file) {
  try {
    const whole = await createImageBitmap(file);
    const scale = Math.min(1, SMALL / Math.max(whole.width, whole.height));
    const canvas = new OffscreenCanvas(Math.max(1, Math.round(whole.width * scale)), Math.max(1, Math.round(whole.height * scale)));
    canvas.getContext("2d").drawImage(whole, 0, 0, canvas.width, canvas.height);
    whole.close();
    return await canvas.convertToBlob({ type: "image/webp" });
  } catch {
    return null;
  }
}

export async function base64(file) {
  const reader = new FileReader();
  const text = await new Promise((resolve, reject) => {
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
  return text.slice(text.indexOf(",") + 1);
}
