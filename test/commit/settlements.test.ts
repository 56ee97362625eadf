import { describe, expect, test } from 'vitest';
import type { MovingRecords, Settlement } from '../../src/commit/settlements.ts';
import { SegmentMoved } from '../../src/commit/store.ts';
import { Fault } from '../../src/errors/fault.ts';
import { command, Gate, readAll, reasonOf, records, Scene } from '../log/scene.ts';

/** Records of a cursor that keep which of their methods were called. */
class Moving implements MovingRecords {
  readonly key = { subscriptionId: 1, partition: 0, lane: 0 };
  readonly delta;
  readonly became: string[] = [];

  constructor(offset = 0) {
    this.delta = { resets: 0, committedOffset: 0, acked: [offset, offset], attempts: [], metadata: null };
  }

  moved(): void {
    this.became.push('moved');
  }

  stays(): void {
    this.became.push('stays');
  }

  get settlement(): Settlement {
    return { type: 'acks', records: this };
  }
}

interface PublishRequest {
  readonly values?: readonly string[];
  readonly expectedOffset?: number;
  readonly topic?: string;
  readonly idempotencyKey?: string;
}

/** Commits records and a completion together. `ended` is the outcome. */
function commit(scene: Scene, moving: Moving, requests: readonly PublishRequest[] = [{ values: ['letter'] }]) {
  const publishes = requests.map(({ values = ['x'], topic = 'orders', expectedOffset = null, idempotencyKey }) =>
    command(topic, records(...values), {
      expectedOffset,
      ...(idempotencyKey !== undefined && { idempotencyKeys: [idempotencyKey] }),
    }),
  );
  const one = { ended: 'pending' };
  scene.publisher.commit({ publishes, settlements: [moving.settlement] }).then(
    (published) => {
      one.ended = published.map(({ offsets }) => [...offsets].join()).join(' ');
    },
    (error: unknown) => {
      one.ended = reasonOf(error as Error);
    },
  );
  return one;
}

const rowsOf = (scene: Scene): string[] =>
  scene.store.groups.ackLog.map(({ table, deltas, receipts }) => {
    return `${table}: ${deltas.map(({ delta }) => delta.acked[0]).join()} (${receipts.length})`;
  });

/** Loses the answers of appends: after the commit if `written`, before it otherwise. */
function loseAnswers(scene: Scene, written: boolean): void {
  const lose = (call: string): void => {
    if (call === 'append') throw new Fault('OUTCOME_UNKNOWN', 'the connection was lost');
  };
  if (written) scene.store.after = lose;
  else scene.store.before = lose;
}

describe('a completion that is committed with an append', () => {
  test('a completion is written in the transaction of its append, and memory moves after the commit', async () => {
    const scene = await Scene.open();
    const gate = new Gate();
    scene.store.after = (call) => (call === 'append' ? gate.pass() : undefined);
    const moving = new Moving();
    const one = commit(scene, moving);
    await scene.clock.settle();
    expect([rowsOf(scene), moving.became, one.ended]).toEqual([['0: 0 (1)'], [], 'pending']);
    gate.open();
    await scene.clock.settle();
    expect([moving.became, one.ended]).toEqual([['moved'], '0']);
    expect(await readAll(scene.partition())).toEqual(['0=letter']);
  });

  test('a fold waits for a completion from before it is sent until memory has moved', async () => {
    const scene = await Scene.open();
    const gate = scene.hold('append');
    commit(scene, new Moving());
    await scene.clock.settle();
    scene.ring.turn();
    expect(scene.ring.olderAreFree).toBe(false);
    gate.open();
    await scene.clock.settle();
    expect([scene.ring.olderAreFree, rowsOf(scene)]).toEqual([true, ['0: 0 (1)']]);
  });

  test('all completions of a transaction share one row of the ack log', async () => {
    const scene = await Scene.open();
    const gate = scene.hold('append');
    scene.publish(records('first'));
    await scene.clock.settle();
    const all = [new Moving(1), new Moving(2), new Moving(3)];
    for (const moving of all) commit(scene, moving);
    const beside = scene.publish(records('beside'));
    gate.open();
    await scene.clock.settle();
    expect(rowsOf(scene)).toEqual(['0: 1,2,3 (3)']);
    expect([all.map(({ became }) => became), beside.ended]).toEqual([[['moved'], ['moved'], ['moved']], '0/4']);
  });

  test('a completion without an append is written too', async () => {
    const scene = await Scene.open();
    const moving = new Moving(7);
    commit(scene, moving, []);
    await scene.clock.settle();
    expect([rowsOf(scene), moving.became]).toEqual([['0: 7 (1)'], ['moved']]);
  });
});

describe('a unit', () => {
  test('if one publish of a unit is rejected, nothing of it is written, its records stay, and other units go on', async () => {
    const scene = await Scene.open();
    const moving = new Moving();
    const refused = commit(scene, moving, [{ values: ['a'] }, { values: ['b'], expectedOffset: 7 }]);
    const beside = scene.publish(records('beside'));
    await scene.clock.settle();
    expect([refused.ended, moving.became, beside.ended]).toEqual(['EXPECTED_OFFSET_MISMATCH', ['stays'], '0/0']);
    expect([await readAll(scene.partition()), rowsOf(scene)]).toEqual([['0=beside'], []]);
  });

  test('a publish may expect the offset that an earlier publish of its unit leads to', async () => {
    const scene = await Scene.open();
    const one = commit(scene, new Moving(), [{ values: ['a', 'b'] }, { values: ['c'], expectedOffset: 2 }]);
    await scene.clock.settle();
    expect(one.ended).toBe('0,1 2');
  });

  test('a unit with an unknown topic is rejected as a whole, and its records stay', async () => {
    const scene = await Scene.open();
    const moving = new Moving();
    const one = commit(scene, moving, [{}, { topic: 'nowhere' }]);
    await scene.clock.settle();
    expect([one.ended, moving.became, scene.transactions]).toEqual(['TOPIC_NOT_FOUND', ['stays'], []]);
  });

  test('a full queue does not reject a unit of the broker itself, and such a unit does not fill the queue', async () => {
    const scene = await Scene.open({ queueBytesMax: 250 });
    const gate = scene.hold('append');
    scene.publish(records('first'));
    await scene.clock.settle();
    const own = commit(scene, new Moving(), [{ values: ['x'.repeat(200)] }]);
    const client = scene.publish(records('x'.repeat(40)));
    const full = scene.publish(records('x'.repeat(40)));
    await scene.clock.settle();
    gate.open();
    await scene.clock.settle();
    expect([own.ended, client.ended, full.ended]).toEqual(['1', '0/2', 'PUBLISH_QUEUE_FULL']);
  });

  test('if the database refuses the data of a unit, the unit fails alone and whole, and its records stay', async () => {
    const scene = await Scene.open();
    scene.store.before = (call, transaction) => {
      const poisoned = transaction?.batches.some(({ byteSize }) => byteSize > 100) === true;
      if (call === 'append' && poisoned) throw new Fault('DATA_REFUSED', 'no');
    };
    const [bad, good] = [new Moving(1), new Moving(2)];
    const refused = commit(scene, bad, [{ values: ['a'] }, { values: ['x'.repeat(200)] }]);
    const taken = commit(scene, good, [{ values: ['b'] }]);
    await scene.clock.settle();
    expect([refused.ended, bad.became, taken.ended, good.became]).toEqual(['DATA_REFUSED', ['stays'], '0', ['moved']]);
    expect(rowsOf(scene)).toEqual(['0: 2 (1)']);
  });
});

describe('a lost answer', () => {
  test('a receipt that is found after a lost answer moves memory once, and all publishers get their offsets', async () => {
    const scene = await Scene.open();
    loseAnswers(scene, true);
    const moving = new Moving();
    const one = commit(scene, moving);
    const beside = scene.publish(records('beside'));
    await scene.clock.settle();
    expect([one.ended, moving.became, beside.ended]).toEqual(['0', ['moved'], '0/1']);
    scene.store.after = () => undefined;
    const next = scene.publish(records('next'));
    await scene.clock.settle();
    expect([next.ended, await readAll(scene.partition())]).toEqual(['0/2', ['0=letter', '1=beside', '2=next']]);
    scene.ring.turn();
    expect(scene.ring.olderAreFree).toBe(true);
  });

  test('a receipt that is missing after a lost answer leaves the records, and the publisher may retry', async () => {
    const scene = await Scene.open();
    loseAnswers(scene, false);
    const moving = new Moving();
    const one = commit(scene, moving);
    const beside = scene.publish(records('beside'));
    await scene.clock.settle();
    expect([one.ended, moving.became, beside.ended]).toEqual([
      'DATABASE_UNAVAILABLE',
      ['stays'],
      'DATABASE_UNAVAILABLE',
    ]);
    expect(scene.store.shared.log(1, 0).endOffset).toBe(0);
    scene.ring.turn();
    expect(scene.ring.olderAreFree).toBe(true);
  });

  test('an answer that is lost before the append leaves the records, and the publisher may retry', async () => {
    const ended = [];
    for (const lost of ['ends', 'rollSegment', 'findKeys'] as const) {
      const scene = await Scene.open();
      const topic = scene.log.topicAtWork('orders')!;
      if (lost === 'ends') topic.forget(topic.partitions, scene.clock.nowMs());
      scene.store.before = (call) => {
        if (call === lost) throw new Fault('OUTCOME_UNKNOWN', 'the connection was lost');
        if (call === 'append') throw new SegmentMoved('appends go to another segment');
      };
      const moving = new Moving();
      const one = commit(scene, moving, [{ idempotencyKey: 'key' }]);
      await scene.clock.settle();
      ended.push([one.ended, moving.became]);
      scene.ring.turn();
      expect(scene.ring.olderAreFree).toBe(true);
    }
    expect(ended).toEqual(Array.from({ length: 3 }, () => ['DATABASE_UNAVAILABLE', ['stays']]));
  });

  test('the broker looks for a receipt until the database answers, and no record moves and no fold begins before', async () => {
    const scene = await Scene.open();
    loseAnswers(scene, true);
    scene.store.before = (call) => {
      if (call === 'hasReceipt') throw new Fault('DATABASE_UNAVAILABLE', 'away');
    };
    const moving = new Moving();
    const one = commit(scene, moving);
    scene.ring.turn();
    for (let n = 0; n < 10; n++) await scene.clock.advance(1_000);
    expect([one.ended, moving.became, scene.store.count('hasReceipt') > 3]).toEqual(['pending', [], true]);
    scene.ring.turn();
    expect(scene.ring.olderAreFree).toBe(false);
    scene.store.before = () => undefined;
    await scene.clock.advance(2_000);
    expect([one.ended, moving.became, scene.ring.olderAreFree]).toEqual(['0', ['moved'], true]);
  });

  test('a drain does not wait for the pause between two looks for a receipt', async () => {
    const scene = await Scene.open();
    loseAnswers(scene, true);
    scene.store.before = (call) => {
      if (call === 'hasReceipt') throw new Fault('DATABASE_UNAVAILABLE', 'away');
    };
    const one = commit(scene, new Moving());
    await scene.clock.settle();
    expect(one.ended).toBe('pending');
    const drained = scene.drain();
    await scene.clock.settle();
    expect(one.ended).toBe('OUTCOME_UNKNOWN');
    await drained;
  });

  test.for(['fenced', 'draining'])(
    'a broker that is %s leaves a lost answer to its successor, and neither moves nor frees the records',
    async (how) => {
      const scene = await Scene.open();
      loseAnswers(scene, true);
      if (how === 'draining') {
        scene.store.before = (call) => {
          if (call === 'hasReceipt') throw new Fault('DATABASE_UNAVAILABLE', 'away');
        };
      }
      const moving = new Moving();
      const gate = new Gate();
      const lose = scene.store.after;
      scene.store.after = async (call) => {
        if (call === 'append') await gate.pass();
        return lose(call);
      };
      const one = commit(scene, moving);
      await scene.clock.settle();
      if (how === 'fenced') scene.store.shared.epoch++;
      const drained = how === 'draining' ? scene.drain() : Promise.resolve();
      gate.open();
      await scene.clock.settle();
      await drained;
      expect([one.ended, moving.became]).toEqual([how === 'fenced' ? 'FENCED' : 'OUTCOME_UNKNOWN', []]);
      scene.ring.turn();
      expect([scene.ring.olderAreFree, scene.fenced]).toEqual([false, how === 'fenced' ? 1 : 0]);
    },
  );
});
