// What a head says of many images: some in each request, and each alone where one of them is refused.

import { predictAll } from "./api.js";
import { concernsAll } from "./trouble.js";

const TOGETHER = 8; // images in a request, at most
const BYTES = 16 * 2 ** 20; // of them, at most; one that is larger goes alone

// The first of some images that go into one request.
export function together(images) {
  let bytes = 0;
  const end = images.findIndex((image, place) => {
    bytes += image.size;
    return place === TOGETHER || (place > 0 && bytes > BYTES);
  });
  return end < 0 ? images : images.slice(0, end);
}

// An answer for each image, in their order; of an image that is refused, the error that says why.
export async function answersOf(images, conditions) {
  try {
    const { predictions, ...more } = await predictAll(images, conditions);
    return predictions.map((prediction) => ({ ...more, prediction }));
  } catch (error) {
    if (concernsAll(error)) throw error;
    if (images.length === 1) return [error];
  }
  const each = [];
  for (const image of images) each.push(...await answersOf([image], conditions));
  return each;
}
