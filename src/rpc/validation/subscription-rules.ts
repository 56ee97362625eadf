import type { StartPosition } from '../../../gen/millrace/v1/record_pb.js';
import {
  CancelSubscriptionRequestSchema,
  CreateSubscriptionRequestSchema,
  GetSubscriptionRequestSchema,
  ListSubscriptionsRequestSchema,
} from '../../../gen/millrace/v1/subscription_pb.js';
import { limits } from '../../limits/limits.ts';
import * as field from './field-rules.ts';
import { message, type Rule, type RuledFields } from './rule.ts';

/** Rules for the calls of SubscriptionService. */

export function createSubscriptionRule(ruled: RuledFields, start: Rule<StartPosition | undefined>) {
  return message(ruled, CreateSubscriptionRequestSchema, { group: field.name, topic: field.name, start });
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
  });
}

export function cancelSubscriptionRule(ruled: RuledFields) {
  return message(ruled, CancelSubscriptionRequestSchema, { group: field.name, topic: field.name });
}
