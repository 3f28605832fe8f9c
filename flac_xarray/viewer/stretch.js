// Where a stretch begins and ends: percentiles of what is seen, and their histogram.

const SAMPLE = 60_000;

/** Valid numbers of some layers, at most a sample of them, sorted. */
export function sampleOf(layers) {
  const total = layers.reduce((sum, { numbers }) => sum + numbers.length, 0);
  const step = Math.max(1, Math.floor(total / SAMPLE));
  const some = [];
  for (const { numbers, parts, nodata } of layers) {
    // A stride that shares no factor with the width visits all columns.
    for (let i = step >> 1; i < numbers.length; i += step | 1) {
      if (Number.isFinite(numbers[i]) && !(nodata !== null && parts[i] === nodata)) some.push(numbers[i]);
    }
  }
  return Float64Array.from(some).sort();
}

/** The middle 96 % of a sorted sample. */
export function percentiles(sorted, low = 0.02, high = 0.98) {
  if (!sorted.length) return [0, 1];
  const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
  return [at(low), at(high)];
}

/** Counts in equal bins from the first to the last percentile. */
export function histogram(sorted, bins = 96) {
  const [low, high] = percentiles(sorted, 0.002, 0.998);
  const counts = new Uint32Array(bins);
  for (const value of sorted) {
    const k = Math.floor(((value - low) / (high - low || 1)) * bins);
    if (k >= 0 && k < bins) counts[k] += 1;
  }
  return { counts, low, high };
}
