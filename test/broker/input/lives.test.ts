import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { SubscriptionService, SubscriptionState } from '../../../gen/millrace/v1/subscription_pb.js';
import { Site } from '../site.ts';

const { createSubscription, getSubscription, listSubscriptions, updateSubscription } = SubscriptionService.method;
const { pauseSubscription, resumeSubscription, cancelSubscription } = SubscriptionService.method;

const claim = { group: 'billing', topic: 'orders' };

let site: Site;
beforeAll(async () => {
  site = await Site.open();
  await site.createTopic('orders');
  await site.call(createSubscription, claim);
});
afterAll(async () => {
  await site.close();
});

/** All that a client can see of what the calls might have changed. */
async function seen(): Promise<unknown> {
  return (await site.call(getSubscription, claim)).subscription;
}

const after = (seconds: bigint) => ({ death: { case: 'deadAfter', value: { seconds } } }) as const;
const never = (value: boolean) => ({ death: { case: 'neverDies', value } }) as const;

describe('an update that cannot be is refused by its field, and the subscription stays as it is', () => {
  test.each([
    ['less than half a minute', after(29n), ['dead_after'], 'subscription.dead_after'],
    ['a negative time', after(-30n), ['dead_after'], 'subscription.dead_after'],
    ['more than a year', after(31_536_001n), ['dead_after'], 'subscription.dead_after'],
    ['not never', never(false), ['never_dies'], 'subscription.never_dies'],
    ['a time under the mask of never', after(30n), ['never_dies'], 'subscription.never_dies'],
    ['never under the mask of a time', never(true), ['dead_after'], 'subscription.dead_after'],
    ['both in the mask', after(30n), ['dead_after', 'never_dies'], 'update_mask'],
    ['a path that is not there', after(30n), ['dead_after', 'dead_before'], 'update_mask'],
    ['a path that is fixed', after(30n), ['dead_after', 'state'], 'update_mask'],
    ['an empty mask', after(30n), [], 'update_mask'],
  ])('%s', async (_what, death, paths, field) => {
    const before = await seen();
    const refusal = await site.refusal(updateSubscription, {
      subscription: { ...claim, ...death },
      updateMask: { paths },
    });
    expect(refusal).toMatchObject({ reason: 'INVALID_FIELD', fields: [field] });
    expect(await seen()).toEqual(before);
  });

  test('a subscription with such a time is not created', async () => {
    const refusal = await site.refusal(createSubscription, { ...claim, group: 'other', ...after(29n) });
    expect(refusal).toMatchObject({ reason: 'INVALID_FIELD', fields: ['dead_after'] });
    expect((await site.refusal(getSubscription, { ...claim, group: 'other' })).reason).toBe('SUBSCRIPTION_NOT_FOUND');
  });
});

test('a list by a state that is not listed is refused', async () => {
  const refusal = await site.refusal(listSubscriptions, { states: [SubscriptionState.CANCELLED] });
  expect(refusal).toMatchObject({ reason: 'INVALID_FIELD', fields: ['states[0]'] });
});

describe('a transition that its state forbids is refused, and the subscription stays as it is', () => {
  test('a DEAD subscription is neither paused nor resumed, and may be updated and cancelled', async () => {
    const database = new pg.Client({ connectionString: site.databaseUrl });
    await database.connect();
    site.broker.kill('SIGKILL');
    await site.broker.exited;
    await database.query(
      `UPDATE millrace.subscriptions SET state = 'DEAD', state_reason = 'UNATTENDED', unattended_since = clock_timestamp()`,
    );
    await database.end();
    await site.restart();
    const before = await seen();
    expect(before).toMatchObject({ state: SubscriptionState.DEAD });
    for (const forbidden of [pauseSubscription, resumeSubscription]) {
      const refusal = await site.refusal(forbidden, claim);
      expect(refusal).toMatchObject({ code: 'FAILED_PRECONDITION', reason: 'SUBSCRIPTION_STATE' });
      expect(refusal.message).toMatch(/"billing".*"orders" is DEAD.*a member/);
    }
    expect(await seen()).toEqual(before);
    const { subscription } = await site.call(updateSubscription, {
      subscription: { ...claim, ...never(true) },
      updateMask: { paths: ['never_dies'] },
    });
    expect(subscription).toMatchObject({ state: SubscriptionState.DEAD, death: { case: 'neverDies' } });
    const cancelled = await site.call(cancelSubscription, claim);
    expect(cancelled.subscription).toMatchObject({ state: SubscriptionState.CANCELLED });
    for (const gone of [pauseSubscription, resumeSubscription, cancelSubscription]) {
      expect((await site.refusal(gone, claim)).reason).toBe('SUBSCRIPTION_NOT_FOUND');
    }
  });
});
