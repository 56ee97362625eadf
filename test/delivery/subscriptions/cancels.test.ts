import { expect, test } from 'vitest';
import { Scene } from '../scene.ts';

test('a cancel that comes behind another one leaves the subscription alone that the group has since', async () => {
  const scene = await Scene.open();
  scene.addTopic('orders', 2);
  const create = (): Promise<unknown> =>
    scene.wait(scene.delivery.subscriptions.create({ group: 'billing', topic: 'orders', start: { type: 'earliest' } }));
  await create();
  const gates = [Promise.withResolvers<void>(), Promise.withResolvers<void>()] as const;
  let written = 0;
  scene.store.after = (write) => (write === 'cancelSubscription' ? gates[written++]?.promise : undefined);
  const cancels = gates.map(() => scene.delivery.subscriptions.cancel('billing', 'orders'));
  await scene.clock.settle();
  gates[0].resolve();
  await scene.wait(cancels[0]!);
  await create();
  const subscribed = () => scene.delivery.subscriptions.list({ group: 'billing', topic: null });
  const [after] = subscribed();
  gates[1].resolve();
  expect(await scene.wait(cancels[1]!)).toMatchObject({ state: 'CANCELLED' });
  expect(subscribed()).toEqual([after]);
});
