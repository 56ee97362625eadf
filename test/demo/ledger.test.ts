import { describe, expect, it } from 'vitest';
import { Ledger } from '../../bench/demo/ledger.ts';

/** Three records of two keys, published; `batches` are lists of [handled at, ...numbers]. */
function judge(batches: readonly (readonly number[])[]) {
  const ledger = new Ledger(['group']);
  for (const key of ['a', 'b', 'a']) ledger.publish(key);
  for (const [atUs, ...numbers] of batches) {
    ledger.receive('group', { atUs: atUs!, numbers, sentUs: numbers.map(() => 0) });
  }
  return { ledger, verdict: ledger.judge()[0]! };
}

describe('ledger of the demo', () => {
  it('everything once and in order is nothing to complain about', () => {
    const { ledger, verdict } = judge([
      [10, 0, 1],
      [20, 2],
    ]);
    expect(verdict).toMatchObject({ received: 3, missing: 0, duplicates: 0, orderViolations: 0 });
    expect(ledger.complete).toBe(true);
  });

  it('a record that never came is missing', () => {
    const { ledger, verdict } = judge([[10, 0, 1]]);
    expect(verdict).toMatchObject({ received: 2, missing: 1 });
    expect(ledger.complete).toBe(false);
  });

  it('a record that came again is a duplicate, and no violation of order', () => {
    expect(
      judge([
        [10, 0],
        [20, 2],
        [30, 0, 1, 2],
      ]).verdict,
    ).toMatchObject({ duplicates: 2, orderViolations: 0, missing: 0 });
  });

  it('a record that came first after a later one of its key is out of order', () => {
    expect(
      judge([
        [10, 2],
        [20, 0, 1],
      ]).verdict,
    ).toMatchObject({ orderViolations: 1, missing: 0 });
  });

  it('records of different keys may come in any order', () => {
    expect(
      judge([
        [10, 1],
        [20, 0, 2],
      ]).verdict.orderViolations,
    ).toBe(0);
  });

  it('reports that arrive late are judged by when things were handled', () => {
    expect(
      judge([
        [20, 2],
        [10, 0, 1],
      ]).verdict.orderViolations,
    ).toBe(0);
  });

  it('latency is that of the first delivery', () => {
    const { verdict } = judge([
      [1_000, 0, 1, 2],
      [9_000_000, 0],
    ]);
    expect(verdict.latency).toMatchObject({ count: 3, maxMs: 1 });
  });
});
