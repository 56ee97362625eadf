import { expect, test } from 'vitest';
import { LatencyHistogram } from '../../src/metrics/latency-histogram.ts';
import { textOf } from '../../src/metrics/text.ts';

const lines = (histogram: LatencyHistogram | null): string[] =>
  textOf([LatencyHistogram.family('took_seconds', 'Takes.', histogram)]).split('\n');

test('a bucket counts the durations up to its bound, and the last bucket counts all', () => {
  const histogram = new LatencyHistogram();
  for (const ms of [0, 0.5, 0.6, 1, 40_000]) histogram.observe(ms);
  const text = lines(histogram);
  expect(text).toContain('# TYPE took_seconds histogram');
  expect(text).toContain('took_seconds_bucket{le="0.0005"} 2');
  expect(text).toContain('took_seconds_bucket{le="0.001"} 4');
  expect(text).toContain('took_seconds_bucket{le="30"} 4');
  expect(text).toContain('took_seconds_bucket{le="+Inf"} 5');
  expect(text).toContain('took_seconds_count 5');
  expect(text.find((line) => line.startsWith('took_seconds_sum '))).toBe('took_seconds_sum 40.0021');
});

test('a histogram that is not there yet shows zeros in every bucket', () => {
  const text = lines(null);
  expect(text).toContain('took_seconds_bucket{le="+Inf"} 0');
  expect(text).toContain('took_seconds_count 0');
});
