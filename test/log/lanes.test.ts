import { expect, test } from 'vitest';
import type { Rejection } from '../../src/errors/rejections/rejection.ts';
import { demandLog, namedLog } from '../../src/log/lanes.ts';

/** Two partitions with three lanes each, sorted by partition and lane. */
const logs = ['0/0', '0/1', '0/2', '1/0', '1/1', '1/2'];

test('a name finds the log of its partition and lane, and never a neighbour', () => {
  for (const partition of [0, 1]) {
    for (const lane of [0, 1, 2]) expect(namedLog(logs, 3, { partition, lane })).toBe(`${partition}/${lane}`);
    expect(namedLog(logs, 3, { partition, lane: 3 })).toBeUndefined();
    expect(namedLog(logs, 3, { partition, lane: null })).toBe('LANE_REQUIRED');
  }
  for (const lane of [null, 0, 3]) expect(namedLog(logs, 3, { partition: 2, lane })).toBeUndefined();
});

test('a name without a lane means lane 0 on a topic with one lane', () => {
  expect(namedLog(['0', '1'], 1, { partition: 1, lane: null })).toBe('1');
  expect(namedLog(['0', '1'], 1, { partition: 1, lane: 0 })).toBe('1');
  expect(namedLog(['0', '1'], 1, { partition: 0, lane: 1 })).toBeUndefined();
});

test('a call with an unknown log, or without a lane that it needs, is rejected with the number that exist', () => {
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
