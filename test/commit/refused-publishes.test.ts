import { expect, test } from 'vitest';
import { Fault } from '../../src/errors/fault.ts';
import { WriteTrouble } from '../../src/errors/write-trouble.ts';
import { noSettlements } from '../../src/commit/unit.ts';
import { command, newStream, records, Scene } from '../log/scene.ts';
import { keepsForever } from '../support/retention/stored-segments.ts';

const refusing = { retention: { ...keepsForever, keepUnsubscribedMs: null } };

test('a topic that refuses publishes without subscriptions takes nothing, in either ack mode, until there is one', async () => {
  const scene = await Scene.open({ topic: refusing });
  const publish = async (committed: boolean): Promise<string> => {
    const publishing = scene.publish(records('x'), { committed });
    await scene.clock.settle();
    return publishing.ended;
  };
  expect([await publish(true), await publish(false)]).toEqual(['NO_SUBSCRIPTIONS', 'NO_SUBSCRIPTIONS']);
  expect(scene.store.appended).toEqual([]);
  scene.log.liveSubscriptions(1, 1);
  expect(await publish(true)).toBe('0/0');
  scene.log.liveSubscriptions(1, -1);
  expect(await publish(true)).toBe('NO_SUBSCRIPTIONS');
});

test('a refused publish ends its stream, so that no later request of it overtakes', async () => {
  const scene = await Scene.open({ topic: refusing });
  const stream = newStream();
  const first = scene.publish(records('x'), { stream });
  scene.log.liveSubscriptions(1, 1);
  const second = scene.publish(records('y'), { stream });
  await scene.clock.settle();
  expect([first.ended, second.ended]).toEqual(['NO_SUBSCRIPTIONS', 'NO_SUBSCRIPTIONS']);
});

test('the subscriptions that there were at the start count', async () => {
  const scene = await Scene.open({ topic: { ...refusing, liveSubscriptions: 1 } });
  const publishing = scene.publish(records('x'));
  await scene.clock.settle();
  expect(publishing.ended).toBe('0/0');
});

test('what the broker itself publishes is not refused, because it belongs to an ack', async () => {
  const scene = await Scene.open({ topic: refusing });
  const committed = scene.publisher.commit({
    publishes: [command('orders', records('x'))],
    settlements: noSettlements,
  });
  await scene.clock.settle();
  expect([...(await committed)[0]!.offsets]).toEqual([0]);
});

test('on a full disk publishes are refused in memory, and none takes the space that a drop needs', async () => {
  const writes = new WriteTrouble(() => 0);
  const scene = await Scene.open({ writes });
  writes.noticed(new Fault('DISK_FULL', 'full'));
  const refused = scene.publish(records('x'));
  await scene.clock.settle();
  expect([refused.ended, scene.store.count('append')]).toEqual(['DISK_FULL', 0]);
  writes.ended();
  const next = scene.publish(records('y'));
  await scene.clock.settle();
  expect(next.ended).toBe('0/0');
});
