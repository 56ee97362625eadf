import { describe, expect, test } from 'vitest';
import { Fault } from '../../src/errors/fault.ts';
import { Gate, readAll, records, Scene } from '../log/scene.ts';

const unknown = (): Fault => new Fault('OUTCOME_UNKNOWN', 'the connection broke after COMMIT');

/** Loses the answer of the next append, after its commit. */
function loseAnswer(scene: Scene): void {
  scene.store.after = (call) => {
    if (call !== 'append') return;
    scene.store.after = () => undefined;
    throw unknown();
  };
}

/** Loses the next append before its commit. */
function loseAppend(scene: Scene): void {
  scene.store.before = (call) => {
    if (call !== 'append') return;
    scene.store.before = () => undefined;
    throw unknown();
  };
}

describe('after an append whose outcome is unknown', () => {
  test('a lost answer does not leave the broker with an old end of the log', async () => {
    const scene = await Scene.open();
    loseAnswer(scene);
    const lost = scene.publish(records('x'));
    await scene.clock.settle();
    const [stale, right] = [0, 1].map((expectedOffset) => scene.publish(records('y'), { expectedOffset }));
    await scene.clock.settle();
    expect([lost, stale, right].map((publish) => publish!.ended)).toEqual([
      'OUTCOME_UNKNOWN',
      'EXPECTED_OFFSET_MISMATCH',
      '0/1',
    ]);
  });

  test('readers are notified of records that were committed although the answer was lost', async () => {
    const scene = await Scene.open();
    const ends: number[] = [];
    scene.partition().addListener({ appended: () => ends.push(scene.partition().endOffset), trimmed: () => undefined });
    scene.publish(records('x'));
    await scene.clock.settle();
    loseAnswer(scene);
    scene.publish(records('y'));
    await scene.clock.settle();
    expect(ends).toEqual([1, 2]);
    expect(await readAll(scene.partition())).toEqual(['0=x', '1=y']);
  });

  test.each([
    ['was stored gets its offset', loseAnswer, '0/0 again'],
    ['was not stored is stored now', loseAppend, '0/0'],
  ])('a repeated publish with an idempotency key that %s', async (_, lose, ended) => {
    const scene = await Scene.open();
    // The topic is new, because memory would have all of its keys without the lost answer.
    await scene.log.addTopic(scene.store.shared.addTopic('new', 1));
    const first = scene.publish(records('x'), { topic: 'new', idempotencyKeys: ['k'] });
    lose(scene);
    await scene.clock.settle();
    const again = scene.publish(records('x'), { topic: 'new', idempotencyKeys: ['k'] });
    await scene.clock.settle();
    expect([first.ended, again.ended]).toEqual(['OUTCOME_UNKNOWN', ended]);
    expect(scene.store.shared.log(2, 0).endOffset).toBe(1);
  });

  test('publishes fail while the end of the log cannot be read, and the broker retries the read', async () => {
    const scene = await Scene.open();
    loseAnswer(scene);
    scene.publish(records('x'));
    scene.store.before = (call) => {
      if (call === 'ends') throw new Fault('DATABASE_UNAVAILABLE', 'gone');
    };
    await scene.clock.settle();
    const meanwhile = scene.publish(records('y'));
    await scene.clock.advance(10_000);
    expect(meanwhile.ended).toBe('DATABASE_UNAVAILABLE');
    expect(scene.store.count('append')).toBe(1);
    expect(scene.partition().endOffset).toBe(0);
    scene.store.before = () => undefined;
    await scene.clock.advance(250);
    expect(scene.partition().endOffset).toBe(1);
    expect(scene.clock.pending).toBe(0);
  });

  test('an unknown outcome does not delay publishes to other topics', async () => {
    const scene = await Scene.open();
    await scene.log.addTopic(scene.store.shared.addTopic('other', 1));
    loseAnswer(scene);
    scene.publish(records('x'));
    await scene.clock.settle();
    const gate = scene.hold('ends');
    const other = scene.publish(records('y'), { topic: 'other' });
    await scene.clock.settle();
    expect(other.ended).toBe('0/0');
    gate.open();
  });
});

describe('two connections that break one after the other', () => {
  /**
   * Appends to partitions 0 and 1 are in flight. That to 0 is lost, and the ends are still being
   * read.
   */
  async function oneLost(): Promise<{
    scene: Scene;
    other: Gate;
    ends: Gate;
    publishes: readonly { ended: string }[];
  }> {
    const scene = await Scene.open({ partitions: 2, appendSlots: 2 });
    const [first, other, ends] = [new Gate(), new Gate(), new Gate()];
    scene.store.before = (call, transaction) => {
      if (call !== 'append') return;
      if (transaction!.batches[0]!.partition === 1) return other.pass();
      return first.pass().then(() => {
        throw unknown();
      });
    };
    scene.store.after = (call) => (call === 'ends' ? ends.pass() : undefined);
    const publishes = [];
    for (const partition of [0, 1]) {
      publishes.push(scene.publish(records('x'), { partition }));
      await scene.clock.settle();
    }
    first.open();
    await scene.clock.settle();
    expect(ends.waiting).toBe(1);
    return { scene, other, ends, publishes };
  }

  test('an end that was read before an append does not move the end of its log back', async () => {
    const { scene, other, ends, publishes } = await oneLost();
    other.open();
    await scene.clock.settle();
    expect(scene.partition(1).endOffset).toBe(1);
    ends.open();
    await scene.clock.settle();
    expect(publishes.map(({ ended }) => ended)).toEqual(['OUTCOME_UNKNOWN', '1/0']);
    expect(scene.partition(1).endOffset).toBe(1);
  });

  test('an end that was read before a second answer was lost is read again', async () => {
    const { scene, other, ends, publishes } = await oneLost();
    scene.store.after = (call) => {
      if (call === 'append') throw unknown();
    };
    other.open();
    await scene.clock.settle();
    expect(publishes.map(({ ended }) => ended)).toEqual(['OUTCOME_UNKNOWN', 'OUTCOME_UNKNOWN']);
    ends.open();
    await scene.clock.settle();
    expect(scene.partition(1).endOffset).toBe(1);
    expect(await readAll(scene.partition(1))).toEqual(['0=x']);
  });
});
