// How sure a share is. It knows nothing of what it is a share of.

const Z = 1.959964; // of 95 %

// A share 0 … 1 of so many rows with its score interval (Wilson 1927); without the rows, only the share.
export function wilson(value, rows) {
  if (!rows) return { value };
  const middle = (value + Z ** 2 / (2 * rows)) / (1 + Z ** 2 / rows);
  const half = (Z / (1 + Z ** 2 / rows)) * Math.sqrt((value * (1 - value)) / rows + Z ** 2 / (4 * rows ** 2));
  return { value, low: Math.max(0, middle - half), high: Math.min(1, middle + half) };
}
