import { describe, expect, test } from 'vitest';
import { Fault } from '../../src/errors/fault.ts';
import { Gate, readAll, records, Scene } from '../log/scene.ts';

const unknown = (): Fault => new Fault('OUTCOME_UNKNOWN', 'the connection broke after COMMIT');

/** The next append happens, and its answer is lost. */
function loseAnswer(scene: Scene): void {
  scene.store.after = (call) => {
    if (call !== 'append') return;
    scene.store.after = () => undefined;
    throw unknown();
  };
}

/** The next append does not happen, and nobody knows. */
function loseAppend(scene: Scene): void {
  scene.store.before = (call) => {
    if (call !== 'append') return;
    scene.store.before = () => undefined;
    throw unknown();
  };
}

describe('after an append whose outcome is unknown', () => {
  test('the end of the log is what is stored, not what was known before', async () => {
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

  test('readers hear of records that were stored after all, without another publish', async () => {
    const scene = await Scene.open();
    const heard: number[] = [];
    scene.partition().addListener({ appended: () => heard.push(scene.partition().endOffset) });
    scene.publish(records('x'));
    await scene.clock.settle();
    loseAnswer(scene);
    scene.publish(records('y'));
    await scene.clock.settle();
    expect(heard).toEqual([1, 2]);
    expect(await readAll(scene.partition())).toEqual(['0=x', '1=y']);
  });

  test.each([
    ['was stored is answered with its offset', loseAnswer, '0/0 again'],
    ['was not stored is stored now', loseAppend, '0/0'],
  ])('the same idempotency key again: what %s', async (_, lose, ended) => {
    const scene = await Scene.open();
    // A topic that is new, so that memory would know all of its keys.
    await scene.log.addTopic(scene.store.shared.addTopic('new', 1));
    const first = scene.publish(records('x'), { topic: 'new', idempotencyKeys: ['k'] });
    lose(scene);
    await scene.clock.settle();
    const again = scene.publish(records('x'), { topic: 'new', idempotencyKeys: ['k'] });
    await scene.clock.settle();
    expect([first.ended, again.ended]).toEqual(['OUTCOME_UNKNOWN', ended]);
    expect(scene.store.shared.log(2, 0).endOffset).toBe(1);
  });

  test('publishes wait for the end to be known; if it cannot be read they fail, and it is tried again', async () => {
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

  test('other topics go on', async () => {
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
  /** Appends to partitions 0 and 1 are in flight; that to 0 is lost, and the answer to where the logs end is late. */
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

  test('an end that was read before an append does not undo it', async () => {
    const { scene, other, ends, publishes } = await oneLost();
    other.open();
    await scene.clock.settle();
    expect(scene.partition(1).endOffset).toBe(1);
    ends.open();
    await scene.clock.settle();
    expect(publishes.map(({ ended }) => ended)).toEqual(['OUTCOME_UNKNOWN', '1/0']);
    expect(scene.partition(1).endOffset).toBe(1);
  });

  test('an end that was read before the second one was lost is not believed: it is read again', async () => {
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
