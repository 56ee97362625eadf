import { expect, test } from 'vitest';
import type { Rejection } from '../../src/errors/rejections/rejection.ts';
import { demandLog, namedLog } from '../../src/log/lanes.ts';

/** Two partitions with three lanes each, by partition and lane. */
const logs = ['0/0', '0/1', '0/2', '1/0', '1/1', '1/2'];

test('a log is found by its partition and lane, and never a neighbour of it', () => {
  for (const partition of [0, 1]) {
    for (const lane of [0, 1, 2]) expect(namedLog(logs, 3, { partition, lane })).toBe(`${partition}/${lane}`);
    expect(namedLog(logs, 3, { partition, lane: 3 })).toBeUndefined();
    expect(namedLog(logs, 3, { partition, lane: null })).toBe('LANE_REQUIRED');
  }
  for (const lane of [null, 0, 3]) expect(namedLog(logs, 3, { partition: 2, lane })).toBeUndefined();
});

test('with one lane a name without it means lane 0', () => {
  expect(namedLog(['0', '1'], 1, { partition: 1, lane: null })).toBe('1');
  expect(namedLog(['0', '1'], 1, { partition: 1, lane: 0 })).toBe('1');
  expect(namedLog(['0', '1'], 1, { partition: 0, lane: 1 })).toBeUndefined();
});

test('a call that names a log that is not there, or no lane of several, is refused with how many there are', () => {
  const refusal = (partition: number, lane: number | null) => {
    try {
      return demandLog('orders', logs, 3, { partition, lane });
    } catch (error) {
      const { reason, message, metadata } = error as Rejection;
      return { reason, message, metadata };
    }
  };
  expect(refusal(1, 2)).toBe('1/2');
  expect(refusal(0, null)).toMatchObject({ reason: 'LANE_REQUIRED', metadata: { topic: 'orders', lanes: '3' } });
  expect(refusal(0, 3)).toMatchObject({ reason: 'PARTITION_OUT_OF_RANGE', metadata: { lanes: '3' } });
  expect(refusal(2, null)).toMatchObject({ reason: 'PARTITION_OUT_OF_RANGE', metadata: { partitions: '2' } });
});
