import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Histogram } from '../../bench/support/histogram.ts';

const seed = Number(process.env['SEED'] ?? 1);
const latenciesUs = fc.array(fc.double({ min: 0, max: 3_600e6, noNaN: true }), { minLength: 1, maxLength: 300 });

describe('histogram', () => {
  it('a percentile is never below the true one, and at most 0.8 % or a microsecond above', () => {
    fc.assert(
      fc.property(latenciesUs, fc.constantFrom(0.5, 0.95, 0.99, 1), (values, fraction) => {
        const histogram = new Histogram();
        for (const value of values) histogram.record(value);
        const sorted = values.toSorted((a, b) => a - b);
        const truth = sorted[Math.max(0, Math.ceil(values.length * fraction) - 1)]!;
        const told = histogram.percentileUs(fraction);
        expect(told).toBeGreaterThanOrEqual(truth);
        expect(told).toBeLessThanOrEqual(Math.max(truth + 1, truth * 1.008));
      }),
      { seed },
    );
  });

  it('histograms of several processes, sent as data, add up to the one of all values', () => {
    fc.assert(
      fc.property(fc.array(latenciesUs, { minLength: 1, maxLength: 4 }), (parts) => {
        const apart = Histogram.of(parts.map((part) => filled(part).toData()));
        const together = filled(parts.flat());
        expect(apart.percentiles()).toEqual(together.percentiles());
      }),
      { seed },
    );
  });

  it('an empty one says zero and not NaN', () => {
    expect(new Histogram().percentiles()).toEqual({ count: 0, p50Ms: 0, p95Ms: 0, p99Ms: 0, maxMs: 0 });
  });

  it('nothing of the interval before is left after a reset', () => {
    const histogram = filled([5_000_000]);
    histogram.reset();
    histogram.record(10);
    expect(histogram.percentiles()).toMatchObject({ count: 1, maxMs: 0.01 });
  });
});

function filled(values: readonly number[]): Histogram {
  const histogram = new Histogram();
  for (const value of values) histogram.record(value);
  return histogram;
}
