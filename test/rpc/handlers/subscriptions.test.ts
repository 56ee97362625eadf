import { create } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';
import {
  ListSubscriptionsRequestSchema,
  SubscriptionState,
  SubscriptionStateReason,
  type Subscription,
} from '../../../gen/millrace/v1/subscription_pb.js';
import type { SubscriptionDetails } from '../../../src/broker/commands.ts';
import { deadAfterMs, subscriptionFilter, subscriptionMessage } from '../../../src/rpc/handlers/subscriptions.ts';

const details: SubscriptionDetails = {
  ...{ id: 7, group: 'billing', topic: 'orders', createdAtMs: 1_000 },
  ...{
    state: 'DEAD',
    stateReason: 'UNATTENDED',
    stateChangedAtMs: 3_000,
    deadAfterMs: 240_000,
    unattendedSinceMs: 2_000,
  },
};

test('a subscription dies after the default unless its client says otherwise', () => {
  const of = (death: object) => deadAfterMs(death as Subscription['death']);
  expect(of({})).toBe(240_000);
  expect(of({ case: 'deadAfter', value: { seconds: 30n, nanos: 0 } })).toBe(30_000);
  expect(of({ case: 'neverDies', value: true })).toBeNull();
});

test('an answer says since when and why a subscription is in its state', () => {
  expect(subscriptionMessage(details)).toMatchObject({
    state: SubscriptionState.DEAD,
    stateReason: SubscriptionStateReason.UNATTENDED,
    stateTime: { seconds: 3n },
    death: { case: 'deadAfter', value: { seconds: 240n } },
    unattendedSince: { seconds: 2n },
  });
  const old = { ...details, stateReason: 'UNKNOWN', deadAfterMs: null, unattendedSinceMs: null } as const;
  const message = subscriptionMessage(old);
  expect(message).toMatchObject({
    stateReason: SubscriptionStateReason.UNSPECIFIED,
    death: { case: 'neverDies', value: true },
  });
  expect(message.unattendedSince).toBeUndefined();
});

test('a list of states selects those, and an empty one all that are listed', () => {
  const of = (states: SubscriptionState[]) => subscriptionFilter(create(ListSubscriptionsRequestSchema, { states }));
  expect(of([SubscriptionState.DEAD, SubscriptionState.PAUSED]).states).toEqual(['DEAD', 'PAUSED']);
  expect(of([])).toEqual({ group: null, topic: null, states: [] });
});
