import { mean } from './paired.ts';

/** The time of a measurement at one size. */
export interface Point {
  readonly n: number;
  readonly ms: number;
}

/**
 * The exponent of the power law ms = a * n^exponent that fits best, by least squares of the
 * logarithms. NaN with fewer than two sizes.
 */
export function fittedExponent(points: readonly Point[]): number {
  const logs = points.map(({ n, ms }) => ({ x: Math.log(n), y: Math.log(ms) }));
  const meanX = mean(logs.map(({ x }) => x));
  const meanY = mean(logs.map(({ y }) => y));
  const covariance = mean(logs.map(({ x, y }) => (x - meanX) * (y - meanY)));
  const variance = mean(logs.map(({ x }) => (x - meanX) ** 2));
  return variance === 0 ? NaN : covariance / variance;
}

/**
 * The exponent that a fit of n log n gives. It depends on the sizes, because n log n is no power
 * law.
 */
export function exponentOfNLogN(points: readonly Point[]): number {
  return fittedExponent(points.map(({ n }) => ({ n, ms: nLogN(n) })));
}

/**
 * The growth from one point to the next, as a multiple of the growth of n log n. Above 1 is worse.
 */
export function againstNLogN(from: Point, to: Point): number {
  return to.ms / from.ms / (nLogN(to.n) / nLogN(from.n));
}

function nLogN(n: number): number {
  return n * Math.log(n);
}
