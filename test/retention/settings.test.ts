import { expect, test } from 'vitest';
import { excusedMs, segmentAgeMs, type RetentionSettings } from '../../src/retention/settings.ts';

const minute = 60_000;
const day = 86_400_000;
const ages = { min: minute, max: day };
const settings: RetentionSettings = {
  afterCompletionMs: 7 * day,
  excusedKeepMs: 7 * day,
  maxAgeMs: null,
  maxBytes: null,
  keepUnsubscribedMs: day,
};

test.each<[string, Partial<RetentionSettings>, number]>([
  ['an eighth of the shortest time', {}, day / 8],
  ['an eighth of the greatest age', { maxAgeMs: 8 * minute }, minute],
  ['at least a minute', { afterCompletionMs: minute }, minute],
  ['at most a day', { keepUnsubscribedMs: null, afterCompletionMs: 100 * day }, day],
  ['a day where everything is kept', { afterCompletionMs: null }, day],
  ['an eighth of a cap, where else everything is kept', { afterCompletionMs: null, maxAgeMs: day }, day / 8],
])('without subscriptions a segment is sealed after %s', (_, change, ms) => {
  expect(segmentAgeMs({ ...settings, ...change }, false, ages)).toBe(ms);
});

test('the time without subscriptions makes no more segments while somebody is subscribed', () => {
  expect(segmentAgeMs(settings, true, ages)).toBe((7 * day) / 8);
  expect(segmentAgeMs({ ...settings, keepUnsubscribedMs: minute }, true, ages)).toBe((7 * day) / 8);
  expect(segmentAgeMs({ ...settings, maxAgeMs: day }, true, ages)).toBe(day / 8);
});

test('what a DEAD subscription is owed is kept as long as what is complete, or longer', () => {
  expect(excusedMs(settings)).toBe(7 * day);
  expect(excusedMs({ ...settings, afterCompletionMs: 9 * day })).toBe(9 * day);
  expect(excusedMs({ ...settings, afterCompletionMs: null })).toBe(Infinity);
});
