import type { StartPosition } from '../../../gen/millrace/v1/record_pb.js';
import {
  CancelSubscriptionRequestSchema,
  CreateSubscriptionRequestSchema,
  GetSubscriptionRequestSchema,
  ListSubscriptionsRequestSchema,
  PauseSubscriptionRequestSchema,
  ResumeSubscriptionRequestSchema,
  SubscriptionSchema,
  SubscriptionState,
  SubscriptionStateSchema,
  UpdateSubscriptionRequestSchema,
  type Subscription,
  type UpdateSubscriptionRequest,
} from '../../../gen/millrace/v1/subscription_pb.js';
import { limits } from '../../limits/limits.ts';
import * as field from './field-rules.ts';
import { maskedRule, maskRule, subscriptionMask, type MaskedOneof } from './masks.ts';
import { message, type Rule, type RuledFields } from './rule.ts';

/** Rules for the calls of SubscriptionService. */

const deadAfter = field.duration(limits.deadAfterMsMin, limits.deadAfterMsMax);

export function createSubscriptionRule(ruled: RuledFields, start: Rule<StartPosition | undefined>) {
  return message(ruled, CreateSubscriptionRequestSchema, {
    group: field.name,
    topic: field.name,
    start,
    deadAfter,
    neverDies: field.onlyTrue,
  });
}

export function getSubscriptionRule(ruled: RuledFields) {
  return message(ruled, GetSubscriptionRequestSchema, {
    group: field.name,
    topic: field.name,
    pageSize: field.count(limits.pageSizeMax),
    pageToken: field.pageToken,
  });
}

export function listSubscriptionsRule(ruled: RuledFields) {
  return message(ruled, ListSubscriptionsRequestSchema, {
    group: field.optionalName,
    topic: field.optionalName,
    pageSize: field.count(limits.pageSizeMax),
    pageToken: field.pageToken,
    states: field.list(0, limits.listStatesMax, listedState),
  });
}

const knownState = field.oneOf(SubscriptionStateSchema);
const listedState: Rule<SubscriptionState> = (state, at, report) => {
  if (state === SubscriptionState.UNSPECIFIED) report(at, 'is SUBSCRIPTION_STATE_UNSPECIFIED, which is no state');
  else if (state === SubscriptionState.CANCELLED) report(at, 'is SUBSCRIPTION_STATE_CANCELLED, which is not listed');
  else knownState(state, at, report);
};

export function updateSubscriptionRule(ruled: RuledFields) {
  const rule = message(ruled, SubscriptionSchema, {
    group: field.name,
    topic: field.name,
    deadAfter,
    neverDies: field.onlyTrue,
  });
  const masked = maskedRule(rule, [death], ['group', 'topic']);
  const changes: Rule<UpdateSubscriptionRequest> = ({ subscription, updateMask }, at, report) => {
    if (subscription !== undefined) masked({ message: subscription, at: 'subscription', mask: updateMask }, at, report);
  };
  const fields = { subscription: field.required(field.anything), updateMask: maskRule(subscriptionMask) };
  return message(ruled, UpdateSubscriptionRequestSchema, fields, changes);
}

const death: MaskedOneof<Subscription> = {
  cases: { dead_after: 'deadAfter', never_dies: 'neverDies' },
  chosen: ({ death }) => death.case,
};

export function pauseSubscriptionRule(ruled: RuledFields) {
  return message(ruled, PauseSubscriptionRequestSchema, { group: field.name, topic: field.name });
}

export function resumeSubscriptionRule(ruled: RuledFields) {
  return message(ruled, ResumeSubscriptionRequestSchema, { group: field.name, topic: field.name });
}

export function cancelSubscriptionRule(ruled: RuledFields) {
  return message(ruled, CancelSubscriptionRequestSchema, { group: field.name, topic: field.name });
}
