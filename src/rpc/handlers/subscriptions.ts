import { create } from '@bufbuild/protobuf';
import { durationFromMs } from '@bufbuild/protobuf/wkt';
import {
  SubscriptionSchema,
  SubscriptionState,
  SubscriptionStateReason,
  type ListSubscriptionsRequest,
  type Subscription,
} from '../../../gen/millrace/v1/subscription_pb.js';
import type { SubscriptionDetails, SubscriptionFilter } from '../../broker/commands.ts';
import { limits } from '../../limits/limits.ts';
import { msOr, textOrNull } from '../validation/defaults.ts';
import { timestamp, timestampOrUnset } from '../translation/responses.ts';

/** Subscriptions in requests and in answers. */

/** null: it never dies. Unset means the default. */
export function deadAfterMs(death: Subscription['death']): number | null {
  switch (death.case) {
    case 'deadAfter':
      return msOr(death.value, limits.deadAfterMsDefault);
    case 'neverDies':
      return null;
    case undefined:
      return limits.deadAfterMsDefault;
  }
}

const listedStates: Readonly<Record<SubscriptionState, SubscriptionFilter['states']>> = {
  [SubscriptionState.UNSPECIFIED]: [],
  [SubscriptionState.ACTIVE]: ['ACTIVE'],
  [SubscriptionState.PAUSED]: ['PAUSED'],
  [SubscriptionState.DEAD]: ['DEAD'],
  [SubscriptionState.CANCELLED]: [],
};

export function subscriptionFilter({ group, topic, states }: ListSubscriptionsRequest): SubscriptionFilter {
  const known = states.flatMap((state) => listedStates[state]);
  return { group: textOrNull(group), topic: textOrNull(topic), states: known };
}

const reasons: Readonly<Record<SubscriptionDetails['stateReason'], SubscriptionStateReason>> = {
  UNKNOWN: SubscriptionStateReason.UNSPECIFIED,
  CREATED: SubscriptionStateReason.CREATED,
  PAUSED: SubscriptionStateReason.PAUSED,
  RESUMED: SubscriptionStateReason.RESUMED,
  UNATTENDED: SubscriptionStateReason.UNATTENDED,
  RETURNED: SubscriptionStateReason.RETURNED,
  CANCELLED: SubscriptionStateReason.CANCELLED,
};

export function subscriptionMessage(subscription: SubscriptionDetails): Subscription {
  const { deadAfterMs } = subscription;
  return create(SubscriptionSchema, {
    id: BigInt(subscription.id),
    group: subscription.group,
    topic: subscription.topic,
    state: SubscriptionState[subscription.state],
    createTime: timestamp(subscription.createdAtMs),
    stateReason: reasons[subscription.stateReason],
    stateTime: timestamp(subscription.stateChangedAtMs),
    death:
      deadAfterMs === null
        ? { case: 'neverDies', value: true }
        : { case: 'deadAfter', value: durationFromMs(deadAfterMs) },
    ...timestampOrUnset('unattendedSince', subscription.unattendedSinceMs),
  });
}
