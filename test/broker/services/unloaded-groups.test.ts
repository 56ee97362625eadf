import { expect, test } from 'vitest';
import { brokerService } from '../../../src/broker/broker-service.ts';
import { groupService } from '../../../src/broker/group-service.ts';
import { subscriptionService } from '../../../src/broker/subscription-service.ts';

test('no call says or does anything about a group that is not in memory yet', async () => {
  const used: string[] = [];
  let waits = 0;
  const delivery = new Proxy(
    {},
    {
      get: (_, name) => {
        if (name !== 'loaded' && name !== 'allLoaded') used.push(String(name));
        return () => {
          waits++;
          return new Promise(() => undefined);
        };
      },
    },
  ) as never;
  const nothing = {} as never;
  const { publish, ...hot } = brokerService(nothing, delivery);
  expect(publish.name).toBe('publish');
  const services = {
    ...hot,
    ...groupService(delivery, nothing, nothing),
    ...subscriptionService(delivery, nothing, nothing),
  };
  const argument = { group: 'billing', topic: 'orders', page: {} };
  for (const call of Object.values(services) as ((...all: unknown[]) => unknown)[])
    void call(argument, argument, argument);
  await Promise.resolve();
  expect(waits).toBe(Object.keys(services).length);
  expect(used).toEqual([]);
});
