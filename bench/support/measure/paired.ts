import { seededRandom } from '../random.ts';

/** The median of a sample, and its 90 % confidence interval. */
export interface MedianInterval {
  readonly median: number;
  readonly low: number;
  readonly high: number;
}

const resamples = 10_000;

/** A percentile bootstrap. The fixed seed gives the same interval for the same figures. */
export function medianInterval(sample: readonly number[], seed: number): MedianInterval {
  const random = seededRandom(seed);
  const medians = Float64Array.from({ length: resamples }, () =>
    median(Array.from(sample, () => sample[Math.floor(random() * sample.length)]!)),
  ).sort();
  return { median: median(sample), low: medians[resamples * 0.05]!, high: medians[resamples * 0.95]! };
}

export function median(sample: readonly number[]): number {
  const sorted = [...sample].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

export function mean(sample: readonly number[]): number {
  return sample.reduce((sum, value) => sum + value, 0) / sample.length;
}
